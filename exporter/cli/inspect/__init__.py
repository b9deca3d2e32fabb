"""``buildkit-exporter inspect``: what an image is made of."""
