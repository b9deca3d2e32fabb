"""A proxy in front of an unmodified buildkitd that runs exporters which the daemon does not have."""
