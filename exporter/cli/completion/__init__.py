"""Shell completion: the scripts, and the answers to their requests."""
