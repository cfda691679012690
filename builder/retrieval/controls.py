"""Control captions in the benchmark: what a model scores where the words are known to be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.land.columns import CONTROLS
from builder.release.configs import CAPTION_ID
from builder.release.rows import opened
from builder.retrieval import intervals, metrics, protocol
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.ranks import Array, Ints, Positives, rank
from builder.retrieval.result import Control

FEWEST = 2
"""Fewer images of a control than this rank nothing."""


@dataclass(frozen=True)
class ControlTexts:
    """Texts of a control of a stream, and the place of each own caption among the texts asked."""

    stream: str
    control: str
    own: Ints
    texts: list[str]


def load(rows: Gallery, asked: Texts) -> list[ControlTexts]:
    """Control captions of the rows of the gallery, by stream and control.

    Texts that equal the own caption control nothing and are left out. Raises ArasError for a
    release without any for these rows.
    """
    place = {name: i for i, name in enumerate(asked.ids)}
    texts: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in read_manifest(rows.release).split_files("controls", rows.split):
        with opened(rows.release / name) as file:
            for row in file.read().to_pylist():
                own = place.get(CAPTION_ID.format(row["id"], row["stream"]))
                if own is not None and row["text"] not in (None, asked.texts[own]):
                    key = (row["stream"], row["control"])
                    texts.setdefault(key, []).append((own, row["text"]))
    if not texts:
        raise ArasError(
            f"{rows.release}: no control captions of the rows of {rows.split}; package it with "
            "rows above 0 in [controls], or leave --controls out"
        )
    order = {name: i for i, name in enumerate(CONTROLS)}
    return [
        ControlTexts(
            stream,
            control,
            np.array([own for own, _ in pairs]),
            [text for _, text in pairs],
        )
        for (stream, control), pairs in sorted(
            ((key, sorted(pairs)) for key, pairs in texts.items() if len(pairs) >= FEWEST),
            key=lambda item: (item[0][0], order.get(item[0][1], len(order))),
        )
    ]


def figures(
    controls: Sequence[ControlTexts],
    asked: Texts,
    images: Array,
    vectors: Array,
    first: int,
    device: str,
    blocks: Sequence[str] | None = None,
) -> dict[str, dict[str, Control]]:
    """Stream → control → strict figures of its texts beside those of the own captions, both among
    the same images. ``vectors`` are of all texts; those of the controls begin at ``first``. The
    change is tested over ``blocks`` (N,) of the images, or over images."""
    result: dict[str, dict[str, Control]] = {}
    for texts in controls:
        n = len(texts.texts)
        gallery = protocol.some_rows(images, asked.owner[texts.own])
        owner = np.arange(n)
        pairs = [
            rank(gallery, vectors[at], Positives.owned(owner), device)
            for at in (texts.own, first + owner)
        ]
        first += n
        own, control = (metrics.summary(*pair) for pair in pairs)
        places = None if blocks is None else [blocks[row] for row in asked.owner[texts.own]]
        change = intervals.compare(pairs[1], pairs[0], owner, places)["mR"]
        result.setdefault(texts.stream, {})[texts.control] = Control(
            images=n,
            own=own,
            scores=control,
            change_of_mR=control.mR - own.mR,
            interval=change.interval,
            p=change.p,
        )
    return result
