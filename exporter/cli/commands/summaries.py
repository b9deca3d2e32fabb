"""The commands there are, in the order of the help, and a line about each."""

from __future__ import annotations

SUMMARIES = {
    "serve": "run the plugin server",
    "proxy": "run exporters that an unmodified buildkitd does not have, between it and its clients",
    "build": "build a Dockerfile with a buildkitd or a Docker engine",
    "export": "export a saved source, without any daemon",
    "sample": "write a small recorded build, to try exports with",
    "wait": "wait until a server, a proxy and its daemon, or a buildkitd answers",
    "exporters": "list the types of outputs and their attributes",
    "images": "list the images in the embedded store",
    "inspect": "show what an image is made of",
    "verify": "check whether an image is complete, undamaged and of one piece",
    "prune": "remove what no image in the embedded store needs",
    "completion": "print the script by which a shell completes commands, flags and values",
}
"""By the name of a command. The module of that name declares it, as a constant of that name."""
