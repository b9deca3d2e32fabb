"""The kinds of output: the SDK's base classes, the registry of types, and the built-in types.

A built-in type uses of other rooms what any plugin can import; a test holds that. What several types share
is a module beside them; what is of use without an exporter belongs in a lower room.
"""
