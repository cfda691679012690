"""Check: read every byte of a release again and list what is not as it must be."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from builder import landcover
from builder.digest import combine
from builder.engine import Engine
from builder.errors import ArasError
from builder.files import sha256_file
from builder.pictures import decode_mask, decode_png, per_class
from builder.progress import bar
from builder.publish.journal import publications
from builder.quality.duplicates import pixel_digest
from builder.release import controls, embeddings, layout
from builder.release.funnel import has_official_split
from builder.release.writer import content_digests
from builder.schema import KINDS, SPLITS, arrow_schema, features, names_of

OTHERS = {embeddings.CONFIG: embeddings.violations, controls.CONFIG: controls.violations}
"""Config whose rows are not those of the release → (id, what is wrong) of a table of it."""

MOST = 20
"""Violations of one rule in one file that are told in full; the rest are counted."""


@dataclass
class Findings:
    """What one data file holds, and what is wrong with it."""

    path: str
    rows: int = 0
    ids: list[str] = field(default_factory=list)
    blocks: set[str] = field(default_factory=set)
    pixels: set[str] = field(default_factory=set)
    """Digests of the decoded images."""
    near: set[str] = field(default_factory=set)
    """Clusters of near-duplicate images."""
    problems: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileChecker:
    """Reads data files one after another; an opener for an `Engine`."""

    release: Path

    def open(self) -> Callable[[tuple[str, str, str]], Findings]:
        return lambda task: check_file(self.release, *task)


def violations(release: Path, engine: Engine | None = None) -> list[str]:
    """Everything that is wrong with a release, one line each; empty when it is right.

    Raises ArasError when the directory holds no release at all.
    """
    manifest = layout.read_manifest(release)
    found = list(_check_files(release, manifest))
    if any("missing" in one for one in found):
        return found
    seen: dict[str, list[Findings]] = {}
    tasks = [
        (config, split, name)
        for config, splits in manifest["configs"].items()
        if config != "augmented"
        for split, entry in splits.items()
        for name in entry["files"]
    ]
    with bar("check", len(tasks), "files") as advance:
        for task, outcome in (engine or Engine()).map(FileChecker(release), tasks):
            if isinstance(outcome, BaseException):
                found.append(f"{task[2]}: cannot be read: {outcome}")
            else:
                found += outcome.problems
                seen.setdefault(f"{task[0]}/{task[1]}", []).append(outcome)
            advance(1)
    found += _check_ids(seen)
    found += _check_blocks(seen)
    if not has_official_split(manifest["facts"]["recipe"]):
        found += _check_duplicates(seen)
    found += _check_counts(manifest, seen)
    found += _check_content(manifest, seen)
    found += _check_published(release, manifest)
    found += _check_card(release, manifest)
    return found


def _check_files(release: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Checksums, sizes, and nothing there that is not listed."""
    listed = {one["path"]: one for one in manifest["files"]}
    for name in sorted(set(layout.listed_files(release)) - set(listed)):
        yield f"{name}: is in the directory but not in {layout.MANIFEST}"
    for name, one in listed.items():
        path = release / name
        if not path.is_file():
            yield f"{name}: listed in {layout.MANIFEST} but missing"
        elif path.stat().st_size != one["bytes"] or sha256_file(path) != one["sha256"]:
            yield f"{name}: checksum does not match {layout.MANIFEST}"
    for name, text in layout.checksum_files(release, manifest).items():
        path = release / name
        if not path.is_file() or path.read_bytes() != text.encode():
            yield f"{name}: does not list the files and sums of {layout.MANIFEST}"


def check_file(release: Path, config: str, split: str, name: str) -> Findings:
    """Check one Parquet file against the schema and every row against the invariants."""
    found = Findings(name)
    columns = names_of(config)
    with pq.ParquetFile(release / name) as file:
        schema = arrow_schema(columns)
        actual = file.schema_arrow
        if not actual.equals(schema):
            found.problems.append(f"{name}: schema differs from the published one")
            return found
        if (actual.metadata or {}).get(b"huggingface") != schema.metadata[b"huggingface"]:
            found.problems.append(f"{name}: footer carries other features than the published ones")
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            found.digests += content_digests(table)
            if config in OTHERS:
                found.rows += table.num_rows
                found.ids += table.column("id").to_pylist()
                found.problems += [f"{name}: {a}: {b}" for a, b in OTHERS[config](table)]
            else:
                _check_rows(table, config, split, found)
    return found


def _check_rows(table: pa.Table, config: str, split: str, found: Findings) -> None:
    ids = table.column("id").to_pylist()
    found.rows += len(ids)
    found.ids += ids
    found.blocks |= {one for one in table.column("block").to_pylist() if one}
    found.near |= {one for one in table.column("near_duplicate_cluster").to_pylist() if one}

    def report(wrong: Any, rule: str) -> None:
        places = np.flatnonzero(np.asarray(wrong))
        for i in places[:MOST]:
            found.problems.append(f"{found.path}: {ids[i]}: {rule}")
        if len(places) > MOST:
            found.problems.append(f"{found.path}: {rule}: {len(places) - MOST} more rows")

    kinds = np.array([KINDS[one] for one in table.column("kind").to_pylist()])
    splits = table.column("split").to_pylist()
    pixels, percent = per_class(table.column("pixels")), per_class(table.column("percent"))
    if config in KINDS:
        report(kinds != config, f"its kind is not {config}, as its config says")
    report([one is None or SPLITS[one] != split for one in splits], f"its split is not {split}")
    held_out = (kinds == "synthetic") & (split != "train")
    report(held_out, "synthetic rows may be in train only")
    report([not one for one in ids], "has no id")
    report(percent.sum(axis=1) != 100, "percent does not sum to 100")
    report(
        (percent != landcover.percent(pixels)).any(axis=1), "percent does not follow from pixels"
    )
    dominant = table.column("dominant").to_numpy()
    report(dominant != landcover.dominant(pixels), "dominant is not the largest class")
    report(
        [_bad_captions(one) for one in table.column("captions").to_pylist()],
        "a caption is neither a text nor an error, or both",
    )
    if "image" in table.column_names:
        pictures = zip(
            table.column("image").to_pylist(), table.column("mask").to_pylist(), strict=True
        )
        for i, (image, mask) in enumerate(pictures):
            try:
                found.pixels.add(_checked_pictures(_encoded(image), _encoded(mask), pixels[i]))
            except ArasError as error:
                found.problems.append(f"{found.path}: {ids[i]}: {error}")


def _encoded(picture: dict[str, Any] | None) -> bytes:
    """The bytes of a picture; none where it is null, which no decoder takes."""
    return (picture or {}).get("bytes") or b""


def _bad_captions(captions: list[dict[str, Any]]) -> bool:
    return any((one["text"] is None) == (one["error"] is None) for one in captions)


def _checked_pictures(image: bytes, mask: bytes, pixels: Any) -> str:
    """Digest of the decoded image. Raises ArasError saying what is wrong with image or mask."""
    seen = decode_png(image, "image")
    ids = decode_mask(mask, "mask")
    if seen.ndim != 3 or seen.shape[:2] != ids.shape:
        raise ArasError(f"image is {seen.shape}, mask {ids.shape}")
    if not np.array_equal(landcover.count_pixels(ids), pixels):
        raise ArasError("pixels are not the counts of the mask")
    return pixel_digest(seen)


def _check_ids(seen: dict[str, list[Findings]]) -> Iterator[str]:
    """Ids are unique over all rows, in one split only, and the same in the metadata config."""
    data = [f for part, files in seen.items() if part.split("/")[0] in KINDS for f in files]
    counts = Counter(one for file in data for one in file.ids)
    twice = [one for one, n in counts.items() if n > 1]
    for one in twice[:MOST]:
        yield f"id {one} stands {counts[one]} times"
    if len(twice) > MOST:
        yield f"{len(twice) - MOST} more ids stand several times"
    for split in SPLITS:
        of_data = {
            one for kind in KINDS for file in seen.get(f"{kind}/{split}", []) for one in file.ids
        }
        of_metadata = {one for file in seen.get(f"metadata/{split}", []) for one in file.ids}
        if of_data != of_metadata:
            yield f"metadata/{split}: its ids are not those of the data files"
        vectors = {one for file in seen.get(f"embeddings/{split}", []) for one in file.ids}
        if vectors and {one.partition("#")[0] for one in vectors} - of_data:
            yield f"embeddings/{split}: holds ids that no row of the split has"
        of_controls = {one for file in seen.get(f"controls/{split}", []) for one in file.ids}
        if unknown := sorted(of_controls - of_data):
            yield f"controls/{split}: {unknown[0]} and {len(unknown) - 1} more are no rows of it"


def _check_blocks(seen: dict[str, list[Findings]]) -> Iterator[str]:
    """A block of real tiles lies in one split only."""
    where: dict[str, set[str]] = {}
    for part, files in seen.items():
        if part.startswith("real/"):
            for block in set().union(*(file.blocks for file in files)):
                where.setdefault(block, set()).add(part.split("/")[1])
    for block, splits in sorted(where.items()):
        if len(splits) > 1:
            yield f"block {block} lies in several splits: {', '.join(sorted(splits))}"


def _check_duplicates(seen: dict[str, list[Findings]]) -> Iterator[str]:
    """No image stands in two splits, and no cluster of near-duplicates spans two."""
    for what, name in (("pixels", "image with pixels"), ("near", "near-duplicate cluster")):
        where: dict[str, set[str]] = {}
        for part, files in seen.items():
            if part.split("/")[0] in KINDS:
                for one in set().union(*(getattr(file, what) for file in files)):
                    where.setdefault(one, set()).add(part.split("/")[1])
        wrong = sorted((one, splits) for one, splits in where.items() if len(splits) > 1)
        for one, splits in wrong[:MOST]:
            yield f"{name} {one[:40]} lies in several splits: {', '.join(sorted(splits))}"
        if len(wrong) > MOST:
            yield f"{len(wrong) - MOST} more {name}s lie in several splits"


def _check_counts(manifest: dict[str, Any], seen: dict[str, list[Findings]]) -> Iterator[str]:
    rows = {part: sum(file.rows for file in files) for part, files in seen.items()}
    for config, splits in manifest["configs"].items():
        for split, entry in splits.items():
            parts = ("real", "synthetic") if config == "augmented" else (config,)
            there = sum(rows.get(f"{part}/{split}", 0) for part in parts)
            if entry["rows"] != there:
                told = f"{layout.MANIFEST} says {entry['rows']} rows, the files hold {there}"
                yield f"{config}/{split}: {told}"


def _check_content(manifest: dict[str, Any], seen: dict[str, list[Findings]]) -> Iterator[str]:
    """The rows are those that were packaged: content digests of each part and of the whole."""
    told = {}
    for part, files in seen.items():
        lines = [one for file in sorted(files, key=lambda file: file.path) for one in file.digests]
        told[part] = hashlib.sha256("".join(lines).encode()).hexdigest()
    wrong = False
    for config, splits in manifest["configs"].items():
        for split, entry in splits.items():
            if config == "augmented" or entry["content_sha256"] == told.get(f"{config}/{split}"):
                continue
            wrong = True
            first, more = entry["files"][0], len(entry["files"]) - 1
            where = f"{first} and {more} more" if more else first
            yield f"{where}: its rows are not those that were packaged (content digest)"
    if not wrong and combine(told) != manifest["content_sha256"]:
        yield f"{layout.MANIFEST}: content_sha256 is not that of its parts"


def _check_published(release: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """No place holds this version with other content, as far as is written down beside it."""
    version = str(manifest["version"])
    for place in publications(release.parent / version):
        told = place.get("content_sha256")
        if told and told != manifest["content_sha256"]:
            yield (
                f"version {version} is published at {place.get('destination')} with other content "
                f"({told[:12]}…, this is {manifest['content_sha256'][:12]}…); raise version in "
                "[dataset] and package again (`aras diff --bump` tells the step)"
            )


def _check_card(release: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """The card's YAML tells the same files, rows and features as manifest and footers."""
    try:
        text = (release / "README.md").read_text(encoding="utf-8")
        card = yaml.safe_load(text.split("---\n")[1])
        told = {one["config_name"]: one for one in card["dataset_info"]}
        files = {one["config_name"]: one["data_files"] for one in card["configs"]}
    except (OSError, IndexError, KeyError, TypeError, yaml.YAMLError) as error:
        yield f"README.md: its YAML cannot be read ({type(error).__name__}: {error})"
        return
    if sum(one.get("default", False) for one in card["configs"]) != 1:
        yield "README.md: exactly one config must be the default"
    for config, splits in manifest["configs"].items():
        rows = {split: entry["rows"] for split, entry in splits.items()}
        paths = {split: list(entry["files"]) for split, entry in splits.items()}
        info = told.get(config, {"splits": [], "features": None})
        if {one["name"]: one["num_examples"] for one in info["splits"]} != rows:
            yield f"README.md: config {config}: num_examples are not the rows of the files"
        if {one["split"]: one["path"] for one in files.get(config, [])} != paths:
            yield f"README.md: config {config}: data_files are not those of the manifest"
        if info["features"] != features(names_of(config))._to_yaml_list():
            yield f"README.md: config {config}: features are not those of the footers"
