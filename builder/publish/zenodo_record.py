"""The steps on a Zenodo record: open its draft, describe it, fill it, compare it, publish it."""

import contextlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from builder.core.errors import CorruptFile, WorkFailed
from builder.core.files import hash_file
from builder.core.progress import bar
from builder.core.web import retrying
from builder.publish.release import File, compare, lines
from builder.publish.targets import Say
from builder.publish.zenodo_client import Client, Deposition, Stored, Tick, ZenodoError
from builder.publish.zenodo_plan import FlatRelease, Record, lost_metadata

ROUNDS = 3
"""How often a step is repeated after a look at its outcome."""
LOOKS = 6
"""How often an outcome is looked for: Zenodo's search index and pages run behind."""

Save = Callable[[], None]
T = TypeVar("T")


def open_draft(
    client: Client,
    release: FlatRelease,
    record: Record,
    previous: Deposition | None,
    save: Save,
    say: Say,
) -> None:
    """Fill a journal record with draft, DOI and concept DOI, saving after each step."""
    if not record.id:
        if previous:
            record.id = client.draft_of_next_version(previous.id)
            record.previous, record.previous_doi = previous.id, previous.doi
        else:
            record.id = _create(client, release, record, save, say)
        save()
    doi = client.reserve_doi(record.id)
    if doi == record.previous_doi:
        raise WorkFailed(f"{client.url}: draft {record.id} has the DOI of the old version, {doi}")
    draft = client.deposition(record.id)
    if draft is None:
        raise WorkFailed(f"{client.url}: draft {record.id} vanished; run the same command again")
    record.doi, record.conceptrecid = doi, draft.conceptrecid
    record.concept_doi = draft.concept_doi or f"{doi.rpartition('.')[0]}.{draft.conceptrecid}"
    record.html, record.bucket = draft.html, draft.bucket
    save()


def _create(client: Client, release: FlatRelease, record: Record, save: Save, say: Say) -> str:
    """Make a draft with a marker in its title: where the answer is lost, a search finds it."""
    if record.marker:  # an earlier run asked, and did not live to hear the answer
        record.doubtful = True
        if ids := _look(client, record.marker):
            return ids[0]
    record.marker = record.marker or f"aras{uuid.uuid4().hex}"
    save()
    title = f"{release.metadata['title']} (upload {record.marker})"
    for _ in range(ROUNDS):
        try:
            return client.create({"title": title, "upload_type": release.metadata["upload_type"]})
        except ZenodoError as error:
            if not error.ambiguous:
                record.marker = ""
                save()
                raise
            say(f"{error}; looking for the draft that it may have created")
            record.doubtful = True
            save()
        if ids := _look(client, record.marker):
            return ids[0]
    raise WorkFailed(f"{client.url}: cannot create a draft; run the same command again later")


class _NotYetError(Exception):
    """What is looked for does not show yet."""


def _look(client: Client, marker: str) -> list[str]:
    """Ids of the drafts that bear ``marker``; asked again a few times, the index runs behind."""

    def search() -> list[str]:
        ids = client.find(marker)
        if not ids:
            raise _NotYetError
        return ids

    try:
        return _patiently(client, search)
    except _NotYetError:
        return []


def _patiently(client: Client, look: Callable[[], T]) -> T:
    return retrying(
        look,
        attempts=LOOKS,
        base=client.first_wait,
        retry_if=lambda error: isinstance(error, _NotYetError),
    )


def sweep(client: Client, record: Record, say: Say) -> None:
    """Delete drafts that a lost answer to create left behind: the marker is ours alone."""
    if record.doubtful:
        for other in client.find(record.marker):
            if other != record.id:
                say(f"deleting draft {other}, a double of {record.id} from a lost answer")
                client.delete_draft(other)


def describe(client: Client, record: Record, metadata: dict[str, Any]) -> None:
    """Store the metadata and insist on all of it, and on the DOI, which a PUT may drop."""
    stored = client.put_metadata(record.id, metadata)
    if lost := lost_metadata(metadata, stored):
        title = f"{client.url}: draft {record.id} did not keep all metadata of .zenodo.json:"
        way = "Correct the recipe or template that it comes from and package again."
        raise WorkFailed(lines(title, lost, most=len(lost)) + f"\n{way}")
    doi = client.reserve_doi(record.id)
    if doi != record.doi:
        raise WorkFailed(f"{client.url}: draft {record.id} has DOI {doi}, the cards {record.doi}")


@dataclass(frozen=True)
class Filled:
    """What filling a draft came to: files and bytes sent, files kept and removed."""

    sent: int
    sent_bytes: int
    kept: int
    removed: int


def fill(
    client: Client, role: str, record: Record, files: list[File], again: str, say: Say
) -> Filled:
    """Make a draft hold exactly ``files``: remove, skip what is there, send the rest, compare.

    ``again`` is the command that does so once more, for messages.
    """
    stored = client.files(record.id)
    if not stored and record.previous:
        if not client.import_files(record.id):
            say("the previous version's files could not be taken over; sending all")
        stored = client.files(record.id)
    plan = compare(files, stored)
    for name, _ in plan.remove:
        client.delete_file(record.id, stored[name].id)
    with bar(f"{role} record", plan.send_bytes, "bytes") as advance:
        for file in (file for file in files if file in plan.send):
            advance(0, note=file.name)
            _send(client, record, file, advance)
    _insist(client, record.id, client.files(record.id), files, f"To update the draft: {again}")
    return Filled(len(plan.send), plan.send_bytes, len(plan.keep), len(plan.remove))


def _send(client: Client, record: Record, file: File, tick: Tick) -> None:
    for _ in range(ROUNDS):
        stored = client.put_file(record.id, record.bucket, file, tick)
        if stored.holds(file):
            return
        tick(-file.size)
        if isinstance(file.source, Path) and hash_file(file.source, "md5")["md5"] != file.md5:
            raise CorruptFile(
                f"{file.source}: its md5 is no longer the manifest's {file.md5}; "
                "restore it or package again"
            )
    raise WorkFailed(
        f"{client.url}: {file.name} arrived damaged {ROUNDS} times (md5 {stored.md5}, expected "
        f"{file.md5}); run the same command again"
    )


def _insist(
    client: Client, draft_id: str, stored: Mapping[str, Stored], files: list[File], advice: str
) -> None:
    """Insist that a record's listing is the plan: every name, size and md5, and nothing else."""
    plan = compare(files, stored)
    wrong = [f"{file.name}: missing" for file in plan.add]
    wrong += [f"{file.name}: not part of the release" for file in plan.remove]
    wrong += [
        f"{file.name}: {stored[file.name].size} bytes, md5 {stored[file.name].md5}; "
        f"the release has {file.size} bytes, md5 {file.md5}"
        for file in plan.replace
    ]
    if wrong:
        title = f"{client.url}: record {draft_id} differs from the release:"
        raise WorkFailed(lines(title, sorted(wrong), most=20) + f"\n{advice}")


def insist(
    client: Client, record: Record, there: Deposition | None, files: list[File], again: str
) -> None:
    """Insist that a draft, or what became of it, is that in the journal, file by file.

    ``again`` is the command that updates a draft, for messages.
    """
    if there is None:
        raise WorkFailed(f"{client.url}: draft {record.id} is gone; make it again: {again}")
    if there.doi != record.doi:
        raise WorkFailed(
            f"{client.url}: record {record.id} has DOI {there.doi}, the cards {record.doi}; "
            f"{again}, or ask Zenodo if it is published"
        )
    advice = f"To update the draft: {again}"
    if there.submitted:
        advice = "It is published and cannot change: raise the version and package again"
    _insist(client, record.id, there.files, files, advice)


def publish(client: Client, draft_id: str, say: Say) -> Deposition:
    """Publish once: after an answer that says nothing for sure, look, and only then ask again."""

    def submitted() -> Deposition:
        there = client.deposition(draft_id)
        if there is None or not there.submitted:
            raise _NotYetError
        return there

    for _ in range(ROUNDS):
        with contextlib.suppress(_NotYetError):
            return submitted()
        try:
            client.publish(draft_id, sleep=False)
        except ZenodoError as error:
            if not error.ambiguous and error.status != 404:  # 404: there is no draft any more
                raise
            say(f"{error}; looking whether it was published")
        with contextlib.suppress(_NotYetError):
            return _patiently(client, submitted)
    raise WorkFailed(
        f"{client.url}: draft {draft_id} is still not published; run the same command again"
    )
