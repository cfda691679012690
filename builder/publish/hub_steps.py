"""Publishes a release to a Hub: plan, upload, verify, tag; run again, it continues a cut run.

The head of ``main`` decides everything. A round looks at it, sends what differs and makes one
atomic commit on top of it; after a conflict or a lost answer the next round looks again. The tag
comes last, after checksums and row counts, and never moves. What the cards learn later (a DOI)
goes to ``main`` alone.
"""

import contextlib
import datetime
import json
from dataclasses import dataclass, field
from typing import Any

from builder.core.errors import ArasError, WorkFailed
from builder.core.files import sha256_file
from builder.core.manifest import MANIFEST, read_manifest
from builder.core.progress import bar
from builder.core.web import checked_address, is_transient
from builder.publish import cards, hub_client
from builder.publish.hub_client import LEAVE, HubRepo, status_within
from builder.publish.hub_load import Count, count_rows_apart, verify_rows
from builder.publish.journal import Journal, alone
from builder.publish.release import File, Plan, Release, compare, lines, read_release
from builder.publish.targets import Job
from builder.release.changes import parse_version
from builder.release.croissant import release_address
from builder.release.published import Publication, record_publication

LARGEST_COMMIT = 100
"""Files in one commit; a larger change goes through a pull request."""

REPAIRS = 3
"""How often a Hub that holds other bytes than we sent is sent them again."""

CONFLICTS = frozenset({409, 412})
"""Somebody else was there first."""


@dataclass(frozen=True)
class HubOutcome:
    """What publishing to a Hub came to.

    ``status`` is "published", "already published", "cards renewed" or "planned". ``cards`` is the
    commit on main whose cards are newer than those of the tag's ``commit``.
    """

    status: str
    repo: str
    endpoint: str
    version: str
    commit: str | None
    url: str
    plan: Plan | None = None
    cards: str | None = None
    space: str = ""
    """Address of the page of the release, where one was asked for."""

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "repo": self.repo,
            "endpoint": self.endpoint,
            "version": self.version,
            "tag": self.version,
            "commit": self.commit,
            "cards": self.cards,
            "url": self.url,
            **({"space": self.space} if self.space else {}),
            "plan": self.plan.as_json() if self.plan else None,
        }

    def as_text(self) -> str:
        if self.status == "planned" and self.plan:
            return self.plan.as_text()
        place = f"{self.repo} {self.version} at {str(self.commit)[:8]}: {self.url}"
        if not self.plan:
            return f"already published: {place}"
        sent = f"{len(self.plan.send)} files, {self.plan.send_bytes:,} bytes"
        if self.cards:
            at = self.cards[:8]
            return f"renewed the cards on main, {sent}, at {at}; the tag does not change: {place}"
        return f"published {sent}: {place}"


def publish(
    job: Job,
    repo: str | None,
    *,
    endpoint: str,
    token: str | None,
    unpublished_doi: bool = False,
    private: bool = False,
    base: float = 0.5,
    count: Count = count_rows_apart,
) -> HubOutcome:
    """Publish a release as the dataset ``repo`` and tag it with its version.

    ``repo`` is that of the recipe when None; cards that name another, or another Hub, are written
    anew. Where the tag holds the same data with older cards (before the DOI was known), main gets
    the new cards. A DOI that does not resolve is refused unless ``unpublished_doi``. ``base`` is
    the first wait in seconds between attempts. ``count`` counts rows as a user loads them
    (hub_load).

    Raises ArasError before anything is sent for what no retry could change: a bad name, token,
    clock, release, or a tag of other content; raises WorkFailed when the Hub did not do its part:
    the same call continues. A dry run that does not reach the Hub plans for an empty repo.
    """
    path = job.release.resolve()
    endpoint = checked_address(endpoint, "--endpoint")
    if repo is None and not (repo := read_manifest(path).repo):  # which the cards' snippets load
        raise ArasError(
            "missing repo: give --repo ORG/NAME, or set repo in [release] of the recipe"
        )
    hub_client.check_repo_id(repo)
    if token is None and not job.dry_run:
        raise ArasError(
            f"no token for {endpoint}: run `hf auth login`, or set HF_TOKEN (write access needed)"
        )
    with (
        hub_client.redacted_logs(token),
        contextlib.nullcontext() if job.dry_run else alone(path),
    ):
        if not job.dry_run:
            cards.finish_rewriting(path, job.render)
        release = read_release(path)
        if job.dry_run and (why := hub_client.out_of_reach(endpoint)):
            job.say(f"{why}: the plan for an empty repo; `aras check` was not run")
            plan, url = compare(release.sorted_files, {}), f"{endpoint}/datasets/{repo}"
            return HubOutcome("planned", repo, endpoint, release.version, None, url, plan)
        if not unpublished_doi:
            cards.check_doi(path, release.manifest.doi)
        hub = HubRepo(endpoint, repo, token, base=base, say=job.say)
        hub.check_place(release.version)
        _check_repo(hub, release, private)
        if violations := job.check(path):
            raise ArasError(lines(f"{path} fails `aras check`; nothing was sent:", violations))
        place, named = f"{endpoint}/datasets/{repo}", release_address(release.manifest) or "no repo"
        if named != place and job.dry_run:
            job.say(f"the cards name {named}: publishing writes them for {place} first")
        elif named != place:
            job.say(f"writing the cards for {place}; they named {named}")
            cards.rewrite(path, job.render, repo=repo, endpoint=endpoint)
            release = read_release(path)
        return _Publisher(release, hub, count).run(private, job.dry_run)


def _check_repo(hub: HubRepo, release: Release, private: bool) -> None:
    """Raise ArasError where an existing repo cannot take a new version as asked."""
    head = hub.sha()
    if head is None or release.version in hub.refs().tags:
        return
    if private and not hub.is_private():
        raise ArasError(
            f"{hub.repo} already exists and is public; make it private in its settings, "
            "or leave --private out"
        )
    check_main(hub, release, head)
    others = hub.tree(head).keys() - {"README.md", *LEAVE}
    if others and not release_at(hub, head):
        title = f"{hub.repo} holds files that are not a release of aras; publishing replaces them:"
        way = "Give --repo another name, or delete them there first"
        raise ArasError(lines(title, sorted(others)) + f"\n{way}")


class _LookAgainError(Exception):
    """The head is not what this round expected; the next round sees what it is."""


@dataclass
class _Publisher:
    """A release on its way to ``hub``."""

    release: Release
    hub: HubRepo
    count: Count
    sent: set[str] = field(default_factory=set)
    """Paths whose bytes this very run sent: the journal may be outdated for others."""

    def run(self, private: bool, dry_run: bool) -> HubOutcome:
        hub, version = self.hub, self.release.version
        if commit := self.tagged():
            return self.after_the_tag(commit, dry_run)
        head = hub.sha()
        plan = self.plan_against(head)
        if dry_run:
            return self.outcome("planned", None, plan)
        self.check_card()
        if plan.remove:
            names = [file.name for file in plan.remove]
            hub.say(lines(f"{version} does not hold these files; its commit removes them:", names))
        if head is None:
            hub.create(private=private)
        commit = self.land(self.journal(), f"Release {version}")
        verify_rows(hub, commit, self.release.manifest, self.count)
        hub.tag(version, commit)
        if self.tagged() != commit:
            raise WorkFailed(f"{hub.repo}: tag {version} is not at {commit[:8]} yet; run again")
        return self.record("published", commit, plan)

    # What is there.

    @property
    def url(self) -> str:
        return f"{self.hub.endpoint}/datasets/{self.hub.repo}"

    def journal(self) -> Journal:
        return Journal(self.release.path, "hub", self.url, self.release.content_sha256)

    def plan_against(self, revision: str | None) -> Plan:
        """What brings the repo at ``revision`` to the release."""
        there = self.hub.tree(revision) if revision else {}
        return compare(
            self.release.sorted_files,
            {path: held for path, held in there.items() if path not in LEAVE},
        )

    def tagged(self) -> str | None:
        """The commit of the version's tag; ArasError when it holds other data than the release."""
        tag, refs = self.release.version, self.hub.refs()
        if tag in refs.branches:
            raise ArasError(
                f"{self.hub.repo} has a branch {tag}, so revision={tag!r} would be "
                "ambiguous; rename or delete the branch"
            )
        if tag not in refs.tags:
            return None
        commit = str(self.hub.sha(tag))
        names = self.plan_against(commit).changed
        if not all(map(cards.is_card, names)):
            title = f"{self.hub.repo} has a tag {tag} with other content, and a tag never moves:"
            way = "Release under a new version (`aras diff --bump`)"
            raise ArasError(lines(title, names) + f"\n{way}")
        return commit

    def mismatches(self, revision: str) -> list[str]:
        """Paths where the repo differs from the release as it was packaged."""
        wrong = self.hub.mismatches(self.release.path, revision)
        for path in wrong:
            if path in self.release.files:
                self.check_bytes(self.release.files[path])
        return wrong

    def check_bytes(self, file: File) -> None:
        """Raise ArasError when the bytes on disk are not those packaged."""
        path = self.release.path / file.name
        if not path.is_file() or sha256_file(path) != file.sha256:
            raise ArasError(
                f"{path}: not the bytes that were packaged (sha256 {file.sha256}); "
                "restore the file, or run `aras package` again"
            )

    def check_card(self) -> None:
        """Raise ArasError when the Hub would refuse the card's metadata."""
        if (card := self.release.path / "README.md").is_file():
            refused = self.hub.card_errors(card.read_text(encoding="utf-8"))
            if refused:
                raise ArasError(lines(f"{card}: the Hub refuses its metadata:", refused))

    # Bringing main to the release.

    def land(self, journal: Journal, title: str) -> str:
        """Bring ``main`` to the release, in as many rounds as it takes; the verified commit."""
        wrong: list[str] = []
        for _ in range(REPAIRS):
            commit = self.hub.call(
                "committing",
                lambda: self.round(journal, title),
                retry_if=head_decides,
                is_long=True,  # files are sent within; its calls have times of their own
            )
            wrong = self.mismatches(commit)
            if not wrong:
                return commit
            journal.forget_files()
            self.hub.say(lines("the Hub holds other bytes; sending again:", wrong))
        raise WorkFailed(lines(f"{self.hub.repo} still holds other bytes; not tagged:", wrong))

    def round(self, journal: Journal, title: str) -> str:
        """One look at the head and, where it differs, one change on top of it."""
        head = self.hub.sha()
        plan = self.plan_against(head)
        if head and not plan.changed:
            return head
        if head:
            check_main(self.hub, self.release, head)
        if len(plan.changed) <= LARGEST_COMMIT:
            return self.commit(journal, plan, title, head, "main")
        return self.round_by_pull_request(journal, plan, title, str(head))

    def round_by_pull_request(self, journal: Journal, plan: Plan, title: str, head: str) -> str:
        """Commits of at most LARGEST_COMMIT files on a pull request; verified, then merged."""
        hub = self.hub
        number = hub.pull_request(f"{title} ({self.release.content_sha256[:8]} on {head[:8]})")
        ref = f"refs/pr/{number}"
        for _ in range(1 + -(-len(plan.changed) // LARGEST_COMMIT)):
            at = hub.sha(ref)
            plan = self.plan_against(ref)
            if plan.changed:
                self.commit(journal, plan.first(LARGEST_COMMIT), title, at, ref)
        if wrong := self.mismatches(ref):
            journal.forget_files()
            raise _LookAgainError(
                f"pull request {number} holds other bytes of {', '.join(wrong[:3])}"
            )
        try:
            hub.merge(number)
        except Exception as error:
            if status_within(error) in CONFLICTS and hub.sha() != head:
                hub.close(number)  # main moved under it: the next round starts from there
            raise
        merged = hub.sha()
        if merged is None or self.plan_against(merged).changed:
            raise _LookAgainError(f"pull request {number} did not bring main to the release")
        return merged

    def commit(self, journal: Journal, plan: Plan, title: str, head: str | None, ref: str) -> str:
        """Send what is not there yet, then one commit on ``ref``."""
        adds = self.send(journal, plan, ref)
        gone = [file.name for file in plan.remove]
        try:
            return self.hub.commit(adds, gone, title=title, parent=head, ref=ref)
        except Exception as error:
            trusted = {file.name for file in plan.send} - self.sent
            if trusted and status_within(error) in (400, 404, 422):
                journal.forget_files()
                raise _LookAgainError("the Hub lost what an earlier run sent") from None
            raise

    def send(self, journal: Journal, plan: Plan, ref: str) -> list[Any]:
        """Upload shard by shard, each noted in the journal; the small files go in one call."""
        operations, small = [], []
        with bar("upload", plan.send_bytes, "bytes") as advance:
            for file in plan.send:
                arrived = journal.has(file)
                if not arrived:
                    self.check_bytes(file)
                add = self.hub.operation(file, sent=arrived)
                operations.append(add)
                if not arrived and file.name.endswith(".parquet"):
                    if self.hub.send([add], ref):
                        journal.add(file)
                    self.sent.add(file.name)
                elif not arrived:
                    small.append(add)
                advance(file.size, note=file.name)
            if small:
                self.hub.send(small, ref)
                self.sent.update(add.path_in_repo for add in small)
        return operations

    # Cards that are newer than the tag.

    def after_the_tag(self, commit: str, dry_run: bool) -> HubOutcome:
        """The tag holds the same data. Where its cards are older, main gets the release's.

        The tag shows that rows were counted at its commit; for a later commit the journal does.
        """
        older = self.plan_against(commit)
        if not older.changed and dry_run:
            return self.outcome("planned", commit, older)
        if not older.changed:
            return self.record("already published", commit)
        hub, version = self.hub, self.release.version
        names = ", ".join(file.name for file in older.send)
        hub.say(f"tag {version} holds the same data with other cards ({names}); it does not change")
        main = str(hub.sha())
        plan = self.cards_behind(main)
        if dry_run:
            return self.outcome("planned", commit, plan)
        journal, title = self.journal(), f"Cards of {version}"

        def once() -> str:
            head = hub.sha()
            todo = self.cards_behind(head)
            return self.commit(journal, todo, title, head, "main") if todo.changed else str(head)

        if plan.changed:
            self.check_card()
            main = hub.call("committing", once, retry_if=head_decides, is_long=True)
            if self.cards_behind(main).changed:
                raise WorkFailed(f"{hub.repo}: the cards did not arrive whole on main; run again")
        if self.plan_against(main).send:  # another version is there, or came meanwhile
            return self.record("already published", commit)
        if journal.counted != main:
            verify_rows(hub, main, self.release.manifest, self.count)
            journal.counted = main
        if not plan.changed:
            return self.record("already published", commit)
        return self.record("cards renewed", commit, plan, main)

    def cards_behind(self, head: str | None) -> Plan:
        """What to send for main to have the new cards; nothing where it holds another version."""
        plan = self.plan_against(head)
        there = release_at(self.hub, str(head))
        version = there.version if there else None
        if version == self.release.version and all(cards.is_card(file.name) for file in plan.send):
            return Plan(plan.add, plan.keep, plan.replace)
        self.hub.say(f"main holds other data (version {version}): its cards do not change")
        return Plan()

    # What it came to.

    def record(
        self, status: str, commit: str, plan: Plan | None = None, main: str | None = None
    ) -> HubOutcome:
        """Write down where the release is published now."""
        outcome = self.outcome(status, commit, plan, main)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        publication = Publication(
            kind="hub",
            destination=self.url,
            repo=outcome.repo,
            endpoint=outcome.endpoint,
            version=outcome.version,
            tag=outcome.version,
            commit=commit,
            url=outcome.url,
            content_sha256=self.release.content_sha256,
            key=self.release.manifest.key,
            recorded=now,
        )
        record_publication(self.release.path, publication)
        return outcome

    def outcome(
        self, status: str, commit: str | None, plan: Plan | None, main: str | None = None
    ) -> HubOutcome:
        hub, version = self.hub, self.release.version
        return HubOutcome(status, hub.repo, hub.endpoint, version, commit, self.url, plan, main)


@dataclass(frozen=True)
class Remote:
    """The release that a repo holds: its dataset's name, and its version."""

    name: str
    version: str


def release_at(hub: HubRepo, head: str) -> Remote | None:
    """The release at ``head``; None where there is none of aras."""
    manifest = hub.read_json(MANIFEST, head) or {}
    if "content_sha256" not in manifest:
        return None
    return Remote(str(manifest.get("name")), str(manifest.get("version")))


def check_main(hub: HubRepo, release: Release, head: str) -> None:
    """Raise ArasError where a release at ``head`` must not be replaced."""
    there = release_at(hub, head)
    if not there:
        return
    name = release.manifest.name
    if there.name != name:
        raise ArasError(
            f"{hub.repo} holds another dataset, {there.name} {there.version}: publishing {name} "
            "would remove it; give --repo another name"
        )
    if parse_version(there.version) > parse_version(release.version):
        raise ArasError(
            f"main of {hub.repo} is at version {there.version}: publishing {release.version} would "
            "give its readers an older version; raise version in [dataset] past it and package "
            "again"
        )


def head_decides(error: BaseException) -> bool:
    """What the Hub did is unknown after these; the head shows it, so another round is safe."""
    if isinstance(error, ArasError):
        return False
    # The client reads some answers as JSON before their status: a gateway's error page ends so.
    ambiguous = isinstance(error, (_LookAgainError, json.JSONDecodeError)) or is_transient(error)
    return ambiguous or status_within(error) in CONFLICTS
