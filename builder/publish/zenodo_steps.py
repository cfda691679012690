"""The steps on one Zenodo record: open its draft, describe it, fill it, compare it, publish it."""

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from builder.core.errors import CorruptFile, WorkFailed
from builder.core.files import hash_file
from builder.core.progress import bar
from builder.core.web import retrying
from builder.publish.zenodo_client import (
    Client,
    Say,
    Stored,
    Tick,
    ZenodoError,
    doi_of,
    stored_files,
)
from builder.publish.zenodo_plan import File, Release, lost_metadata

ROUNDS = 3
"""How often a step is begun anew after its outcome was looked at."""
LOOKS = 6
"""How often one outcome is looked for: Zenodo's search index and pages run behind."""

Save = Callable[[], None]
T = TypeVar("T")


def open_draft(
    client: Client,
    release: Release,
    record: dict[str, Any],
    previous: dict[str, Any] | None,
    save: Save,
    say: Say,
) -> None:
    """Fill a journal record with draft, DOI and concept DOI, saving after each step."""
    if "id" not in record:
        if previous:
            record["id"] = client.draft_of_next_version(str(previous["id"]))
            record["previous"] = {"id": str(previous["id"]), "doi": doi_of(previous)}
        else:
            record["id"] = _create(client, release, record, save, say)
        save()
    doi = client.reserve_doi(record["id"])
    if doi == record.get("previous", {}).get("doi"):
        raise WorkFailed(f"{client.url}: draft {record['id']} bears the old version's DOI {doi}")
    there = client.deposition(record["id"])
    if there is None:
        raise WorkFailed(f"{client.url}: draft {record['id']} vanished; run the same command again")
    concept = str(there["conceptrecid"])
    record.update(
        doi=doi,
        conceptrecid=concept,
        concept_doi=there.get("conceptdoi") or f"{doi.rpartition('.')[0]}.{concept}",
        html=there["links"]["html"],
        bucket=there["links"]["bucket"],
    )
    save()


def _create(client: Client, release: Release, record: dict[str, Any], save: Save, say: Say) -> str:
    """Make a draft with a marker in its title, so that one whose answer is lost can be found."""
    if "marker" in record:  # an earlier run asked, and did not live to hear the answer
        record["doubtful"] = True
        if found := _look(client, record["marker"]):
            return found[0]
    record.setdefault("marker", f"aras{uuid.uuid4().hex}")
    save()
    title = f"{release.metadata['title']} (upload {record['marker']})"
    for _ in range(ROUNDS):
        try:
            return client.create({"title": title, "upload_type": release.metadata["upload_type"]})
        except ZenodoError as error:
            if not error.ambiguous:
                del record["marker"]
                save()
                raise
            say(f"{error}; looking for the draft that it may have made")
            record["doubtful"] = True
            save()
        if found := _look(client, record["marker"]):
            return found[0]
    raise WorkFailed(f"{client.url}: no draft could be made; run the same command again later")


class _NotYetError(Exception):
    """What was looked for is not there yet."""


def _look(client: Client, marker: str) -> list[str]:
    """Ids of the drafts that bear ``marker``; asked again a few times, the index runs behind."""

    def once() -> list[str]:
        found = client.find(marker)
        if not found:
            raise _NotYetError
        return found

    try:
        return _patiently(client, once)
    except _NotYetError:
        return []


def _patiently(client: Client, look: Callable[[], T]) -> T:
    return retrying(
        look,
        attempts=LOOKS,
        base=client.first_wait,
        retry_if=lambda error: isinstance(error, _NotYetError),
    )


def sweep(client: Client, record: dict[str, Any], say: Say) -> None:
    """Delete drafts that a lost answer to create left behind: the marker is ours alone."""
    if record.get("doubtful"):
        for other in client.find(record["marker"]):
            if other != record["id"]:
                say(f"deleting draft {other}, a double of {record['id']} made by a lost answer")
                client.delete_draft(other)


def describe(client: Client, record: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Store the metadata and insist on all of it, and on the DOI, which a PUT may drop."""
    stored = client.put_metadata(record["id"], metadata)
    lost = lost_metadata(metadata, stored)
    if lost:
        raise WorkFailed(
            f"{client.url}: draft {record['id']} did not keep all metadata of .zenodo.json:"
            + "".join(f"\n  {line}" for line in lost)
            + "\nMend the recipe or template that it comes from and package again."
        )
    doi = client.reserve_doi(record["id"])
    if doi != record["doi"]:
        raise WorkFailed(
            f"{client.url}: draft {record['id']} has DOI {doi}, the cards say {record['doi']}"
        )


def fill(
    client: Client, role: str, record: dict[str, Any], files: list[File], again: str, say: Say
) -> dict[str, int]:
    """Make a draft hold exactly ``files``: remove, skip what is there, send the rest, compare.

    ``again`` is the command that does so once more, for messages.
    """
    stored = client.files(record["id"])
    if not stored and "previous" in record:
        if not client.import_files(record["id"]):
            say("the previous version's files could not be taken over; sending all")
        stored = client.files(record["id"])
    extra = sorted(set(stored) - {file.name for file in files})
    for name in extra:
        client.delete_file(record["id"], stored[name].id)
    todo = [f for f in files if f.name not in stored or not stored[f.name].holds(f)]
    total = sum(file.size for file in todo)
    with bar(f"{role} record", total, "bytes") as advance:
        for file in todo:
            advance(0, note=file.name)
            _send(client, record, file, advance)
    stored = client.files(record["id"])
    _compare(client, record["id"], stored, files, f"To bring the draft up to date: {again}")
    return {
        "sent": len(todo),
        "sent_bytes": total,
        "kept": len(files) - len(todo),
        "removed": len(extra),
    }


def _send(client: Client, record: dict[str, Any], file: File, tick: Tick) -> None:
    for _ in range(ROUNDS):
        stored = client.put_file(record["id"], record["bucket"], file, tick)
        if stored.holds(file):
            return
        tick(-file.size)
        if isinstance(file.source, Path) and hash_file(file.source, "md5")["md5"] != file.md5:
            raise CorruptFile(
                f"{file.source}: its md5 is no longer the manifest's {file.md5}; "
                "restore it or package again"
            )
    raise WorkFailed(
        f"{client.url}: {file.name} arrived damaged {ROUNDS} times (md5 {stored.md5}, should be "
        f"{file.md5}); run the same command again"
    )


def _compare(
    client: Client, draft_id: str, stored: dict[str, Stored], files: list[File], advice: str
) -> None:
    """Insist that a record's listing is the plan: every name, size and md5, and nothing else."""
    wanted = {file.name: file for file in files}
    wrong = [f"{name}: missing" for name in wanted if name not in stored]
    wrong += [f"{name}: not part of the release" for name in stored if name not in wanted]
    wrong += [
        f"{name}: {there.size} bytes, md5 {there.md5}; the release has {wanted[name].size} bytes, "
        f"md5 {wanted[name].md5}"
        for name, there in stored.items()
        if name in wanted and not there.holds(wanted[name])
    ]
    if wrong:
        raise WorkFailed(
            f"{client.url}: record {draft_id} differs from the release:"
            + "".join(f"\n  {line}" for line in sorted(wrong)[:20])
            + f"\n{advice}"
        )


def agreed(
    client: Client,
    record: dict[str, Any],
    there: dict[str, Any] | None,
    files: list[File],
    again: str,
) -> None:
    """Insist that a draft, or what became of it, is the one in the journal, file by file.

    ``again`` is the command that brings a draft up to date, for messages.
    """
    if there is None:
        raise WorkFailed(f"{client.url}: draft {record['id']} is gone; make it anew: {again}")
    doi = doi_of(there)
    if doi != record["doi"]:
        raise WorkFailed(
            f"{client.url}: record {record['id']} has DOI {doi}, the cards say {record['doi']}; "
            f"{again}, or ask Zenodo if it is published"
        )
    advice = f"To bring the draft up to date: {again}"
    if there.get("submitted"):
        advice = "It is published and cannot change: raise the version and package again"
    _compare(client, record["id"], stored_files(there), files, advice)


def publish(client: Client, draft_id: str, say: Say) -> dict[str, Any]:
    """Publish once: after an answer that says nothing for sure, look, and only then ask again."""

    def submitted() -> dict[str, Any]:
        there = client.deposition(draft_id)
        if there is None or not there.get("submitted"):
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
        f"{client.url}: draft {draft_id} is still no published record; run the same command again"
    )
