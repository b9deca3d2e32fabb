"""BuildKit's fsutil: the protocol for sending and receiving trees of files, and its view of a directory."""
