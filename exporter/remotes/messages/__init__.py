"""Layers, build results and progress as protobuf messages, and back; checked where they come in."""
