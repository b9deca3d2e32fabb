"""Where files come from: images, directories of the client, Git repositories, URLs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from exporter.client.llb.state import State
from exporter.client.llb.steps import Inputs, Step, without_empty
from exporter.errors import ImageError, InvalidArgumentError
from exporter.image import Platform
from exporter.image.go import json as gojson
from exporter.image.reference import Reference
from exporter.pb.pb import ops_pb2

_SCP = re.compile(r"(?:[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/].*|/.*)")
_SSH_SOCKET = "default"


def scratch() -> State:
    """The empty file system."""
    return State()


def image(
    reference: str,
    *,
    platform: Platform | None = None,
    resolve_mode: Literal["default", "pull", "local"] = "default",
    name: str = "",
) -> State:
    """An image in a registry.

    Args:
        reference: Its name, completed as docker does (``busybox``).
        platform: Its platform; that of the definition if None.
        resolve_mode: Whether to look for a newer version (``pull``) or to prefer what the daemon has
            (``local``).
        name: Its name in the progress.

    Raises:
        InvalidArgumentError: the name is invalid.
    """
    try:
        full = str(Reference.parse(reference).tag_name_only())
    except ImageError as error:
        raise InvalidArgumentError(f"invalid image name {reference!r}: {error}") from error
    attrs = {} if resolve_mode == "default" else {"image.resolvemode": resolve_mode}
    caps = {"source.image"} | ({"source.image.resolvemode"} if resolve_mode == "pull" else set())
    return _source(f"docker-image://{full}", attrs, caps, name=name, has_platform=True, platform=platform)


def oci_layout(
    name: str,
    digest: str,
    *,
    session_id: str = "",
    store: str = "",
    platform: Platform | None = None,
) -> State:
    """An image in a layout that the client serves.

    Args:
        name: A name for it, in the form of a reference.
        digest: The digest of its manifest or index.
        session_id: The session that has the store; the build's own if empty.
        store: The store's name (`SolveOptions.stores`); `name` if empty.
        platform: Its platform; that of the definition if None.
    """
    attrs = without_empty({"oci.session": session_id, "oci.store": store or name})
    identifier = f"oci-layout://{name}@{digest}"
    return _source(identifier, attrs, {"source.ocilayout"}, has_platform=True, platform=platform)


def local(
    name: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow: Sequence[str] = (),
    shared_key_hint: str = "",
) -> State:
    """A directory of the client (`SolveOptions.directories`).

    Args:
        name: Its name.
        include: Patterns of files to include.
        exclude: Patterns of files to exclude.
        follow: Paths to include together with the targets of symbolic links.
        shared_key_hint: A key that lets other builds reuse the daemon's copy.
    """
    lists = {
        "local.includepattern": (include, "source.local.includepatterns"),
        "local.excludepatterns": (exclude, "source.local.excludepatterns"),
        "local.followpaths": (follow, "source.local.followpaths"),
    }
    attrs = {key: gojson.marshal(list(values)).decode() for key, (values, _) in lists.items() if values}
    caps = {cap for values, cap in lists.values() if values}
    if shared_key_hint:
        attrs["local.sharedkeyhint"] = shared_key_hint
        caps.add("source.local.sharedkeyhint")
    return _source(f"local://{name}", attrs, caps)


def git(
    url: str,
    *,
    ref: str = "",
    subdir: str = "",
    keep_git_dir: bool = False,
    checksum: str = "",
    skip_submodules: bool = False,
    token_secret: str = "",
    header_secret: str = "",
    known_hosts: str = "",
    ssh_id: str = "",
) -> State:
    """A Git repository.

    Args:
        url: Its URL, or ``USER@HOST:PATH``.
        ref: A branch, a tag or a commit; the default branch if empty.
        subdir: The directory in it.
        keep_git_dir: Whether to keep ``.git``.
        checksum: The commit that `ref` has to be.
        skip_submodules: Whether to leave submodules out.
        token_secret: The ID of the secret with a token; ``GIT_AUTH_TOKEN`` if empty.
        header_secret: The ID of the secret with an ``Authorization`` header; ``GIT_AUTH_HEADER`` if empty.
        known_hosts: For SSH: the keys of the host, as in ``known_hosts``. Daemons may need them.
        ssh_id: For SSH: the ID of the agent; ``default`` if empty.

    Raises:
        InvalidArgumentError: the URL is invalid.
    """
    place, is_ssh, full = _repository(url)
    subdir = posixpath.join("/", posixpath.normpath(subdir or "/")).strip("/")
    fragment = f"#{ref}{f':{subdir}' if subdir else ''}" if ref or subdir else ""
    attrs = {
        "git.fullurl": full,
        "git.authtokensecret": token_secret or "GIT_AUTH_TOKEN",
        "git.authheadersecret": header_secret or "GIT_AUTH_HEADER",
        "git.keepgitdir": "true" if keep_git_dir else "",
        "git.checksum": checksum,
        "git.skipsubmodules": "true" if skip_submodules else "",
        "git.knownsshhosts": f"{known_hosts.rstrip()}\n" if known_hosts and is_ssh else "",
        "git.mountsshsock": (ssh_id or _SSH_SOCKET) if is_ssh else "",
    }
    needs = {
        "source.git": True,
        "source.git.fullurl": True,
        "source.git.httpauth": bool(token_secret or header_secret),
        "source.git.keepgitdir": keep_git_dir,
        "source.git.checksum": bool(checksum),
        "source.git.skipsubmodules": skip_submodules,
        "source.git.knownsshhosts": is_ssh,
        "source.git.mountsshsock": is_ssh,
    }
    return _source(f"git://{place}{fragment}", without_empty(attrs), _needed(needs))


def http(
    url: str,
    *,
    checksum: str = "",
    filename: str = "",
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    header_secret: str = "",
) -> State:
    """A file behind a URL.

    Args:
        url: ``http://`` or ``https://``.
        checksum: Its digest, such as ``sha256:…``.
        filename: Its name in the file system; that in the URL if empty.
        mode: Its permissions; the daemon's default if 0.
        uid: The user that owns it.
        gid: Its group.
        header_secret: The ID of the secret with an ``Authorization`` header.

    Raises:
        InvalidArgumentError: the URL has a different scheme.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidArgumentError(f"{url!r} is neither an http:// nor an https:// URL")
    attrs = {
        "http.checksum": checksum,
        "http.filename": filename,
        "http.perm": f"0{mode:o}" if mode else "",
        "http.uid": str(uid or ""),
        "http.gid": str(gid or ""),
        "http.authheadersecret": header_secret,
    }
    needs = {
        "source.http": True,
        "source.http.checksum": bool(checksum),
        "source.http.perm": bool(mode),
        "soruce.http.uidgid": bool(uid or gid),  # spelled like this in BuildKit
        "source.http.auth": bool(header_secret),
    }
    return _source(url, without_empty(attrs), _needed(needs))


def merge(states: Sequence[State], *, name: str = "") -> State:
    """Overlay states, later ones on top."""
    wanted = [state for state in states if state.step is not None]
    if len(wanted) < 2:
        return wanted[0] if wanted else scratch()
    steps = [state.step for state in wanted if state.step is not None]
    inputs = [ops_pb2.MergeInput(input=index) for index in range(len(steps))]
    op = ops_pb2.Op(merge=ops_pb2.MergeOp(inputs=inputs))
    return State(Step(op, tuple(steps), name, caps=frozenset({"mergeop"})))


def diff(lower: State, upper: State, *, name: str = "") -> State:
    """The changes from one state to another, which may be deletions."""
    if lower.step is None:
        return upper
    inputs = Inputs()
    below, above = inputs.add(lower.step), inputs.add(upper.step)
    if upper.step is lower.step:  # Go's client package lists it twice
        above = 1
        inputs.steps.append(lower.step)
    op = ops_pb2.Op(
        diff=ops_pb2.DiffOp(
            lower=ops_pb2.LowerDiffInput(input=below), upper=ops_pb2.UpperDiffInput(input=above)
        )
    )
    return State(Step(op, tuple(inputs.steps), name, caps=frozenset({"diffop"})))


def _source(
    identifier: str,
    attrs: Mapping[str, str],
    caps: Iterable[str],
    *,
    name: str = "",
    has_platform: bool = False,
    platform: Platform | None = None,
) -> State:
    op = ops_pb2.Op(source=ops_pb2.SourceOp(identifier=identifier, attrs=attrs))
    return State(Step(op, (), name, has_platform, platform, frozenset(caps)), platform)


def _needed(needs: Mapping[str, bool]) -> set[str]:
    return {cap for cap, is_needed in needs.items() if is_needed}


def _repository(url: str) -> tuple[str, bool, str]:
    """Host and path of a repository, whether it is reached over SSH, and its complete URL."""
    if "://" not in url:
        match = _SCP.fullmatch(url)
        if match is not None:
            return f"{match['host']}{posixpath.join('/', match['path'])}", True, url
        url = f"https://{url}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "git", "ssh"} or not parts.hostname or parts.fragment:
        raise InvalidArgumentError(
            f"{url!r} is not the URL of a Git repository: give ref and subdir separately"
        )
    host = parts.netloc.rpartition("@")[2]
    return f"{host}{posixpath.normpath(parts.path or '/')}", parts.scheme == "ssh", url
