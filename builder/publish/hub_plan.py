"""What a release holds, and what publishing it does to each file of a repo."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import files
from builder.errors import ArasError
from builder.publish.hub_client import Held, git_blob
from builder.release import layout

LEAVE = frozenset({".gitattributes"})
"""Written by the Hub itself: neither ours nor to be removed."""


@dataclass(frozen=True)
class File:
    """A file of the release: path with forward slashes, size in bytes, sha256 in hex."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What publishing does to each file; ``remove`` lists files of the repo (its sizes)."""

    add: tuple[File, ...]
    keep: tuple[File, ...]
    replace: tuple[File, ...]
    remove: tuple[File, ...]

    @property
    def send(self) -> tuple[File, ...]:
        return self.add + self.replace

    @property
    def changes(self) -> int:
        return len(self.send) + len(self.remove)

    def first(self, most: int) -> "Plan":
        """The part of the plan that changes at most ``most`` files, removals last."""
        add, replace = self.add[:most], self.replace[: max(0, most - len(self.add))]
        return Plan(add, (), replace, self.remove[: most - len(add) - len(replace)])

    def summary(self) -> dict[str, Any]:
        """{"add" | "keep" | "replace" | "remove": [{"path", "bytes"}], "bytes": to send}."""
        kinds = {"add": self.add, "keep": self.keep, "replace": self.replace, "remove": self.remove}
        listed = {k: [{"path": f.path, "bytes": f.bytes} for f in v] for k, v in kinds.items()}
        return {**listed, "bytes": sum(f.bytes for f in self.send)}


def read_release(release: Path) -> tuple[dict[str, Any], dict[str, File]]:
    """The manifest and every file of a release by path.

    Raises ArasError where the folder is no release, lacks a file, holds one of another size, or
    one that the manifest does not know. Digests are those of the manifest; bytes are read later.
    """
    manifest = layout.read_manifest(release)
    listed = {f["path"]: File(f["path"], f["bytes"], f["sha256"]) for f in manifest["files"]}
    for name in layout.UNLISTED:
        if (release / name).is_file():
            size = (release / name).stat().st_size
            listed[name] = File(name, size, files.sha256_file(release / name))
    there = {p.relative_to(release).as_posix(): p for p in release.rglob("*") if p.is_file()}
    wrong = [f"{name} is missing" for name in sorted(listed.keys() - there.keys())]
    wrong += [f"{name} is not in the manifest" for name in sorted(there.keys() - listed.keys())]
    wrong += [
        f"{name} has {there[name].stat().st_size} bytes, the manifest says {file.bytes}"
        for name, file in sorted(listed.items())
        if name in there and there[name].stat().st_size != file.bytes
    ]
    if wrong:
        raise ArasError(lines(f"{release} is not as it was packaged:", wrong))
    return manifest, listed


def plan(release: Path, ours: dict[str, File], theirs: dict[str, Held]) -> Plan:
    """Compare a release with the files of a repo; small files are read for git's blob id."""

    def same(file: File, held: Held) -> bool:
        if held.sha256 is not None:
            return held.sha256 == file.sha256
        return held.bytes == file.bytes and held.blob == git_blob(
            (release / file.path).read_bytes()
        )

    ordered = [ours[path] for path in sorted(ours)]
    known = [file for file in ordered if file.path in theirs]
    kept = {file.path for file in known if same(file, theirs[file.path])}
    gone = sorted(theirs.keys() - ours.keys() - LEAVE)
    return Plan(
        add=tuple(file for file in ordered if file.path not in theirs),
        keep=tuple(file for file in known if file.path in kept),
        replace=tuple(file for file in known if file.path not in kept),
        remove=tuple(File(path, theirs[path].bytes, "") for path in gone),
    )


def lines(title: str, found: list[str], most: int = 10) -> str:
    """``title`` over the first ``most`` of what was found, one to a line."""
    shown = [f"  {line}" for line in found[:most]]
    more = [f"  … and {len(found) - most} more"] if len(found) > most else []
    return "\n".join([title, *shown, *more])
