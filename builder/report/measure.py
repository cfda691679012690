"""The figures of a report, measured on a release and, for features, on the store behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.manifest import EncoderRecord, read_manifest
from builder.core.store import Store
from builder.land.columns import KINDS
from builder.models.encoders import INCEPTION_DIGEST
from builder.release.read import opened
from builder.report import streams as image_figures
from builder.report.distances import distances, features_of, has_column
from builder.report.streams import Stream, figures, gather, sample

WORST = 6
"""Captions shown at either end of grounding."""


def measure(release: Path, store: Store | None) -> dict[str, Any]:
    """Every figure of the report as one JSON object.

    ``store`` is where features of the images are; without it the distances between real and
    synthetic images, and the image's side of structural leakage, are missing. Raises ArasError
    when ``release`` is none, or when the store is of other rows.
    """
    manifest = read_manifest(release)
    streams, images = gather(release)
    census = manifest.facts.census
    found = spaces(store, manifest.facts.encoders)
    features = None
    if store is not None and found:
        # An encoder of its own is the fairer one: the segmenter learned the very masks.
        column = next(reversed(found))
        ids = {one.ids[i] for one in streams.values() for i in sample(one)}
        features = features_of(store, ids, column)
    return {
        "kind": "report",
        "name": manifest.name,
        "title": manifest.title,
        "version": manifest.version,
        "rows": census.rows,
        "pixels": census.pixels,
        "left_out": census.left_out,
        "flags": census.flags,
        "duplicates": {
            "duplicates": census.duplicates.as_json(),
            "near_duplicates": census.near_duplicates.as_json(),
        },
        "streams": {name: figures(one, features) for name, one in streams.items()},
        "leakage_features": None if features is None else list(found.values())[-1]["name"],
        "images": image_figures.distributions(images),
        "distances": [
            {**told, **distances(store, column)} for column, told in found.items() if store
        ],
        "examples": {
            "captions": examples(streams),
            "images": image_figures.ends(images),
            "near_duplicates": image_figures.repeated(images),
        },
    }


def spaces(store: Store | None, encoders: Mapping[str, EncoderRecord]) -> dict[str, dict[str, str]]:
    """Working column of features → what its space is and what a Fréchet distance in it is called.

    Only in the features of the standard Inception network, known by its digest, is that FID.
    """
    told: dict[str, dict[str, str]] = {}
    if store is not None and has_column(store, "features"):
        told["features"] = {"name": "segmenter's encoder", "distance": "Fréchet distance"}
    if store is not None and "features" in encoders and has_column(store, "embedding"):
        encoder = encoders["features"]
        distance = "FID" if encoder.digest == INCEPTION_DIGEST else "Fréchet distance"
        told["embedding"] = {"name": encoder.model, "distance": distance, **encoder.as_json()}
    return told


def examples(streams: dict[str, Stream]) -> dict[str, list[dict[str, Any]]]:
    """Captions with the lowest and the highest grounding, each stream in its turn."""
    told: dict[str, list[dict[str, Any]]] = {}
    for end, sign in (("lowest", 1), ("highest", -1)):
        turns: list[tuple[int, dict[str, Any]]] = []
        for name, one in streams.items():
            scored = [
                (sign * value, one.ids[i], i)
                for i, value in enumerate(one.scores["grounding"])
                if value is not None
            ]
            for turn, (value, row, i) in enumerate(sorted(scored)[:WORST]):
                shown = {"stream": name, "id": row, "grounding": sign * value}
                turns.append((turn, {**shown, "text": one.texts[i]}))
        turns.sort(key=lambda item: item[0])  # streams keep their order
        told[end] = [shown for _, shown in turns[:WORST]]
    return told


def shown_ids(told: dict[str, Any]) -> list[str]:
    """Ids of all tiles that a report shows."""
    given = told["examples"]
    found = {one["id"] for some in given["captions"].values() for one in some}
    found |= {one["id"] for e in given["images"].values() for some in e.values() for one in some}
    return sorted(found | {one for pair in given["near_duplicates"] for one in pair})


def images_of(release: Path, ids: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
    """(image, mask) PNG bytes of some rows, reading one row group at a time."""
    wanted, found = set(ids), {}
    for config in KINDS:
        for part in read_manifest(release).configs.get(config, {}).values():
            for name in part.files:
                with opened(release / name) as file:
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
