"""One model's retrieval figures under the protocols S, D and C, and two models compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.bench import graded, intervals, metrics
from builder.bench.graded import Lists
from builder.bench.ranks import Array, Floats, Ints, Positives, Ranks, rank
from builder.landcover import CLASSES

Pair = tuple[Ranks, Ranks]
"""Ranks of (text→image, image→text)."""

GALLERIES = (1_000, 5_000, 10_000)
PRESENT = 0.01
"""Share of an image's pixels from which a class counts as present."""

_COLUMNS = [(way, f"R@{k}") for way in ("t2i", "i2t") for k in metrics.KS]


@dataclass(frozen=True)
class About:
    """What is known beside the embeddings; each part unlocks the figures that need it."""

    captions: Sequence[str] | None = None
    """(M,) texts: protocol D and the ceiling."""
    groups: npt.ArrayLike | None = None
    """(M,) caption group numbers in place of equal captions: frozen near-duplicate clusters."""
    compositions: npt.ArrayLike | None = None
    """(N, K) fractions of the land-cover classes: protocol C and figures by class."""
    classes: Sequence[str] = CLASSES
    blocks: npt.ArrayLike | None = None
    """(N,) spatial block of each image: intervals resample blocks instead of images."""


def evaluate(
    images: Array,
    texts: Array,
    owner: npt.ArrayLike,
    about: About | None = None,
    *,
    ranks: Pair | None = None,
    resamples: int = intervals.RESAMPLES,
    queries: int = 5_000,
    seed: int = 0,
    device: str = "cpu",
    advance: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Every figure that the data at hand allow, as one JSON-ready dictionary, in per cent.

    ``images`` (N, d) and ``texts`` (M, d) hold unit vectors, ``owner`` (M,) the image row of each
    text. Keys: "S", the strict protocol (a text's own image is its only positive); "D", where
    equal captions are one caption that belongs to all their images; "C", where images of near-
    equal composition (overlap ≥ 0.95) are positives and nDCG@10 grades the rest; and "power".
    R@K and MedR of S and D use every query; list metrics (mAP@R, nDCG@10) and C use at most
    ``queries`` per direction, drawn with ``seed``. ``ranks`` are the strict ranks where they were
    counted elsewhere, say by shards. Intervals are 95 % percentile bootstrap over images or
    blocks.
    """
    about = about or About()
    own = np.asarray(owner, dtype=np.int64)
    cluster, clusters = intervals.codes(
        np.arange(len(images)) if about.blocks is None else about.blocks
    )
    draw = np.random.default_rng(seed)
    some_texts = _sample(len(texts), queries, draw)
    some_images = _sample(len(images), queries, draw)

    def list_metrics(pair: tuple[Lists, Lists], name: str) -> dict[str, float]:
        return {
            way: 100 * float(getattr(one, name).mean())
            for way, one in zip(("t2i", "i2t"), pair, strict=True)
        }

    def both_ways(gallery: Array, positives: Positives, asked: Ints) -> tuple[Lists, Lists]:
        as_text = graded.by_pairs(positives, "texts", len(images))
        as_image = graded.by_pairs(positives, "images", len(gallery))
        return (
            graded.lists(gallery, images, as_text, asked, seed=seed),
            graded.lists(images, gallery, as_image, some_images, seed=seed),
        )

    result: dict[str, Any] = {
        "images": len(images),
        "texts": len(texts),
        "dimension": int(images.shape[1]),
        "clusters": {"unit": "image" if about.blocks is None else "block", "number": clusters},
        "list_queries": {"t2i": len(some_texts), "i2t": len(some_images)},
        "seed": seed,
        "resamples": resamples,
    }

    positives = Positives.owned(own)
    strict = ranks or rank(images, texts, positives, device, advance)
    result["S"] = {
        **metrics.summary(*strict),
        "intervals": spans(strict, own, about.blocks, resamples, seed),
        "mAP@R": list_metrics(both_ways(texts, positives, some_texts), "average_precision"),
        "gallery": {
            way: metrics.gallery_curve(one, [size for size in (*GALLERIES, limit) if size <= limit])
            for way, one, limit in (
                ("t2i", strict[0], len(images)),
                ("i2t", strict[1], 1 + int(strict[1].negatives.min())),
            )
        },
    }

    if about.captions is not None or about.groups is not None:
        group, number = intervals.codes(
            metrics.groups_of(about.captions or ()) if about.groups is None else about.groups
        )
        most = metrics.ceiling(own, group)
        result["S"]["ceiling"] = most
        result["S"]["of_ceiling"] = {
            key: 100 * result["S"]["t2i"][key] / value for key, value in most.items()
        }
        # The first copy stands for its group; a merged caption belongs to all their images.
        first = np.full(number, len(texts))
        np.minimum.at(first, group, np.arange(len(texts)))
        merged, gallery = Positives.of(own, group), texts[first]
        by_group, i2t = rank(images, gallery, merged, device)
        t2i = by_group.take(group)  # every copy is asked, as in S
        result["D"] = {
            "captions": number,
            **metrics.summary(t2i, i2t),
            "intervals": spans((t2i, i2t), own, about.blocks, resamples, seed),
            "mAP@R": list_metrics(
                both_ways(gallery, merged, group[some_texts]), "average_precision"
            ),
        }

    if about.compositions is not None:
        share = np.ascontiguousarray(about.compositions, dtype=np.float32)
        base = graded.chance(share)
        options: dict[str, Any] = {"positive": graded.POSITIVE, "base": base, "seed": seed}
        scenes = (
            graded.lists(
                texts, images, graded.by_composition(share[own], share), some_texts, **options
            ),
            graded.lists(
                images, texts, graded.by_composition(share, share[own]), some_images, **options
            ),
        )
        pair = (scenes[0].ranks, scenes[1].ranks)
        result["C"] = {
            "chance_overlap": base,
            **metrics.summary(*pair),
            "intervals": _intervals(
                pair, cluster[own[some_texts]], cluster[some_images], clusters, resamples, seed
            ),
            "mAP@R": list_metrics(scenes, "average_precision"),
            "nDCG@10": list_metrics(scenes, "ndcg"),
        }
        result["S"]["classes"] = _classes(strict, own, share, about.classes)

    result["power"] = power(len(images))
    return result


def power(queries: int, discordance: float = 0.10) -> dict[str, Any]:
    """What difference in R@K a comparison on so many independent queries can find.

    Images of one spatial block are not independent: the intervals of `spans` and `compare` by
    block are the ones to trust there, and this figure is the best case.
    """
    points = intervals.detectable(queries, discordance)
    return {
        "queries": queries,
        "discordance": discordance,
        "detectable_points": points,
        "statement": (
            f"With {queries} independent queries, of which two models judge "
            f"{100 * discordance:.0f} % differently, a difference of {points:.2f} percentage "
            "points is found with 80 % power at the 5 % level; smaller ones may go unseen."
        ),
    }


def compare(
    ours: Pair,
    theirs: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Differences (ours − theirs) of the six recalls and mR, in percentage points.

    Each has a 95 % paired cluster bootstrap interval, a sign-flip p-value and that p-value after
    Holm's correction over the seven figures. Both models must have answered the same queries.
    """
    own = np.asarray(owner, dtype=np.int64)
    images = len(ours[1].above)
    cluster, clusters = intervals.codes(np.arange(images) if blocks is None else blocks)
    mine, others = (_sums(p, cluster[own], cluster, clusters) for p in (ours, theirs))
    points, spans = intervals.paired(mine, others, _figures, resamples, seed)
    # A cluster's share of each figure's difference; that of mR is the mean of the six.
    share = 100 * (mine - others)[:, [0, 1, 2, 4, 5, 6]]
    share = share / np.repeat(mine[:, [3, 7]].sum(0), 3)
    share = np.concatenate([share, share.mean(1, keepdims=True)], axis=1)
    p = [intervals.sign_flip(column, resamples, seed) for column in share.T]
    names = [f"{way} {name}" for way, name in _COLUMNS] + ["mR"]
    return {
        name: {
            "difference": float(points[n]),
            "interval": spans[n],
            "p": p[n],
            "p_holm": float(adjusted),
        }
        for n, (name, adjusted) in enumerate(zip(names, intervals.holm(p), strict=True))
    }


def spans(
    pair: Pair,
    owner: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """95 % percentile intervals of the six recalls and mR, over images or spatial blocks."""
    images = len(pair[1].above)
    cluster, clusters = intervals.codes(np.arange(images) if blocks is None else blocks)
    of_text = cluster[np.asarray(owner, dtype=np.int64)]
    return _intervals(pair, of_text, cluster, clusters, resamples, seed)


def _sample(size: int, most: int, rng: np.random.Generator) -> Ints:
    """All of 0 … size − 1, or ``most`` of them, in order."""
    if size <= most:
        return np.arange(size)
    return np.sort(rng.choice(size, most, replace=False))


def _sums(pair: Pair, of_text: Ints, of_image: Ints, clusters: int) -> Floats:
    """(C, 8): per cluster the hits at 1, 5, 10 and queries of t2i, then of i2t."""
    parts = [
        intervals.cluster_sums(
            np.stack([metrics.credit(one, k) for k in metrics.KS], axis=1), where, clusters
        )
        for one, where in zip(pair, (of_text, of_image), strict=True)
    ]
    return np.concatenate(parts, axis=1)


def _figures(totals: Floats) -> Floats:
    """Totals (B, 8) as in `_sums` → the six recalls and mR, (B, 7) in per cent."""
    t2i = 100 * totals[:, 0:3] / np.maximum(totals[:, 3:4], 1)
    i2t = 100 * totals[:, 4:7] / np.maximum(totals[:, 7:8], 1)
    six = np.concatenate([t2i, i2t], axis=1)
    return np.concatenate([six, six.mean(1, keepdims=True)], axis=1)


def _intervals(
    pair: Pair, of_text: Ints, of_image: Ints, clusters: int, resamples: int, seed: int
) -> dict[str, Any]:
    sums = _sums(pair, of_text, of_image, clusters)
    draws = _figures(intervals.resampled(sums, resamples, seed))
    spans: dict[str, Any] = {"t2i": {}, "i2t": {}}
    for (way, name), column in zip(_COLUMNS, draws.T, strict=False):
        spans[way][name] = intervals.percentile(column)
    return {**spans, "mR": intervals.percentile(draws[:, 6])}


def _classes(
    pair: Pair, own: Ints, share: npt.NDArray[np.float32], names: Sequence[str]
) -> dict[str, Any]:
    """R@K by dominant and by present class, and over the tail, for both directions."""
    dominant = share.argmax(1)
    rare = metrics.tail(dominant, len(names))
    result: dict[str, Any] = {"tail": {"classes": [names[c] for c in rare]}}
    for way, one, of_query in (("t2i", pair[0], own), ("i2t", pair[1], np.arange(len(share)))):
        credits = {f"R@{k}": metrics.credit(one, k) for k in metrics.KS}
        is_dominant = np.eye(len(names), dtype=bool)[dominant[of_query]]
        table = metrics.by_class(credits, is_dominant, names)
        result[way] = {
            "dominant": table,
            "present": metrics.by_class(credits, share[of_query] >= PRESENT, names),
        }
        if rare:
            result["tail"][way] = {
                key: float(np.mean([table[names[c]][key] for c in rare])) for key in credits
            }
    return result
