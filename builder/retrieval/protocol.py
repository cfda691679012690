"""One model's retrieval figures under the protocols S, D and C."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builder.core.files import digest_of
from builder.core.seeds import SEED
from builder.land.classes import CLASSES
from builder.retrieval import intervals, metrics
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.intervals import over_clusters, power, spans
from builder.retrieval.metrics import Lists, by_composition, by_pairs, lists
from builder.retrieval.ranks import (
    TOLERANCE,
    Array,
    Ints,
    Pair,
    Positives,
    best_positive,
    block,
    is_sparse,
    product,
    rank,
)
from builder.retrieval.result import (
    WAYS,
    Classes,
    ClassRecalls,
    Clusters,
    Directions,
    Evaluation,
    Intervals,
    Scores,
    Tail,
)
from builder.scores.relevance import POSITIVE, chance, groups_of, sample

GALLERIES = (1_000, 5_000, 10_000)
_QUERIES = 1 << 10
PRESENT = 0.01
"""Share of an image's pixels from which a class counts as present."""


@dataclass(frozen=True)
class Settings:
    """What figures depend on beside model and rows; ``cache`` is the folder of vectors."""

    seed: int = SEED
    resamples: int = intervals.RESAMPLES
    queries: int = 5_000
    batch: int = 64
    """Pictures or texts that a model embeds at once."""
    device: str = "cpu"
    cache: Path | None = None


@dataclass(frozen=True)
class About:
    """What is known beside the embeddings; each part unlocks the figures that need it."""

    captions: Sequence[str] | None = None
    """(M,) texts: protocol D and the ceiling."""
    near: npt.ArrayLike | None = None
    """(M,) names of frozen near-duplicate clusters: protocol D~, which merges these too."""
    compositions: npt.ArrayLike | None = None
    """(N, K) fractions of the land-cover classes: protocol C and figures by class."""
    classes: Sequence[str] = CLASSES
    blocks: npt.ArrayLike | None = None
    """(N,) spatial block of each image: intervals resample blocks instead of images."""
    distractors: Array | None = None
    """(E, d) images in the gallery that no text is of."""


def evaluate(
    images: Array,
    texts: Array,
    owner: npt.ArrayLike,
    about: About | None = None,
    *,
    ranks: Pair | None = None,
    resamples: int = intervals.RESAMPLES,
    queries: int = Settings.queries,
    seed: int = Settings.seed,
    device: str = Settings.device,
    advance: Callable[[float], None] | None = None,
) -> Evaluation:
    """Every figure that the given data allow, in per cent.

    ``images`` (N, d) and ``texts`` (M, d) hold unit vectors, ``owner`` (M,) the image row of each
    text. Fields: S, the strict protocol (a text's own image is its only positive); D, where
    equal captions are one caption that belongs to all their images; D_near, where near-duplicates
    are one caption as well; C, where images of nearly equal composition (overlap ≥ 0.95) are
    positives and nDCG@10 grades the rest; and power.
    R@K and MedR of S and D use every query; list metrics (mAP@R, nDCG@10) and C use at most
    ``queries`` per direction, drawn with ``seed``. ``ranks`` are the strict ranks where they were
    counted elsewhere, say by shards. Intervals are 95 % bootstrap over images or blocks, widened as
    `intervals.over_clusters` says; there are none under five of them.
    """
    about = about or About()
    own = np.asarray(owner, dtype=np.int64)
    draw = np.random.default_rng(seed)
    asked = Asked(sample(texts.shape[0], queries, draw), sample(images.shape[0], queries, draw))
    owned = Positives.owned(own)
    strict = ranks or among(
        rank(images, texts, owned, device, advance), images, texts, owned, about, device
    )
    every = images if about.distractors is None else _stacked(images, about.distractors)

    def described(pair: Pair, gallery: int) -> Scores:
        scores = _with(metrics.summary(*pair), spans(pair, own, about.blocks, resamples, seed))
        return scores.plus(chance=metrics.chance(*pair, every.shape[0], gallery))

    cluster, clusters = intervals.codes(
        np.arange(images.shape[0]) if about.blocks is None else about.blocks
    )
    scores = described(strict, texts.shape[0]).plus(
        average_precision=_means(lists_of(images, texts, owned, asked, every), "average_precision"),
        gallery=_galleries(strict, every.shape[0]),
    )
    merged: dict[str, Scores] = {}
    equal = None if about.captions is None else groups_of(about.captions)
    if equal is not None:
        most = metrics.ceiling(own, equal)
        reached = {key: 100 * scores.t2i[key] / value for key, value in most.items()}
        scores = scores.plus(ceiling=most, of_ceiling=reached)
    near = None if about.near is None else metrics.joined(about.near, equal)
    for protocol, groups in (("D", equal), ("D_near", near)):
        if groups is not None:
            pair, positives, gallery, group = merge(images, texts, own, groups, device, about)
            grouped = replace(asked, texts=group[asked.texts])
            precision = _means(
                lists_of(images, gallery, positives, grouped, every), "average_precision"
            )
            merged[protocol] = described(pair, gallery.shape[0]).plus(
                captions=gallery.shape[0], average_precision=precision
            )
    if about.compositions is not None:
        share = np.ascontiguousarray(about.compositions, dtype=np.float32)
        scenes, base = by_scene(images, texts, own, share, asked)
        pair = (scenes[0].ranks, scenes[1].ranks)
        of_text, of_image = cluster[own[asked.texts]], cluster[asked.images]
        spread = over_clusters(pair, of_text, of_image, clusters, resamples, seed)
        merged["C"] = _with(metrics.summary(*pair), spread).plus(
            chance=metrics.chance(*pair, every.shape[0], texts.shape[0]),
            chance_overlap=base,
            average_precision=_means(scenes, "average_precision"),
            ndcg=_means(scenes, "ndcg"),
            graded=_means(scenes, "graded"),
        )
        scores = scores.plus(classes=_classes(strict, own, share, about.classes))
    return Evaluation(
        images=images.shape[0],
        texts=texts.shape[0],
        dimension=int(images.shape[1]),
        clusters=Clusters(unit="image" if about.blocks is None else "block", number=clusters),
        list_queries=Directions(t2i=len(asked.texts), i2t=len(asked.images)),
        seed=seed,
        resamples=resamples,
        S=scores,
        power=power(images.shape[0]),
    ).plus(**merged)


@dataclass(frozen=True)
class Asked:
    """Queries of list metrics: places among texts and images."""

    texts: Ints
    images: Ints


def among(
    pair: Pair, images: Array, texts: Array, positives: Positives, about: About, device: str
) -> Pair:
    """Ranks of a gallery with the distractors of ``about`` in it, which text→image alone meets."""
    if about.distractors is None:
        return pair
    best = best_positive(images, texts, positives, device).texts
    t2i, i2t = pair
    above, level = t2i.above.copy(), t2i.level.copy()
    for start in range(0, texts.shape[0], _QUERIES):
        part = slice(start, start + _QUERIES)
        scores = product(block(texts, part, device), block(about.distractors, slice(None), device))
        wrong, bar = scores.cpu().numpy(), best[part, None]
        higher = (wrong > bar + TOLERANCE).sum(1)
        above[part] += higher
        level[part] += (wrong >= bar - TOLERANCE).sum(1) - higher
    negatives = t2i.negatives + about.distractors.shape[0]
    return replace(t2i, above=above, level=level, negatives=negatives), i2t


def merge(
    images: Array,
    texts: Array,
    owner: Ints,
    groups: npt.ArrayLike,
    device: str = "cpu",
    about: About | None = None,
) -> tuple[Pair, Positives, Array, Ints]:
    """Protocol D: ranks, its positives, the gallery of merged captions and each text's place in it.

    The first copy of a caption stands for its group, which belongs to all their images; every
    copy is asked, as in S.
    """
    _, first, named = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    # Groups are numbered by their first copies, so that nothing moves where all differ.
    first, group = np.sort(first), np.argsort(np.argsort(first))[named.reshape(-1)]
    merged = Positives.of(owner, group)
    gallery = texts if len(first) == texts.shape[0] else texts[first]
    pair = rank(images, gallery, merged, device)
    by_group, i2t = among(pair, images, gallery, merged, about or About(), device)
    return (by_group.take(group), i2t), merged, gallery, group


def by_scene(
    images: Array, texts: Array, owner: Ints, share: npt.NDArray[np.float32], asked: Asked
) -> tuple[tuple[Lists, Lists], float]:
    """Protocol C: lists of (text→image, image→text), and the overlap of two random images.

    ``share`` is (N, K): an image or caption of a tile whose composition overlaps that of the
    query's tile by `relevance.POSITIVE` is a right answer.
    """
    base = chance(share)
    to_images = by_composition(share[owner], share)
    to_texts = by_composition(share, share[owner])
    return (
        lists(texts, images, to_images, asked.texts, POSITIVE, base),
        lists(images, texts, to_texts, asked.images, POSITIVE, base),
    ), base


def lists_of(
    images: Array, gallery: Array, positives: Positives, asked: Asked, every: Array
) -> tuple[Lists, Lists]:
    """Result lists of (text→image, image→text) where pairs alone are right.

    Texts search ``every``: the images, and distractors behind them.
    """
    as_text = by_pairs(positives, "texts", every.shape[0])
    as_image = by_pairs(positives, "images", gallery.shape[0])
    return (
        lists(gallery, every, as_text, asked.texts),
        lists(images, gallery, as_image, asked.images),
    )


def _stacked(images: Array, distractors: Array) -> Array:
    if not is_sparse(images):
        return np.concatenate([images, distractors])
    from scipy.sparse import vstack

    rows: Array = vstack([images, distractors], format="csr")
    return rows


def _with(scores: Scores, intervals: Intervals | None) -> Scores:
    return scores if intervals is None else scores.plus(intervals=intervals)


def _means(pair: tuple[Lists, Lists], name: str) -> Directions[float]:
    t2i, i2t = (100 * float(getattr(ranked, name).mean()) for ranked in pair)
    return Directions(t2i=t2i, i2t=i2t)


def _galleries(strict: Pair, images: int) -> Directions[dict[str, dict[str, float]]]:
    limits = (images, 1 + int(strict[1].negatives.min()))
    t2i, i2t = (
        metrics.gallery_curve(ranks, [size for size in (*GALLERIES, limit) if size <= limit])
        for ranks, limit in zip(strict, limits, strict=True)
    )
    return Directions(t2i=t2i, i2t=i2t)


def _classes(
    pair: Pair, own: Ints, share: npt.NDArray[np.float32], names: Sequence[str]
) -> Classes:
    """R@K by dominant and by present class, and over the tail, for both directions."""
    dominant = share.argmax(1)
    rare = metrics.tail(dominant, len(names))
    tail = Tail(classes=tuple(names[c] for c in rare))
    tables: dict[str, ClassRecalls] = {}
    for way, ranks, of_query in zip(WAYS, pair, (own, np.arange(len(share))), strict=True):
        credits = {f"R@{k}": metrics.credit(ranks, k) for k in metrics.KS}
        is_dominant = np.eye(len(names), dtype=bool)[dominant[of_query]]
        table = metrics.by_class(credits, is_dominant, names)
        present = metrics.by_class(credits, share[of_query] >= PRESENT, names)
        tables[way] = ClassRecalls(dominant=table, present=present)
        if rare:
            means = {key: float(np.mean([table[names[c]][key] for c in rare])) for key in credits}
            tail = tail.plus(**{way: means})
    return Classes(tail=tail, **tables)


ALL = "all"
"""Name of the figures over all streams together, several captions an image."""


def with_all(rows: Gallery, names: Sequence[str], proxy: str | None = None) -> list[str]:
    """``names``, and `ALL` where they are several and all that the release has but ``proxy``."""
    every = {name for name in rows.streams if name != proxy}
    return [*names, ALL] if len(names) > 1 and every == set(names) else list(names)


def members(asked: Texts, names: Sequence[str]) -> Iterator[tuple[str, Ints]]:
    """Each stream of ``names`` that has texts, and their places in ``asked``, in order."""
    of_text = np.array([caption.rsplit("#", 1)[1] for caption in asked.ids])
    for name in names:
        mine = np.flatnonzero((of_text == name) | (name == ALL))
        if len(mine):
            yield name, mine


def figures(
    rows: Gallery, images: Array, texts: Array, asked: Texts, mine: Ints, settings: Settings
) -> tuple[Evaluation, Pair, Ints]:
    """Figures of the texts ``mine``, their strict ranks, and the images that have any of them.

    ``images`` is (N, d) of ``rows`` and ``texts`` (M, d) of ``asked``.
    """
    keep = np.unique(asked.owner[mine])
    owner = owner_of(asked, mine, keep)
    some = rows.take(keep)
    ours, theirs = some_rows(images, keep), some_rows(texts, mine)
    strings = [asked.texts[i] for i in mine]
    others = rows.distractors(keep)
    about = About(
        captions=strings,
        near=rows.near_of(asked, mine),
        compositions=None if some.pixels is None else some.shares,
        blocks=some.blocks,
        distractors=images[others] if len(others) else None,
    )
    owned = Positives.owned(owner)
    pair = among(
        rank(ours, theirs, owned, settings.device), ours, theirs, owned, about, settings.device
    )
    evaluation = evaluate(
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
    left_out = len(rows) - len(keep) - len(others)
    about_texts = {"texts_sha256": digest, "images_without_caption": left_out}
    return evaluation.plus(**about_texts), pair, keep


def owner_of(asked: Texts, mine: Ints, keep: Ints) -> Ints:
    """Place among the images ``keep`` of the owner of each text ``mine``."""
    return np.searchsorted(keep, asked.owner[mine]).astype(np.int64)


def some_rows(array: Array, index: Ints) -> Array:
    """Rows ``index`` (rising) of an array or memory map; the array itself where they are all."""
    return array if len(index) == array.shape[0] else array[index]
