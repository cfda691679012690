"""Rounds that bring a ref of a Hub repo to the release: each looks at the head, then commits.

The head decides everything. A round sends what differs and makes one atomic commit on top of it. A
conflict or an answer that got lost only means another look.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.core import files
from builder.core.errors import ArasError, WorkFailed
from builder.core.manifest import MANIFEST, UNLISTED, read_manifest
from builder.core.progress import bar
from builder.core.web import is_transient
from builder.publish.hub_client import Held, HubRepo, git_blob, status_within
from builder.publish.journal import Journal
from builder.release.changes import parse_version

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
    manifest = read_manifest(release)
    listed = {f["path"]: File(f["path"], f["bytes"], f["sha256"]) for f in manifest["files"]}
    for name in UNLISTED:
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


LARGEST_COMMIT = 100
"""Files in one commit; a larger change goes through a pull request."""

REPAIRS = 3
"""How often a Hub that holds other bytes than we sent is sent them again."""

CONFLICTS = frozenset({409, 412})
"""Somebody else was there first."""


class _LookAgain(Exception):
    """The head is not what this round expected; the next round sees what it is."""


@dataclass
class Rounds:
    """The release ``manifest`` and ``ours`` tell of, on its way to ``hub``."""

    release: Path
    manifest: dict[str, Any]
    ours: dict[str, File]
    hub: HubRepo
    sent: set[str] = field(default_factory=set)
    """Paths whose bytes this very run sent: what the journal says of others may be outdated."""

    def plan_against(self, revision: str | None) -> Plan:
        return plan(self.release, self.ours, self.hub.tree(revision) if revision else {})

    def land(self, journal: Journal, title: str) -> str:
        """Bring ``main`` to the release, in as many rounds as it takes; the verified commit."""
        wrong: list[str] = []
        for _ in range(REPAIRS):
            commit = self.hub.call(
                "committing", lambda: self.round(journal, title), retry_if=head_tells
            )
            wrong = self.mismatches(commit)
            if not wrong:
                return commit
            journal.forget_uploaded()
            self.hub.say(lines("the Hub holds other bytes; sending again:", wrong))
        raise WorkFailed(lines(f"{self.hub.repo} still holds other bytes; not tagged:", wrong))

    def mismatches(self, revision: str) -> list[str]:
        """Paths where the repo differs from the release as it was packaged."""
        wrong = self.hub.mismatches(self.release, revision)
        for path in wrong:
            if path in self.ours:
                self.check_bytes(self.ours[path])
        return wrong

    def check_bytes(self, file: File) -> None:
        """Raise ArasError when the bytes on disk are not the packaged ones."""
        path = self.release / file.path
        if not path.is_file() or files.sha256_file(path) != file.sha256:
            raise ArasError(
                f"{path}: not the bytes that were packaged (sha256 {file.sha256}); "
                "restore the file, or run `aras package` again"
            )

    def round(self, journal: Journal, title: str) -> str:
        """One look at the head and, where it differs, one change on top of it."""
        head = self.hub.sha()
        todo = self.plan_against(head)
        if head and not todo.changes:
            return head
        if head:
            check_main(self.hub, self.manifest, head)
        if todo.changes <= LARGEST_COMMIT:
            return self.commit(journal, todo, title, head, "main")
        return self.round_by_pull_request(journal, todo, title, str(head))

    def round_by_pull_request(self, journal: Journal, todo: Plan, title: str, head: str) -> str:
        """Commits of at most LARGEST_COMMIT files on a pull request; verified, then merged."""
        hub = self.hub
        number = hub.pull_request(f"{title} ({self.manifest['content_sha256'][:8]} on {head[:8]})")
        ref = f"refs/pr/{number}"
        for _ in range(1 + -(-todo.changes // LARGEST_COMMIT)):
            at = hub.sha(ref)
            todo = self.plan_against(ref)
            if todo.changes:
                self.commit(journal, todo.first(LARGEST_COMMIT), title, at, ref)
        if wrong := self.mismatches(ref):
            journal.forget_uploaded()
            raise _LookAgain(f"pull request {number} holds other bytes of {', '.join(wrong[:3])}")
        try:
            hub.merge(number)
        except Exception as error:
            if status_within(error) in CONFLICTS and hub.sha() != head:
                hub.close(number)  # main moved under it: the next round starts from there
            raise
        merged = hub.sha()
        if merged is None or self.plan_against(merged).changes:
            raise _LookAgain(f"pull request {number} did not bring main to the release")
        return merged

    def commit(self, journal: Journal, todo: Plan, title: str, head: str | None, ref: str) -> str:
        """Send what is not there yet, then one commit on ``ref``."""
        adds = self.send(journal, todo, ref)
        gone = [file.path for file in todo.remove]
        try:
            return self.hub.commit(adds, gone, title=title, parent=head, ref=ref)
        except Exception as error:
            trusted = {file.path for file in todo.send} - self.sent
            if trusted and status_within(error) in (400, 404, 422):
                journal.forget_uploaded()
                raise _LookAgain("the Hub lost what an earlier run sent") from None
            raise

    def send(self, journal: Journal, todo: Plan, ref: str) -> list[Any]:
        """Upload shard by shard, each noted in the journal; the small files go in one call."""
        operations, small = [], []
        with bar("upload", sum(file.bytes for file in todo.send), "bytes") as advance:
            for file in todo.send:
                noted = journal.uploaded(file.path)
                there = noted is not None and noted["sha256"] == file.sha256
                if not there:
                    self.check_bytes(file)
                add = self.hub.operation(self.release, file.path, file.sha256, sent=there)
                operations.append(add)
                if not there and file.path.endswith(".parquet"):
                    if self.hub.send([add], ref):
                        journal.add_uploaded(file.path, bytes=file.bytes, sha256=file.sha256)
                    self.sent.add(file.path)
                elif not there:
                    small.append(add)
                advance(file.bytes, note=file.path)
            if small:
                self.hub.send(small, ref)
                self.sent.update(add.path_in_repo for add in small)
        return operations


def check_main(hub: HubRepo, manifest: dict[str, Any], head: str) -> None:
    """Raise ArasError where a release at ``head`` must not give way to that of ``manifest``."""
    told = release_at(hub, head)
    if not told:
        return
    name, version, own = str(told.get("name")), str(told.get("version")), str(manifest["version"])
    if name != manifest["name"]:
        raise ArasError(
            f"{hub.repo} holds another dataset, {name} {version}: publishing {manifest['name']} "
            "would remove it; give --repo a name of its own"
        )
    if parse_version(version) > parse_version(own):
        raise ArasError(
            f"main of {hub.repo} is at version {version}: publishing {own} would take its readers "
            "back; raise version in [dataset] past it and package again"
        )


def release_at(hub: HubRepo, head: str) -> dict[str, Any]:
    """The manifest of the release at ``head``; empty where there is none of ours."""
    told = hub.read_json(MANIFEST, head) or {}
    return told if "content_sha256" in told else {}


def head_tells(error: BaseException) -> bool:
    """After these nobody knows what the Hub did: the head does, so another round is safe."""
    if isinstance(error, ArasError):
        return False
    # The client reads some answers as JSON before their status: a gateway's error page ends so.
    ambiguous = isinstance(error, (_LookAgain, json.JSONDecodeError)) or is_transient(error)
    return ambiguous or status_within(error) in CONFLICTS
