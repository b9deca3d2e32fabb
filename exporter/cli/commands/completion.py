"""``completion``."""

from __future__ import annotations

from dataclasses import dataclass

import click

from exporter.cli.commands.base import PROGRAM, Args, Argument, Command

ASKING = "_BUILDKIT_EXPORTER_COMPLETE"
"""The environment variable with which a shell requests completions; its value is the shell's name."""

SHELLS = ("bash", "zsh", "fish")

_EPILOG = f"""\
In the current shell:
  bash  source <({PROGRAM} completion bash)
  zsh   source <({PROGRAM} completion zsh)
  fish  {PROGRAM} completion fish | source

In all new shells (the directory has to exist; bash needs the package bash-completion):
  bash  {PROGRAM} completion bash > ~/.local/share/bash-completion/completions/{PROGRAM}
  zsh   {PROGRAM} completion zsh > DIR/_{PROGRAM}, with a DIR of $fpath
  fish  {PROGRAM} completion fish > ~/.config/fish/completions/{PROGRAM}.fish"""


@dataclass(frozen=True, kw_only=True)
class CompletionArgs(Args):
    """The arguments.

    Attributes:
        shell: One of `SHELLS`.
    """

    shell: str


COMPLETION = Command(
    "completion",
    CompletionArgs,
    "exporter.cli.completion.shells:run_completion",
    usage="bash|zsh|fish",
    epilog=_EPILOG,
    params=[Argument("shell", metavar="SHELL", type=click.Choice(SHELLS), help="bash, zsh or fish")],
)
