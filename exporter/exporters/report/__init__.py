"""The type ``report``: one HTML page about an image.

`contents` finds out what is in the layers, `statements` reads attestations, `page` writes HTML, `html` has
its pieces. `exporter` connects them.
"""
