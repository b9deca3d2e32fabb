"""Tests of `exporter.images`."""
