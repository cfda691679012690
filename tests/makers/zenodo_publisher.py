"""Both steps of publishing to a loopback Zenodo, and what must hold when they are done."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from builder.core.errors import ArasError
from builder.publish.targets import Job, Outcome, Render
from builder.publish.zenodo_client import Client
from builder.publish.zenodo_plan import Limits, parts, read_flat, record_files
from builder.publish.zenodo_steps import ZenodoJournal, draft, finish, preview
from tests.loopback.zenodo import LoopbackZenodo
from tests.makers.zenodo_release import METADATA, violations, write_cards

TOKEN = "a-secret-Token-6f1c"


@dataclass
class Publisher:
    """The two steps on one loopback server, and everything that they said."""

    server: LoopbackZenodo
    root: Path
    said: list[str] = field(default_factory=list)
    render: Render = write_cards
    violations: Callable[[Path], list[str]] = violations
    limits: Limits | None = None

    def client(self) -> Client:
        return Client(self.server.url, token=TOKEN, say=self.said.append, first_wait=0.001)

    def job(self, release: Path, render: Render | None = None) -> Job:
        say = self.said.append
        return Job(release, False, say, self.violations, render or self.render)

    def preview(
        self, release: Path, *, limits: Limits | None = None, follows: str | None = None
    ) -> dict:
        return preview(self.client(), self.job(release), limits=limits, follows=follows).as_json()

    def draft(
        self,
        release: Path,
        *,
        limits: Limits | None = None,
        follows: str | None = None,
        render: Render | None = None,
    ) -> dict:
        return self._heard(
            lambda: draft(
                self.client(),
                self.job(release, render),
                limits=limits or self.limits,
                follows=follows,
            )
        )

    def finish(self, release: Path) -> dict:
        return self._heard(lambda: finish(self.client(), self.job(release)))

    def publish(self, release: Path) -> dict:
        self.draft(release)
        return self.finish(release)

    def expected(self, release: Path) -> dict[str, dict[str, bytes]]:
        """Role → name → bytes of what its record must hold, by the DOIs in the journal."""
        records = ZenodoJournal.load(release, self.server.url).records
        with parts(release, records, self.render) as folders:
            return {
                role: {file.name: file.open().read() for file in record_files(read_flat(folder))}
                for role, folder in folders.items()
            }

    def _heard(self, step: Callable[[], Outcome]) -> dict:
        try:
            outcome = step().as_json()
        except ArasError as error:
            self.said.append(str(error))
            raise
        self.said.append(json.dumps(outcome))
        return outcome


def held(server: LoopbackZenodo, version: str) -> dict[str, bytes]:
    """The files of the one published record of ``version``."""
    [deposit] = [x for x in server.published() if x.metadata.get("version") == version]
    return {name: content for name, (_, content) in deposit.files.items()}


def facts(release: Path) -> dict:
    listed = json.loads((release.parent / f"{release.name}.published.json").read_text())
    [entry] = listed["publications"]
    return entry


def assert_nothing_sent_twice(server: LoopbackZenodo) -> None:
    """No bytes that had arrived whole were sent again: to a draft, or to a next version of it."""
    sent: Counter[tuple[int, str | None, str]] = Counter()
    for request in server.log:
        if request.md5 and request.status == 201:
            bucket = int(re.search(r"bucket-(\d+)", request.target)[1])
            deposit = server.deposits.get(bucket)
            sent[deposit.concept if deposit else bucket, request.name, request.md5] += 1
    again = [key for key, times in sent.items() if times > 1]
    assert not again, f"sent twice: {again}"


def assert_token_nowhere(publisher: Publisher) -> None:
    files = [path for path in publisher.root.rglob("*") if path.is_file()]
    leaks = [request.target for request in publisher.server.log if TOKEN in request.target]
    leaks += [text for text in publisher.said if TOKEN in text]
    leaks += [str(path) for path in files if TOKEN.encode() in path.read_bytes()]
    assert not leaks, f"the token stands in {leaks}"


def assert_holds_what_it_must(publisher: Publisher, release: Path) -> None:
    """Every record of the release is published once, every byte right; no draft, no token left."""
    server, records = publisher.server, facts(release)["records"]
    there = {
        role: {
            name: content for name, (_, content) in server.deposits[int(record["id"])].files.items()
        }
        for role, record in records.items()
    }
    assert there == publisher.expected(release)
    published = [x for x in server.published() if x.metadata["version"] == release.name]
    assert {str(deposit.id) for deposit in published} == {
        record["id"] for record in records.values()
    }
    assert len(published) == len(records)
    assert server.drafts() == []
    assert_nothing_sent_twice(server)
    assert_token_nowhere(publisher)


def assert_ended_well(publisher: Publisher, release: Path) -> None:
    assert_holds_what_it_must(publisher, release)
    [deposit] = [x for x in publisher.server.published() if x.metadata["version"] == release.name]
    assert facts(release)["doi"] == deposit.doi
    assert deposit.doi in (release / "README.md").read_text()
    assert deposit.metadata["title"] == METADATA["title"]
