"""Completion in bash, zsh and fish.

click's own scripts do not work for values such as ``type=oci,compression=zstd``: bash splits words at ``=``,
and fish's script splits answers at commas. Here, all shells use the same protocol: an environment variable
requests completions, others have the words before the cursor, one per line, and the current word up to the
cursor. Each answer is a line with three tab-separated fields: kind, whole word, help.
"""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from exporter.cli.commands.base import PROGRAM
from exporter.cli.commands.completion import ASKING, CompletionArgs
from exporter.cli.parser import ROOT

_BASH = """\
_buildkit_exporter_completion() {
    local kind value
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value _; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            open) compopt -o nospace; COMPREPLY+=("$value") ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done < <(%(complete_var)s=bash COMPLETE_WORDS="${COMP_LINE:0:COMP_POINT}" \\
        COMPLETE_CURRENT="${COMP_WORDS[COMP_CWORD]}" "$1" 2>/dev/null)
}

complete -o nosort -F _buildkit_exporter_completion %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

_buildkit_exporter_completion() {
    local kind value help
    local -a closed closed_shown open open_shown
    while IFS=$'\\t' read -r kind value help; do
        case $kind in
            dir) [[ $PREFIX == -*=* ]] && compset -P '*='; _files -/; return ;;
            file) [[ $PREFIX == -*=* ]] && compset -P '*='; _files; return ;;
            open) open+=("$value"); open_shown+=("$value${help:+  -- $help}") ;;
            *) closed+=("$value"); closed_shown+=("$value${help:+  -- $help}") ;;
        esac
    done < <(%(complete_var)s=zsh COMPLETE_WORDS="${(F)${(@Q)words[1,CURRENT-1]}}" \\
        COMPLETE_CURRENT="${(Q)PREFIX}" "${(Q)words[1]}" 2>/dev/null)
    (( $#closed )) && compadd -l -V closed -d closed_shown -a closed
    (( $#open )) && compadd -l -V open -S '' -d open_shown -a open
    return $(( $#closed + $#open == 0 ))
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _buildkit_exporter_completion "$@"
else
    compdef _buildkit_exporter_completion %(prog_name)s
fi
"""

_FISH = """\
function _buildkit_exporter_completion
    set -l words (commandline -opc)
    set -l asked (string join \\n -- $words | string collect)
    set -l current (commandline -ct | string collect)
    for line in (%(complete_var)s=fish COMPLETE_WORDS=$asked COMPLETE_CURRENT=$current $words[1] 2>/dev/null)
        set -l fields (string split -m 2 \\t -- $line)
        switch $fields[1]
            case dir
                printf '%%s\\n' $fields[3](__fish_complete_directories $fields[2] '')
            case file
                printf '%%s\\n' $fields[3](__fish_complete_path $fields[2])
            case '*'
                printf '%%s\\t%%s\\n' $fields[2] $fields[3]
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments '(_buildkit_exporter_completion)'
"""

_SPECIAL = re.compile(r"""([\s"'\\$&|;()<>*?\[\]#~`!{}])""")
"""The characters that bash interprets unless a backslash precedes them."""


class _Completion(ShellComplete):
    """The part that all shells have in common."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, without the program's name, and the word at the cursor."""
        words = os.environ.get("COMPLETE_WORDS", "").split("\n")
        return words[1:], os.environ.get("COMPLETE_CURRENT", "")

    def complete(self) -> str:
        """Return the completions; none if the words before the cursor are not a valid command line."""
        args, word = self.get_completion_args()
        try:
            items = self.get_completions(args, word)
        except click.UsageError:
            return ""
        flag = word.partition("=")[0] + "=" if word.startswith("-") and "=" in word else ""
        return "".join(f"{self._line(item, flag, word)}\n" for item in items)

    def _line(self, item: CompletionItem[str], flag: str, word: str) -> str:
        """Format a completion.

        Args:
            item: The value.
            flag: The part of the word before the value, such as ``--progress=``; may be empty.
            word: The whole word so far.
        """
        if item.type in {"file", "dir"}:
            return "\t".join((item.type, item.value, flag))
        value = item.value if item.value.startswith(flag) else flag + item.value
        return "\t".join((item.type, self._show(value, word), item.help or ""))

    def _show(self, value: str, word: str) -> str:
        """The value in the form that the shell expects."""
        return value


class _Bash(_Completion):
    name = "bash"
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """See the base class. The line is split here, because bash also breaks words at ``=`` and ``:``."""
        line = os.environ.get("COMPLETE_WORDS", "")
        words = split_arg_string(line)[1:]
        ends_in_word = bool(words) and not re.search(r"(?<!\\)\s$", line)
        return (words[:-1], words[-1]) if ends_in_word else (words, "")

    def _show(self, value: str, word: str) -> str:
        """The part after the last character at which bash breaks words, because bash replaces only that."""
        current = os.environ.get("COMPLETE_CURRENT", "")
        if current in {"=", ":"} or not word.endswith(current):
            current = ""
        return _SPECIAL.sub(r"\\\1", value[len(word) - len(current) :])


class _Zsh(_Completion):
    name = "zsh"
    source_template = _ZSH


class _Fish(_Completion):
    name = "fish"
    source_template = _FISH


_SHELLS: dict[str, type[_Completion]] = {kind.name: kind for kind in (_Bash, _Zsh, _Fish)}


def completion_script(shell: str, command: click.Command) -> str:
    """The script with which a shell learns to complete the command.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.
        command: The whole command line.
    """
    return _SHELLS[shell](command, {}, PROGRAM, ASKING).source()


def run_completion(options: CompletionArgs) -> int:
    """Run the command ``completion``."""
    print(completion_script(options.shell, ROOT), end="")
    return 0


def answer(shell: str, command: click.Command) -> str:
    """Answer the request in the environment variables; empty for an unknown shell."""
    kind = _SHELLS.get(shell)
    return kind(command, {}, PROGRAM, ASKING).complete() if kind is not None else ""
