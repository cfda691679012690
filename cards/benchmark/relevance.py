"""What mteb has no word for: grades of compositions, and scores that do not depend on ties."""

from math import comb

import numpy as np

KS = (1, 5, 10)
TOLERANCE = 1e-6
"""Scores this near to each other are a tie."""


def composition_grades(sides, tiles, base, most, t2i):
    """Query → item → grade 1 … 100, by the share of their classes that two tiles have in common.

    ``sides`` are (id, tile) of captions and of tiles. An overlap of 0.95 is the same scene and has
    100, ``base`` is what two random tiles share and has 0. Of more than ``most`` queries a sample
    is asked, the one that `aras bench retrieval` draws.
    """
    pixels = np.array([list(counts.values()) for counts in tiles["pixels"]])
    share = (pixels / np.maximum(pixels.sum(1, keepdims=True), 1)).astype(np.float32)
    place = {tile: row for row, tile in enumerate(tiles["id"])}
    draw = np.random.default_rng(0)
    asked = [
        np.sort(draw.choice(len(side), most, replace=False)) if len(side) > most else slice(None)
        for side in sides
    ]
    queries, shown = (sides[0][asked[0]], sides[1]) if t2i else (sides[1][asked[1]], sides[0])
    theirs = share[[place[tile] for _, tile in shown]]
    qrels = {}
    for query, tile in queries:
        overlap = sum(np.minimum(theirs.T, share[place[tile]][:, None])).astype(np.float64)
        grade = np.rint(100 * (overlap - base) / max(1 - base, 1e-9)).clip(0, 99)
        grade[overlap >= 0.95 - TOLERANCE] = 100
        rows = np.flatnonzero(grade)
        qrels[query] = {shown[row][0]: int(grade[row]) for row in rows}
    return qrels


def expected_scores(qrels, results, full):
    """R@K and nDCG@10 as the mean over random orders of tied items, 0 … 1, as aras has them.

    R@K is the share of queries with an item of grade ``full`` among the first K.
    """
    hits, gains = [], []
    weight = 1 / np.log2(np.arange(2, 12))
    for query, scored in results.items():
        grade = np.array([qrels[query].get(item, 0) for item in scored])
        score = np.array(list(scored.values()))
        order = np.argsort(-score)
        grade, score = grade[order], score[order]
        right = grade == full
        best = score[right].max(initial=-np.inf)
        above = int((score[~right] > best + TOLERANCE).sum())
        tied = right[np.abs(score - best) <= TOLERANCE]
        hits.append([credit(k - above, int((~tied).sum()), int(tied.sum())) for k in KS])
        group = np.cumsum(np.diff(score, prepend=score[:1]) < -TOLERANCE)
        mean = (np.bincount(group, grade) / np.bincount(group))[group][:10]
        ideal = np.sort(list(qrels[query].values()))[::-1][:10]
        gains.append((mean @ weight[: len(mean)]) / (ideal @ weight[: len(ideal)]))
    scores = {f"R_at_{k}": float(hit) for k, hit in zip(KS, np.mean(hits, axis=0), strict=True)}
    return {**scores, "expected_ndcg_at_10": float(np.mean(gains))}


def credit(places, wrong, right):
    """Chance that of ``right`` and ``wrong`` tied items a right item is among ``places`` first."""
    if places <= 0 or not right:
        return 0.0
    return 1 - comb(wrong, min(places, wrong + 1)) / comb(wrong + right, min(places, wrong + 1))
