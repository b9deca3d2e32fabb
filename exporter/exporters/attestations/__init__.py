"""Attestations of a build (in-toto statements: SBOMs, provenance) and the manifests that carry them."""
