"""The kinds of output: the SDK's base classes, the registry, and the built-in exporters."""
