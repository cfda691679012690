"""Leakage: what the words of captions give away about the composition and about the source."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.errors import ArasError
from builder.scores.ridge import cross_validated_r2
from builder.scores.tokens import NUMERAL

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
    image. ``groups`` (n labels, as tile ids) keeps captions of one tile in one fold. Returns R²
    weighted by the variance of each class (``r2_text``, ``r2_image``, at most 1; 0 is no better
    than the mean) and n; None where there are fewer than two rows or groups a fold.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.preprocessing import StandardScaler

    target = np.asarray(compositions, dtype=np.float64)
    _same_length(len(texts), len(target), "compositions")
    labels = np.unique(
        np.arange(len(texts)) if groups is None else np.asarray(groups), return_inverse=True
    )[1]
    result: dict[str, float | int | None] = {
        "n": len(texts),
        "folds": folds,
        "r2_text": None,
        "r2_image": None,
    }
    if len(np.unique(labels)) < 2 * folds:
        return result
    fold = np.random.default_rng(seed).permutation(labels.max() + 1)[labels] % folds
    words = HashingVectorizer(n_features=1 << 16, ngram_range=(1, 2), alternate_sign=False)
    hashed = words.transform([without_digits(text) for text in texts])
    weighted = TfidfTransformer().fit_transform(hashed)
    result["r2_text"] = cross_validated_r2(weighted, target, fold)
    if image_features is not None:
        features = np.asarray(image_features, dtype=np.float64)
        _same_length(len(texts), len(features), "image_features")
        scaled = StandardScaler().fit_transform(features)
        result["r2_image"] = cross_validated_r2(scaled, target, fold)
    return result


def source_leak(
    texts: Sequence[str],
    synthetic: Sequence[bool] | npt.NDArray[np.bool_],
    *,
    folds: int = 5,
    top: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """How well the words tell a synthetic image from a real one, for one caption stream.

    Logistic regression (balanced class weights) on the presence of words, and of pairs of words,
    without digits; ``auc`` is the mean over the cross-validation folds (0.5: nothing leaks),
    ``auc_std`` their spread. ``telling`` lists the ``top`` words of each source by weight in a fit
    on all captions. ``auc`` is None with fewer than two captions a fold of either source.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    label = np.asarray(synthetic, dtype=bool)
    _same_length(len(texts), len(label), "synthetic")
    counts = {"n_real": int((~label).sum()), "n_synthetic": int(label.sum())}
    if min(counts.values()) < 2 * folds:
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
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores = cross_val_score(model, list(texts), label, cv=split, scoring="roc_auc")
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


def _same_length(n: int, m: int, name: str) -> None:
    if n != m:
        raise ArasError(f"{n} texts, but {name} has {m} rows; give one row per text")
