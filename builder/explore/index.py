"""The slim index of a release that the page reads: columns, ids, places, details, words."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core import figures
from builder.core.progress import bar
from builder.explore.details import MEASURES, Clusters, Details
from builder.explore.files import BLOCK, SEGMENT, compact, packed, write_array
from builder.explore.head import Code, Head, Number, number
from builder.explore.vectors import write_vectors
from builder.explore.words import Words
from builder.land.classes import CLASSES, PALETTE
from builder.land.columns import BLOBS, BY_NAME, COLUMN_NAMES, DERIVED, KINDS, LOCATIONS, SPLITS
from builder.land.pictures import per_class
from builder.land.score_columns import SCORE_COLUMNS
from builder.parts.opened import OpenRelease, Request

HEAD = "explore.json"
SCORED = ("grounding", "accuracy", "coverage", "chair_i", "leak", "clip_cosine")
"""Scores of captions that rows are filtered by: the mean over a row's captions."""
OF_STREAMS = ("grounding", "leak", "clip_cosine")
"""Scores that rows are filtered by stream by stream as well."""
NO_PLACE = np.float32(np.nan)


@dataclass
class _Columns:
    """The columns of all rows, table by table."""

    parts: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)

    def add(self, name: str, values: npt.NDArray[Any]) -> None:
        self.parts.setdefault(name, []).append(values)

    def whole(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate(self.parts[name])


def write_index(release: OpenRelease, folder: Path, head: Head) -> Head:
    """Write the index of ``release`` into ``folder``; the head with all that is in it.

    Reads config metadata and config embeddings, no picture. Raises as `OpenRelease.light`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = release.columns().names
    chosen = release.choose(Request())
    names = [name for name in (*COLUMN_NAMES, *DERIVED, "image_sha256", "mask_sha256")
             if name in held and name not in (*BLOBS, "geometry")]  # fmt: skip
    ids: list[str] = []
    clusters = Clusters()
    light = ("id", "duplicate_cluster", "near_duplicate_cluster")
    for table in release.light(chosen, [name for name in light if name in held]):
        clusters.see(len(ids), table)
        ids += table.column("id").to_pylist()
    places = {row_id: i for i, row_id in enumerate(ids)}
    streams = _streams(release)
    older = ""
    if not set(LOCATIONS) <= set(held):
        older = (
            "This release was made by an older aras and does not say where its pictures lie, so "
            "none can be shown. aras import and aras package of the whole release add that."
        )
    columns, words = _Columns(), Words()
    writer = _Segments(folder, tuple(release.sizes), bool(older))
    details = Details(places, clusters)
    with bar("index", len(ids), "rows") as advance:
        for table in release.light(chosen, names):
            first = writer.rows
            _gather(columns, table, streams)
            objects = details.of(first, table)
            for i, row in enumerate(objects):
                words.add(first + i, ("".join(p[0] for p in c["pieces"]) for c in row["captions"]))
            writer.add(table, objects)
            advance(table.num_rows)
    writer.close()
    words.write(folder)
    numbers = _numbers(columns, folder, streams)
    codes = _codes(columns, folder)
    for name in ("longitude", "latitude", "wide", "high"):
        write_array(folder / f"{name}.bin", columns.whole(name))
    (folder / "blocks.bin").write_bytes(packed(compact(_labels(columns, folder, "block"))))
    palette = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in PALETTE.tolist())
    known = np.isfinite(columns.whole("longitude"))
    return Head(
        **{
            **head.__dict__,
            "rows": len(ids),
            "segment": SEGMENT,
            "block": BLOCK,
            "classes": CLASSES,
            "palette": palette,
            "colours": {**figures.KIND_COLOURS, **figures.SPLIT_COLOURS},
            "streams": streams,
            "shards": tuple(release.sizes),
            "sizes": tuple(release.sizes.values()),
            "numbers": numbers,
            "codes": codes,
            "vectors": tuple(write_vectors(release, folder, places, streams)),
            "on_map": int(known.sum()),
            "older": older,
        }
    )


def write_head(folder: Path, head: Head) -> None:
    """Write ``explore.json``, last: an index with a head is whole."""
    (folder / HEAD).write_text(json.dumps(asdict(head), ensure_ascii=False, allow_nan=False))


def _streams(release: OpenRelease) -> tuple[str, ...]:
    """Caption streams in the order of the first rows that have some."""
    if "captions" not in release.columns().names:
        return ()
    census = release.manifest.facts.census.streams
    known = dict.fromkeys(name.split("/", 1)[1] for name in census)
    chosen = [part for part in release.choose(Request()) if len(part.rows)]
    for part in chosen:
        for table in release.light([part], ["captions"]):
            lists = table.column("captions").combine_chunks()
            known |= dict.fromkeys(
                pc.unique(pc.struct_field(pc.list_flatten(lists), "stream")).to_pylist()
            )
            break
    return tuple(name for name in known if name)


def _gather(columns: _Columns, table: pa.Table, streams: Sequence[str]) -> None:
    """Take the values that rows are filtered, sorted and drawn by."""
    n, held = table.num_rows, table.column_names
    for name in ("kind", "split", "dominant"):
        columns.add(name, table.column(name).to_numpy().astype(np.uint8))
    columns.add("percent", per_class(table.column("percent")).astype(np.uint8))
    pixels = per_class(table.column("pixels")).sum(axis=1)
    for name in MEASURES:
        columns.add(name, _floats(table, name))
    nothing: list[Any] = [None] * n
    blocks = table.column("block").to_pylist() if "block" in held else nothing
    columns.add("block", np.array(blocks, object))
    columns.add("flags", _tuples(table, "flags"))
    copies = table.column("copy").to_pylist() if "copy" in held else nothing
    columns.add("copy", np.array([bool(value) for value in copies], dtype=np.uint8))
    repeated = np.zeros(n, dtype=np.uint8)
    for bit, name in enumerate(("duplicate_cluster", "near_duplicate_cluster")):
        if name in held:
            there = table.column(name).is_valid().to_numpy().astype(np.uint8)
            repeated |= there << np.uint8(bit)
    columns.add("repeated", repeated)
    lon, lat = _floats(table, "longitude"), _floats(table, "latitude")
    wide = high = np.full(n, NO_PLACE, dtype=np.float32)
    if "bbox" in held:
        box = table.column("bbox").combine_chunks()
        sides = [np.asarray(pc.struct_field(box, s).to_numpy(zero_copy_only=False), np.float64)
                 for s in ("xmin", "ymin", "xmax", "ymax")]  # fmt: skip
        wide = (sides[2] - sides[0]).astype(np.float32)
        high = (sides[3] - sides[1]).astype(np.float32)
        wide = np.where(wide > 180, high, wide)  # across the antimeridian
    for name, values in (("longitude", lon), ("latitude", lat), ("wide", wide), ("high", high)):
        columns.add(name, values)
    columns.add("pixels", np.sqrt(pixels).astype(np.uint16))
    _gather_scores(columns, table, streams)


def _gather_scores(columns: _Columns, table: pa.Table, streams: Sequence[str]) -> None:
    """Scores of captions: their mean over a row's captions, and each stream's own."""
    n = table.num_rows
    if "caption_scores" not in table.column_names or not streams:
        return
    lists = table.column("caption_scores").combine_chunks()
    owner = pc.list_parent_indices(lists).to_numpy()
    flat = pc.list_flatten(lists)
    names = {field.name for field in flat.type}
    stream = np.array(pc.struct_field(flat, "stream").to_pylist(), object)
    for score in SCORED:
        if score not in names:
            continue
        values = pc.struct_field(flat, score).cast(pa.float32()).to_numpy(zero_copy_only=False)
        values = np.asarray(values, np.float64)
        known = np.isfinite(values)
        sums = np.bincount(owner[known], values[known], minlength=n)
        with np.errstate(invalid="ignore"):
            mean = sums / np.bincount(owner[known], minlength=n)
        columns.add(score, mean.astype(np.float32))
        for name in streams if score in OF_STREAMS else ():
            own = np.full(n, NO_PLACE, dtype=np.float32)
            here = stream == name
            own[owner[here]] = values[here]
            columns.add(f"{score}/{name}", own)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    if name not in table.column_names:
        return np.full(table.num_rows, NO_PLACE, dtype=np.float32)
    values = table.column(name).to_numpy()
    return np.asarray(values, dtype=np.float32)


def _tuples(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Lists as tuples, empty for null."""
    out = np.empty(table.num_rows, dtype=object)
    if name in table.column_names:
        for i, value in enumerate(table.column(name).to_pylist()):
            out[i] = tuple(value or ())
    return out


def _numbers(columns: _Columns, folder: Path, streams: Sequence[str]) -> tuple[Number, ...]:
    known: list[Number] = []

    def take(name: str, values: npt.NDArray[Any], **about: str) -> None:
        about.setdefault("title", name.replace("_", " "))
        described = number(name, values, **about)  # type: ignore[arg-type]
        if described is not None:
            write_array(folder / described.file, values)
            known.append(described)

    percent = columns.whole("percent")
    for k, name in enumerate(CLASSES):
        take(f"share/{name}", percent[:, k], title=name, group="Class shares", unit="%",
             meaning=f"Share of {name}, in whole per cent.", sql=f'percent."{name}"')  # fmt: skip
    for score in SCORED:
        if score not in columns.parts:
            continue
        about = {"group": "Captions", "meaning": SCORE_COLUMNS[score].meaning}
        take(score, columns.whole(score), **about)
        for stream in streams if score in OF_STREAMS else ():
            name = f"{score}/{stream}"
            quoted = stream.replace("'", "''")
            sql = f"list_avg([c.{score} for c in caption_scores if c.stream = '{quoted}'])"
            title = f"{score.replace('_', ' ')} · {stream}"
            take(name, columns.whole(name), title=title, sql=sql, stream=stream, **about)
    for name in MEASURES:
        column = BY_NAME[name]
        group = "Synthetic tiles" if name in MEASURES[:3] else "Pictures"
        take(name, columns.whole(name), group=group, meaning=column.meaning, unit=column.unit)
    return tuple(known)


def _codes(columns: _Columns, folder: Path) -> tuple[Code, ...]:
    codes = []
    labelled = (
        ("kind", "Kind", KINDS),
        ("split", "Split", SPLITS),
        ("dominant", "Largest class", CLASSES),
    )
    for name, title, labels in labelled:
        values = columns.whole(name)
        counts = np.bincount(values, minlength=len(labels)).tolist()
        codes.append(_code(folder, name, title, labels, counts, values))
    flags = columns.whole("flags")
    known = sorted({flag for row in flags for flag in row or ()})[:29]
    bit = {flag: 1 << i for i, flag in enumerate((*known, "copy", "duplicate", "near duplicate"))}
    values = np.array([sum(bit.get(flag, 0) for flag in row or ()) for row in flags], np.uint32)
    values |= columns.whole("copy").astype(np.uint32) * np.uint32(bit["copy"])
    repeated = columns.whole("repeated").astype(np.uint32)
    values |= (repeated & 1) * np.uint32(bit["duplicate"])
    values |= (repeated >> 1) * np.uint32(bit["near duplicate"])
    counts = [int(((values >> np.uint32(i)) & 1).sum()) for i in range(len(bit))]
    codes.append(_code(folder, "flags", "Flags", tuple(bit), counts, values, is_set=True))
    return tuple(codes)


def _code(
    folder: Path,
    name: str,
    title: str,
    labels: Sequence[str],
    counts: Sequence[int],
    values: npt.NDArray[Any],
    is_set: bool = False,
) -> Code:
    file = f"code-{name}.bin"
    write_array(folder / file, values)
    return Code(name, title, tuple(labels), tuple(counts), file, values.itemsize, is_set)


def _labels(columns: _Columns, folder: Path, name: str) -> list[str]:
    """Write the codes of a column of texts, 0 for null; the texts from 1 on."""
    values = columns.whole(name)
    labels = sorted({value for value in values if value is not None})
    place = {label: i + 1 for i, label in enumerate(labels)}
    write_array(folder / f"code-{name}.bin", np.array([place.get(v, 0) for v in values], np.uint32))
    return ["", *labels]


class _Segments:
    """Writes what belongs to single rows, `SEGMENT` rows a file."""

    def __init__(self, folder: Path, shards: Sequence[str], is_older: bool) -> None:
        self.folder, self.is_older = folder, is_older
        self.shards = {name: i for i, name in enumerate(shards)}
        self.rows = self.segment = 0
        self.ids: list[str] = []
        self.objects: list[dict[str, Any]] = []
        self.places: list[pa.Table] = []
        self.ends: list[int] = []

    def add(self, table: pa.Table, objects: list[dict[str, Any]]) -> None:
        self.rows += table.num_rows
        self.ids += table.column("id").to_pylist()
        self.objects += objects
        if not self.is_older:
            self.places.append(table.select(list(LOCATIONS)))
        while len(self.ids) >= SEGMENT:
            self._write()

    def close(self) -> None:
        if self.ids:
            self._write()
        write_array(self.folder / "blocks-of-details.bin", np.array(self.ends, np.uint32))

    def _write(self) -> None:
        stem = f"{self.segment:04d}.bin"
        ids, self.ids = self.ids[:SEGMENT], self.ids[SEGMENT:]
        (self.folder / f"ids-{stem}").write_bytes(packed(compact(ids)))
        objects, self.objects = self.objects[:SEGMENT], self.objects[SEGMENT:]
        blocks = [packed(compact(objects[i : i + BLOCK])) for i in range(0, len(objects), BLOCK)]
        self.ends += np.cumsum([len(block) for block in blocks]).tolist()
        (self.folder / f"details-{stem}").write_bytes(b"".join(blocks))
        if not self.is_older:
            table = pa.concat_tables(self.places)
            self.places = [table.slice(SEGMENT)] if table.num_rows > SEGMENT else []
            data = _packed_places(table.slice(0, SEGMENT), self.shards)
            (self.folder / f"places-{stem}").write_bytes(data)
        self.segment += 1


def _packed_places(table: pa.Table, shards: dict[str, int]) -> bytes:
    """Shards (uint32), then of images and of masks: how far each begins behind the end of the one
    before in its shard (float64), and sizes (uint32)."""
    shard = np.array([shards.get(name, 0) for name in table.column("shard").to_pylist()], np.uint32)
    data = [shard.astype("<u4").tobytes()]
    is_new = np.concatenate([[True], shard[1:] != shard[:-1]])
    for name in BLOBS:
        start = pc.fill_null(table.column(f"{name}_offset"), 0).to_numpy().astype(np.float64)
        size = pc.fill_null(table.column(f"{name}_size"), 0).to_numpy()
        end = np.concatenate([[0], (start + size)[:-1]])
        data += [(start - np.where(is_new, 0, end)).astype("<f8").tobytes()]
        data += [size.astype("<u4").tobytes()]
    return packed(b"".join(data))
