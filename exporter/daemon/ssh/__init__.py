"""SSH agents for builds: forwarded ones, and our own for key files."""
