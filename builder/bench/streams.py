"""Figures of one caption stream, or of all together: what a result states and a check repeats."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from builder.bench import protocol
from builder.bench.gallery import Gallery, Texts
from builder.bench.models import Settings
from builder.bench.protocol import About
from builder.bench.ranks import Array, Ints, Pair, Positives, rank
from builder.files import digest_of
from builder.release.embeddings import TEXT

ALL = "all"
"""Name of the figures over all streams together, several captions an image."""


def wanted(rows: Gallery, names: Sequence[str], proxy: str | None = None) -> list[str]:
    """``names``, and `ALL` where they are several and all that the release has but ``proxy``."""
    every = {name for name in rows.streams if name != proxy}
    return [*names, ALL] if len(names) > 1 and every == set(names) else list(names)


def members(asked: Texts, names: Sequence[str]) -> Iterator[tuple[str, Ints]]:
    """Each stream of ``names`` that has texts, and their places in ``asked``, in order."""
    of_text = np.array([one.rsplit("#", 1)[1] for one in asked.ids])
    for name in names:
        mine = np.flatnonzero((of_text == name) | (name == ALL))
        if len(mine):
            yield name, mine


def figures(
    rows: Gallery, images: Array, texts: Array, asked: Texts, mine: Ints, settings: Settings
) -> tuple[dict[str, Any], Pair, Ints]:
    """Figures of the texts ``mine``, their strict ranks, and the images that have one of them.

    ``images`` is (N, d) of ``rows`` and ``texts`` (M, d) of ``asked``.
    """
    keep = np.unique(asked.owner[mine])
    owner = owner_of(asked, mine, keep)
    some = rows.take(keep)
    ours, theirs = some_rows(images, keep), some_rows(texts, mine)
    pair = rank(ours, theirs, Positives.owned(owner), settings.device)
    strings = [asked.texts[i] for i in mine]
    near = _near(rows, asked, mine)
    about = About(captions=strings, near=near, compositions=some.shares, blocks=some.blocks)
    found = protocol.evaluate(
        ours,
        theirs,
        owner,
        about,
        ranks=pair,
        resamples=settings.resamples,
        queries=settings.queries,
        seed=settings.seed,
        device=settings.device,
    )
    digest = digest_of([[asked.ids[i], asked.texts[i]] for i in mine])
    left_out = len(rows) - len(keep)
    return {"texts_sha256": digest, "images_without_caption": left_out, **found}, pair, keep


def owner_of(asked: Texts, mine: Ints, keep: Ints) -> Ints:
    """Place among the images ``keep`` of the owner of each text ``mine``."""
    return np.searchsorted(keep, asked.owner[mine]).astype(np.int64)


def some_rows(array: Array, index: Ints) -> Array:
    """Rows ``index`` (rising) of an array or memory map; the array itself where they are all."""
    return array if len(index) == array.shape[0] else array[index]


def _near(rows: Gallery, asked: Texts, mine: Ints) -> list[str] | None:
    """Cluster of each text ``mine``, its own id where it is alone; None where all are."""
    found, alone = [], True
    for i in mine:
        name = asked.ids[i].rsplit("#", 1)[1]
        cluster = rows.near[name][asked.owner[i]] if name in rows.near else None
        alone &= cluster is None
        found.append(asked.ids[i] if cluster is None else TEXT.format(cluster, name))
    return None if alone else found
