"""All commands, in the order of the help, with one line about each."""

from __future__ import annotations

SUMMARIES = {
    "serve": "run the plugin server",
    "proxy": "stand between buildkitd and its clients, and run exporters that buildkitd lacks",
    "build": "build a Dockerfile with a buildkitd or a Docker engine",
    "export": "export a saved source, without a daemon",
    "sample": "write a small recorded build to try exports with",
    "new": "write a package with an exporter of your own, to begin with",
    "wait": "wait until a server, a proxy and its daemon, or a buildkitd answers",
    "exporters": "list output types and their attributes",
    "images": "list the images in the embedded store",
    "inspect": "show what an image is made of",
    "verify": "check that an image is complete, undamaged and consistent",
    "prune": "remove data that no image in the embedded store needs",
    "completion": "print a completion script for bash, zsh or fish",
}
"""By the name of a command, which is declared as a constant of that name in the module of that name."""
