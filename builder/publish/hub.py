"""Publishes a release to a Hub: plan, upload, verify, tag; running again finishes what was cut.

The tag comes last, after checksums and row counts, and never moves. What the cards learn later (a
DOI) goes to ``main`` alone.
"""

import contextlib
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError, WorkFailed
from builder.core.manifest import MANIFEST, read_manifest
from builder.core.web import checked_address
from builder.publish import cards, hub_client
from builder.publish.hub_client import HubRepo
from builder.publish.hub_load import Counts, LoadFailed, count_rows_apart
from builder.publish.hub_steps import (
    LEAVE,
    Plan,
    Rounds,
    check_main,
    head_tells,
    lines,
    read_release,
    release_at,
)
from builder.publish.journal import Journal, alone, open_journal
from builder.release.croissant import release_address
from builder.release.published import record_publication

Count = Callable[[str, str | None, str, str, list[str]], Counts]
"""(endpoint, token, repo, revision, configs) → rows of each split of each config."""


def publish(
    release: Path,
    repo: str | None,
    *,
    endpoint: str,
    token: str | None,
    check: Callable[[Path], list[str]],
    render: cards.Render,
    unpublished_doi: bool = False,
    private: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda line: None,
    base: float = 0.5,
    count: Count = count_rows_apart,
) -> dict[str, Any]:
    """Publish ``release`` as the dataset ``repo`` and tag it with its version.

    ``repo`` is that of the recipe when None; cards that name another, or another Hub, are written
    anew by ``render``. Where the tag holds the same data with older cards (before the DOI was
    known), main gets the new ones. A DOI that leads nowhere is refused unless ``unpublished_doi``.
    ``check`` names what is wrong with a release ([] when nothing is); it reads every byte, so it
    comes after what can be asked quickly. ``say`` is told what happens, in words without secrets.
    ``base`` is the first wait in seconds between attempts. ``count`` counts rows as a user loads
    them (see hub_load). ``dry_run`` writes nothing, here or there.

    Returns {"status": "published" | "already published" | "cards renewed" | "planned", "repo",
    "endpoint", "version", "tag", "commit", "cards", "url", "plan"}; "cards" is the commit on main
    whose cards are newer than those of the tag's "commit". Raises ArasError before anything is
    sent for what no attempt could mend: a bad name, token, clock, release, or a tag of other
    content; raises WorkFailed when the Hub did not do its part: the same call goes on.
    """
    release = release.resolve()
    endpoint = checked_address(endpoint, "--endpoint")
    if repo is None:
        repo = cards.named_repo(read_manifest(release)) or None
    if repo is None:
        raise ArasError("which repo? Give --repo ORG/NAME, or set repo in [release] of the recipe")
    hub_client.check_repo_id(repo)
    if token is None and not dry_run:
        raise ArasError(
            f"no token for {endpoint}: run `hf auth login`, or set HF_TOKEN (write access needed)"
        )
    with hub_client.redacted_logs(token), contextlib.nullcontext() if dry_run else alone(release):
        if not dry_run:
            cards.finish_rewriting(release, render)
        manifest, ours = read_release(release)
        if not unpublished_doi:
            cards.check_doi(release, manifest)
        hub = HubRepo(endpoint, repo, token, base=base, say=say)
        hub.check_place(str(manifest["version"]))
        _check_repo(hub, manifest, private)
        if violations := check(release):
            raise ArasError(lines(f"{release} fails `aras check`; nothing was sent:", violations))
        place, named = f"{endpoint}/datasets/{repo}", release_address(manifest) or "no repo"
        if named != place and dry_run:
            say(f"the cards name {named}: publishing writes them for {place} first")
        elif named != place:
            say(f"writing the cards for {place}; they named {named}")
            cards.rewrite(release, render, repo=repo, endpoint=endpoint)
            manifest, ours = read_release(release)
        return _Publisher(release, manifest, ours, hub, count=count).run(private, dry_run)


def _check_repo(hub: HubRepo, manifest: dict[str, Any], private: bool) -> None:
    """Raise ArasError where a repo that is there cannot take a new version as asked."""
    head = hub.sha()
    if head is None or manifest["version"] in hub.refs()["tags"]:
        return
    if private and not hub.is_private():
        raise ArasError(
            f"{hub.repo} is there already, and public; make it private in its settings, "
            "or leave --private out"
        )
    check_main(hub, manifest, head)
    others = hub.tree(head).keys() - {"README.md", *LEAVE}
    if others and not release_at(hub, head):
        title = f"{hub.repo} holds files and no release of aras; publishing would take their place:"
        way = "Give --repo a name of its own, or delete them there first"
        raise ArasError(lines(title, sorted(others)) + f"\n{way}")


@dataclass
class _Publisher(Rounds):
    count: Count = count_rows_apart

    def run(self, private: bool, dry_run: bool) -> dict[str, Any]:
        hub, version = self.hub, self.version
        if commit := self.tagged():
            return self.after_the_tag(commit, dry_run)
        head = hub.sha()
        planned = self.plan_against(head)
        if dry_run:
            return self.result("planned", None, planned)
        self.check_card()
        if planned.remove:
            names = [file.path for file in planned.remove]
            hub.say(lines(f"{version} does not hold these files; its commit removes them:", names))
        if head is None:
            hub.create(private=private)
        commit = self.land(self.journal(), f"Release {version}")
        self.verify_rows(commit)
        hub.tag(version, commit)
        if self.tagged() != commit:
            raise WorkFailed(f"{hub.repo}: tag {version} does not show at {commit[:8]}; run again")
        return self.done("published", commit, planned)

    def after_the_tag(self, commit: str, dry_run: bool) -> dict[str, Any]:
        """The tag holds the same data. Where its cards are older than ours, main gets ours.

        The tag says that rows were counted at its commit; of a later one the journal does.
        """
        older = self.plan_against(commit)
        if not older.changes:
            if dry_run:
                return self.result("planned", commit, older)
            return self.done("already published", commit, None)
        hub = self.hub
        names = ", ".join(file.path for file in older.send)
        hub.say(f"tag {self.version} holds the same data with other cards ({names}), and stays")
        main = str(hub.sha())
        planned = self.cards_behind(main)
        if dry_run:
            return self.result("planned", commit, planned)
        journal, title = self.journal(), f"Cards of {self.version}"

        def once() -> str:
            head = hub.sha()
            todo = self.cards_behind(head)
            return self.commit(journal, todo, title, head, "main") if todo.changes else str(head)

        if planned.changes:
            self.check_card()
            main = hub.call("committing", once, retry_if=head_tells)
            if self.cards_behind(main).changes:
                raise WorkFailed(f"{hub.repo}: the cards did not arrive whole on main; run again")
        if self.plan_against(main).send:  # another version is there, or came meanwhile
            return self.done("already published", commit, None)
        if journal.facts.get("counted") != main:
            self.verify_rows(main)
            journal.set(counted=main)
        if not planned.changes:
            return self.done("already published", commit, None)
        return self.done("cards renewed", commit, planned, main)

    def cards_behind(self, head: str | None) -> Plan:
        """What to send for main to have our cards; nothing where it holds another version."""
        todo = self.plan_against(head)
        told = self.hub.read_json(MANIFEST, str(head)) or {}
        version = told.get("version")
        if version != self.version or not all(cards.is_card(file.path) for file in todo.send):
            self.hub.say(f"main holds other data (version {version}): its cards stay")
            return Plan((), (), (), ())
        return Plan(todo.add, todo.keep, todo.replace, ())

    def check_card(self) -> None:
        """Raise ArasError when the Hub would refuse the card's metadata."""
        if (card := self.release / "README.md").is_file():
            refused = self.hub.card_errors(card.read_text(encoding="utf-8"))
            if refused:
                raise ArasError(lines(f"{card}: the Hub refuses its metadata:", refused))

    def journal(self) -> Journal:
        content = {"content_sha256": self.manifest["content_sha256"]}
        return open_journal(self.release, "hub", self.url, content)

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def url(self) -> str:
        return f"{self.hub.endpoint}/datasets/{self.hub.repo}"

    def tagged(self) -> str | None:
        """The commit of the version's tag; ArasError when it holds other data than the release."""
        tag, refs = self.version, self.hub.refs()
        if tag in refs["branches"]:
            raise ArasError(
                f"{self.hub.repo} has a branch {tag}: which of the two would revision={tag!r} "
                "load? Rename or delete the branch"
            )
        if tag not in refs["tags"]:
            return None
        commit = str(self.hub.sha(tag))
        differs = self.plan_against(commit)
        names = [file.path for file in (*differs.send, *differs.remove)]
        if not all(map(cards.is_card, names)):
            title = f"{self.hub.repo} has a tag {tag} with other content, and a tag never moves:"
            raise ArasError(
                lines(title, names) + "\nRelease under a new version (`aras diff --bump`)"
            )
        return commit

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

    def done(
        self, status: str, commit: str, planned: Plan | None, main: str | None = None
    ) -> dict[str, Any]:
        """Write down where the release stands now."""
        result = self.result(status, commit, planned, main)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        names = ("repo", "endpoint", "version", "tag", "commit", "url")
        facts = {"destination": self.url, **{name: result[name] for name in names}}
        facts |= {name: self.manifest.get(name) for name in ("content_sha256", "key")}
        record_publication(self.release, "hub", {**facts, "recorded": now})
        return result

    def result(
        self, status: str, commit: str | None, planned: Plan | None, main: str | None = None
    ) -> dict[str, Any]:
        return {
            "status": status,
            "repo": self.hub.repo,
            "endpoint": self.hub.endpoint,
            "version": self.version,
            "tag": self.version,
            "commit": commit,
            "cards": main,
            "url": self.url,
            "plan": planned.summary() if planned else None,
        }
