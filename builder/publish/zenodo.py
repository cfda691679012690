"""Publishing a release to Zenodo: a journalled draft, filled and checked, then finished."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError, WorkFailed
from builder.core.files import read_json
from builder.publish.cards import Render, finish_rewriting, rewrite
from builder.publish.journal import alone, concept_beside, kind_of, load_journal, save_journal
from builder.publish.zenodo_client import Client, Say, Stored, doi_of
from builder.publish.zenodo_plan import (
    DOI_FILES,
    MAIN,
    SYNTHETIC,
    Limits,
    Release,
    can_be_two,
    foreseen,
    needs_two_records,
    parts,
    payload,
    read_release,
    record_files,
)
from builder.publish.zenodo_steps import agreed, describe, fill, open_draft, publish, sweep
from builder.release.published import record_publication

Violations = Callable[[Path], list[str]]


def preview(
    path: Path,
    *,
    client: Client | None,
    violations: Violations,
    limits: Limits | None,
    follows: str | None,
) -> dict[str, Any]:
    """What `draft` would add, replace, keep and remove, by record; nothing is changed anywhere.

    "delete" are drafts that it would delete, because one record is to hold what two did. Without a
    ``client`` every file counts as new. Of a version that is published there are no records to
    tell of; ArasError when it is published with other content.
    """
    entry = load_journal(path, client.url) if client else {"records": {}}
    release, split = _checked(client, path, violations, entry, limits)
    published = bool(client) and _is_published(release, entry)
    records = {}
    for role, files in () if published else foreseen(release, split=split).items():
        stored = _there_now(client, release, entry, role, follows) if client else {}
        new = [file for file in files if file.name not in stored]
        other = [f for f in files if f.name in stored and not stored[f.name].holds(f)]
        records[role] = {
            "files": len(files),
            "bytes": sum(file.size for file in files),
            "add": [file.name for file in new],
            "replace": [file.name for file in other],
            "keep": len(files) - len(new) - len(other),
            "remove": sorted(set(stored) - {file.name for file in files}),
            "send_bytes": sum(file.size for file in (*new, *other)),
        }
    return {
        "state": "plan",
        "version": release.version,
        "published_as": entry["records"][MAIN]["doi"] if published else None,
        "records": records,
        "delete": []
        if published
        else [one["id"] for role, one in entry["records"].items() if role not in records and one],
    }


def draft(
    client: Client,
    path: Path,
    *,
    render: Render,
    violations: Violations,
    limits: Limits | None,
    follows: str | None,
    say: Say,
) -> dict[str, Any]:
    """Bring the release into a draft (two when it is over the limits) and stop for review.

    Goes on where an earlier run stopped: the journal knows the drafts, Zenodo's listing knows
    the files, and whether there are two stays as it was unless ``limits`` are given, or no longer
    suffice. ``follows`` is the id of a published record, or its concept, that this release
    is the next version of; without it, the facts beside other versions of the release tell.
    Raises ArasError before anything is sent for a release that cannot be published, WorkFailed
    for what Zenodo refuses or does not keep.
    """
    with alone(path):
        finish_rewriting(path, render)
        entry = load_journal(path, client.url)
        release, split = _checked(client, path, violations, entry, limits)
        if _is_published(release, entry):
            _render(release, entry["records"], render)
            return _summary(client, release, entry, {})
        records = entry["records"]

        def save() -> None:
            save_journal(path, client.url, entry)

        entry["state"] = "draft"
        if limits:
            entry["limits"] = asdict(limits)
        public = [role for role, record in records.items() if _settle(client, record, say)]
        if public and len(public) == len(records):
            raise ArasError(
                f"record {records[MAIN]['id']} is published on {client.url}, by an interrupted "
                "--finish or by hand; run the same command with --finish to take note of it"
            )
        roles = list(foreseen(release, split=split or bool(public)))
        if SYNTHETIC in roles and list(records) == [MAIN] and "id" in records[MAIN]:
            say(f"two records hold the release now: draft {records[MAIN]['id']} keeps real files")
        for role in roles:
            records.setdefault(role, {})
        save()
        for role in set(records) - set(roles):
            if "id" in records[role]:
                say(f"deleting draft {records[role]['id']}: one record holds the release now")
                client.delete_draft(records[role]["id"])
            del records[role]
            save()
        for role in roles:
            known = None if "id" in records[role] else _previous(client, release, role, follows)
            open_draft(client, release, records[role], known, save, say)
        again = f"`{client.command(path)}`"
        _render(release, records, render)
        counts = {}
        with parts(path, records, render) as folders:
            held = {role: read_release(folders[role]) for role in roles}
            todo = [role for role in roles if role not in public]
            for role in todo:
                _insist(held[role], records[role]["doi"])
            for role in todo:
                describe(client, records[role], payload(held[role].metadata))
            for role in todo:
                files = record_files(held[role])
                counts[role] = fill(client, role, records[role], files, again, say)
                records[role].update(files=len(files), bytes=sum(file.size for file in files))
                sweep(client, records[role], say)
        entry.update(state="ready", content_sha256=release.content_sha256)
        save()
        return _summary(client, release, entry, counts)


def finish(client: Client, path: Path, *, render: Render, say: Say) -> dict[str, Any]:
    """Publish what `draft` prepared, once, and write the facts beside the release.

    Every draft is compared with what it must hold, cards included, before the first is published.
    Raises ArasError when there is nothing ready, WorkFailed when a draft differs or cannot be
    published.
    """
    with alone(path):
        entry = load_journal(path, client.url)
        records = entry["records"]
        again = f"`{client.command(path)}`"
        if not records:
            raise ArasError(f"{path}: there is no draft of it on {client.url} yet; first {again}")
        if entry["state"] == "draft":
            raise ArasError(
                f"{path}: its draft on {client.url} is not complete: the run that filled it ended "
                f"before all files and cards had arrived. Nothing was published. First {again}, "
                "and look at the draft"
            )
        finish_rewriting(path, render)
        release = read_release(path)
        if entry["state"] != "published":
            with parts(path, records, render) as folders:
                plan = {role: record_files(read_release(one)) for role, one in folders.items()}
            for role, record in records.items():
                agreed(client, record, client.deposition(record["id"]), plan[role], again)
            entry["state"] = "publishing"
            save_journal(path, client.url, entry)
            for role, record in records.items():
                published = publish(client, record["id"], say)
                agreed(client, record, published, plan[role], again)
                links = published["links"]
                record["html"] = links.get("record_html") or links["html"]
                record["concept_doi"] = published.get("conceptdoi") or record["concept_doi"]
                sweep(client, record, say)
        summary = _summary(client, release, entry, {})
        facts = {**_facts(summary, records), "key": read_json(path / "manifest.json").get("key")}
        record_publication(path, kind_of(client.url), facts)
        entry["state"] = "published"
        save_journal(path, client.url, entry)
        return {**summary, "state": "published"}


def _checked(
    client: Client | None,
    path: Path,
    violations: Violations,
    entry: dict[str, Any],
    limits: Limits | None,
) -> tuple[Release, bool]:
    """The release, and whether it goes as two records: where it must, or where it did before and
    no ``limits`` ask anew. The check reads every byte: it comes last."""
    release = read_release(path)
    held = limits or Limits(**entry.get("limits", {}))
    split = needs_two_records(release, held)
    if limits is None and SYNTHETIC in entry["records"]:
        split = can_be_two(release)
    if client:
        client.check_token()
    found = violations(path)
    if found:
        listed = "".join(f"\n  {line}" for line in found[:20])
        raise ArasError(
            f"{path}: not published, {len(found)} violation(s) of what a release must be:{listed}"
        )
    return release, split


def _is_published(release: Release, entry: dict[str, Any]) -> bool:
    """Whether the version is published; ArasError when it is with other content."""
    if entry["state"] != "published":
        return False
    if entry["content_sha256"] != release.content_sha256:
        raise ArasError(
            f"{release.path}: version {release.version} is published with other content as "
            f"{entry['records'][MAIN]['doi']}; raise the version and package again"
        )
    return True


def _previous(
    client: Client, release: Release, role: str, follows: str | None
) -> dict[str, Any] | None:
    """The latest published record that this release is the next version of, or None."""
    known = follows if role == MAIN and follows else concept_beside(release.path, client.url, role)
    if known is None:
        return None
    record = client.record(known)
    version = str(record.get("metadata", {}).get("version"))
    if version == release.version:
        raise ArasError(
            f"{release.path}: {client.url} has version {version} already, as {doi_of(record)}; "
            "raise the version and package again"
        )
    return record


def _there_now(
    client: Client, release: Release, entry: dict[str, Any], role: str, follows: str | None
) -> dict[str, Stored]:
    """What a draft holds, or would begin with."""
    known = entry["records"].get(role, {}).get("id")
    if known:
        return client.files(known)
    record = _previous(client, release, role, follows) or {}
    return {
        file["key"]: Stored(str(file["id"]), file["size"], file["checksum"].removeprefix("md5:"))
        for file in record.get("files", [])
    }


def _settle(client: Client, record: dict[str, Any], say: Say) -> bool:
    """Compare a journalled draft with the server: forget it when gone, True when published."""
    if "id" not in record:
        return False
    there = client.deposition(record["id"])
    if there is None:
        say(f"draft {record['id']} is gone from {client.url}; a new one is made")
        record.clear()
    return bool(there and there.get("submitted"))


def _render(release: Release, records: dict[str, Any], render: Render) -> None:
    """Write the DOIs into the cards of the release, unless they stand there."""
    main, made = records[MAIN], records.get(SYNTHETIC)
    told = {
        "doi": main["doi"],
        "concept_doi": main["concept_doi"],
        "synthetic_doi": made["doi"] if made else "",
    }
    manifest = read_json(release.path / "manifest.json")
    stand = all((manifest.get(name) or "") == value for name, value in told.items())
    if not stand or _silent(release, main["doi"]):
        rewrite(release.path, render, **told)


def _insist(release: Release, doi: str) -> None:
    """Raise WorkFailed when a card that is to be uploaded does not tell the record's DOI."""
    if silent := _silent(release, doi):
        raise WorkFailed(f"{release.path}: {', '.join(silent)} does not tell DOI {doi}")


def _silent(release: Release, doi: str) -> list[str]:
    """The files that must tell the DOI and do not."""
    files = {where for where, _ in release.files}
    texts = {name: release.path / name for name in DOI_FILES if name in files}
    return [
        name
        for name, path in texts.items()
        if not path.is_file() or doi not in path.read_text(encoding="utf-8")
    ]


def _facts(summary: dict[str, Any], records: dict[str, Any]) -> dict[str, Any]:
    """What stays known of a publication."""
    kept = ("id", "conceptrecid", "doi", "concept_doi", "html")
    return {
        "destination": summary["url"],
        **{key: summary[key] for key in ("version", "doi", "concept_doi", "content_sha256")},
        "records": {role: {key: one[key] for key in kept} for role, one in records.items()},
    }


def _summary(
    client: Client, release: Release, entry: dict[str, Any], counts: dict[str, dict[str, int]]
) -> dict[str, Any]:
    records = entry["records"]
    told = ("id", "doi", "concept_doi", "html", "files", "bytes")
    return {
        "state": entry["state"],
        "url": client.url,
        "version": release.version,
        "content_sha256": entry["content_sha256"],
        "doi": records[MAIN]["doi"],
        "concept_doi": records[MAIN]["concept_doi"],
        "records": {
            role: {**{key: record[key] for key in told}, **counts.get(role, {})}
            for role, record in records.items()
        },
    }
