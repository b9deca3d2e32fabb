"""Changes of files without running anything, for `State.file`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.client.llb.steps import NO_INPUT, Inputs, Step, Tree
from exporter.pb.pb import ops_pb2

KEEP = -1
"""The permissions, or the time, of copies: as they are. The time of new files: now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copies files from another state.

    Attributes:
        source: The other state.
        src: The path there.
        dest: The path here. With a slash at the end, it is a directory.
        mode: The permissions of the copies; `KEEP` keeps them.
        owner: The owner of the copies, as ``USER[:GROUP]``; unchanged if empty.
        follow_symlinks: Whether `src` may be a link to what is meant.
        contents: Whether a directory's contents are meant, rather than the directory.
        unpack: Whether archives are unpacked.
        create_dest: Whether missing parent directories of `dest` are created.
        wildcard: Whether `src` may be a pattern.
        allow_empty: Whether the pattern may match nothing.
        include: Only files that match one of these patterns.
        exclude: But not those that match one of these.
        timestamp: The time of the copies, in nanoseconds since 1970; `KEEP` keeps it.
    """

    source: Tree
    src: str
    dest: str
    mode: int = KEEP
    owner: str = ""
    follow_symlinks: bool = False
    contents: bool = False
    unpack: bool = False
    create_dest: bool = False
    wildcard: bool = False
    allow_empty: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    timestamp: int = KEEP

    def action(self, inputs: Inputs, base: int) -> ops_pb2.FileAction:
        """The action, without its target."""
        copy = ops_pb2.FileActionCopy(
            src=posixpath.join("/", posixpath.normpath(self.src)),
            dest=_path(self.dest, keep_slash=True),
            owner=_owner(self.owner, base),
            mode=self.mode,
            followSymlink=self.follow_symlinks,
            dirCopyContents=self.contents,
            attemptUnpackDockerCompatibility=self.unpack,
            createDestPath=self.create_dest,
            allowWildcard=self.wildcard,
            allowEmptyWildcard=self.allow_empty,
            timestamp=self.timestamp,
            include_patterns=self.include,
            exclude_patterns=self.exclude,
        )
        return ops_pb2.FileAction(secondaryInput=inputs.add(self.source.step), copy=copy)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return {"file.copy.includeexcludepatterns"} if self.include or self.exclude else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeFile:
    """Writes a file.

    Attributes:
        path: Where.
        data: Its content.
        mode: Its permissions.
        owner: Its owner, as ``USER[:GROUP]``.
        timestamp: Its time, in nanoseconds since 1970; `KEEP` means now.
    """

    path: str
    data: bytes
    mode: int = 0o644
    owner: str = ""
    timestamp: int = KEEP

    def action(self, inputs: Inputs, base: int) -> ops_pb2.FileAction:
        """The action, without its target."""
        made = ops_pb2.FileActionMkFile(
            path=_path(self.path),
            mode=self.mode & 0o777,
            data=self.data,
            owner=_owner(self.owner, base),
            timestamp=self.timestamp,
        )
        return ops_pb2.FileAction(secondaryInput=NO_INPUT, mkfile=made)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """Creates a directory.

    Attributes:
        path: Where.
        mode: Its permissions.
        parents: Whether missing parents are created.
        owner: Its owner, as ``USER[:GROUP]``.
        timestamp: Its time, in nanoseconds since 1970; `KEEP` means now.
    """

    path: str
    mode: int = 0o755
    parents: bool = False
    owner: str = ""
    timestamp: int = KEEP

    def action(self, inputs: Inputs, base: int) -> ops_pb2.FileAction:
        """The action, without its target."""
        made = ops_pb2.FileActionMkDir(
            path=_path(self.path),
            mode=self.mode & 0o777,
            makeParents=self.parents,
            owner=_owner(self.owner, base),
            timestamp=self.timestamp,
        )
        return ops_pb2.FileAction(secondaryInput=NO_INPUT, mkdir=made)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeLink:
    """Creates a symbolic link.

    Attributes:
        path: Where.
        target: What it points to.
        owner: Its owner, as ``USER[:GROUP]``.
        timestamp: Its time, in nanoseconds since 1970; `KEEP` means now.
    """

    path: str
    target: str
    owner: str = ""
    timestamp: int = KEEP

    def action(self, inputs: Inputs, base: int) -> ops_pb2.FileAction:
        """The action, without its target."""
        made = ops_pb2.FileActionSymlink(
            oldpath=self.target,
            newpath=self.path,
            owner=_owner(self.owner, base),
            timestamp=self.timestamp,
        )
        return ops_pb2.FileAction(secondaryInput=NO_INPUT, symlink=made)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return {"file.symlink.create"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Removes a file or a directory with its contents.

    Attributes:
        path: What.
        allow_missing: Whether it may be missing.
        wildcard: Whether `path` may be a pattern.
    """

    path: str
    allow_missing: bool = False
    wildcard: bool = False

    def action(self, inputs: Inputs, base: int) -> ops_pb2.FileAction:
        """The action, without its target."""
        removed = ops_pb2.FileActionRm(
            path=_path(self.path), allowNotFound=self.allow_missing, allowWildcard=self.wildcard
        )
        return ops_pb2.FileAction(secondaryInput=NO_INPUT, rm=removed)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return set()


Action = Copy | MakeFile | MakeDirectory | MakeLink | Remove
"""A change of files."""


def file_step(base: Step | None, actions: Sequence[Action], name: str) -> Step:
    """One step for several changes, one after the other."""
    inputs = Inputs()
    target = inputs.add(base)
    made = [action.action(inputs, target) for action in actions]
    for index, each in enumerate(made):
        # Results of earlier actions are counted after the inputs.
        each.input = target if index == 0 else len(inputs.steps) + index - 1
        each.output = 0 if index == len(made) - 1 else NO_INPUT
    caps = frozenset({"file.base"}.union(*(action.caps for action in actions)))
    op = ops_pb2.Op(file=ops_pb2.FileOp(actions=made))
    return Step(op, tuple(inputs.steps), name, caps=caps)


def _path(path: str, *, keep_slash: bool = False) -> str:
    cleaned = posixpath.normpath(posixpath.join("/", path))
    if keep_slash and path.endswith("/") and cleaned != "/":
        return f"{cleaned}/"
    if keep_slash and path.endswith("/."):
        return f"{cleaned.rstrip('/')}/."
    return cleaned


def _owner(owner: str, base: int) -> ops_pb2.ChownOpt | None:
    if not owner:
        return None
    user, colon, group = owner.partition(":")
    return ops_pb2.ChownOpt(user=_user(user, base), group=_user(group, base) if colon else None)


def _user(name: str, base: int) -> ops_pb2.UserOpt:
    if name == "root":
        return ops_pb2.UserOpt(byID=0)
    if name.isascii() and name.isdecimal():
        return ops_pb2.UserOpt(byID=int(name))
    return ops_pb2.UserOpt(byName=ops_pb2.NamedUserOpt(name=name, input=base))
