"""What shells complete: their scripts, and the answers to what they ask."""
