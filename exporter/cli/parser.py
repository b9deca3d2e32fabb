"""The commands and their options, spelled as buildctl and buildkitd spell theirs."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from exporter.cli.build.options import add_build_options
from exporter.cli.containerd import add_containerd_options
from exporter.cli.registries import add_registry_options
from exporter.cli.verify.options import add_verify_options
from exporter.layer.cache import DEFAULT_LIMIT
from exporter.progress.display import ProgressMode
from exporter.server.config import ServerConfig

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

N = TypeVar("N", int, float)

PROGRAM = "buildkit-exporter"
DEFAULT_ADDRESS = "unix:///run/buildkit-exporter/exporter.sock"

DEFAULT_PROXY_ADDRESS = "unix:///run/buildkit-exporter/buildkitd.sock"
DEFAULT_BUILDKITD = "unix:///run/buildkit/buildkitd.sock"

_HELP_WIDTH = 100
_ROOT = "directory of the embedded image store (default: $XDG_DATA_HOME/buildkit-exporter, else "
_ROOT += "~/.local/share/buildkit-exporter)"
_EXPORT_EPILOG = """\
where an output goes:
  dest=PATH                     the file or directory; archives go to standard output without it
  load=true[,context=NAME]      with type=docker: a Docker engine, that of the docker context or else
                                the one that docker itself would use

exit status: 0 done, 1 the export failed, 2 wrong usage, 130 interrupted"""
_SERVER_DEFAULTS = {field.name: field.default for field in dataclasses.fields(ServerConfig)}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that looks the same on every terminal and with every version of Python: the README quotes it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=_HELP_WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        # Names of commands are indented, which argparse does not take into account.
        for command in self._iter_indented_subactions(action):
            length = len(self._format_action_invocation(command)) + self._current_indent
            self._action_max_length = max(self._action_max_length, length)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        return names if action.nargs == 0 else f"{names} {action.metavar}"


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line; ``command`` in what it gives is the command's name."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [OPTIONS]",
        description="Exporters for BuildKit, outside the daemon.",
        epilog=f"'{PROGRAM} COMMAND --help' tells about a command.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {metadata.version(PROGRAM)}")
    _add_debug(parser, default=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    _add_serve(commands)
    _add_proxy(commands)
    _add_build(commands)
    _add_export(commands)
    _add_sample(commands)
    _add_exporters(commands)
    _add_images(commands)
    _add_inspect(commands)
    _add_verify(commands)
    _add_prune(commands)
    return parser


def _add_serve(commands: Commands) -> None:
    parser = _command(commands, "serve", "run the plugin server", "[OPTIONS]")
    parser.add_argument(
        "--addr",
        action="append",
        metavar="ADDRESS",
        help=f"where to listen, unix:///PATH or tcp://HOST:PORT; repeatable (default: {DEFAULT_ADDRESS})",
    )
    _add_workplace(parser)
    _add_listener_tls(parser)
    parser.add_argument(
        "--allow-endpoint",
        action="append",
        default=[],
        metavar="PATTERN",
        help="addresses that requests may have the server dial for refs, e.g. tcp://10.0.0.*:*; "
        "repeatable (default: none)",
    )
    _add_count(parser, "max_concurrent_exports", least=1, what="exports that run at once")
    _add_count(parser, "max_queued_exports", least=0, what="exports that may wait in line")
    _add_count(parser, "max_message_bytes", least=1, what="largest request")
    _add_seconds(parser, "session_timeout", "seconds to wait for the session that a request names")
    _add_seconds(parser, "finalize_ttl", "seconds that a finalize token stays valid after its last use")
    _add_seconds(parser, "shutdown_grace", "seconds that running exports get to end after SIGTERM")
    parser.add_argument(
        "--metrics-addr", metavar="HOST:PORT", help="serve Prometheus metrics there (default: no metrics)"
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        metavar="FORMAT",
        help="text or json (default: text)",
    )


def _add_proxy(commands: Commands) -> None:
    parser = _command(
        commands,
        "proxy",
        "run exporters that an unmodified buildkitd does not have, between it and its clients",
        "[OPTIONS]",
    )
    parser.add_argument(
        "--buildkitd",
        default=DEFAULT_BUILDKITD,
        metavar="ADDRESS",
        help=f"the daemon, unix:///PATH or tcp://HOST:PORT (default: {DEFAULT_BUILDKITD})",
    )
    parser.add_argument(
        "--addr",
        action="append",
        metavar="ADDRESS",
        help=f"where to listen for clients of the daemon; repeatable (default: {DEFAULT_PROXY_ADDRESS})",
    )
    _add_listener_tls(parser)
    _add_peer_tls(parser, "buildkitd", "the daemon")
    parser.add_argument(
        "--exporter",
        action="append",
        default=[],
        metavar="TYPE=ADDRESS",
        help="run this type on the plugin server at this address; repeatable (default: all run in this "
        "process)",
    )
    _add_peer_tls(parser, "exporter", "plugin servers")
    parser.add_argument(
        "--take",
        action="append",
        default=[],
        metavar="TYPE,...",
        help="run these types here although buildkitd has them, e.g. image,oci; any type can be asked for "
        "as plugin.TYPE without that",
    )
    _add_flag(parser, "--strict", "fail where buildkitd's image config differs from the one computed here")
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="let clients have files written below this directory, by the attribute proxy-dest (default: no)",
    )
    parser.add_argument(
        "--save-source", type=Path, metavar="DIR", help="save each build result in a directory below this one"
    )
    _add_seconds(parser, "shutdown_grace", "seconds that running builds get to end after SIGTERM")
    _add_workplace(parser)


def _add_build(commands: Commands) -> None:
    parser = _command(
        commands,
        "build",
        "build a Dockerfile with a buildkitd or a Docker engine",
        "CONTEXT [-t NAME] [-o OUTPUT] [OPTIONS]",
        epilog="exit status: 0 done, 1 the build failed, 2 wrong usage, 130 interrupted",
    )
    add_build_options(parser)
    _add_reporting(parser)
    _add_client(
        parser,
        "the daemon: unix:///PATH or tcp://HOST:PORT of a buildkitd or a Docker engine, or docker for the "
        f"engine that docker itself would use (default: $BUILDKIT_HOST, else {DEFAULT_BUILDKITD})",
    )
    _add_workplace(parser)


def _add_export(commands: Commands) -> None:
    parser = _command(
        commands,
        "export",
        "export a saved source, without any daemon",
        "--source DIR --output type=TYPE[,KEY=VALUE...] [OPTIONS]",
        epilog=_EXPORT_EPILOG,
    )
    parser.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help="saved source: the build result"
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        required=True,
        metavar="OUTPUT",
        help="type=TYPE[,dest=PATH][,KEY=VALUE...], e.g. type=oci,dest=app.tar,name=example.com/app:v1; "
        "repeatable",
    )
    _add_reporting(parser)
    _add_workplace(parser)
    _add_client(parser, "export on the server at this address, as a daemon does")


def _add_sample(commands: Commands) -> None:
    parser = _command(
        commands, "sample", "write a small recorded build, to try exports with", "DIR [--name NAME] | --list"
    )
    parser.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR", help="where it goes; a new or empty directory"
    )
    parser.add_argument(
        "--name", default="run-chain", metavar="NAME", help="which sample (default: run-chain)"
    )
    _add_flag(parser, "--list", "list the samples")


def _add_exporters(commands: Commands) -> None:
    parser = _command(commands, "exporters", "list the types of outputs and their attributes", "[OPTIONS]")
    parser.add_argument("--type", metavar="TYPE", help="tell about the attributes of this type")
    _add_flag(parser, "--json", "print JSON")
    _add_client(parser, "ask the server at this address (default: tell what is installed here)")


def _add_images(commands: Commands) -> None:
    parser = _command(commands, "images", "list the images in the embedded store", "[OPTIONS]")
    _add_root(parser)
    _add_flag(parser, "--no-trunc", "shorten neither digests nor times")
    _add_flag(parser, "--json", "print JSON")


def _add_inspect(commands: Commands) -> None:
    parser = _command(
        commands,
        "inspect",
        "show what an image is made of",
        "PATH [IMAGE] [OPTIONS]",
    )
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="OCI layout directory, OCI or Docker archive, saved source, or a --root",
    )
    parser.add_argument(
        "image", nargs="?", metavar="IMAGE", help="only this one: a name, or the beginning of a digest"
    )
    parser.add_argument(
        "--platform", metavar="PLATFORM", help="only images for this platform, e.g. linux/arm64"
    )
    _add_flag(parser, "--no-trunc", "shorten neither digests nor commands")
    _add_flag(parser, "--json", "print JSON")


def _add_verify(commands: Commands) -> None:
    parser = _command(
        commands,
        "verify",
        "check whether an image is complete, undamaged and of one piece",
        "PLACE [IMAGE] [OPTIONS]",
        epilog="exit status: 0 no problems, 1 there are some or the image cannot be reached, 2 wrong usage",
    )
    add_verify_options(parser)
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print problems only, and nothing if there are none"
    )
    _add_flag(parser, "--no-trunc", "do not shorten digests")
    _add_flag(parser, "--json", "print JSON")


def _add_prune(commands: Commands) -> None:
    parser = _command(commands, "prune", "remove what no image in the embedded store needs", "[OPTIONS]")
    _add_root(parser)
    _add_flag(parser, "--all", "images without a name, too")
    parser.add_argument(
        "--keep-duration",
        type=_seconds,
        default=3600.0,
        metavar="SECONDS",
        help="leave what is newer than that: exports may be about to use it (default: 3600)",
    )


def _command(
    commands: Commands, name: str, summary: str, usage: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        usage=f"{PROGRAM} {name} {usage}",
        epilog=epilog,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_debug(parser, default=argparse.SUPPRESS)
    return parser


def _add_debug(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--debug",
        action="store_true",
        default=default,
        help="show debug messages, and where errors come from",
    )


def _add_reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metadata-file", type=Path, metavar="FILE", help="write the exporters' response there, as JSON"
    )
    modes = "|".join(ProgressMode)
    parser.add_argument(
        "--progress", default="auto", metavar="MODE", help=f"{modes} (default: auto, or $BUILDKIT_PROGRESS)"
    )


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, metavar="DIR", help=_ROOT)


def _add_workplace(parser: argparse.ArgumentParser) -> None:
    """Options that `exporter.cli.workplace` reads."""
    _add_root(parser)
    add_containerd_options(
        parser, "images go to this containerd: the path of its socket (default: the embedded store)"
    )
    add_registry_options(parser)
    parser.add_argument(
        "--layer-cache-bytes",
        type=lambda text: _number(int, text, 0),
        metavar="N",
        help=f"how much of converted layers is kept below the root (default: {DEFAULT_LIMIT}; 0: nothing)",
    )


def _add_client(parser: argparse.ArgumentParser, addr_help: str) -> None:
    parser.add_argument("--addr", metavar="ADDRESS", help=addr_help)
    parser.add_argument(
        "--tlsservername", metavar="NAME", help="name that the server's certificate must have"
    )
    parser.add_argument(
        "--tlscacert", type=Path, metavar="FILE", help="CA certificates that vouch for the server (PEM)"
    )
    parser.add_argument("--tlscert", type=Path, metavar="FILE", help="client certificate (PEM)")
    parser.add_argument("--tlskey", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long connecting may take (default: 5)",
    )


def _add_listener_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tlscert", type=Path, metavar="FILE", help="certificate for TCP addresses (PEM)")
    parser.add_argument("--tlskey", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument(
        "--tlscacert",
        type=Path,
        metavar="FILE",
        help="ask clients for certificates that these CAs signed (PEM)",
    )
    _add_flag(parser, "--insecure-listen", "allow TCP without TLS on other interfaces than loopback")


def _add_peer_tls(parser: argparse.ArgumentParser, prefix: str, peer: str) -> None:
    """Options about TLS to a server, of several that a command talks to."""
    for name, metavar, what in (
        ("tlsservername", "NAME", f"name that the certificate of {peer} must have"),
        ("tlscacert", "FILE", f"CA certificates that vouch for {peer} (PEM)"),
        ("tlscert", "FILE", f"certificate to show to {peer} (PEM)"),
        ("tlskey", "FILE", "its private key (PEM)"),
    ):
        kind = str if metavar == "NAME" else Path
        parser.add_argument(f"--{prefix}-{name}", type=kind, metavar=metavar, help=what)


def _add_count(parser: argparse.ArgumentParser, field: str, *, least: int, what: str) -> None:
    default = _SERVER_DEFAULTS[field]
    parser.add_argument(
        "--" + field.replace("_", "-"),
        type=lambda text: _number(int, text, least),
        default=default,
        metavar="N",
        help=f"{what} (default: {default})",
    )


def _add_seconds(parser: argparse.ArgumentParser, field: str, what: str) -> None:
    default = _SERVER_DEFAULTS[field]
    parser.add_argument(
        "--" + field.replace("_", "-"),
        type=_seconds,
        default=default,
        metavar="SECONDS",
        help=f"{what} (default: {default:g})",
    )


def _seconds(text: str) -> float:
    return _number(float, text, 0)


def _number(kind: Callable[[str], N], text: str, least: int) -> N:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no number") from None
    if not value >= least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return value


def _add_flag(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    parser.add_argument(name, action="store_true", help=what)
