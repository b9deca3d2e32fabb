"""SSH agents that a build may use: forwarded ones, and one of ours for key files."""
