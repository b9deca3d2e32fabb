"""The kinds of output: the SDK's base classes, the registry of types, and the built-in types.

A built-in type uses only what any plugin can import; a test enforces that. Code that several types share is a
module in this room; code that is useful without an exporter belongs in a lower room.
"""
