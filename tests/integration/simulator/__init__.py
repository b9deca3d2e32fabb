"""A daemon that builds nothing, but exports recorded builds in the way of the real one, well and badly.

A build asks for it by attributes of its frontend: `SCENARIO` names the recorded build, `BEHAVIOUR` what is
wrong with the daemon.
"""

from __future__ import annotations

import enum

SCENARIO = "scenario"
BEHAVIOUR = "behaviour"


WAITING = "waiting for the session"
"""The step that is shown while a build's session has not come."""


class Behaviour(enum.StrEnum):
    """What is wrong with the daemon."""

    NOTHING = ""
    ANCIENT = "ancient"
    """It knows one exporter for each build, of the old field (before v0.13)."""
    OLD = "old"
    """It knows nothing of exporters in sessions (before v0.22)."""
    IMPATIENT = "impatient"
    """It does not wait for a session that comes after its build."""
    LATE = "late"
    """It sends its files when it has answered already."""
    SLOW = "slow"
    """It takes its time between any two steps."""
    DYING = "dying"
    """Its process ends when a file is to be sent."""
    FORGETFUL = "forgetful"
    """Its cache has lost the records of the build."""
    DIFFERENT = "different"
    """Its result's config is not that of the image."""
    EAGER = "eager"
    """It ends the build's progress before the build."""
    FAILING = "failing"
    """A step of its build fails, with details as BuildKit gives them."""
