"""The figures of a report, measured on a release and, for features, on the store behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.errors import ArasError
from builder.landcover import CLASSES
from builder.pictures import per_class
from builder.quality import sets
from builder.release.layout import read_manifest
from builder.release.read import metadata
from builder.schema import KINDS, SPLITS
from builder.scores.leakage import source_leak, structural_leakage
from builder.scores.near_duplicates import NearDuplicates
from builder.scores.nulls import null_grounding
from builder.scores.redundancy import Redundancy
from builder.seeds import generator, seed
from builder.stage import shards
from builder.stages.segment import matrix
from builder.store import Store

SAMPLE = 5_000
"""Most captions of a stream that the leakage models and nulls are fitted on, by hash of the id."""
BINS = np.linspace(0, 1, 21)
WORST = 6
"""Examples shown at either end of a scale."""

SCORES = ("grounding", "accuracy", "coverage", "chair_i", "f1", "leak")


@dataclass
class Stream:
    """Captions of one stream, gathered over all rows; flat lists of equal length."""

    ids: list[str] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    dominant: list[int] = field(default_factory=list)
    shares: list[npt.NDArray[np.float64]] = field(default_factory=list)
    scores: dict[str, list[float | None]] = field(default_factory=dict)


def measure(release: Path, store: Store | None) -> dict[str, Any]:
    """Every figure of the report as one JSON object.

    ``store`` is where `Segment` left features; without it the distances between real and
    synthetic images are missing. Raises ArasError when ``release`` is none.
    """
    manifest = read_manifest(release)
    streams, rows = _gather(release)
    census = manifest["facts"]["census"]
    return {
        "kind": "report",
        "name": manifest["name"],
        "title": manifest["title"],
        "version": manifest["version"],
        "rows": census["rows"],
        "pixels": census["pixels"],
        "streams": {name: _stream(name, one) for name, one in streams.items()},
        "images": _distributions(rows),
        "distances": None if store is None else distances(store),
        "examples": _examples(streams),
    }


def _gather(release: Path) -> tuple[dict[str, Stream], dict[str, list[Any]]]:
    streams: dict[str, Stream] = {}
    plain = ("kind", "mask_agreement", "saturated", "nearest_real_ratio")
    rows: dict[str, list[Any]] = {name: [] for name in (*plain, "split")}
    columns = ("id", "dominant", "pixels", "captions", "caption_scores", *plain)
    for split, table in metadata(release, columns):
        counts = per_class(table.column("pixels")).astype(float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for name in plain:
            rows[name] += table.column(name).to_pylist()
        rows["split"] += [split] * table.num_rows
        for i, row in enumerate(table.select(columns[:2] + columns[3:6]).to_pylist()):
            for caption, score in zip(row["captions"], row["caption_scores"], strict=True):
                one = streams.setdefault(caption["stream"], Stream())
                one.ids.append(row["id"])
                one.texts.append(caption["text"])
                one.kinds.append(row["kind"])
                one.dominant.append(row["dominant"])
                one.shares.append(shares[i])
                for name in SCORES:
                    one.scores.setdefault(name, []).append(score[name])
    return streams, rows


def _stream(name: str, one: Stream) -> dict[str, Any]:
    repeats, near = Redundancy(), NearDuplicates()
    texts = pa.array(one.texts, pa.string())
    repeats.add(texts)
    near.add(texts)
    clusters = near.clusters()
    counted = [c for c, text in zip(clusters.tolist(), one.texts, strict=True) if text]
    sample = _sample(name, one)
    leak = source_leak(
        [one.texts[i] or "" for i in sample], np.array([one.kinds[i] for i in sample]) == 1
    )
    return {
        "captions": sum(text is not None for text in one.texts),
        "failed": sum(text is None for text in one.texts),
        "redundancy": repeats.summary(),
        "near_duplicates": 1 - len(set(counted)) / len(counted) if counted else None,
        "means": {kind: _means(one, k) for k, kind in enumerate(KINDS)},
        "grounding_by_class": _by_class(one),
        "grounding_histogram": _histogram(one.scores["grounding"]),
        "null_grounding": null_grounding(
            [one.texts[i] for i in sample], np.array([one.shares[i] for i in sample])
        ),
        "structural_leakage": structural_leakage(
            [one.texts[i] or "" for i in sample],
            np.array([one.shares[i] for i in sample]),
            groups=[one.ids[i] for i in sample],
        ),
        "source_leak": leak,
    }


def _sample(name: str, one: Stream) -> list[int]:
    """Positions of at most `SAMPLE` captions with a text, by hash of stream and id."""
    there = [i for i, text in enumerate(one.texts) if text]
    return sorted(sorted(there, key=lambda i: seed(name, one.ids[i]))[:SAMPLE])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def _means(one: Stream, kind: int) -> dict[str, float | None]:
    places = [i for i, k in enumerate(one.kinds) if k == kind]
    return {name: _mean([values[i] for i in places]) for name, values in one.scores.items()}


def _by_class(one: Stream) -> dict[str, float | None]:
    values = one.scores["grounding"]
    return {
        name: _mean([v for v, d in zip(values, one.dominant, strict=True) if d == k])
        for k, name in enumerate(CLASSES)
    }


def _histogram(values: Sequence[float | None]) -> list[int]:
    known = [value for value in values if value is not None]
    return [int(n) for n in np.histogram(np.clip(known, 0, 1), BINS)[0]]


def _distributions(rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Histograms of the image scores: real test tiles beside synthetic ones."""
    kinds, splits = np.array(rows["kind"]), np.array(rows["split"])
    parts = {"real test": (kinds == 0) & (splits == "test"), "synthetic": kinds == 1}
    out: dict[str, Any] = {}
    for name in ("mask_agreement", "saturated", "nearest_real_ratio"):
        values = np.array(rows[name], dtype=float)
        found = {part: values[mask][~np.isnan(values[mask])] for part, mask in parts.items()}
        out[name] = {
            part: {"mean": round(float(v.mean()), 4), "histogram": _histogram(v.tolist())}
            for part, v in found.items()
            if len(v)
        }
    return out


def _examples(streams: dict[str, Stream]) -> dict[str, list[dict[str, Any]]]:
    """The captions with the highest and the lowest grounding over all streams."""
    every = [
        (value, name, one.ids[i], one.texts[i])
        for name, one in streams.items()
        for i, value in enumerate(one.scores["grounding"])
        if value is not None
    ]
    every.sort(key=lambda item: (item[0], item[1], item[2]))

    def told(items: list[Any]) -> list[dict[str, Any]]:
        names = ("grounding", "stream", "id", "text")
        return [dict(zip(names, item, strict=True)) for item in items]

    return {"lowest": told(every[:WORST]), "highest": told(every[::-1][:WORST])}


def distances(store: Store, seed_: int = 0) -> dict[str, Any]:
    """Real test tiles against synthetic ones and, as the floor, against real train tiles.

    In the segmenter's features, so not comparable with FID proper, and at equal numbers of
    images. Sides are drawn by a seeded permutation. Raises ArasError when there are no features.
    """
    parts: dict[str, list[npt.NDArray[np.float32]]] = {"test": [], "train": [], "synthetic": []}
    for shard in shards(store, KINDS):
        table = store.read(shard, ("split", "features"))
        features = matrix(table.column("features"))
        splits = np.array([-1 if s is None else s for s in table.column("split").to_pylist()])
        if not len(splits):
            continue
        if shard.startswith("synthetic"):
            parts["synthetic"].append(features)
        else:
            for name in ("test", "train"):
                parts[name].append(features[splits == SPLITS.index(name)])
    found = {name: np.concatenate(some) for name, some in parts.items() if some}
    sizes = {name: len(values) for name, values in found.items()}
    n = min(sizes.values(), default=0)
    if len(sizes) < 3 or n < 16:
        return {"images": sizes, "note": "too few images on one side: at least 16 are needed"}
    rng = generator(seed_, "report")
    equal = {name: values[rng.permutation(len(values))[:n]] for name, values in found.items()}
    out: dict[str, Any] = {"images": sizes, "compared": n, "features": "segmenter's encoder"}
    for name in ("train", "synthetic"):
        a, b = equal["test"], equal[name]
        value, error = sets.frechet_at_infinity(a, b, rng)
        mean, low, high = sets.kid(a, b, rng, size=max(2, n // 2))
        out[name] = {
            "frechet": round(sets.frechet(sets.Moments.of(a), sets.Moments.of(b)), 4),
            "frechet_at_infinity": [round(value, 4), round(error, 4)],
            "kid_x1000": [round(mean, 4), round(low, 4), round(high, 4)],
            **{k: round(v, 4) for k, v in sets.precision_recall(a, b, k=min(5, n - 1)).items()},
        }
    return out


def images_of(release: Path, ids: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
    """(image, mask) PNG bytes of some rows, reading one row group at a time."""
    import pyarrow.parquet as pq

    wanted, found = set(ids), {}
    for config in KINDS:
        for entry in read_manifest(release)["configs"].get(config, {}).values():
            for name in entry["files"]:
                with pq.ParquetFile(release / name) as file:
                    for group in range(file.num_row_groups):
                        names = file.read_row_group(group, ["id"]).column("id").to_pylist()
                        if not wanted & set(names):
                            continue
                        rows = file.read_row_group(group, ["id", "image", "mask"]).to_pylist()
                        for row in rows:
                            if row["id"] in wanted:
                                found[row["id"]] = (row["image"]["bytes"], row["mask"]["bytes"])
    if missing := wanted - found.keys():
        raise ArasError(f"{release}: has no pictures of {', '.join(sorted(missing))}")
    return found
