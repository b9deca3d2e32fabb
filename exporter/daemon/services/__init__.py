"""What a client of a daemon serves to it through its session: files, secrets, credentials."""
