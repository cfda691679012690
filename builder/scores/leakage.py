"""Leakage: what the words of captions give away about the composition and about the source."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.errors import ArasError
from builder.scores.ridge import cross_validated_r2
from builder.scores.tokens import NUMERAL

MOST = 2_000
"""Most captions that the regression of structural leakage is fitted on, drawn by the seed. Its cost
grows with their cube: about 1.5 CPU seconds at 2,000, 10 at 4,000."""

_DIGITS = re.compile(rf"{NUMERAL}\s*%?")


def without_digits(text: str) -> str:
    """``text`` with every number, and the per-cent sign after it, removed."""
    return _DIGITS.sub("", text)


def structural_leakage(
    texts: Sequence[str],
    compositions: npt.ArrayLike,
    image_features: npt.ArrayLike | None = None,
    *,
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> dict[str, float | int | None]:
    """How well the composition is recovered from the text with digits removed.

    Ridge regression on hashed word uni- and bigrams (2¹⁶ columns, tf-idf), ``folds``-fold
    cross-validated, its penalty chosen within each fold; ``compositions`` is (n, 7) shares.
    ``image_features`` is (n, d), the benchmark: what the same regression recovers from the
    image. ``groups`` (n labels, as tile ids) keeps captions of one tile in one fold. Of more than
    `MOST` captions as many are drawn. Returns R² weighted by the variance of each class
    (``r2_text``, ``r2_image``, at most 1; 0 is no better than the mean) and ``n``, how many
    captions were used; None where there are fewer than two rows or groups a fold.
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
    result: dict[str, float | int | None] = {
        "n": len(texts),
        "folds": folds,
        "r2_text": None,
        "r2_image": None,
    }
    if len(np.unique(labels)) < 2 * folds:
        return result
    fold = rng.permutation(labels.max() + 1)[labels] % folds
    words = HashingVectorizer(n_features=1 << 16, ngram_range=(1, 2), alternate_sign=False)
    hashed = words.transform([without_digits(text) for text in texts])
    weighted = TfidfTransformer().fit_transform(hashed)
    result["r2_text"] = cross_validated_r2(weighted, target, fold)
    if features is not None:
        scaled = StandardScaler().fit_transform(features)
        result["r2_image"] = cross_validated_r2(scaled, target, fold)
    return result


def source_leak(
    texts: Sequence[str],
    synthetic: Sequence[bool] | npt.NDArray[np.bool_],
    *,
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    top: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """How well the words tell a synthetic image from a real one, for one caption stream.

    Logistic regression (balanced class weights) on the presence of words, and of pairs of words,
    without digits; ``auc`` is the mean over the cross-validation folds (0.5: nothing leaks),
    ``auc_std`` their spread. ``telling`` lists the ``top`` words of each source by weight in a fit
    on all captions. ``groups`` (n labels, as tile ids) keeps captions of one tile in one fold.
    ``auc`` is None with fewer than two captions or groups a fold of either source.
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
        return {**counts, "auc": None, "auc_std": None, "telling": {}}
    words = CountVectorizer(
        binary=True,
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b[^\W\d_]+\b",
        min_df=2,
        max_features=20_000,
    )
    model = make_pipeline(
        words,
        LogisticRegression(class_weight="balanced", solver="liblinear", random_state=seed),
    )
    repeated = len(np.unique(tiles)) < len(tiles)
    kind = StratifiedGroupKFold if repeated else StratifiedKFold
    split = kind(folds, shuffle=True, random_state=seed)
    given = tiles if repeated else None
    scores = cross_val_score(model, list(texts), label, groups=given, cv=split, scoring="roc_auc")
    model.fit(list(texts), label)
    names = model[0].get_feature_names_out()
    weights = model[1].coef_[0]
    order = np.lexsort((names, weights))
    return {
        **counts,
        "auc": float(scores.mean()),
        "auc_std": float(scores.std()),
        "telling": {
            "real": [(str(names[i]), round(float(weights[i]), 3)) for i in order[:top]],
            "synthetic": [
                (str(names[i]), round(float(weights[i]), 3)) for i in order[: -top - 1 : -1]
            ],
        },
    }


def _labels(groups: Sequence[Any] | None, n: int) -> npt.NDArray[np.int64]:
    """The group of each of ``n`` captions as a number from 0; each its own without ``groups``."""
    if groups is None:
        return np.arange(n)
    _same_length(n, len(groups), "groups")
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in groups], dtype=np.int64)


def _same_length(n: int, m: int, name: str) -> None:
    if n != m:
        raise ArasError(f"{n} texts, but {name} has {m} rows; give one row per text")
