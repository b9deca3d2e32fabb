"""Settings for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A deadline per example would be a timing assertion, and the machines that run this are shared.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
