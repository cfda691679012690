"""What changed between two releases.

Only config metadata is read, and masks whose bytes differ, because they may hold the same ids in
another encoding; other configs are compared by the manifests' content digests.
`builder.release.changes` decides the step that follows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.errors import ArasError
from builder.core.files import parse_json
from builder.core.manifest import MANIFEST, ChangelogEntry, Manifest, SplitFiles, read_manifest
from builder.core.progress import bar
from builder.land.columns import BLOB_DIGESTS, DERIVED, KINDS, SPLITS
from builder.land.pictures import decode_mask, image_bytes
from builder.release.changes import Changes, parse_version
from builder.release.rows import opened

Hashes = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)


def row_hashes(column: pa.Array | pa.ChunkedArray) -> Hashes:
    """(n,) hashes of a column's n values: equal values, equal hashes, within one process.

    Strings are hashed by Python's own keyed hash (SipHash), so the hashes mean nothing elsewhere.
    Two different values share a hash once in 2⁶⁴ pairs. NaN equals NaN, −0 differs from 0, null
    differs from every value, lists count with their order, structs with the order of members.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # a column without chunks
        return np.zeros(0, dtype=np.uint64)
    kind = array.type
    if pa.types.is_struct(kind):
        out = np.zeros(len(array), dtype=np.uint64)
        for child in array.flatten():
            out = _mix(out + row_hashes(child))
    elif _is_list(kind):
        out = _lists(array)
    elif pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    elif _is_text(kind):
        hashes = np.fromiter(map(hash, array.to_pylist()), np.int64, len(array))
        out = hashes.view(np.uint64)
    else:
        out = _mix(_bits(array))
    if array.null_count:
        out = np.where(pc.is_null(array).to_numpy(zero_copy_only=False), _NULL, out)
    return out


def _lists(array: pa.Array) -> Hashes:
    """Hash of each list: of its length and of its items, each with its place."""
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.where(_valid(array), array.type.list_size, 0)
    else:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(starts, lengths)
    items = _mix(row_hashes(array.flatten()) + _mix(place.astype(np.uint64)))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(items, dtype=np.uint64)])
    return _mix(sums[ends] - sums[starts] + lengths.astype(np.uint64))


def _bits(array: pa.Array) -> Hashes:
    """Numbers of any width as 64 bits."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    values = pc.fill_null(array, 0).to_numpy()
    if values.dtype.kind == "f":
        values = values.astype(np.float64).view(np.uint64)
    return np.asarray(values, dtype=np.uint64)


def _mix(values: Hashes) -> Hashes:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), after its increment."""
    out = values + _NULL
    out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(out ^ (out >> np.uint64(31)))


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_valid(array).to_numpy(zero_copy_only=False))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(kind) for test in (*tests, pa.types.is_large_binary))


BATCH = 4096
"""Rows in memory at once; beyond them, ids and 8 bytes per row and column."""
PARTS = tuple(f"{kind}/{split}" for kind in KINDS for split in SPLITS)
BESIDE = frozenset({"controls", "embeddings"})
"""Configs whose rows follow from those of the others."""
EXAMPLES = 5
"""Ids that are named per kind of change."""


@dataclass(frozen=True)
class Side:
    """What is compared of a release: per row its id, part (index into `PARTS`) and the hash of
    every column."""

    ids: pa.Array
    parts: npt.NDArray[np.int8]
    hashes: dict[str, Hashes]


def compare(old: Path, new: Path) -> Changes:
    """Compare two release directories by their metadata; see `Changes`.

    Raises ArasError for a directory that holds no release, a release without config metadata, a
    missing or damaged file, an id that occurs twice.
    """
    manifests = [read_manifest(path) for path in (old, new)]
    kinds = [
        column_types(path, manifest) for path, manifest in zip((old, new), manifests, strict=True)
    ]
    both = [
        name for name in kinds[0] if kinds[1].get(name) == kinds[0][name] and name not in DERIVED
    ]
    before, after = (
        read_side(path, manifest, both)
        for path, manifest in zip((old, new), manifests, strict=True)
    )
    streams = [_streams(manifest) for manifest in manifests]
    changes = Changes(
        old=manifests[0].version,
        new=manifests[1].version,
        rows={"old": len(before.ids), "new": len(after.ids)},
        configs_added=_missing(manifests[1].configs, manifests[0].configs),
        configs_removed=_missing(manifests[0].configs, manifests[1].configs),
        columns_added={name: kinds[1][name] for name in _missing(kinds[1], kinds[0])},
        columns_removed={name: kinds[0][name] for name in _missing(kinds[0], kinds[1])},
        columns_changed={
            name: [kinds[0][name], kinds[1][name]]
            for name in kinds[0]
            if name in kinds[1] and kinds[0][name] != kinds[1][name]
        },
        not_compared=[
            picture
            for digest, picture in BLOB_DIGESTS.items()
            if picture in both and digest not in both
        ],
        streams_added=_missing(streams[1], streams[0]),
        streams_removed=_missing(streams[0], streams[1]),
        beside=_beside(*manifests),
        texts=_texts(*manifests),
    )
    _rows(changes, before, after, lambda ids: same_ids((old, new), manifests, ids))
    return changes


def _missing(names: Iterable[str], others: Iterable[str]) -> list[str]:
    held = set(others)
    return [name for name in names if name not in held]


def _streams(manifest: Manifest) -> list[str]:
    """Names of the caption streams, as the census counts them."""
    return list(dict.fromkeys(name.split("/", 1)[1] for name in manifest.facts.census.streams))


def _beside(old: Manifest, new: Manifest) -> dict[str, dict[str, int]]:
    """Parts of the configs beside the rows whose content differs → rows before and after.

    A config that only one release has is among the configs added or removed, and not here.
    """
    none, differing = SplitFiles(rows=0), {}
    for config in sorted(BESIDE & old.configs.keys() & new.configs.keys()):
        for split in SPLITS:
            before = old.configs[config].get(split, none)
            after = new.configs[config].get(split, none)
            if before.content_sha256 != after.content_sha256:
                differing[f"{config}/{split}"] = {"old": before.rows, "new": after.rows}
    return differing


def _rows(
    changes: Changes,
    before: Side,
    after: Side,
    same_ids: Callable[[pa.Array], npt.NDArray[np.bool_]],
) -> None:
    """Join by id; fill in what was added, removed, moved and changed.

    ``same_ids`` says of which rows, given by id, both masks hold the same class ids.
    """
    place = pc.index_in(after.ids, value_set=before.ids)
    is_new = pc.is_null(place).to_numpy(zero_copy_only=False)
    kept = np.flatnonzero(~is_new)
    was = place.drop_null().to_numpy()
    gone = np.ones(len(before.ids), dtype=bool)
    gone[was] = False
    changes.rows["kept"] = len(kept)

    def note(what: str, ids: pa.Array, places: npt.NDArray[np.int64]) -> None:
        if len(places):
            changes.examples[what] = ids.take(pa.array(places[:EXAMPLES])).to_pylist()

    changes.added = _parts(after, np.flatnonzero(is_new))
    changes.removed = _parts(before, np.flatnonzero(gone))
    note("added", after.ids, np.flatnonzero(is_new))
    note("removed", before.ids, np.flatnonzero(gone))
    where = before.parts[was], after.parts[kept]
    moved = np.flatnonzero(where[0] != where[1])
    ways = Counter(zip(where[0][moved].tolist(), where[1][moved].tolist(), strict=True))
    changes.moved = {f"{PARTS[a]} → {PARTS[b]}": n for (a, b), n in sorted(ways.items())}
    note("moved", after.ids, kept[moved])
    for name in before.hashes:
        differs = np.flatnonzero(before.hashes[name][was] != after.hashes[name][kept])
        shown = BLOB_DIGESTS.get(name, name)
        if shown == "mask" and len(differs):
            same = same_ids(after.ids.take(pa.array(kept[differs])))
            if same.any():
                changes.reencoded[shown] = int(same.sum())
                note(f"{shown} encoding", after.ids, kept[differs[same]])
            differs = differs[~same]
        if len(differs):
            changes.changed[shown] = len(differs)
            note(shown, after.ids, kept[differs])


def same_ids(
    releases: Sequence[Path], manifests: Sequence[Manifest], ids: pa.Array
) -> npt.NDArray[np.bool_]:
    """(n,) whether the masks of these rows decode to the same class ids in both releases.

    Raises ArasError for a data file that is missing, and a mask that cannot be decoded.
    """
    parts = [(kind, split) for kind in KINDS for split in SPLITS]
    before, after = (
        _id_hashes([release / name for part in parts for name in manifest.split_files(*part)], ids)
        for release, manifest in zip(releases, manifests, strict=True)
    )
    return np.asarray((before == after) & (before != 0))


def _id_hashes(paths: Sequence[Path], ids: pa.Array) -> Hashes:
    """(n,) hashes of the decoded masks of the rows ``ids``; 0 where no file holds the row."""
    hashes = np.zeros(len(ids), dtype=np.uint64)
    with bar("compare masks", len(ids), "rows") as advance:
        for path in paths:
            with opened(path) as file:
                for group in range(file.num_row_groups):
                    place = pc.index_in(file.read_row_group(group, ["id"]).column(0), value_set=ids)
                    if place.null_count == len(place):
                        continue
                    masks = image_bytes(file.read_row_group(group, ["mask"]).column(0))
                    for i, mask in zip(place.to_pylist(), masks, strict=True):
                        if i is not None:
                            pixels = decode_mask(mask or b"", ids[i].as_py())
                            hashes[i] = hash((pixels.shape, pixels.tobytes())) & (2**64 - 1)
                            advance(1)
    return hashes


def _parts(side: Side, places: npt.NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(side.parts[places], minlength=len(PARTS)).tolist()
    return {part: n for part, n in zip(PARTS, counts, strict=True) if n}


def read_side(release: Path, manifest: Manifest, columns: Sequence[str]) -> Side:
    """Ids, parts and hashes of all rows, from config metadata, a batch at a time."""
    if "metadata" not in manifest.configs:
        raise ArasError(f"{release}: has no config metadata to compare by")
    splits = manifest.configs["metadata"]
    files = [(split, release / name) for split, part in splits.items() for name in part.files]
    rows = 0
    for _, path in files:
        with opened(path) as file:
            rows += file.metadata.num_rows
    asked = [name for name in columns if name not in ("id", "split")]
    side = Side(pa.array([], pa.string()), np.zeros(rows, dtype=np.int8), {})
    ids: list[pa.Array] = []
    done = 0
    with bar(f"read {manifest.version}", rows, "rows") as advance:
        for split, path in files:
            with opened(path) as file:
                held = [name for name in asked if name in file.schema_arrow.names]
                read = list(dict.fromkeys(["id", "kind", *held]))
                for batch in file.iter_batches(BATCH, columns=read):
                    here = slice(done, done + batch.num_rows)
                    ids.append(batch.column("id"))
                    kinds = batch.column("kind").to_numpy()
                    side.parts[here] = kinds * len(SPLITS) + SPLITS.index(split)
                    for name in held:
                        if name not in side.hashes:
                            side.hashes[name] = np.zeros(rows, dtype=np.uint64)
                        side.hashes[name][here] = row_hashes(batch.column(name))
                    done += batch.num_rows
                    advance(batch.num_rows)
    every = pa.chunked_array(ids, pa.string()).combine_chunks()
    if len(pc.unique(every)) != len(every):
        raise ArasError(f"{release}: an id occurs twice; `aras check {release}` names it")
    return replace(side, ids=every)


def column_types(release: Path, manifest: Manifest) -> dict[str, str]:
    """Column → its type in words, over the configs of a release, from the first file of each."""
    types: dict[str, str] = {}
    for splits in manifest.configs.values():
        for part in splits.values():
            if not part.files:
                continue
            with opened(release / part.files[0]) as file:
                schema = file.schema_arrow
            features = _features(schema)
            for field in schema:
                labels = features.get(field.name, {})
                names = labels.get("names") if isinstance(labels, dict) else None
                words = f"class: {', '.join(names)}" if names else type_text(field.type)
                types.setdefault(field.name, words)
            break
    return types


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What a file says to `datasets` of its columns; nothing where that cannot be read."""
    try:
        stored = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        return dict(stored["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}


def type_text(kind: pa.DataType) -> str:
    """A type in words that no Parquet version's names of list items change."""
    if pa.types.is_struct(kind):
        inside = ", ".join(f"{child.name} {type_text(child.type)}" for child in kind)
        return f"struct of ({inside})"
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} × {type_text(kind.value_type)}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {type_text(kind.value_type)}"
    return str(kind)


def _texts(old: Manifest, new: Manifest) -> list[str]:
    """Files other than data that one release lacks or has with other bytes."""
    before, after = (
        {file.path: file.sha256 for file in files if not file.path.endswith(".parquet")}
        for files in (old.files, new.files)
    )
    return sorted(name for name in before.keys() | after if before.get(name) != after.get(name))


def describe(changes: Changes) -> list[str]:
    """The changes as lines of a changelog, the gravest first."""
    lines = [f"config removed: `{name}`" for name in changes.configs_removed]
    lines += [f"caption stream removed: `{name}`" for name in changes.streams_removed]
    lines += [f"column removed: `{name}`" for name in changes.columns_removed]
    lines += [
        f"column `{name}` is now {after}, it was {before}"
        for name, (before, after) in changes.columns_changed.items()
    ]
    lines += [f"`{name}` changed in {_count(n)}" for name, n in changes.changed.items()]
    lines += [
        f"`{name}`: same ids, other encoding in {_count(n)}"
        for name, n in changes.reencoded.items()
    ]
    for what in ("removed", "added", "moved"):
        parts: dict[str, int] = getattr(changes, what)
        if parts:
            listed = ", ".join(f"{part} {n:,}" for part, n in parts.items())
            lines.append(f"{_count(sum(parts.values()))} {what}: {listed}")
    lines += [
        f"`{part}` has other content: {rows['new']:,} rows, it had {rows['old']:,}"
        for part, rows in changes.beside.items()
    ]
    lines += [f"config added: `{name}`" for name in changes.configs_added]
    lines += [f"caption stream added: `{name}`" for name in changes.streams_added]
    lines += [f"column added: `{name}` ({kind})" for name, kind in changes.columns_added.items()]
    lines += [
        f"`{name}` was not compared: a release has no digests of it"
        for name in changes.not_compared
    ]
    return lines or ["the rows and columns are the same"]


def _count(rows: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'}"


def entry(changes: Changes, date: str) -> str:
    """A CHANGELOG entry of the newer release, Markdown."""
    lines = [_since(changes), *describe(changes)]
    return f"## {changes.new} ({date})\n\n" + "".join(f"- {line}\n" for line in lines)


def _since(changes: Changes) -> str:
    step = "no step" if changes.step == "none" else f"a {changes.step} step"
    early = changes.step == "major" and parse_version(changes.old)[0] == 0
    return f"since {changes.old}, {step}{' (MINOR before 1.0.0)' if early else ''}"


def previous(release: Path, manifest: Manifest) -> Path | None:
    """The newest release of the same dataset with a smaller version beside ``release``."""
    own = parse_version(manifest.version)
    earlier = []
    for path in release.parent.glob(f"[!.]*/{MANIFEST}"):
        other = read_manifest(path.parent)
        if other.name == manifest.name and parse_version(other.version) < own:
            earlier.append((parse_version(other.version), path.parent))
    return max(earlier)[1] if earlier else None


def history(release: Path, manifest: Manifest) -> tuple[ChangelogEntry, ...]:
    """The changelog of a release, newest entry first.

    Its own entry lists what changed since the previous release, where that is beside it, and the
    least version that these changes require; the entries of the previous release follow.
    """
    lines = [
        f"`{config}`: "
        + ", ".join(f"{split} {part.rows:,}" for split, part in splits.items())
        + " rows"
        for config, splits in manifest.configs.items()
    ]
    lines.append(f"content digest `{manifest.content_sha256}`")
    known = {"version": manifest.version, "date": manifest.date}
    before = previous(release, manifest)
    if before is None:
        return (ChangelogEntry(**known, lines=tuple(lines)),)
    older = read_manifest(before)
    try:
        changes = compare(before, release)
        lines = [_since(changes), *describe(changes), *lines]
        known["asks"] = changes.next_version
    except ArasError:
        lines.insert(0, f"not compared with {older.version}, whose files cannot be read")
    return (ChangelogEntry(**known, lines=tuple(lines)), *(older.history or ()))
