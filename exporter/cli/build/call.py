"""``--call`` and ``--check``: asking the frontend about a Dockerfile without building it.

The frontend answers subrequests with JSON, text and a status in its result's metadata. The output is that
of buildx.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from exporter.cli.csvvalue import split_fields
from exporter.cli.failures import UsageError
from exporter.client.client import BuildkitClient
from exporter.client.gateway import Gateway
from exporter.client.options import SolveOptions
from exporter.client.sources import BuildSource, SourceFile, SourceRange
from exporter.errors import FailedPreconditionError, ImageError, InvalidArgumentError
from exporter.image.go.text import parse_bool
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.progress.model import StatusSink

_BUILD = "build"
_CHECK = "check"
_LINT = "lint"
_CAPABILITY = "moby.buildkit.frontend.subrequests+forward"

_JSON, _TEXT, _STATUS = "result.json", "result.txt", "result.statuscode"


@dataclass(frozen=True, slots=True)
class Call:
    """A subrequest.

    Attributes:
        name: The method: ``lint``, ``outline``, ``targets``, ``subrequests.describe``.
        is_json: Whether to print the frontend's JSON.
        ignores_status: Whether to ignore the frontend's status.
    """

    name: str
    is_json: bool = False
    ignores_status: bool = False

    @classmethod
    def parse(cls, text: str) -> Call | None:
        """Parse ``METHOD[,format=json][,ignorestatus=true]``; None for a build.

        Raises:
            UsageError: the text is malformed.
        """
        try:
            fields = split_fields(text)
        except InvalidArgumentError as error:
            raise UsageError(f"--call: {error} in {text!r}") from None
        name, form, ignores_status = "", "", False
        for field in fields:
            key, equals, value = field.partition("=")
            if not equals:
                if name:
                    raise UsageError(f"--call: invalid print value: {text}: it names two methods")
                name = field
            elif key == "format":
                form = value
            elif key == "ignorestatus":
                try:
                    ignores_status = parse_bool(value)
                except ImageError:
                    raise UsageError(f"--call: invalid ignorestatus print value: {value}") from None
            else:
                raise UsageError(f"--call: invalid print field: {field}: there are format= and ignorestatus=")
        if form not in {"", "json", "text"}:
            raise UsageError(f"--call: invalid format {form}: the formats are text and json")
        if not name:
            raise UsageError(f"--call: there is no method in {text!r}: write check, outline or targets")
        return (
            None if name == _BUILD else cls(_LINT if name == _CHECK else name, form == "json", ignores_status)
        )

    async def ask(self, client: BuildkitClient, options: SolveOptions, sink: StatusSink) -> dict[str, str]:
        """Send the subrequest, and return the metadata of the result.

        Raises:
            ExporterError: the frontend does not know the method, or cannot read the Dockerfile.
        """
        capabilities = options.frontend_attrs.get("frontend.caps")
        asked = {
            **options.frontend_attrs,
            "requestid": f"frontend.{self.name}",
            "frontend.caps": f"{capabilities},{_CAPABILITY}" if capabilities else _CAPABILITY,
        }
        answer: dict[str, str] = {}

        async def frontend(gateway: Gateway) -> gateway_pb2.Result:
            result = await gateway.solve(frontend=options.frontend, frontend_attrs=asked)
            answer.update({key: value.decode("utf-8", "replace") for key, value in result.metadata.items()})
            return result

        silent = replace(options, frontend="", frontend_attrs={}, exports=(), is_internal=True)
        await client.build(silent, frontend, sink)
        return answer

    def show(self, answer: Mapping[str, str], dockerfile: str) -> tuple[str, int]:
        """Format the frontend's answer.

        Args:
            answer: The metadata of the result.
            dockerfile: The user's name for the Dockerfile.

        Returns:
            The text to print, and the exit status.

        Raises:
            FailedPreconditionError: the Dockerfile cannot be parsed, or the answer is malformed.
        """
        try:
            text = self._text(answer, dockerfile)
        except (msgspec.MsgspecError, IndexError) as error:
            raise FailedPreconditionError(
                f"the frontend's answer to {self.name} makes no sense: {error}"
            ) from error
        status = answer.get(_STATUS, "")
        return text, 0 if self.ignores_status or not status.isdecimal() else int(status)

    def _text(self, answer: Mapping[str, str], dockerfile: str) -> str:
        data = answer.get(_JSON, "")
        if self.name == _LINT:
            return _lint(data, dockerfile, is_json=self.is_json)
        if self.is_json:
            return f"{data}\n"
        show = _SHOWN.get(self.name)
        is_newer = _numbers(answer.get("version", "")) > (1, 0, 0)
        if show is None or is_newer:  # an unknown method or version: use the frontend's own text
            return answer.get(_TEXT) or f"{data}\n"
        return show(data)


class _Location(msgspec.Struct):
    source_index: int = msgspec.field(name="sourceIndex", default=0)
    ranges: tuple[SourceRange, ...] | None = ()


class _Warning(msgspec.Struct):
    rule: str = msgspec.field(name="ruleName", default="")
    url: str = ""
    detail: str = ""
    location: _Location = msgspec.field(default_factory=_Location)


class _BuildError(msgspec.Struct):
    message: str = ""
    location: _Location = msgspec.field(default_factory=_Location)


class _Lint(msgspec.Struct):
    warnings: list[_Warning] | None = None
    sources: list[SourceFile] | None = None
    error: _BuildError | None = msgspec.field(name="buildError", default=None)


def _lint(data: str, dockerfile: str, *, is_json: bool) -> str:
    found = msgspec.json.decode(data, type=_Lint) if data else _Lint()
    sources = [SourceFile(dockerfile, one.language, one.data) for one in found.sources or ()]
    warnings = sorted(found.warnings or (), key=_place)
    text = ""
    if is_json:
        text = f"{data}\n"
    elif warnings:
        count = "1 warning has" if len(warnings) == 1 else f"{len(warnings)} warnings have"
        text = f"Check complete, {count} been found!\n" + "".join(_warning(one, sources) for one in warnings)
    if found.error is not None:
        print(text, end="\n" if text and not is_json else "")
        place = found.error.location
        excerpt = BuildSource(sources[place.source_index], place.ranges).excerpt()
        raise FailedPreconditionError(f"{found.error.message}\n{excerpt}".rstrip("\n"))
    return text or "Check complete, no warnings found.\n"


def _warning(warning: _Warning, sources: Sequence[SourceFile]) -> str:
    url = f" - {warning.url}" if warning.url else ""
    index = warning.location.source_index
    excerpt = BuildSource(sources[index], warning.location.ranges).excerpt() if index >= 0 else ""
    return f"\nWARNING: {warning.rule}{url}\n{warning.detail}\n{excerpt}"


def _place(warning: _Warning) -> tuple[bool, bool, int, str]:
    """The sort key of a warning. Those without a location come first, by rule."""
    has_source = warning.location.source_index >= 0
    ranges = warning.location.ranges or ()
    if not has_source or not ranges:
        return has_source, bool(ranges), 0, warning.rule
    return True, True, ranges[0].start.line, ""


class _Named(msgspec.Struct):
    name: str = ""
    description: str = ""
    value: str = ""
    required: bool = False
    default: bool = False
    version: str = ""


class _Outline(msgspec.Struct):
    name: str = ""
    description: str = ""
    args: list[_Named] = []
    secrets: list[_Named] = []
    ssh: list[_Named] = []


class _Targets(msgspec.Struct):
    targets: list[_Named] | None = None


def _outline(data: str) -> str:
    found = msgspec.json.decode(data, type=_Outline)
    text = ""
    if found.name or found.description:
        rows = [("TARGET:", found.name or "(default)")]
        rows += [("DESCRIPTION:", found.description)] if found.description else []
        text += _table(rows, 1) + "\n"
    if found.args:
        args = [(one.name, one.value, one.description) for one in found.args]
        text += _table([("BUILD ARG", "VALUE", "DESCRIPTION"), *args], 3) + "\n"
    for title, items in (("SECRET", found.secrets), ("SSH", found.ssh)):
        if items:
            rows = [(one.name, "true" if one.required else "") for one in items]
            text += _table([(title, "REQUIRED"), *rows], 3) + "\n"
    return text


def _targets(data: str) -> str:
    rows = []
    for target in msgspec.json.decode(data, type=_Targets).targets or ():
        name = f"{target.name} (default)".lstrip() if target.default else target.name
        rows.append((name, target.description))
    return _table([("TARGET", "DESCRIPTION"), *rows], 1)


def _described(data: str) -> str:
    found = msgspec.json.decode(data, type=list[_Named])
    rows = [(one.name.removeprefix("frontend."), one.version, one.description) for one in found]
    return _table([("NAME", "VERSION", "DESCRIPTION"), *rows], 1)


_SHOWN: Mapping[str, Callable[[str], str]] = {
    "outline": _outline,
    "targets": _targets,
    "subrequests.describe": _described,
}


def _table(rows: Sequence[Sequence[str]], padding: int) -> str:
    """Align columns like Go's ``text/tabwriter``, which does not pad the last one."""
    widths = [max(map(len, column)) + padding for column in list(zip(*rows, strict=True))[:-1]]
    return "".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) + f"{row[-1]}\n"
        for row in rows
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
