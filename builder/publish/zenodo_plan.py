"""What Zenodo is to hold of a release: flat file names, one record or two, metadata."""

import contextlib
import datetime
import hashlib
import html
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from builder.core.arrow import combine
from builder.core.errors import ArasError
from builder.core.files import lend, read_json, scratch
from builder.core.manifest import SUMS, Manifest, Part, read_manifest, write_manifest
from builder.publish.cards import is_card
from builder.publish.release import File, Release, read_release
from builder.publish.targets import Render
from builder.release import benchmark
from builder.release.card import MAP, flat_name, flat_texts

MAIN, SYNTHETIC = "main", "synthetic"
"""The two roles a record can have; a release that fits has the main record alone."""

KIND = {MAIN: "real", SYNTHETIC: "synthetic"}
"""Role → the kind of tiles that such a record of two holds."""

OF_SYNTHETIC = ("synthetic/", "pictures/balance.png")
OF_PLACES = ("stac/", MAP, f"{benchmark.FOLDER}/", benchmark.EVAL)
"""What only real tiles have, which are somewhere and are asked about."""


@dataclass
class Record:
    """A record of a release, as the journal knows it; a field is empty until it is known.

    ``marker`` is part of the title of a draft whose id is not known yet; it is ``doubtful`` when a
    lost answer may have created a second draft. ``previous`` is the id of the version before, and
    ``previous_doi`` its DOI.
    """

    marker: str = ""
    doubtful: bool = False
    id: str = ""
    previous: str = ""
    previous_doi: str = ""
    doi: str = ""
    conceptrecid: str = ""
    concept_doi: str = ""
    html: str = ""
    bucket: str = ""
    files: int = 0
    bytes: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Record":
        previous = value.get("previous") or {}
        known = {name: value[name] for name in _FIELDS if value.get(name) and name != "previous"}
        return cls(previous=previous.get("id", ""), previous_doi=previous.get("doi", ""), **known)

    def as_json(self) -> dict[str, Any]:
        previous = {"id": self.previous, "doi": self.previous_doi} if self.previous else None
        value = {name: getattr(self, name) for name in _FIELDS} | {"previous": previous}
        return {name: value[name] for name in _FIELDS if value[name]}


_FIELDS = [field.name for field in fields(Record) if field.name != "previous_doi"]


def in_part(role: str, path: str) -> bool:
    """Whether a record of two holds the file at ``path`` of the release."""
    if role == MAIN:
        return not path.startswith(OF_SYNTHETIC)
    return path.startswith(OF_SYNTHETIC) or (is_card(path) and not path.startswith(OF_PLACES))


@contextlib.contextmanager
def parts(
    release: Path, records: Mapping[str, Record], render: Render
) -> Iterator[dict[str, Path]]:
    """Role → folder of what that record holds; the release itself where ``records`` has one role.

    The folders are gone when the block ends.
    """
    if SYNTHETIC not in records:
        yield {MAIN: release}
        return
    with scratch("aras-zenodo", release.parent) as temporary:
        folders = {role: temporary / role for role in KIND}
        for role, twin in ((MAIN, SYNTHETIC), (SYNTHETIC, MAIN)):
            make_part(release, folders[role], role, records[role], records[twin], render)
        yield folders


def make_part(
    release: Path,
    folder: Path,
    role: str,
    record: Record,
    twin: Record,
    render: Render,
) -> None:
    """Lay out what a record of two holds: the data's own files, and cards that name both DOIs."""
    manifest = part_manifest(read_manifest(release), role, twin)
    for file in manifest.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_card(file.path):
            shutil.copyfile(release / file.path, path)
        else:
            lend(release / file.path, path)
    write_manifest(folder, manifest)
    render(folder, doi=record.doi, concept_doi=record.concept_doi)


def part_manifest(manifest: Manifest, role: str, twin: Record) -> Manifest:
    """The manifest of a release with one role's files, configs and counts only."""
    kind = KIND[role]
    files = tuple(file for file in manifest.files if in_part(role, file.path))
    paths = {file.path for file in files}
    configs = {
        config: splits
        for config, splits in manifest.configs.items()
        if all(paths.issuperset(part.files) for part in splits.values())
    }
    digests = {
        f"{config}/{split}": part.content_sha256 or ""
        for config, splits in configs.items()
        for split, part in splits.items()
    }
    census = manifest.facts.census.of_kind(kind)
    part = Part(
        kind=kind,
        title=manifest.title,
        of=manifest.content_sha256,
        twin_doi=twin.doi,
        twin_concept_doi=twin.concept_doi,
    )
    return manifest.model_copy(
        update={
            "name": f"{manifest.name}-{kind}",
            "title": f"{manifest.title} ({kind})",
            "content_sha256": combine(digests),
            "configs": configs,
            "files": files,
            "facts": manifest.facts.model_copy(update={"census": census}),
            "subsets": manifest.subsets if role == MAIN else {},
            "synthetic_doi": None,
            "part": part,
        }
    )


DOI_FILES = ("README.md", "CITATION.cff", "croissant.json")
"""The files that must name the DOI before they are uploaded."""


@dataclass(frozen=True)
class Limits:
    """What a Zenodo record may hold, unless Zenodo has granted more."""

    files: int = 100
    bytes: int = 50_000_000_000


@dataclass(frozen=True)
class FlatRelease:
    """A release as Zenodo is to hold it: flat file names, flat texts, and metadata.

    ``files`` are (path in the release, file) pairs without the checksum files, which each record
    has of its own.
    """

    release: Release
    metadata: dict[str, Any]
    files: tuple[tuple[str, File], ...]

    @property
    def path(self) -> Path:
        return self.release.path


def read_flat(path: Path) -> FlatRelease:
    """Read the manifest and .zenodo.json of a release; no shard is hashed.

    Raises ArasError as `read_release` does, for two paths with one flat name, and for metadata that
    Zenodo would refuse.
    """
    release = read_release(path)
    texts = flat_texts(path, release.manifest)
    files = [
        (where, in_memory(flat_name(where), texts[where]))
        if where in texts
        else (where, replace(file, name=flat_name(where)))
        for where, file in release.files.items()
        if where not in SUMS.values()
    ]
    counts = Counter(file.name for _, file in files)
    clashes = sorted(where for where, file in files if counts[file.name] > 1)
    if clashes:
        raise ArasError(
            f"{path}: {' and '.join(clashes)} get the same name on Zenodo, which has no folders "
            "('/' becomes '-'); rename either"
        )
    return FlatRelease(release, _metadata(path / ".zenodo.json", release.version), tuple(files))


def needs_two_records(release: FlatRelease, limits: Limits) -> bool:
    """False when one record can hold the release, True when real and synthetic go apart.

    Raises ArasError when not even two records are enough.
    """
    whole = _over(record_files(release), limits)
    if not whole:
        return False
    over = {MAIN: whole}
    if can_be_two(release):
        parts = foreseen(release, split=True)
        over = {role: _over(files, limits) for role, files in parts.items()}
    if any(over.values()):
        said = "; ".join(f"{role} record: {text}" for role, text in over.items() if text)
        raise ArasError(
            f"{release.path}: too large for Zenodo even as two records ({said}). Package larger "
            "shards for fewer files, or ask Zenodo for more space and give --max-files/--max-bytes"
        )
    return True


def can_be_two(release: FlatRelease) -> bool:
    """Whether it holds both kinds of tiles: each record of two has its kind."""
    return {where.split("/")[0] for where, _ in release.files}.issuperset(KIND.values())


def record_files(release: FlatRelease) -> list[File]:
    """The files of the record that holds a release, or a part of one, with its checksum files."""
    return _with_sums(file for _, file in release.files)


def foreseen(release: FlatRelease, *, split: bool) -> dict[str, list[File]]:
    """The files of each record by role, before any cards are written: two records' will differ."""
    if not split:
        return {MAIN: record_files(release)}
    return {
        role: _with_sums(file for where, file in release.files if in_part(role, where))
        for role in KIND
    }


def payload(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata to send for a record, without any DOI of its own.

    Zenodo keeps the DOI that it reserved, and another record's would make the draft impossible to
    publish.
    """
    return {key: value for key, value in metadata.items() if key not in ("doi", "prereserve_doi")}


def lost_metadata(sent: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """What Zenodo dropped or changed, one line per key; empty when all of ``sent`` was kept.

    Rewritings that mean the same are let through: licence names, language codes, HTML
    tags and spaces, order of a name's parts, added fields, DOI links written as DOIs.
    """
    return [
        f"{key}: sent {_short(value)}, stored {_short(stored.get(key))}"
        for key, value in sent.items()
        if not _same(key, value, stored.get(key))
    ]


_ANY_ORDER = {"related_identifiers", "keywords", "communities"}
_LICENCES = {"cc0-1.0": "cc-zero"}


def _same(key: str, sent: Any, stored: Any) -> bool:
    if sent is None or sent in ("", [], {}):
        return True
    if isinstance(sent, list):
        if not isinstance(stored, list) or len(sent) != len(stored):
            return False
        if key in _ANY_ORDER:
            return all(any(_same(key, item, other) for other in stored) for item in sent)
        return all(_same(key, item, other) for item, other in zip(sent, stored, strict=True))
    if isinstance(sent, dict):
        return isinstance(stored, dict) and all(_same(k, v, stored.get(k)) for k, v in sent.items())
    return stored is not None and _plain(key, str(sent)) == _plain(key, str(stored))


def _plain(key: str, text: str) -> str:
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    if key == "license":
        return _LICENCES.get(text.casefold(), text.casefold())
    if key == "language":
        return text[:2]
    if key == "identifier":
        return re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", text.casefold())
    if key == "name":
        return " ".join(sorted(text.replace(",", " ").split()))
    return text.casefold() if key == "type" else text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _over(files: list[File], limits: Limits) -> str:
    """How a list of files breaks the limits, in words; empty when it does not."""
    size = sum(file.size for file in files)
    said = [f"{len(files)} files of at most {limits.files}"] if len(files) > limits.files else []
    said += [f"{size:,} bytes of at most {limits.bytes:,}"] if size > limits.bytes else []
    return " and ".join(said)


def _with_sums(files: Iterable[File]) -> list[File]:
    listed = sorted(files, key=lambda file: file.name)
    sums = []
    for algorithm, name in SUMS.items():
        text = "".join(f"{getattr(file, algorithm)}  {file.name}\n" for file in listed).encode()
        sums.append(in_memory(name, text))
    return [*listed, *sums]


def in_memory(name: str, content: bytes) -> File:
    """A file whose bytes are not on disk."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return File(name, len(content), hashlib.sha256(content).hexdigest(), md5, content)


def _metadata(path: Path, version: str) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = read_json(path)
    except (FileNotFoundError, ValueError) as error:
        raise ArasError(f"{path}: not readable ({error}); run `aras package` again") from error
    empty = [
        key
        for key in ("title", "upload_type", "description", "creators", "version")
        if not metadata.get(key)
    ]
    if empty:
        raise ArasError(f"{path}: Zenodo needs {', '.join(empty)}; fill it in and package again")
    if metadata["version"] != version:
        raise ArasError(
            f"{path}: version {metadata['version']} where the manifest says {version}; "
            "run `aras package` again"
        )
    date = metadata.get("publication_date")
    try:
        day = datetime.date.fromisoformat(date) if date else None
    except (TypeError, ValueError) as error:
        raise ArasError(f"{path}: publication_date {date!r} is not YYYY-MM-DD") from error
    today = datetime.datetime.now(datetime.timezone.utc).date()
    # A day ahead of UTC exists somewhere on Earth; two do not.
    if day and day > today + datetime.timedelta(days=1):
        raise ArasError(
            f"{path}: publication_date {date} lies in the future; correct it, or this machine's "
            f"clock, which says {today}"
        )
    return metadata
