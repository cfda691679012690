"""Publishing a release to Zenodo: a journalled draft, filled and checked, then finished."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError, WorkFailed
from builder.core.files import write_json
from builder.publish.cards import finish_rewriting, rewrite
from builder.publish.journal import alone, journal_path
from builder.publish.release import Plan, Release, compare, lines, read_release
from builder.publish.targets import Job, Render, Say
from builder.publish.zenodo_client import SANDBOX, Client, Deposition, Stored
from builder.publish.zenodo_plan import (
    DOI_FILES,
    MAIN,
    SYNTHETIC,
    FlatRelease,
    Limits,
    Record,
    can_be_two,
    foreseen,
    needs_two_records,
    parts,
    payload,
    read_flat,
    record_files,
)
from builder.publish.zenodo_record import Filled, describe, fill, insist, open_draft, publish, sweep
from builder.release import published
from builder.release.published import (
    Publication,
    PublishedRecord,
    publications,
    read_object,
    record_publication,
)


@dataclass
class ZenodoJournal:
    """What is under way for ``release`` on the server ``url``.

    ``state`` is draft, ready, publishing or published; ``records`` are by role; ``limits`` are
    those that were last given.
    """

    release: Path
    url: str
    state: str = "draft"
    content_sha256: str | None = None
    records: dict[str, Record] = field(default_factory=dict)
    limits: Limits | None = None

    @classmethod
    def load(cls, release: Path, url: str) -> "ZenodoJournal":
        path = journal_path(release, "zenodo", url)
        value = read_object(path) if path.exists() else {}
        return cls(
            release,
            url,
            value.get("state", "draft"),
            value.get("content_sha256"),
            {role: Record.from_json(record) for role, record in value.get("records", {}).items()},
            Limits(**value["limits"]) if "limits" in value else None,
        )

    def save(self) -> None:
        value = {
            "format": 1,
            "destination": self.url,
            "state": self.state,
            "content_sha256": self.content_sha256,
            "records": {role: record.as_json() for role, record in self.records.items()},
        }
        if self.limits:
            value["limits"] = asdict(self.limits)
        write_json(journal_path(self.release, "zenodo", self.url), value)


@dataclass(frozen=True)
class Preview:
    """What `draft` would do, by record; of a version that is ``published_as`` a DOI, nothing.

    ``delete`` are ids of drafts that it would delete, because one record is to hold what two did.
    """

    version: str
    published_as: str | None
    plans: Mapping[str, Plan]
    delete: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "state": "plan",
            "version": self.version,
            "published_as": self.published_as,
            "records": {role: self._listed(plan) for role, plan in self.plans.items()},
            "delete": list(self.delete),
        }

    @staticmethod
    def _listed(plan: Plan) -> dict[str, Any]:
        return {
            "files": len(plan.send) + len(plan.keep),
            "bytes": plan.send_bytes + sum(file.size for file in plan.keep),
            "add": [file.name for file in plan.add],
            "replace": [file.name for file in plan.replace],
            "keep": len(plan.keep),
            "remove": [file.name for file in plan.remove],
            "send_bytes": plan.send_bytes,
        }

    def as_text(self) -> str:
        if self.published_as:
            return f"version {self.version} is already published as {self.published_as}"
        text = []
        for role, plan in self.plans.items():
            listed = self._listed(plan)
            size, send = _size(listed["bytes"]), _size(plan.send_bytes)
            text.append(f"{role} record: {listed['files']} files, {size}; to send {send}")
            for verb in ("add", "replace", "remove"):
                text += [f"  {verb:<8}{name}" for name in listed[verb]]
            text.append(f"  keep    {len(plan.keep)} files")
        if len(self.plans) > 1:
            text.append("two records; each links to the other")
        text += [f"delete draft {draft}: one record holds the release now" for draft in self.delete]
        text.append("nothing was changed; the cards change once more, when the DOI is known")
        return "\n".join(text)


@dataclass(frozen=True)
class ZenodoOutcome:
    """The records of a release after a step, and what filling them came to.

    ``finish`` is the command that publishes a draft that is ready.
    """

    state: str
    url: str
    version: str
    content_sha256: str | None
    records: Mapping[str, Record]
    filled: Mapping[str, Filled]
    finish: str

    def as_json(self) -> dict[str, Any]:
        main = self.records[MAIN]
        shown = ("id", "doi", "concept_doi", "html", "files", "bytes")
        return {
            "state": self.state,
            "url": self.url,
            "version": self.version,
            "content_sha256": self.content_sha256,
            "doi": main.doi,
            "concept_doi": main.concept_doi,
            "records": {
                role: {
                    **{name: getattr(record, name) for name in shown},
                    **(asdict(self.filled[role]) if role in self.filled else {}),
                }
                for role, record in self.records.items()
            },
        }

    def as_text(self) -> str:
        text = []
        for role, record in self.records.items():
            text.append(f"{role} record {record.id}: {record.files} files, {_size(record.bytes)}")
            if done := self.filled.get(role):
                text.append(
                    f"  sent {done.sent} ({_size(done.sent_bytes)}), kept {done.kept}, "
                    f"removed {done.removed}; all names, sizes and md5 agree"
                )
            text.append(f"  DOI {record.doi}, of all versions {record.concept_doi}")
            text.append(f"  {record.html}")
        if self.state == "published":
            text.append(f"version {self.version} is published")
        if self.state == "ready":
            text.append("NOT published yet. Check the draft: title, authors, licence, files. Then:")
            text.append(f"  {self.finish}")
        return "\n".join(text)


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def preview(
    client: Client | None, job: Job, *, limits: Limits | None, follows: str | None
) -> Preview:
    """What `draft` would add, replace, keep and remove; nothing is changed anywhere.

    Without a ``client`` every file counts as new. ArasError when the version is published with
    other content.
    """
    journal = ZenodoJournal.load(job.release, client.url if client else "")
    release, split = _checked(client, job, journal, limits)
    if client and _is_published(release, journal):
        return Preview(release.release.version, journal.records[MAIN].doi, {}, ())
    plans = {
        role: compare(files, _there_now(client, release, journal, role, follows) if client else {})
        for role, files in foreseen(release, split=split).items()
    }
    gone = [record.id for role, record in journal.records.items() if role not in plans]
    return Preview(release.release.version, None, plans, tuple(filter(None, gone)))


def draft(client: Client, job: Job, *, limits: Limits | None, follows: str | None) -> ZenodoOutcome:
    """Bring the release into a draft (two when it is over the limits) and stop for review.

    Continues where an earlier run stopped: the journal knows the drafts, Zenodo's listing knows
    the files, and whether there are two does not change unless ``limits`` are given, or no longer
    suffice. ``follows`` is the id of a published record, or its concept, that this release
    is the next version of; without it, the publications of other versions beside it are read.
    Raises ArasError before anything is sent for a release that cannot be published, WorkFailed
    for what Zenodo refuses or does not keep.
    """
    path, say, render = job.release, job.say, job.render
    with alone(path):
        finish_rewriting(path, render)
        journal = ZenodoJournal.load(path, client.url)
        release, split = _checked(client, job, journal, limits)
        if _is_published(release, journal):
            _render(release.release, journal.records, render)
            return _outcome(client, journal, release.release, {})
        records = journal.records
        journal.state = "draft"
        journal.limits = limits or journal.limits
        public = [role for role in records if _settle(client, records, role, say)]
        if public and len(public) == len(records):
            raise ArasError(
                f"record {records[MAIN].id} is published on {client.url}, by an interrupted "
                "--finish or by hand; run the same command with --finish to record it"
            )
        roles = list(foreseen(release, split=split or bool(public)))
        if SYNTHETIC in roles and list(records) == [MAIN] and records[MAIN].id:
            say(f"two records hold the release now: draft {records[MAIN].id} keeps real files")
        for role in roles:
            records.setdefault(role, Record())
        journal.save()
        for role in set(records) - set(roles):
            if unneeded := records[role].id:
                say(f"deleting draft {unneeded}: one record holds the release now")
                client.delete_draft(unneeded)
            del records[role]
            journal.save()
        for role in roles:
            known = None if records[role].id else _previous(client, release, role, follows)
            open_draft(client, release, records[role], known, journal.save, say)
        again = f"`{client.command(path)}`"
        _render(release.release, records, render)
        filled = {}
        with parts(path, records, render) as folders:
            held = {role: read_flat(folders[role]) for role in roles}
            todo = [role for role in roles if role not in public]
            for role in todo:
                _check_doi(held[role].release, records[role].doi)
            for role in todo:
                describe(client, records[role], payload(held[role].metadata))
            for role in todo:
                files = record_files(held[role])
                filled[role] = fill(client, role, records[role], files, again, say)
                records[role].files = len(files)
                records[role].bytes = sum(file.size for file in files)
                sweep(client, records[role], say)
        journal.state, journal.content_sha256 = "ready", release.release.content_sha256
        journal.save()
        return _outcome(client, journal, release.release, filled)


def finish(client: Client, job: Job) -> ZenodoOutcome:
    """Publish what `draft` prepared, once, and record the publication beside the release.

    Every draft is compared with what it must hold, cards included, before the first is published.
    Raises ArasError when there is nothing ready, WorkFailed when a draft differs or cannot be
    published.
    """
    path = job.release
    with alone(path):
        journal = ZenodoJournal.load(path, client.url)
        records = journal.records
        again = f"`{client.command(path)}`"
        if not records:
            raise ArasError(f"{path}: there is no draft of it on {client.url} yet; first {again}")
        if journal.state == "draft":
            raise ArasError(
                f"{path}: its draft on {client.url} is not complete: the run that filled it ended "
                f"before all files and cards had arrived. Nothing was published. First {again}, "
                "and check the draft"
            )
        finish_rewriting(path, job.render)
        release = read_release(path)
        if journal.state != "published":
            with parts(path, records, job.render) as folders:
                files = {role: record_files(read_flat(part)) for role, part in folders.items()}
            for role, record in records.items():
                insist(client, record, client.deposition(record.id), files[role], again)
            journal.state = "publishing"
            journal.save()
            for role, record in records.items():
                public = publish(client, record.id, job.say)
                insist(client, record, public, files[role], again)
                record.html = public.record_html or public.html
                record.concept_doi = public.concept_doi or record.concept_doi
                sweep(client, record, job.say)
        record_publication(path, _publication(journal, release))
        journal.state = "published"
        journal.save()
        return _outcome(client, journal, release, {})


def kind_of(url: str) -> str:
    """The kind of publication; a sandbox's is another, because its DOIs do not resolve."""
    return "zenodo" + (published.SANDBOX if url == SANDBOX else "")


def concept_beside(release: Path, url: str, role: str) -> str | None:
    """Concept id of the newest record of ``role`` that another version of the release became."""
    concepts = []
    for path in release.parent.glob("*.published.json"):
        version = path.name.removesuffix(".published.json")
        for place in publications(release.parent / version) if version != release.name else ():
            record = place.records.get(role)
            same = (place.kind, place.destination) == (kind_of(url), url)
            if same and record and record.id:
                concepts.append((int(record.id), record.conceptrecid))
    return max(concepts)[1] if concepts else None


def _checked(
    client: Client | None, job: Job, journal: ZenodoJournal, limits: Limits | None
) -> tuple[FlatRelease, bool]:
    """The release, and whether it goes as two records: where it must, or where it did before and
    ``limits`` are not given again. The check reads every byte, so it comes last."""
    release = read_flat(job.release)
    split = needs_two_records(release, limits or journal.limits or Limits())
    if limits is None and SYNTHETIC in journal.records:
        split = can_be_two(release)
    if client:
        client.check_token()
    if violations := job.check(job.release):
        title = f"{job.release}: not published, {len(violations)} violation(s) of `aras check`:"
        raise ArasError(lines(title, violations, most=20))
    return release, split


def _is_published(release: FlatRelease, journal: ZenodoJournal) -> bool:
    """Whether the version is published; ArasError when it is with other content."""
    if journal.state != "published":
        return False
    if journal.content_sha256 != release.release.content_sha256:
        raise ArasError(
            f"{release.path}: version {release.release.version} is published with other content as "
            f"{journal.records[MAIN].doi}; raise the version and package again"
        )
    return True


def _previous(
    client: Client, release: FlatRelease, role: str, follows: str | None
) -> Deposition | None:
    """The latest published record that this release is the next version of, or None."""
    known = follows if role == MAIN and follows else concept_beside(release.path, client.url, role)
    if known is None:
        return None
    record = client.record(known)
    if record.version == release.release.version:
        raise ArasError(
            f"{release.path}: {client.url} already has version {record.version}, as {record.doi}; "
            "raise the version and package again"
        )
    return record


def _there_now(
    client: Client, release: FlatRelease, journal: ZenodoJournal, role: str, follows: str | None
) -> Mapping[str, Stored]:
    """What a draft holds, or would begin with."""
    if role in journal.records and (draft_id := journal.records[role].id):
        return client.files(draft_id)
    record = _previous(client, release, role, follows)
    return record.files if record else {}


def _settle(client: Client, records: dict[str, Record], role: str, say: Say) -> bool:
    """Compare a journalled draft with the server: forget it when gone, True when published."""
    if not (draft_id := records[role].id):
        return False
    there = client.deposition(draft_id)
    if there is None:
        say(f"draft {draft_id} is gone from {client.url}; creating a new draft")
        records[role] = Record()
    return bool(there and there.submitted)


def _render(release: Release, records: Mapping[str, Record], render: Render) -> None:
    """Write the DOIs into the cards of the release, unless they hold them already."""
    main, synthetic = records[MAIN], records.get(SYNTHETIC)
    dois = {
        "doi": main.doi,
        "concept_doi": main.concept_doi,
        "synthetic_doi": synthetic.doi if synthetic else "",
    }
    same = all((getattr(release.manifest, name) or "") == doi for name, doi in dois.items())
    if not same or _without_doi(release, main.doi):
        rewrite(release.path, render, **dois)


def _check_doi(release: Release, doi: str) -> None:
    """Raise WorkFailed when a card that is to be uploaded does not name the record's DOI."""
    if silent := _without_doi(release, doi):
        raise WorkFailed(f"{release.path}: {', '.join(silent)} does not name DOI {doi}")


def _without_doi(release: Release, doi: str) -> list[str]:
    """The files that must name the DOI and do not."""
    names = [name for name in DOI_FILES if name in release.files]
    return [n for n in names if doi not in (release.path / n).read_text(encoding="utf-8")]


def _publication(journal: ZenodoJournal, release: Release) -> Publication:
    """What stays known of a publication."""
    main = journal.records[MAIN]
    known = PublishedRecord.model_fields
    records = {
        role: PublishedRecord(**{name: getattr(record, name) for name in known})
        for role, record in journal.records.items()
    }
    return Publication(
        kind=kind_of(journal.url),
        destination=journal.url,
        version=release.version,
        doi=main.doi,
        concept_doi=main.concept_doi,
        content_sha256=journal.content_sha256,
        records=records,
        key=release.manifest.key,
    )


def _outcome(
    client: Client, journal: ZenodoJournal, release: Release, filled: Mapping[str, Filled]
) -> ZenodoOutcome:
    return ZenodoOutcome(
        journal.state,
        journal.url,
        release.version,
        journal.content_sha256,
        dict(journal.records),
        filled,
        client.command(journal.release, "--finish"),
    )
