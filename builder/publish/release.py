"""A release as it is sent: its manifest and files, and what a destination lacks of them."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from builder.core.errors import ArasError
from builder.core.files import hash_file
from builder.core.manifest import SUMS, UNLISTED, Manifest, read_manifest


@dataclass(frozen=True)
class File:
    """A file to send: its name at the destination, size in bytes, hex digests, and its bytes."""

    name: str
    size: int
    sha256: str
    md5: str
    source: Path | bytes

    def open(self) -> BinaryIO:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")

    def read(self) -> bytes:
        with self.open() as stream:
            return stream.read()


@dataclass(frozen=True)
class Release:
    """A packaged release; ``files`` by path, the manifest and its checksum files included."""

    path: Path
    manifest: Manifest
    files: Mapping[str, File]

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def content_sha256(self) -> str:
        return self.manifest.content_sha256

    @property
    def sorted_files(self) -> list[File]:
        """The files in the order of their paths."""
        return [self.files[path] for path in sorted(self.files)]


def read_release(path: Path) -> Release:
    """The manifest and every file of a release; digests are the manifest's, bytes are read later.

    Raises ArasError where the folder is not a release, lacks a file, holds a file of another size,
    or a file that the manifest does not list.
    """
    manifest = read_manifest(path)
    files = {
        file.path: File(file.path, file.bytes, file.sha256, file.md5, path / file.path)
        for file in manifest.files
    }
    for name in sorted(UNLISTED):
        if (path / name).is_file():
            digests = hash_file(path / name, *SUMS)
            files[name] = File(name, (path / name).stat().st_size, source=path / name, **digests)
    sizes = {p.relative_to(path).as_posix(): p.stat().st_size for p in _files_in(path)}
    wrong = [f"{name} is missing" for name in sorted(files.keys() - sizes.keys())]
    wrong += [f"{name} is not in the manifest" for name in sorted(sizes.keys() - files.keys())]
    wrong += [
        f"{name} has {sizes[name]} bytes, the manifest says {file.size}"
        for name, file in sorted(files.items())
        if sizes.get(name, file.size) != file.size
    ]
    if wrong:
        title = f"{path} differs from what was packaged (`aras package` writes it again):"
        raise ArasError(lines(title, wrong))
    return Release(path, manifest, files)


def _files_in(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


class Held(Protocol):
    """A file as a destination lists it."""

    @property
    def size(self) -> int: ...

    def holds(self, file: File) -> bool:
        """Whether its bytes are those of ``file``."""


class Removal(NamedTuple):
    """A file that a destination holds and the release does not; size in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Plan:
    """What publishing does to each file at a destination."""

    add: tuple[File, ...] = ()
    keep: tuple[File, ...] = ()
    replace: tuple[File, ...] = ()
    remove: tuple[Removal, ...] = ()

    @property
    def actions(self) -> dict[str, tuple[File | Removal, ...]]:
        """Files by what is done to them."""
        return {
            "add": self.add,
            "keep": self.keep,
            "replace": self.replace,
            "remove": self.remove,
        }

    @property
    def send(self) -> tuple[File, ...]:
        return self.add + self.replace

    @property
    def send_bytes(self) -> int:
        return sum(file.size for file in self.send)

    @property
    def changed(self) -> list[str]:
        """Names of the files that the destination does not hold as the release does."""
        return [*(file.name for file in self.send), *(file.name for file in self.remove)]

    def as_json(self) -> dict[str, Any]:
        """The files of each action, and the bytes to send."""
        listed = {
            action: [{"path": file.name, "bytes": file.size} for file in files]
            for action, files in self.actions.items()
        }
        return {**listed, "bytes": self.send_bytes}

    def as_text(self) -> str:
        """A line a file, those that change first, then the counts."""
        actions = {name: self.actions[name] for name in ("add", "replace", "remove", "keep")}
        rows = [
            f"{action:8} {file.size:>15,}  {file.name}"
            for action, files in actions.items()
            for file in files
        ]
        counts = ", ".join(f"{len(files)} to {action}" for action, files in actions.items())
        return "\n".join([*rows, f"{counts}; {self.send_bytes:,} bytes to send"])

    def first(self, most: int) -> "Plan":
        """The part of the plan that changes at most ``most`` files, removals last."""
        add, replace = self.add[:most], self.replace[: max(0, most - len(self.add))]
        return Plan(add, (), replace, self.remove[: most - len(add) - len(replace)])


def compare(files: Iterable[File], there: Mapping[str, Held]) -> Plan:
    """The plan that makes ``there``, which a destination holds by name, the ``files``."""
    files = list(files)
    known = [file for file in files if file.name in there]
    kept = {file.name for file in known if there[file.name].holds(file)}
    return Plan(
        add=tuple(file for file in files if file.name not in there),
        keep=tuple(file for file in known if file.name in kept),
        replace=tuple(file for file in known if file.name not in kept),
        remove=tuple(
            Removal(name, there[name].size)
            for name in sorted(there.keys() - {file.name for file in files})
        ),
    )


def lines(title: str, items: Sequence[str], most: int = 10) -> str:
    """``title`` over the first ``most`` items, one to a line."""
    more = [f"… and {len(items) - most} more"] if len(items) > most else []
    return "\n  ".join([title, *items[:most], *more])
