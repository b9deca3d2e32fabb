"""Trees of files on the wire, as BuildKit's fsutil sends and takes them, and a directory as it sees it."""
