"""Pages of the documentation site that are made from the code, and links from the site into the repository.

mkdocs calls these functions (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from exporter import ArtifactKind, Attribute, default_registry

ROOT = Path(__file__).resolve().parents[1]
BLOB = "https://github.com/buildkit-exporter/buildkit-exporter/blob/main/"
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")
_ARTIFACTS = {
    ArtifactKind.IMAGE: "an image in a store or registry",
    ArtifactKind.ARCHIVE: "one file",
    ArtifactKind.FILES: "a directory tree",
    ArtifactKind.NONE: "nothing that stays",
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages made from the code."""
    for path, text in (
        ("changelog.md", (ROOT / "CHANGELOG.md").read_text("utf-8")),
        ("adr/index.md", decisions()),
        ("reference/types.md", types_page()),
        ("reference/contract.md", contract()),
    ):
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside of docs/ to the repository, and those to generated pages into the site."""
    directory = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        # The changelog is a file of the repository's root.
        base = "" if page.file.src_uri == "changelog.md" else f"docs/{directory}"
        path = posixpath.normpath(posixpath.join(base, target))
        if path == "docs/adr":
            path = "docs/adr/index.md"
        inside = path.removeprefix("docs/")
        if path.startswith("docs/") and files.get_file_from_path(inside) is not None:
            return f"]({posixpath.relpath(inside, directory or '.')}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # mkdocs reports it
        return f"]({BLOB}{path}{anchor})"

    return _LINK.sub(link, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Remove the marks that precede literal blocks in docstrings."""
    return html.replace("<p>::</p>\n", "").replace("::</p>", ":</p>")


def decisions() -> str:
    """The list of decision records."""
    lines = [
        "# Decisions",
        "",
        "Each decision that a reader might question: what, why, and the alternatives.",
        "",
    ]
    for path in sorted((ROOT / "docs" / "adr").glob("0*.md")):
        title = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def types_page() -> str:
    """Every built-in type with its attributes."""
    lines = [
        "# Types and their attributes",
        "",
        "What `buildkit-exporter exporters --type TYPE` prints. [Types of outputs](../types.md) explains "
        "what concerns several of them.",
    ]
    registry = default_registry()
    for name in sorted(registry.types):
        exporter = registry.get(name)
        lines += [
            "",
            f"## {name}",
            "",
            f"{exporter.title}. The artifact: {_ARTIFACTS[exporter.artifact]}.",
            "",
        ]
        lines += ["| attribute | kind | default | meaning |", "|---|---|---|---|"]
        lines += [attribute_row(attribute) for attribute in exporter.attributes]
    return "\n".join(lines) + "\n"


def attribute_row(attribute: Attribute) -> str:
    kind = attribute.kind
    if kind.startswith("enum:"):
        kind = ", ".join(f"`{value}`" for value in kind.removeprefix("enum:").split("|"))
    default = f"`{attribute.default}`" if attribute.default else ""
    return f"| `{attribute.name}` | {kind} | {default} | {cell(attribute.help)} |"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def contract() -> str:
    """The proto, message by message, as its comments explain it."""
    path = ROOT / "protos" / "buildkit" / "exporter" / "v1" / "exporter.proto"
    introduction, declarations = split_proto(path.read_text("utf-8"))
    lines = [
        "# The contract",
        "",
        f"[`buildkit/exporter/v1/exporter.proto`]({BLOB}{path.relative_to(ROOT)}). The wheel has it, too.",
        "",
    ]
    lines += introduction
    for heading, comment, code in declarations:
        lines += ["", f"## {heading}", "", *comment, "", "```proto", *code, "```"]
    return "\n".join(lines) + "\n"


def split_proto(text: str) -> tuple[list[str], list[tuple[str, list[str], list[str]]]]:
    """The file's comment, and each top-level declaration with its comment and its lines."""
    introduction: list[str] = []
    found: list[tuple[str, list[str], list[str]]] = []
    comment: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("//"):
            comment.append(line.removeprefix("//").removeprefix(" "))
        elif line.startswith("package "):
            introduction, comment = comment, []
        elif declaration := re.match(r"(service|message|enum) (\w+) \{", line):
            found.append((f"{declaration[1]} {declaration[2]}", comment, [line, *block(line, lines)]))
            comment = []
        else:
            comment = []
    # Headings of the comment stand below the page's title.
    return [f"#{line}" if line.startswith("# ") else line for line in introduction], found


def block(first: str, lines: Iterator[str]) -> Iterable[str]:
    if first.rstrip().endswith("}"):
        return
    for line in lines:
        yield line
        if line == "}":
            return
