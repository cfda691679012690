"""Check what a release says of its rows: no place, time or count that the rows contradict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builder.core import budgets
from builder.core.files import read_json
from builder.core.manifest import MANIFEST, Extent, Manifest
from builder.core.progress import counted
from builder.land.columns import KINDS, SPLITS
from builder.release import benchmark, stac
from builder.release.census import MEASURES, ExtentCounter, MeasureCounter
from builder.release.check_rows import Findings
from builder.release.disclosure import coverage, locations
from builder.release.funnel import flags_of
from builder.release.geo import SAME, GeoFooter
from builder.release.rows import held_columns, metadata

Seen = dict[str, list[Findings]]
"""``config/split`` → what its files hold."""


def check_facts(release: Path, manifest: Manifest, seen: Seen) -> Iterator[str]:
    """What manifest, footers, croissant.json and .zenodo.json say and the rows do not.

    Nothing is compared where the rows of a file could not be looked at, which is a problem already.
    """
    if any(file.problems and not file.rows for files in seen.values() for file in files):
        return
    yield from _check_counts(manifest, seen)
    yield from _check_extent(manifest, seen)
    yield from _check_footers(seen)
    yield from _check_measures(release, manifest, seen)
    known = coverage(manifest)
    said = _document(release, "croissant.json")
    for key in ("spatialCoverage", "temporalCoverage"):
        if key in said and said[key] != known.get(key):
            yield f"croissant.json: its {key} is not that of {MANIFEST}"
    for record_set in said.get("recordSet", []):
        splits = manifest.configs.get(record_set.get("@id", ""), {})
        rows = ", ".join(f"{split} {part.rows:,}" for split, part in splits.items())
        if splits and f"Rows: {rows}." not in record_set.get("description", ""):
            yield f"croissant.json: record set {record_set['@id']} has other rows than {MANIFEST}"
    said = _document(release, ".zenodo.json")
    if "locations" in said and said["locations"] != locations(manifest):
        yield f".zenodo.json: its locations are not those of {MANIFEST}"


def _check_measures(release: Path, manifest: Manifest, seen: Seen) -> Iterator[str]:
    """The medians and ranges that the card shows are those of the rows; older ones state none."""
    stated = manifest.facts.census.measures
    splits = manifest.configs.get("metadata", {})
    read = {split: sum(f.rows for f in seen.get(f"metadata/{split}", [])) for split in splits}
    if not stated or not splits or any(read[split] != splits[split].rows for split in splits):
        return
    held = held_columns(release, manifest)["metadata"]
    counters = {part: MeasureCounter() for part in stated}
    names = ("kind", "flags", *MEASURES)
    wrong = 0
    for split, table in metadata(release, [name for name in names if name in held]):
        for i, kind in enumerate(KINDS):
            rows = table.filter(pc.field("kind") == i)
            if counter := counters.get(f"{kind}/{split}"):
                counter.see(rows)
            wrong += _wrongly_flagged(manifest, kind, rows)
    if wrong:
        yield f"{MANIFEST}: the flags of {counted(wrong, 'row')} are not what its limits give"
    for part, medians in stated.items():
        if counters[part].medians() != medians:
            yield f"{MANIFEST}: the medians of {part} are not those of its rows"
    for part, ranges in manifest.facts.census.ranges.items():
        if part not in counters or counters[part].ranges() != ranges:
            yield f"{MANIFEST}: the ranges of measures of {part} are not those of its rows"


def _wrongly_flagged(manifest: Manifest, kind: str, rows: pa.Table) -> int:
    """Rows with other flags than the thresholds give; older releases state no thresholds."""
    limits = [limit for limit in manifest.facts.limits if kind in limit.kinds]
    names = {"flags", *(limit.measure for limit in limits)}
    if not manifest.facts.limits or not names <= set(rows.column_names):
        return 0
    flags = rows.column("flags").to_pylist()
    return sum(a != b for a, b in zip(flags, flags_of(rows, limits), strict=True))


def check_catalogue(release: Path, manifest: Manifest) -> Iterator[str]:
    """stac/ and benchmark/ hold what config metadata do, and the collection covers its items."""
    said = _document(release, stac.COLLECTION)
    extent = manifest.facts.census.extent
    known = stac.extent_of(extent) if extent and extent.interval else None
    if said and said.get("extent") != known:
        yield f"{stac.COLLECTION}: its extent is not that of {MANIFEST}"
    if stac.differ(release, manifest):
        yield f"{stac.ITEMS}: its items are not the rows of config metadata with place and time"
    if benchmark.differ(release, manifest):
        yield f"{benchmark.FOLDER}/: its captions and facts are not those of the test rows"


def _document(release: Path, name: str) -> dict[str, Any]:
    """A JSON object of the release; empty where there is none, which other checks report."""
    try:
        value = read_json(release / name, budgets.JSON_BYTES)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _check_counts(manifest: Manifest, seen: Seen) -> Iterator[str]:
    """The census counts the rows of the files; a release that has no census is not judged."""
    said = manifest.facts.census.rows
    parts = [f"{kind}/{split}" for kind in KINDS for split in SPLITS]
    for part in parts if said else ():
        rows = sum(file.rows for file in seen.get(part, ()))
        if said.get(part, 0) != rows:
            yield f"{MANIFEST}: its census counts {said.get(part, 0)} rows of {part}, not {rows}"


def _check_extent(manifest: Manifest, seen: Seen) -> Iterator[str]:
    said = manifest.facts.census.extent
    rows = ExtentCounter()
    for split in SPLITS:
        for file in seen.get(f"real/{split}", ()):
            rows.merge(file.extent)
    known = rows.extent()
    if said is None or known is None:
        has_files = any(f"real/{split}" in seen for split in SPLITS)
        if said is not None and has_files:
            yield f"{MANIFEST}: its census has an extent, and no row has a place"
        if known is not None and manifest.facts.census.rows:
            yield f"{MANIFEST}: its census has no extent, and rows have places"
        return
    for name in Extent.model_fields:
        if name in said.model_fields_set and not _same(getattr(said, name), getattr(known, name)):
            yield (
                f"{MANIFEST}: its census says {name} {getattr(said, name)}, the rows "
                f"{getattr(known, name)}"
            )


def _same(said: Any, known: Any) -> bool:
    """Equal, or numbers that differ by less than versions of PROJ do."""
    if isinstance(said, tuple) and isinstance(known, tuple):
        pairs = zip(said, known, strict=False)
        return len(said) == len(known) and all(_same(a, b) for a, b in pairs)
    if isinstance(said, float) and isinstance(known, (int, float)):
        return abs(said - known) <= 10 * SAME
    return bool(said == known)


def _check_footers(seen: Seen) -> Iterator[str]:
    """The key ``geo`` of each metadata file is that of the footprints of its split."""
    for split in SPLITS:
        files = [file for file in seen.get(f"metadata/{split}", ()) if "geometry" not in file.lacks]
        places = GeoFooter.of(file.footprints for file in files)
        for file in files:
            if file.geo is None:
                yield f"{file.path}: footer has no key geo, and is not GeoParquet"
            elif not places.fits(file.geo):
                yield f"{file.path}: footer key geo does not fit the footprints of its rows"
