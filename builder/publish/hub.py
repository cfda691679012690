"""Publishes a release to a Hub: plan, upload, verify, tag; running again finishes what was cut.

The head of ``main`` decides everything. Each round looks at it, sends what differs, and makes one
atomic commit on top of it. A conflict or an answer that got lost only means another look. The tag
comes last, after checksums and row counts, and never moves.
"""

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import files
from builder.errors import ArasError, WorkFailed
from builder.progress import bar
from builder.publish import hub_guard
from builder.publish.hub_client import HubRepo, status_within
from builder.publish.hub_load import Counts, LoadFailed, count_rows_apart
from builder.publish.hub_plan import File, Plan, lines, plan, read_release
from builder.publish.journal import Journal, open_journal, record_publication
from builder.retry import is_transient

LARGEST_COMMIT = 100
"""Files in one commit; a larger change goes through a pull request."""

REPAIRS = 3
"""How often a Hub that holds other bytes than we sent is sent them again."""

CONFLICTS = frozenset({409, 412})
"""Somebody else was there first."""

Count = Callable[[str, str | None, str, str, list[str]], Counts]
"""(endpoint, token, repo, revision, configs) → rows of each split of each config."""


class _LookAgain(Exception):
    """The head is not what this round expected; the next round sees what it is."""


def publish(
    release: Path,
    repo: str,
    *,
    endpoint: str,
    token: str | None,
    check: Callable[[Path], list[str]],
    private: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda line: None,
    base: float = 0.5,
    count: Count = count_rows_apart,
) -> dict[str, Any]:
    """Publish ``release`` as the dataset ``repo`` and tag it with its version.

    ``check`` names what is wrong with a release ([] when nothing is). ``say`` is told what
    happens, in words without secrets. ``base`` is the first wait in seconds between attempts.
    ``count`` counts rows as a user loads them (see hub_load).

    Returns {"status": "published" | "already published" | "planned", "repo", "endpoint",
    "version", "tag", "commit", "url", "plan"}. Raises ArasError before anything is sent for what
    no attempt could mend: a bad name, token, clock, release, or a tag of other content; raises
    WorkFailed when the Hub did not do its part: then nothing is tagged, and the same call goes on.
    """
    release = release.resolve()
    endpoint = hub_guard.check_endpoint(endpoint)
    hub_guard.check_repo_id(repo)
    if token is None and not dry_run:
        raise ArasError(
            f"no token for {endpoint}: run `hf auth login`, or set HF_TOKEN (write access needed)"
        )
    manifest, ours = read_release(release)
    if violations := check(release):
        raise ArasError(lines(f"{release} fails `aras check`; nothing was sent:", violations))
    with hub_guard.redacted_logs(token):
        hub = HubRepo(endpoint, repo, token, base=base, say=say)
        return _Publisher(release, manifest, ours, hub, count).run(private, dry_run)


@dataclass
class _Publisher:
    release: Path
    manifest: dict[str, Any]
    ours: dict[str, File]
    hub: HubRepo
    count: Count
    sent: set[str] = field(default_factory=set)
    """Paths whose bytes this very run sent: what the journal says of others may be outdated."""

    def run(self, private: bool, dry_run: bool) -> dict[str, Any]:
        hub, version = self.hub, str(self.manifest["version"])
        if hub.token:
            hub.say(f"{hub.repo} {version} on {hub.endpoint}, as {hub.check_token()}")
        if commit := self.tagged(version):
            return self.done("already published", commit, None)
        head = hub.sha()
        if head is None and (kind := hub.other_kind()):
            raise ArasError(
                f"{hub.repo} is a {kind} on {hub.endpoint}, not a dataset; choose another name"
            )
        planned = self.plan_against(head)
        if dry_run:
            return self.result("planned", None, planned)
        if (card := self.release / "README.md").is_file():
            refused = hub.card_errors(card.read_text(encoding="utf-8"))
            if refused:
                raise ArasError(lines(f"{card}: the Hub refuses its metadata:", refused))
        content = {"content_sha256": self.manifest["content_sha256"]}
        journal = open_journal(self.release, "hub", self.url, content)
        if head is None:
            hub.create(private=private)
        commit = self.land(journal, f"Release {version}")
        self.verify_rows(commit)
        hub.tag(version, commit)
        if self.tagged(version) != commit:
            raise WorkFailed(f"{hub.repo}: tag {version} does not show at {commit[:8]}; run again")
        return self.done("published", commit, planned)

    @property
    def url(self) -> str:
        return f"{self.hub.endpoint}/datasets/{self.hub.repo}"

    def plan_against(self, revision: str | None) -> Plan:
        return plan(self.release, self.ours, self.hub.tree(revision) if revision else {})

    def tagged(self, tag: str) -> str | None:
        """The commit of ``tag`` when it holds this release; ArasError when it holds another."""
        if tag not in self.hub.tags():
            return None
        commit = str(self.hub.sha(tag))
        differs = self.plan_against(commit)
        if differs.changes:
            names = [file.path for file in (*differs.send, *differs.remove)]
            title = f"{self.hub.repo} has a tag {tag} with other content, and a tag never moves:"
            raise ArasError(
                lines(title, names) + "\nRelease under a new version (`aras diff --bump`)"
            )
        return commit

    def land(self, journal: Journal, title: str) -> str:
        """Bring ``main`` to the release, in as many rounds as it takes; the verified commit."""
        wrong: list[str] = []
        for _ in range(REPAIRS):
            commit = self.hub.call(
                "committing", lambda: self.round(journal, title), retry_if=_head_tells
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
            raise WorkFailed(lines(f"{hub.repo}: pull request {number} differs:", wrong))
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

    def verify_rows(self, commit: str) -> None:
        """Count the rows of every config and split as a user's load_dataset finds them."""
        hub = self.hub
        expected: Counts = {
            config: {split: one["rows"] for split, one in splits.items()}
            for config, splits in self.manifest["configs"].items()
        }
        hub.say(f"loading {', '.join(expected)} as a user would")
        found = hub.call(
            "load_dataset",
            lambda: self.count(hub.endpoint, hub.token, hub.repo, commit, list(expected)),
            retry_if=lambda error: isinstance(error, LoadFailed),
            attempts=3,
        )
        if found != expected:
            raise WorkFailed(
                f"{hub.repo} at {commit[:8]} does not load as it was packaged; not tagged\n"
                f"  packaged {expected}\n  loaded   {found}"
            )

    def done(self, status: str, commit: str, planned: Plan | None) -> dict[str, Any]:
        """Write down where the release stands now."""
        result = self.result(status, commit, planned)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        names = ("repo", "endpoint", "version", "tag", "commit", "url")
        facts = {"destination": self.url, **{name: result[name] for name in names}}
        facts["content_sha256"] = self.manifest["content_sha256"]
        record_publication(self.release, "hub", {**facts, "recorded": now})
        return result

    def result(self, status: str, commit: str | None, planned: Plan | None) -> dict[str, Any]:
        version = str(self.manifest["version"])
        return {
            "status": status,
            "repo": self.hub.repo,
            "endpoint": self.hub.endpoint,
            "version": version,
            "tag": version,
            "commit": commit,
            "url": self.url,
            "plan": planned.summary() if planned else None,
        }


def _head_tells(error: BaseException) -> bool:
    """After these nobody knows what the Hub did: the head does, so another round is safe."""
    if isinstance(error, ArasError):
        return False
    # The client reads some answers as JSON before their status: a gateway's error page ends so.
    ambiguous = isinstance(error, (_LookAgain, json.JSONDecodeError)) or is_transient(error)
    return ambiguous or status_within(error) in CONFLICTS
