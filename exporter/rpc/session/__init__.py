"""BuildKit's sessions: attaching with services, serving clients that attach, and calling their services."""
