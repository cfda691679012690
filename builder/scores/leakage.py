"""Leakage: what the words of captions give away about the composition and about the source."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.claims import read_claims
from builder.scores.grounding import Captions, shares_of
from builder.scores.lexicon import Lexicon
from builder.scores.numerals import NUMERAL


@dataclass(frozen=True)
class NullGrounding:
    """Mean grounding of captions on their ``own`` tile, ``shuffled`` over all tiles and
    ``shuffled_same_dominant``, over tiles of the same dominant class; None where fewer than two
    rows can be exchanged."""

    own: float | None
    shuffled: float | None
    shuffled_same_dominant: float | None


def null_grounding(
    texts: Sequence[str | None],
    compositions: npt.ArrayLike,
    *,
    seed: int = 0,
    lexicon: Lexicon | None = None,
) -> NullGrounding:
    """Mean grounding of captions on their own tiles, and exchanged among tiles.

    ``compositions`` is (n, 7) shares as for `score_captions`; only rows with text and composition
    count, each exchanged once, in an order drawn from ``seed``.
    """
    lexicon = lexicon or lexicons.load()
    shares = shares_of(compositions, len(texts))
    usable = [i for i, text in enumerate(texts) if text and text.strip()]
    usable = [i for i in usable if not np.isnan(shares[i]).any()]
    shares = shares[usable]
    texts = [texts[i] for i in usable]
    claims = read_claims(texts, lexicon)
    order = np.random.default_rng(seed).permutation(len(usable))
    everyone = np.full(len(usable), -1)
    if len(order) > 1:
        everyone[order] = np.roll(order, 1)
    alike = np.full(len(usable), -1)
    for k in range(len(CLASSES)):
        members = order[shares[order].argmax(axis=1) == k]
        if len(members) > 1:
            alike[members] = np.roll(members, 1)
    means: dict[str, float | None] = {}
    own = np.arange(len(usable))
    tiles = {"own": own, "shuffled": everyone, "shuffled_same_dominant": alike}
    for name, tile in tiles.items():
        given = np.where((tile >= 0)[:, None], shares[tile], np.nan)
        captions = Captions(texts, claims, given, None, lexicon)
        scores, counted = captions.grounding.astype(np.float32), (tile >= 0) & ~captions.unread
        mean = scores[counted].mean(dtype=np.float64) if counted.any() else None
        means[name] = None if mean is None else float(mean)
    return NullGrounding(**means)


Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Tried in each fold, in units of the rows' mean squared length; wide apart, because little
depends on the exact value."""


def cross_validated_r2(features: Any, target: Floats, fold: npt.NDArray[np.int64]) -> float:
    """1 − residual / total variance of held-out predictions, summed over the columns of ``target``.

    ``features`` is (n, d), dense or sparse; ``target`` (n, k); ``fold`` (n,) numbers from 0. The
    penalty of a fold does best on the next fold, which is training data to it.
    On one thread: the figure is the same whatever the number of cores, and threads that wait
    for a busy core cost more than they save.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        return _cross_validated(features, target, fold)


def _cross_validated(features: Any, target: Floats, fold: npt.NDArray[np.int64]) -> float:
    gram = features @ features.T
    gram = np.asarray(gram.toarray() if hasattr(gram, "toarray") else gram, dtype=np.float64)
    length = float(np.mean(np.diag(gram)) - gram.mean())
    if length <= 0:
        return 0.0  # all rows are the same: nothing but the mean can be predicted
    gram /= length
    folds = np.unique(fold)
    residual = total = 0.0
    for k, following in zip(folds, np.roll(folds, -1), strict=True):
        train, test, inner = fold != k, fold == k, fold == following
        missed = [_missed(gram, target, train & ~inner, inner, penalty) for penalty in PENALTIES]
        best = PENALTIES[int(np.argmin(missed))]
        residual += _missed(gram, target, train, test, best)
        total += float(((target[test] - target[train].mean(axis=0)) ** 2).sum())
    return 1 - residual / total if total > 0 else 0.0


def _missed(gram: Floats, target: Floats, train: Bools, test: Bools, penalty: float) -> float:
    """Summed squares that a model of the rows ``train`` misses on the rows ``test``."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.preprocessing import KernelCenterer

    # Centred products and targets stand for an intercept, which KernelRidge does not fit.
    inner, cross = gram[np.ix_(train, train)], gram[np.ix_(test, train)]
    centerer, centre = KernelCenterer().fit(inner), target[train].mean(axis=0)
    model = KernelRidge(alpha=penalty, kernel="precomputed")
    model.fit(centerer.transform(inner, copy=False), target[train] - centre)
    predicted = model.predict(centerer.transform(cross, copy=False))
    return float(((target[test] - centre - predicted) ** 2).sum())


MOST = 2_000
"""Most captions that the regression of structural leakage is fitted on, drawn by the seed. Its cost
grows with their cube: about 1.5 CPU seconds at 2,000, 10 at 4,000."""

_DIGITS = re.compile(rf"{NUMERAL}\s*%?")


def without_digits(text: str) -> str:
    """``text`` with every number, and the per-cent sign after it, removed."""
    return _DIGITS.sub("", text)


@dataclass(frozen=True)
class StructuralLeakage:
    """R² of compositions recovered from texts and from images, weighted by the variance of each
    class (at most 1; 0 is no better than the mean), on ``n`` captions. None where there are fewer
    than two rows or groups a fold, or no image features."""

    n: int
    folds: int
    r2_text: float | None = None
    r2_image: float | None = None


def structural_leakage(
    texts: Sequence[str],
    compositions: npt.ArrayLike,
    image_features: npt.ArrayLike | None = None,
    *,
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> StructuralLeakage:
    """How well the composition is recovered from the text with digits removed.

    Ridge regression on hashed word uni- and bigrams (2¹⁶ columns, tf-idf), ``folds``-fold
    cross-validated, its penalty chosen within each fold; ``compositions`` is (n, 7) shares.
    ``image_features`` is (n, d), the benchmark: what the same regression recovers from the
    image. ``groups`` (n labels, as tile ids) keeps captions of a tile in one fold. Of more than
    `MOST` captions as many are drawn.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.preprocessing import StandardScaler

    target = np.asarray(compositions, dtype=np.float64)
    _same_length(len(texts), len(target), "compositions")
    features = None if image_features is None else np.asarray(image_features, dtype=np.float64)
    if features is not None:
        _same_length(len(texts), len(features), "image_features")
    labels = _labels(groups, len(texts))
    rng = np.random.default_rng(seed)
    if len(texts) > MOST:
        drawn = np.sort(rng.choice(len(texts), MOST, replace=False))
        texts, target, labels = [texts[i] for i in drawn], target[drawn], labels[drawn]
        labels = np.unique(labels, return_inverse=True)[1]
        features = None if features is None else features[drawn]
    leakage = StructuralLeakage(len(texts), folds)
    if len(np.unique(labels)) < 2 * folds:
        return leakage
    fold = rng.permutation(labels.max() + 1)[labels] % folds
    words = HashingVectorizer(n_features=1 << 16, ngram_range=(1, 2), alternate_sign=False)
    hashed = words.transform([without_digits(text) for text in texts])
    weighted = TfidfTransformer().fit_transform(hashed)
    leakage = replace(leakage, r2_text=cross_validated_r2(weighted, target, fold))
    if features is not None:
        scaled = StandardScaler().fit_transform(features)
        leakage = replace(leakage, r2_image=cross_validated_r2(scaled, target, fold))
    return leakage


FOLDS = 5
"""Of the cross-validation of the source leak."""

Words = list[tuple[str, float]]
"""Words and their weights, the weightiest first."""


@dataclass(frozen=True)
class SourceLeak:
    """``auc``: mean over the cross-validation folds (0.5: nothing leaks), ``auc_std`` their
    spread; None with fewer than two captions or groups a fold of either source. ``telling``:
    "real" and "synthetic" → the words that mark it by weight in a fit on all captions."""

    n_real: int
    n_synthetic: int
    auc: float | None
    auc_std: float | None
    telling: dict[str, Words]


GIVES_AWAY = 0.6
"""A stream whose AUC is this or more gives its source away."""

_MARK = re.compile(r"[^\W\d_]+|[^\w\s]")
"""A word without digits, or a mark of punctuation."""


def marks(text: str) -> list[str]:
    """What the source may show in: words and their pairs in lower case; words with capitals, marks
    of punctuation and the pairs that hold either; and how the text begins (^) and ends ($)."""
    written = _MARK.findall(text)
    words = [mark.lower() for mark in written if mark[0].isalpha()]
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
    if not written:
        return []
    shaped = [mark for mark in written if not mark.islower()]
    shaped += [
        f"{a} {b}" for a, b in itertools.pairwise(written) if not (a.islower() and b.islower())
    ]
    return [*words, *pairs, *shaped, f"^{written[0]}", f"{written[-1]}$"]


def source_sentence(stream: str, leak: SourceLeak | None) -> str | None:
    """Names a stream that gives its source away, for reports and cards; None for one that does not.

    An AUC counts where it is `GIVES_AWAY` or more and two standard errors over the folds above 0.5.
    """
    if leak is None or leak.auc is None or leak.auc_std is None:
        return None
    if leak.auc < GIVES_AWAY or leak.auc - 2 * leak.auc_std / FOLDS**0.5 <= 0.5:
        return None
    shown = ", ".join(f"“{word}”" for word, _ in leak.telling.get("synthetic", [])[:3])
    by = f", most by {shown}" if shown else ""
    return (
        f"Stream {stream} gives its source away: its words separate synthetic from real rows with "
        f"AUC {leak.auc:.2f} (0.5 is no leak){by}. Other land cover of the two is a part of that."
    )


def source_leak(
    texts: Sequence[str],
    synthetic: Sequence[bool] | npt.NDArray[np.bool_],
    *,
    groups: Sequence[Any] | None = None,
    folds: int = FOLDS,
    top: int = 10,
    seed: int = 0,
) -> SourceLeak:
    """How well the words distinguish a synthetic image from a real image, for a caption stream.

    Logistic regression (balanced class weights) on the presence of the `marks` of a text: words and
    pairs of words without digits, their case, and punctuation. The ``top`` marks of each source
    are listed. ``groups`` (n labels, as tile ids)
    keeps captions of a tile in one fold.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    label = np.asarray(synthetic, dtype=bool)
    _same_length(len(texts), len(label), "synthetic")
    counts = {"n_real": int((~label).sum()), "n_synthetic": int(label.sum())}
    tiles = _labels(groups, len(texts))
    if min(len(np.unique(tiles[label == source])) for source in (False, True)) < 2 * folds:
        return SourceLeak(**counts, auc=None, auc_std=None, telling={})
    words = CountVectorizer(analyzer=marks, binary=True, min_df=2, max_features=20_000)
    model = make_pipeline(
        words,
        LogisticRegression(class_weight="balanced", solver="liblinear", random_state=seed),
    )
    repeated = len(np.unique(tiles)) < len(tiles)
    splitter = StratifiedGroupKFold if repeated else StratifiedKFold
    split = splitter(folds, shuffle=True, random_state=seed)
    given = tiles if repeated else None
    scores = cross_val_score(model, list(texts), label, groups=given, cv=split, scoring="roc_auc")
    model.fit(list(texts), label)
    names = model[0].get_feature_names_out()
    weights = model[1].coef_[0]
    order = np.lexsort((names, weights))
    weighted = [(str(names[i]), round(float(weights[i]), 3)) for i in range(len(names))]
    return SourceLeak(
        **counts,
        auc=float(scores.mean()),
        auc_std=float(scores.std()),
        telling={
            "real": [weighted[i] for i in order[:top]],
            "synthetic": [weighted[i] for i in order[: -top - 1 : -1]],
        },
    )


def _labels(groups: Sequence[Any] | None, n: int) -> npt.NDArray[np.int64]:
    """The group of each of ``n`` captions as a number from 0; each its own without ``groups``."""
    if groups is None:
        return np.arange(n)
    _same_length(n, len(groups), "groups")
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def _same_length(n: int, m: int, name: str) -> None:
    if n != m:
        raise ArasError(f"{n} texts, but {name} has {m} rows; give one row per text")
