"""What clients of HTTP services share."""
