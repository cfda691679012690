"""Ridge regression in its dual form: what it costs depends on the rows, not on the columns."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Tried in each fold, in units of the rows' mean squared length; wide apart, because little
depends on the exact one."""


def cross_validated_r2(features: Any, target: Floats, fold: npt.NDArray[np.int64]) -> float:
    """1 − residual / total variance of held-out predictions, summed over the columns of ``target``.

    ``features`` is (n, d), dense or sparse; ``target`` (n, k); ``fold`` (n,) numbers from 0. The
    penalty of a fold is the one that does best on the next fold, which is training data to it.
    On one thread: the figure is the same whatever the number of cores, and threads that wait
    for a busy core cost more than they save.
    """
    with threadpool_limits(1, user_api="blas"):
        return _cross_validated(features, target, fold)


def _cross_validated(features: Any, target: Floats, fold: npt.NDArray[np.int64]) -> float:
    gram = features @ features.T
    gram = np.asarray(gram.toarray() if hasattr(gram, "toarray") else gram, dtype=np.float64)
    length = float(np.mean(np.diag(gram)) - gram.mean())
    if length <= 0:
        return 0.0  # all rows are the same: nothing but the mean can be told
    gram /= length
    folds = np.unique(fold)
    residual = total = 0.0
    for k, following in zip(folds, np.roll(folds, -1), strict=True):
        train, test, inner = fold != k, fold == k, fold == following
        tried = [_missed(gram, target, train & ~inner, inner, one) for one in PENALTIES]
        best = PENALTIES[int(np.argmin(tried))]
        residual += _missed(gram, target, train, test, best)
        total += float(((target[test] - target[train].mean(axis=0)) ** 2).sum())
    return 1 - residual / total if total > 0 else 0.0


def _missed(gram: Floats, target: Floats, train: Bools, test: Bools, penalty: float) -> float:
    """Summed squares that a model of the rows ``train`` misses on the rows ``test``."""
    inner, cross = gram[np.ix_(train, train)], gram[np.ix_(test, train)]
    means = inner.mean(axis=0)
    # The products of rows less the mean row of train, which stands for the intercept.
    inner += inner.mean() - means - means[:, None]
    cross += means.mean() - means - cross.mean(axis=1, keepdims=True)
    inner[np.diag_indices_from(inner)] += penalty
    centre = target[train].mean(axis=0)
    weights = linalg.solve(inner, target[train] - centre, assume_a="pos", overwrite_a=True)
    return float(((target[test] - centre - cross @ weights) ** 2).sum())
