"""A build result as files: merged, ordered, and written as a tarball or a directory."""
