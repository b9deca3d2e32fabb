"""``buildkit-exporter verify``: whether an image is what it says."""
