"""Publishing a release to Zenodo: a journalled draft, filled and checked, then finished."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.errors import ArasError, WorkFailed
from builder.files import read_json
from builder.publish.cards import Render, finish_rewriting, rewrite
from builder.publish.journal import alone, record_publication
from builder.publish.zenodo_api import Client, Stored, doi_of
from builder.publish.zenodo_http import Say
from builder.publish.zenodo_journal import (
    concept_beside,
    kind_of,
    load_journal,
    save_journal,
)
from builder.publish.zenodo_plan import (
    DOI_FILES,
    MAIN,
    SYNTHETIC,
    Limits,
    Release,
    needs_two_records,
    payload,
    read_release,
    record_files,
)
from builder.publish.zenodo_steps import agreed, describe, fill, open_draft, publish, sweep

Violations = Callable[[Path], list[str]]


def preview(
    path: Path,
    *,
    client: Client | None,
    violations: Violations,
    limits: Limits,
    follows: str | None,
) -> dict[str, Any]:
    """What `draft` would add, replace, keep and remove, by record; nothing is changed anywhere.

    Without a ``client`` every file counts as new.
    """
    release, split = _checked(client, path, violations, limits)
    entry = load_journal(path, client.url) if client else {}
    records = {}
    for role, files in record_files(release, split=split).items():
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
    return {"state": "plan", "version": release.version, "records": records}


def draft(
    client: Client,
    path: Path,
    *,
    render: Render,
    violations: Violations,
    limits: Limits,
    follows: str | None,
    say: Say,
) -> dict[str, Any]:
    """Bring the release into a draft (two when it is over the limits) and stop for review.

    Goes on where an earlier run stopped: the journal knows the drafts, Zenodo's listing knows
    the files. ``follows`` is the id of a published record, or its concept, that this release
    is the next version of; without it, the facts beside other versions of the release tell.
    Raises ArasError before anything is sent for a release that cannot be published, WorkFailed
    for what Zenodo refuses or does not keep.
    """
    with alone(path):
        finish_rewriting(path, render)
        release, split = _checked(client, path, violations, limits)
        entry = load_journal(path, client.url)
        if entry["state"] == "published":
            if entry["content_sha256"] == release.content_sha256:
                release = _render(release, entry["records"][MAIN], render)
                return _summary(client, release, entry, {})
            raise ArasError(
                f"{path}: version {release.version} is published with other content as "
                f"{entry['records'][MAIN]['doi']}; raise the version and package again"
            )
        records = entry["records"]
        roles = list(record_files(release, split=split))

        def save() -> None:
            save_journal(path, client.url, entry)

        entry["state"] = "draft"
        for role in [*roles, *(set(records) - set(roles))]:
            _settle(client, records.setdefault(role, {}), say)
        save()
        for role in set(records) - set(roles):
            if "id" in records[role]:
                client.delete_draft(records[role]["id"])
            del records[role]
            save()
        for role in roles:
            known = None if "id" in records[role] else _previous(client, release, role, follows)
            open_draft(client, release, records[role], known, save, say)
        release = _render(release, records[MAIN], render)
        plan = record_files(release, split=split)
        for role in roles:
            twin = records[SYNTHETIC if role == MAIN else MAIN]["doi"] if split else None
            describe(client, records[role], payload(release.metadata, role, twin))
        counts = {}
        for role in roles:
            counts[role] = fill(client, role, records[role], plan[role], say)
            sweep(client, records[role], say)
        entry.update(state="ready", content_sha256=release.content_sha256)
        save()
        return _summary(client, release, entry, counts)


def finish(client: Client, path: Path, *, say: Say) -> dict[str, Any]:
    """Publish what `draft` prepared, once, and write the facts beside the release.

    Every draft is compared with the release before the first is published. Raises ArasError
    when there is nothing ready, WorkFailed when a draft differs or cannot be published.
    """
    with alone(path):
        entry = load_journal(path, client.url)
        if entry["state"] == "draft":
            raise ArasError(
                f"{path}: no draft on {client.url} is ready to be published; run the same command "
                "without --finish first, and look at the draft"
            )
        release = read_release(path)
        records = entry["records"]
        plan = record_files(release, split=SYNTHETIC in records)
        if entry["state"] != "published":
            for role, record in records.items():
                agreed(client, record, client.deposition(record["id"]), plan.get(role, []))
            entry["state"] = "publishing"
            save_journal(path, client.url, entry)
            for role, record in records.items():
                published = publish(client, record["id"], say)
                agreed(client, record, published, plan.get(role, []))
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
    client: Client | None, path: Path, violations: Violations, limits: Limits
) -> tuple[Release, bool]:
    """The release, and whether it needs two records. The check reads every byte: it comes last."""
    release = read_release(path)
    split = needs_two_records(release, limits)
    if client:
        client.check_token()
    found = violations(path)
    if found:
        listed = "".join(f"\n  {line}" for line in found[:20])
        raise ArasError(
            f"{path}: not published, {len(found)} violation(s) of what a release must be:{listed}"
        )
    return release, split


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


def _settle(client: Client, record: dict[str, Any], say: Say) -> None:
    """Compare a journalled draft with the server: forget it when gone, stop when published."""
    if "id" not in record:
        return
    there = client.deposition(record["id"])
    if there is None:
        say(f"draft {record['id']} is gone from {client.url}; a new one is made")
        record.clear()
    elif there.get("submitted"):
        raise ArasError(
            f"record {record['id']} is published on {client.url}, by an interrupted --finish or "
            "by hand; run the same command with --finish to take note of it"
        )


def _render(release: Release, record: dict[str, Any], render: Render) -> Release:
    """Write the DOIs into the cards, unless they stand there; returns the release read again."""
    files = {where for where, _ in release.files}
    texts = [release.path / name for name in DOI_FILES if name in files]
    if all(_tells(text, record["doi"]) for text in texts):
        return release
    rewrite(release.path, render, doi=record["doi"], concept_doi=record["concept_doi"])
    silent = [text.name for text in texts if not _tells(text, record["doi"])]
    if silent:
        raise WorkFailed(f"{release.path}: {', '.join(silent)} does not tell DOI {record['doi']}")
    return read_release(release.path)


def _tells(path: Path, doi: str) -> bool:
    return path.is_file() and doi in path.read_text(encoding="utf-8")


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
    plan = record_files(release, split=SYNTHETIC in records)
    return {
        "state": entry["state"],
        "url": client.url,
        "version": release.version,
        "content_sha256": entry["content_sha256"],
        "doi": records[MAIN]["doi"],
        "concept_doi": records[MAIN]["concept_doi"],
        "records": {
            role: {
                **{key: record[key] for key in ("id", "doi", "concept_doi", "html")},
                "files": len(plan[role]),
                "bytes": sum(file.size for file in plan[role]),
                **counts.get(role, {}),
            }
            for role, record in records.items()
        },
    }
