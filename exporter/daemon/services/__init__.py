"""The services of a client's session, for a daemon: files, secrets, credentials."""
