"""BuildKit's sessions: attaching with services, serving those that attach, and calling them."""
