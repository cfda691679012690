"""What Zenodo is to hold of a release: flat file names, one record or two, metadata."""

import contextlib
import datetime
import hashlib
import html
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from builder.core.arrow import combine
from builder.core.errors import ArasError
from builder.core.files import hash_file, read_json, scratch, write_json
from builder.core.manifest import MANIFEST
from builder.publish.cards import Render, is_card
from builder.release.flat import flat_name, flat_texts

MAIN, SYNTHETIC = "main", "synthetic"
"""The two roles a record can have; a release that fits has the main one alone."""

KIND = {MAIN: "real", SYNTHETIC: "synthetic"}
"""Role → the kind of tiles that such a record of two holds."""

OF_SYNTHETIC = ("synthetic/", "pictures/balance.png")
BY_KIND = ("rows", "left_out", "flags", "pixels", "mask_agreement", "streams", "examples")
"""Facts of the census whose names are a kind, or begin with one."""


def in_part(role: str, path: str) -> bool:
    """Whether a record of two holds the file at ``path`` of the release."""
    if role == MAIN:
        return not path.startswith(OF_SYNTHETIC)
    return path.startswith(OF_SYNTHETIC) or is_card(path)


@contextlib.contextmanager
def parts(
    release: Path, records: Mapping[str, Mapping[str, Any]], render: Render
) -> Iterator[dict[str, Path]]:
    """Role → folder of what that record holds; the release itself where ``records`` has one role.

    ``records`` tells each role's doi and concept_doi. The folders are gone when the block ends.
    """
    if SYNTHETIC not in records:
        yield {MAIN: release}
        return
    with scratch("aras-zenodo") as temporary:
        folders = {role: temporary / role for role in KIND}
        for role, twin in ((MAIN, SYNTHETIC), (SYNTHETIC, MAIN)):
            make_part(release, folders[role], role, records[role], records[twin], render)
        yield folders


def make_part(
    release: Path,
    folder: Path,
    role: str,
    record: Mapping[str, Any],
    twin: Mapping[str, Any],
    render: Render,
) -> None:
    """Lay out what one record of two holds: links to the data, and cards that tell both DOIs."""
    manifest = read_json(release / MANIFEST)
    for one in manifest["files"]:
        path = one["path"]
        if in_part(role, path):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if is_card(path):
                shutil.copyfile(release / path, folder / path)
            else:
                (folder / path).symlink_to((release / path).resolve())
    told = part_manifest(manifest, role)
    told["part"] |= {"twin_doi": twin["doi"], "twin_concept_doi": twin["concept_doi"]}
    write_json(folder / MANIFEST, told)
    render(folder, doi=record["doi"], concept_doi=record["concept_doi"])


def part_manifest(manifest: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The manifest of a release with one role's files, configs and counts only."""
    kind = KIND[role]
    files = [one for one in manifest["files"] if in_part(role, one["path"])]
    there = {one["path"] for one in files}
    configs = {
        config: splits
        for config, splits in manifest["configs"].items()
        if all(name in there for entry in splits.values() for name in entry["files"])
    }
    facts = dict(manifest["facts"])
    if census := facts.get("census"):
        facts["census"] = {**census, **{name: _of(kind, census[name]) for name in BY_KIND}}
        if kind != "real":
            facts["census"]["extent"] = None  # of real rows
    return {
        **manifest,
        "name": f"{manifest['name']}-{kind}",
        "title": f"{manifest['title']} ({kind})",
        "content_sha256": combine(
            {
                f"{config}/{split}": entry["content_sha256"]
                for config, splits in configs.items()
                for split, entry in splits.items()
            }
        ),
        "configs": configs,
        "files": files,
        "facts": facts,
        "subsets": manifest.get("subsets", {}) if role == MAIN else {},
        "synthetic_doi": None,
        "part": {"kind": kind, "title": manifest["title"], "of": manifest["content_sha256"]},
    }


def _of(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name.split("/")[0] == kind}


SUMS = ("SHA256SUMS", "MD5SUMS")
DOI_FILES = ("README.md", "CITATION.cff", "croissant.json")
"""The files that must tell the DOI before they are uploaded."""


@dataclass(frozen=True)
class Limits:
    """What one Zenodo record may hold, unless Zenodo has granted more."""

    files: int = 100
    bytes: int = 50_000_000_000


@dataclass(frozen=True)
class File:
    """One file of a record: its flat name, size in bytes, hex digests, and where its bytes are."""

    name: str
    size: int
    md5: str
    sha256: str
    source: Path | bytes

    def open(self) -> BinaryIO:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


@dataclass(frozen=True)
class Release:
    """A packaged release as its manifest tells it; ``files`` leaves out the checksum files."""

    path: Path
    version: str
    content_sha256: str
    metadata: dict[str, Any]
    files: tuple[tuple[str, File], ...]
    """(path in the release, file) pairs."""


def read_release(path: Path) -> Release:
    """Read manifest.json and .zenodo.json of a release; nothing is hashed but the manifest.

    Raises ArasError for a folder that is no release, a listed file that is missing or has
    another size, two paths with one flat name, and metadata that Zenodo would refuse.
    """
    manifest = _json(path / "manifest.json")
    try:
        version, content = str(manifest["version"]), str(manifest["content_sha256"])
        files = [_file(path, entry) for entry in manifest["files"]]
        texts = flat_texts(path, manifest)
    except (KeyError, TypeError) as error:
        raise ArasError(
            f"{path / 'manifest.json'}: {error} is missing or malformed; run `aras package` again"
        ) from error
    files = [
        (where, _in_memory(file.name, texts[where]) if where in texts else file)
        for where, file in files
    ]
    own = path / "manifest.json"
    digests = hash_file(own, "md5", "sha256")
    files.append(
        ("manifest.json", File("manifest.json", own.stat().st_size, source=own, **digests))
    )
    counts = Counter(file.name for _, file in files)
    clashes = [where for where, file in files if counts[file.name] > 1]
    if clashes:
        raise ArasError(
            f"{path}: {' and '.join(sorted(clashes))} get the same name on Zenodo, which has no "
            "folders ('/' becomes '-'); rename one"
        )
    return Release(path, version, content, _metadata(path / ".zenodo.json", version), tuple(files))


def needs_two_records(release: Release, limits: Limits) -> bool:
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
            f"{release.path}: too much for Zenodo even as two records ({said}). Package larger "
            "shards for fewer files, or ask Zenodo for more space and give --max-files/--max-bytes"
        )
    return True


def can_be_two(release: Release) -> bool:
    """Whether it holds both kinds of tiles: each record of two has one."""
    return {where.split("/")[0] for where, _ in release.files}.issuperset(KIND.values())


def record_files(release: Release) -> list[File]:
    """The files of the record that holds a release, or a part of one, with its checksum files."""
    return _with_sums(file for _, file in release.files)


def foreseen(release: Release, *, split: bool) -> dict[str, list[File]]:
    """The files of each record by role, before any cards are written: two records' will differ."""
    if not split:
        return {MAIN: record_files(release)}
    return {
        role: _with_sums(file for where, file in release.files if in_part(role, where))
        for role in KIND
    }


def payload(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata to send for a record, without any DOI of its own.

    Zenodo keeps the one it reserved, and another record's would make the draft impossible to
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
            return all(any(_same(key, one, other) for other in stored) for one in sent)
        return all(_same(key, one, other) for one, other in zip(sent, stored, strict=True))
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
    for name, algorithm in zip(SUMS, ("sha256", "md5"), strict=True):
        text = "".join(f"{getattr(file, algorithm)}  {file.name}\n" for file in listed).encode()
        sums.append(_in_memory(name, text))
    return [*listed, *sums]


def _in_memory(name: str, content: bytes) -> File:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return File(name, len(content), md5, hashlib.sha256(content).hexdigest(), content)


def _file(release: Path, entry: Mapping[str, Any]) -> tuple[str, File]:
    where, size = str(entry["path"]), int(entry["bytes"])
    source = release / where
    if not source.is_file():
        raise ArasError(f"{source}: in the manifest but not on disk; run `aras package` again")
    if source.stat().st_size != size:
        raise ArasError(
            f"{source}: {source.stat().st_size} bytes on disk, {size} in the manifest; "
            "run `aras package` again"
        )
    return where, File(flat_name(where), size, entry["md5"], entry["sha256"], source)


def _metadata(path: Path, version: str) -> dict[str, Any]:
    metadata: dict[str, Any] = _json(path)
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
            f"{path}: publication_date {date} lies in the future; mend it, or this machine's "
            f"clock, which says {today}"
        )
    return metadata


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise ArasError(
            f"{path}: not there; {path.parent} is no release (`aras package` makes one)"
        ) from error
    except ValueError as error:
        raise ArasError(f"{path}: not JSON ({error}); run `aras package` again") from error
    if not isinstance(value, dict):
        raise ArasError(f"{path}: not a JSON object; run `aras package` again")
    return value
