"""Recall@K, median rank and what explains them, from exact ranks: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from builder.retrieval.ranks import TOLERANCE, Array, Floats, Ints, Positives, Ranks, block, product
from builder.retrieval.result import Scores
from builder.scores.relevance import grades

if TYPE_CHECKING:  # only result lists need torch
    import torch

KS = (1, 5, 10)


def credit(ranks: Ranks, k: int, ties: str = "expected") -> Floats:
    """Each query's share of a hit among its first k, (Q,) in 0…1.

    With ``level`` negatives tied with the best positive, "expected" is the chance that a random
    order of the ties puts it among the first k: clip((k − above) / (level + 1), 0, 1), and with
    n positives level with the best 1 − C(level, j) / C(level + n, j) for j = k − above > 0.
    "optimistic" puts it first, "pessimistic" last. Counting strictly greater scores alone is the
    optimistic figure, in which a collapsed model scores 100 %.
    """
    if ties == "optimistic":
        return (ranks.above < k).astype(np.float64)
    if ties == "pessimistic":
        return (ranks.above + ranks.level < k).astype(np.float64)
    credits: Floats = np.clip((k - ranks.above) / (ranks.level + 1), 0.0, 1.0)
    more = np.flatnonzero((ranks.several > 1) & (ranks.level > 0) & (ranks.above < k))
    if len(more):
        level, n = ranks.level[more], ranks.several[more]
        missed = np.ones(len(more))
        for drawn in range(k):
            left = np.maximum(level - drawn, 0)
            here = ranks.above[more] + drawn < k
            missed[here] *= (left / np.maximum(level + n - drawn, 1))[here]
        credits[more] = 1 - missed
    return credits


def direction(ranks: Ranks, ties: str = "expected") -> dict[str, float]:
    """R@1, R@5, R@10 in per cent and the 1-based median rank of a direction."""
    place = {
        "expected": ranks.expected,
        "optimistic": ranks.above + 1,
        "pessimistic": ranks.above + ranks.level + 1,
    }[ties]
    figures = {f"R@{k}": 100 * float(credit(ranks, k, ties).mean()) for k in KS}
    return {**figures, "MedR": float(np.median(place))}


def both(t2i: Ranks, i2t: Ranks, ties: str = "expected") -> Scores:
    """Recalls and median ranks of both directions; mR is the mean of the six recalls."""
    ways = [direction(ranks, ties) for ranks in (t2i, i2t)]
    mean = float(np.mean([way[f"R@{k}"] for way in ways for k in KS]))
    return Scores(t2i=ways[0], i2t=ways[1], mR=mean)


def chance(t2i: Ranks, i2t: Ranks, images: int, texts: int) -> Scores:
    """What a random order earns, exactly: everything is level with everything.

    ``images`` and ``texts`` are the sizes of the galleries that the two directions search.
    """

    def level(ranks: Ranks, size: int) -> Ranks:
        every = ranks.negatives
        return Ranks(np.zeros_like(every), every, every, size - every)

    return both(level(t2i, images), level(i2t, texts))


def summary(t2i: Ranks, i2t: Ranks) -> Scores:
    """`both` under expected ties, and under "optimistic" and "pessimistic" where they differ."""
    scores = both(t2i, i2t)
    bounds = {ties: both(t2i, i2t, ties) for ties in ("optimistic", "pessimistic")}
    return scores.plus(**bounds) if bounds["optimistic"] != bounds["pessimistic"] else scores


def joined(near: npt.ArrayLike, equal: npt.ArrayLike | None = None) -> Ints:
    """Group number of each caption, (M,): equal captions and those of a ``near`` cluster together.

    Both groupings hold at once, so groups that share a caption are merged.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, here = np.unique(np.asarray(near), return_inverse=True)
    if equal is None:
        return np.asarray(here, dtype=np.int64).reshape(-1)
    _, other = np.unique(np.asarray(equal), return_inverse=True)
    first = int(here.max()) + 1
    size = first + int(other.max()) + 1
    links = coo_array((np.ones(len(here)), (here, first + other)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][here], dtype=np.int64)


def ceiling(owner: npt.ArrayLike, group: npt.ArrayLike) -> dict[str, float]:
    """Highest strict text→image R@K, per cent, that captions repeated on other images allow.

    A caption on g images can name only one at a time: of its queries at most
    min(1, k/g) succeed on average. ``owner`` and ``group`` are (M,).
    """
    caption = np.asarray(group)
    pairs = np.unique(np.stack([caption, np.asarray(owner)], axis=1), axis=0)
    images = np.bincount(pairs[:, 0])[caption]
    return {f"R@{k}": 100 * float(np.minimum(1.0, k / images).mean()) for k in KS}


def gallery_curve(ranks: Ranks, sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """Expected R@K, per cent, of galleries of ``size`` drawn from this gallery, by exact sums.

    The positive stays and size − 1 of the N − 1 negatives are drawn without replacement, so the
    number of better items is hypergeometric: P(hit) = CDF(k − 1; N − 1, rank − 1, size − 1). Tied
    ranks are averaged over their range. Sizes above a query's own gallery are left out.
    """
    curve: dict[str, dict[str, float]] = {}
    kinds, of_kind = np.unique(ranks.negatives, return_inverse=True)
    for size in sizes:
        if size - 1 > kinds.min():
            continue
        recalls = curve[str(size)] = {}
        for k in KS:
            hit = np.empty(len(ranks.above))
            for number, negatives in enumerate(kinds):
                mine = of_kind.reshape(-1) == number
                running = np.append(0.0, np.cumsum(_hit_by_rank(int(negatives), size - 1, k)))
                low = ranks.above[mine]
                high = low + ranks.level[mine] + 1
                hit[mine] = (running[high] - running[low]) / (high - low)
                several = np.flatnonzero(mine & (ranks.several > 1) & (ranks.level > 0))
                if len(several):
                    hit[several] = _hit_of_several(ranks.take(several), np.diff(running))
            recalls[f"R@{k}"] = 100 * float(hit.mean())
    return curve


def _hit_of_several(ranks: Ranks, by_better: Floats) -> Floats:
    """Mean hit where several positives tie, (Q,): the first of n among ``level`` negatives has r
    of them before it with probability C(level + n − r − 1, n − 1) / C(level + n, n)."""
    kinds, of = np.unique(
        np.stack([ranks.above, ranks.level, ranks.several], axis=1), axis=0, return_inverse=True
    )
    hits = np.empty(len(kinds))
    for number, (above, level, n) in enumerate(kinds):
        r = np.arange(level)
        factors = (level - r) / (level + n - r - 1)
        chance = n / (level + n) * np.append(1.0, np.cumprod(factors))
        hits[number] = chance @ by_better[above : above + level + 1]
    return hits[of.reshape(-1)]


def _hit_by_rank(negatives: int, drawn: int, k: int) -> Floats:
    """P(fewer than k of ``better`` negatives are drawn) for better = 0 … negatives."""
    better = np.arange(negatives + 1, dtype=np.float64)
    total = np.zeros(negatives + 1)
    for taken in range(min(k, drawn + 1)):
        rest = drawn - taken
        possible = (better >= taken) & (negatives - better >= rest)
        b = better[possible]
        total[possible] += np.exp(
            _log_choose(b, taken)
            + _log_choose(negatives - b, rest)
            - _log_choose(np.float64(negatives), drawn)
        )
    return np.minimum(total, 1.0)


def _log_choose(n: Any, k: int) -> Any:
    from scipy.special import gammaln

    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def by_class(
    credits: Mapping[str, Floats], member: npt.NDArray[np.bool_], names: Sequence[str]
) -> dict[str, dict[str, int | float]]:
    """Mean of each per-query column over the queries of each class, in per cent.

    ``credits`` maps a name to (Q,); ``member`` is (Q, classes). Classes without a query are left
    out; "queries" counts them.
    """
    return {
        name: {
            "queries": int(inside.sum()),
            **{key: 100 * float(value[inside].mean()) for key, value in credits.items()},
        }
        for name, inside in zip(names, member.T, strict=True)
        if inside.any()
    }


def tail(dominant: npt.ArrayLike, classes: int) -> list[int]:
    """The rarest dominant classes that together hold at most a fifth of the images."""
    return rarest(np.bincount(np.asarray(dominant), minlength=classes))


def rarest(counts: npt.ArrayLike, share: float = 0.2) -> list[int]:
    """The rarest classes that together hold at most ``share`` of the counts, none without any."""
    amount = np.asarray(counts)
    order = [c for c in np.argsort(amount, kind="stable") if amount[c] > 0]
    held = np.cumsum([amount[c] for c in order])
    return sorted(int(c) for c, sum_ in zip(order, held, strict=True) if sum_ <= share * held[-1])


DEPTH = 10
"""Where nDCG cuts the list."""

_BLOCK = 1 << 19  # scores held at once: 2 MB, which stay in a core's cache
_FEW = 16  # queries of a product; fewer cost as much

Relevance = Callable[[Ints], "torch.Tensor"]
"""Query numbers (q,) → relevance of every gallery item in 0…1, (q, gallery) float32."""


@dataclass(frozen=True)
class Lists:
    """Per query, (Q,): its rank, average precision at R and nDCG@10, each in 0…1."""

    ranks: Ranks
    average_precision: Floats
    ndcg: Floats
    graded: Floats | None = None
    """nDCG@10 of whole grades (`relevance.grades`); None where relevance is all or nothing."""


def similarity(p: npt.NDArray[np.float32], q: npt.NDArray[np.float32]) -> torch.Tensor:
    """Overlap Σ_k min(p_k, q_k) of compositions (a, K) and (b, K): (a, b), 1 when equal."""
    import torch

    left, right = torch.from_numpy(p), torch.from_numpy(q)
    total = torch.zeros(len(p), len(q))
    for k in range(p.shape[1]):
        total += torch.minimum(left[:, k, None], right[None, :, k])
    return total


def by_pairs(positives: Positives, queries: str, gallery: int) -> Relevance:
    """Relevance 1 for the pairs and 0 elsewhere; ``queries`` is "images" or "texts"."""
    import torch

    ours, theirs = positives.images, positives.texts
    if queries == "texts":
        ours, theirs = theirs, ours
    order = np.argsort(ours, kind="stable")
    ours, theirs = ours[order], theirs[order]

    def relevance(index: Ints) -> torch.Tensor:
        low, high = np.searchsorted(ours, index), np.searchsorted(ours, index, side="right")
        matrix = torch.zeros(len(index), gallery)
        rows = np.repeat(np.arange(len(index)), high - low)
        cols = np.concatenate([theirs[a:b] for a, b in zip(low, high, strict=True)])
        matrix[torch.from_numpy(rows), torch.from_numpy(cols)] = 1.0
        return matrix

    return relevance


def by_composition(queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> Relevance:
    """Relevance by overlap of land-cover compositions (fractions), (Q, K) and (G, K)."""
    return lambda index: similarity(queries[index], gallery)


def lists(
    queries: Array,
    gallery: Array,
    relevance: Relevance,
    index: Ints,
    positive: float = 1.0,
    base: float = 0.0,
) -> Lists:
    """Rank ``gallery`` (G, d) for the chosen ``queries``: rows ``index`` of (Q, d), unit vectors.

    An item is positive when its relevance is at least ``positive``; every query needs a positive.
    mAP@R = mean over queries of (1/R) Σ_{r≤R} [positive at r] · precision@r with R the query's
    number of positives (Musgrave et al. 2020; Chun et al. 2022). nDCG@10 has linear gains
    (relevance − base) / (1 − base): with ``base`` the mean over random pairs, chance scores 0
    (so a list may score below 0; where all items are equally relevant it is 0). Ties, scores
    that follow each other within 1e-6, earn the mean over their orders (McSherry & Najork 2008);
    with a single positive mAP@R is the R@1 of `credit`.
    """
    import torch

    size = gallery.shape[0]
    items = block(gallery, slice(None))
    depth = min(DEPTH, size)
    weight = 1 / torch.log2(torch.arange(depth) + 2.0)
    # Results go into arrays that exist before the loop: small ones made within it would lie between
    # the large blocks that each step frees, and keep malloc from using those again.
    counts = np.empty((4, len(index)), np.int64)
    precision, ndcg, graded = np.empty((3, len(index)))
    step = max(_FEW, _BLOCK // size)
    for start in range(0, len(index), step):
        rows, here = np.asarray(index[start : start + step]), slice(start, start + step)
        scores = product(block(queries, rows), items)
        grade = relevance(rows)
        right = grade >= positive - TOLERANCE
        many = right.sum(1)
        ranks = _ranks(scores, right, many)
        counts[:, here] = ranks.above, ranks.level, ranks.negatives, ranks.several
        top = _top(scores, min(size, max(depth, int(many.max()))))
        several = _average_precision(top, right, many).numpy()
        precision[here] = np.where(many.numpy() == 1, credit(ranks, 1), several)
        ideal = ((grade.topk(depth, dim=1).values - base) * weight).sum(1)
        gain = (top.means(grade - base)[:, :depth] * weight).sum(1)
        ndcg[here] = torch.where(ideal > 0, gain / ideal, 0.0).double().numpy()
        if positive < 1:
            whole = torch.from_numpy(grades(grade.numpy(), base))
            ideal = (whole.topk(depth, dim=1).values * weight).sum(1)
            gain = (top.means(whole)[:, :depth] * weight).sum(1)
            graded[here] = torch.where(ideal > 0, gain / ideal, 0.0).numpy()
    return Lists(Ranks(*counts), precision, ndcg, graded if positive < 1 else None)


def _ranks(scores: torch.Tensor, right: torch.Tensor, many: torch.Tensor) -> Ranks:
    """`Ranks` of queries whose scores (q, gallery) and positives are known."""
    import torch

    own = torch.where(right, scores, -torch.inf)
    best = own.amax(1, keepdim=True)
    wrong = torch.where(right, -torch.inf, scores)
    above = (wrong > best + TOLERANCE).sum(1)
    level = (wrong >= best - TOLERANCE).sum(1) - above
    tied = (own >= best - TOLERANCE).sum(1)
    negatives = scores.shape[1] - many
    return Ranks(*(part.numpy() for part in (above, level, negatives, tied)))


@dataclass(frozen=True)
class _Top:
    """The first places of each list, (q, places): items, and where the ties of each begin and end.

    ``end`` may lie behind the last place; ``last`` (q, gallery) marks the ties of the last place.
    """

    items: torch.Tensor
    begin: torch.Tensor
    end: torch.Tensor
    last: torch.Tensor

    def before(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of ``values`` (q, gallery) before the ties of each place, and over them, float64."""
        import torch

        here = values.gather(1, self.items).double()
        running = torch.nn.functional.pad(here.cumsum(1), (1, 0))
        places = self.items.shape[1]
        begin = running.gather(1, self.begin)
        inside = running.gather(1, self.end.clamp(max=places)) - begin
        of_last = (values * self.last).sum(1, dtype=torch.float64)[:, None]
        return begin, torch.where(self.end > places, of_last, inside)

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of ``values`` (q, gallery) over the ties of each place, (q, places)."""
        return self.before(values)[1] / (self.end - self.begin)


def _top(scores: torch.Tensor, places: int) -> _Top:
    """Scores that follow each other within TOLERANCE tie: those of equal vectors may differ."""
    import torch

    values, items = scores.topk(places, dim=1)
    place = torch.arange(places).expand_as(items)
    starts = torch.ones_like(values, dtype=torch.bool)
    starts[:, 1:] = values[:, :-1] - values[:, 1:] > TOLERANCE
    begin = torch.where(starts, place, 0).cummax(1).values
    following = torch.full_like(items, places)
    following[:, :-1] = torch.where(starts, place, places)[:, 1:].flip(1).cummin(1).values.flip(1)
    lowest = values[:, -1:] - TOLERANCE
    count = (scores >= lowest).sum(1, keepdim=True)
    end = torch.where(begin == begin[:, -1:], count, following)
    last = (scores >= lowest) & (scores <= values.gather(1, begin[:, -1:]))
    return _Top(items, begin, end, last)


def _average_precision(top: _Top, right: torch.Tensor, many: torch.Tensor) -> torch.Tensor:
    """Mean mAP@R of each list over the orders of its ties, (q,) float64.

    At place j of a tie of n items, r of them positive, with R positives before it and i items of
    it before j, a positive stands with probability r/n, and then 1 + R + i (r − 1)/(n − 1)
    positives are expected among the first j.
    """
    import torch

    before, inside = top.before(right.float())
    size = (top.end - top.begin).double()
    place = torch.arange(1, top.items.shape[1] + 1)
    earlier = (place - 1 - top.begin) * (inside - 1) / (size - 1).clamp(min=1)
    terms = inside / size * (1 + before + earlier) / place
    return (terms * (place <= many[:, None])).sum(1) / many
