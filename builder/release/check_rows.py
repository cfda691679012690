"""Check a data file: its schema and every row against the invariants."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.errors import ArasError
from builder.core.foreign import ForeignParquet
from builder.land import classes
from builder.land.columns import (
    GEO_COLUMNS,
    KINDS,
    LATER,
    LOCATIONS,
    SPLITS,
    arrow_schema,
    names_of,
)
from builder.land.pictures import decode_mask, decode_png, per_class
from builder.quality.duplicates import pixel_digest
from builder.release import geo
from builder.release.census import ExtentCounter
from builder.release.configs import VIOLATIONS
from builder.release.index import misplaced
from builder.release.writer import content_digests

_NAME = r"[\w.@+~*%-]+"
_PATH = re.compile(
    rf"(?<![^\s\"'`(=<>\[,])(?:file://\S+|(?:/|~/|[A-Za-z]:[\\/]+){_NAME}(?:[\\/]+{_NAME})+)"
)
"""Two names or more from a root, a home or a drive, where a word may begin: no part of a URL."""


def local_paths(text: str) -> list[str]:
    """The absolute paths in a text, each once, in their order."""
    return list(dict.fromkeys(_PATH.findall(text)))


Shards = Mapping[tuple[str, str], frozenset[str]]
"""Kind and split → its files in the manifest, where the release has that kind."""

MOST = 20
"""Violations of a rule in a file that are listed; the rest are counted."""


@dataclass
class Findings:
    """What a data file holds, and what is wrong with it."""

    path: str
    rows: int = 0
    ids: list[str] = field(default_factory=list)
    blocks: set[str] = field(default_factory=set)
    pixels: set[str] = field(default_factory=set)
    """Digests of the decoded images."""
    near: set[str] = field(default_factory=set)
    """Clusters of near-duplicate images."""
    lacks: tuple[str, ...] = ()
    """Columns that the file lacks, and may lack: it is of an older release, or of a part of one."""
    extent: ExtentCounter = field(default_factory=ExtentCounter)
    """Where and when its real rows are."""
    footprints: geo.GeoFooter = field(default_factory=geo.GeoFooter)
    geo: str | None = None
    """What its footer says of them."""
    problems: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileChecker:
    """Reads data files one after another; an opener for an `Engine`."""

    release: Path
    shards: Shards
    optional: frozenset[str] = LATER
    """Columns that the release may lack."""

    def open(self) -> Callable[[tuple[str, str, str]], Findings]:
        return lambda task: check_file(self.release, self.shards, self.optional, *task)


def check_file(
    release: Path, shards: Shards, optional: frozenset[str], config: str, split: str, name: str
) -> Findings:
    """Check a Parquet file against the schema and every row against the invariants.

    ``shards`` are the manifest's files with pictures. Columns in ``optional`` may be missing;
    `Findings.lacks` names them. Raises Undecodable for a type, codec or page that the
    installed pyarrow does not read.
    """
    findings = Findings(name)
    with ForeignParquet(release / name, name=name) as file:
        file.measure(range(file.num_row_groups))
        actual = file.schema_arrow
        findings.lacks = tuple(optional.intersection(names_of(config)).difference(actual.names))
        schema = arrow_schema([name for name in names_of(config) if name not in findings.lacks])
        if not actual.equals(schema):
            findings.problems.append(f"{name}: {_differences(actual, schema)}")
            return findings
        if (actual.metadata or {}).get(b"huggingface") != schema.metadata[b"huggingface"]:
            findings.problems.append(f"{name}: footer carries other features than published")
        for key, value in (actual.metadata or {}).items():
            for path in local_paths(value.decode(errors="replace")):
                findings.problems.append(
                    f"{name}: footer {key.decode()} contains the local path {path}"
                )
        if geo.GEO_KEY.encode() in (actual.metadata or {}):
            findings.geo = actual.metadata[geo.GEO_KEY.encode()].decode(errors="replace")
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            findings.digests += content_digests(table)
            if config in VIOLATIONS:
                findings.rows += table.num_rows
                findings.ids += table.column("id").to_pylist()
                findings.problems += [f"{name}: {a}: {b}" for a, b in VIOLATIONS[config](table)]
            else:
                _check_rows(table, config, split, findings)
            if set(LOCATIONS) <= set(table.column_names):
                files = {kind: names for (kind, part), names in shards.items() if part == split}
                wrong = misplaced(release, table, files)
                findings.problems += _first(f"{name}: {row}: {rule}" for row, rule in wrong)
            if set(GEO_COLUMNS) <= set(table.column_names):
                wrong = geo.misplaced(table)
                findings.problems += _first(f"{name}: {row}: {rule}" for row, rule in wrong)
                findings.footprints.see(table)
            if config == "real":
                findings.extent.see(table)
    return findings


def _first(problems: Iterable[str]) -> list[str]:
    """The first `MOST` of problems, and how many more there are."""
    listed = list(problems)
    more = len(listed) - MOST
    return listed if more <= 0 else [*listed[:MOST], f"{listed[0].split(':')[0]}: {more} more rows"]


def _differences(actual: pa.Schema, expected: pa.Schema) -> str:
    """What a file's schema has otherwise than the published one."""
    missing = [name for name in expected.names if name not in actual.names]
    other = [
        f"{field.name} is {actual.field(field.name).type}, expected {field.type}"
        for field in expected
        if field.name in actual.names and actual.field(field.name).type != field.type
    ]
    more = [name for name in actual.names if name not in expected.names]
    parts = [
        *([f"it lacks {', '.join(missing)}"] if missing else []),
        *([f"it has {', '.join(more)} besides"] if more else []),
        *other,
    ]
    return f"schema differs from the published schema: {'; '.join(parts) or 'other order'}"


def _check_rows(table: pa.Table, config: str, split: str, findings: Findings) -> None:
    ids = table.column("id").to_pylist()
    findings.rows += len(ids)
    findings.ids += ids
    findings.blocks |= _values(table, "block")
    findings.near |= _values(table, "near_duplicate_cluster")

    def report(wrong: Any, rule: str) -> None:
        places = np.flatnonzero(np.asarray(wrong))
        for i in places[:MOST]:
            findings.problems.append(f"{findings.path}: {ids[i]}: {rule}")
        if len(places) > MOST:
            findings.problems.append(f"{findings.path}: {rule}: {len(places) - MOST} more rows")

    kinds = np.array([KINDS[kind] for kind in table.column("kind").to_pylist()])
    splits = table.column("split").to_pylist()
    pixels, percent = per_class(table.column("pixels")), per_class(table.column("percent"))
    if config in KINDS:
        report(kinds != config, f"its kind is not {config}, as its config says")
    report(
        [number is None or SPLITS[number] != split for number in splits],
        f"its split is not {split}",
    )
    held_out = (kinds == "synthetic") & (split != "train")
    report(held_out, "synthetic rows may be in train only")
    report([not row for row in ids], "has no id")
    report(percent.sum(axis=1) != 100, "percent does not sum to 100")
    report((percent != classes.percent(pixels)).any(axis=1), "percent does not follow from pixels")
    dominant = table.column("dominant").to_numpy()
    report(dominant != classes.dominant(pixels), "dominant is not the largest class")
    if "captions" in table.column_names:
        report(
            [_bad_captions(row) for row in table.column("captions").to_pylist()],
            "a caption is neither a text nor an error, or both",
        )
        for text in _models(table.column("captions")):
            for path in local_paths(text):
                findings.problems.append(
                    f"{findings.path}: captions name a model by its local path {path}"
                )
    if "image" in table.column_names:
        pictures = zip(
            table.column("image").to_pylist(), table.column("mask").to_pylist(), strict=True
        )
        for i, (image, mask) in enumerate(pictures):
            try:
                findings.pixels.add(_checked_pictures(_encoded(image), _encoded(mask), pixels[i]))
            except ArasError as error:
                findings.problems.append(f"{findings.path}: {ids[i]}: {error}")


def _values(table: pa.Table, name: str) -> set[str]:
    """The values of a column, but for nulls; none where there is no such column."""
    if name not in table.column_names:
        return set()
    return set(pc.unique(table.column(name)).drop_null().to_pylist()) - {""}


def _encoded(picture: dict[str, Any] | None) -> bytes:
    """The bytes of a picture; none where it is null, which no decoder takes."""
    return (picture or {}).get("bytes") or b""


def _bad_captions(captions: list[dict[str, Any]]) -> bool:
    return any((caption["text"] is None) == (caption["error"] is None) for caption in captions)


def _models(captions: pa.ChunkedArray) -> list[str]:
    """What the captions say wrote them, each once."""
    flat = captions.combine_chunks().flatten()
    names = [pc.unique(flat.field(name)).drop_null() for name in ("model", "revision")]
    return [text for column in names for text in column.to_pylist()]


def _checked_pictures(image: bytes, mask: bytes, pixels: Any) -> str:
    """Digest of the decoded image. Raises ArasError saying what is wrong with image or mask."""
    seen = decode_png(image, "image")
    ids = decode_mask(mask, "mask")
    if seen.ndim != 3 or seen.shape[:2] != ids.shape:
        raise ArasError(f"image is {seen.shape}, mask {ids.shape}")
    if not np.array_equal(classes.count_pixels(ids), pixels):
        raise ArasError("pixels are not the counts of the mask")
    return pixel_digest(seen)
