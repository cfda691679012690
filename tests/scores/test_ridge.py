"""Ridge regression in its dual form against scikit-learn's."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from builder.scores import leakage
from builder.scores.leakage import cross_validated_r2

RNG = np.random.default_rng(0)
FOLD = np.arange(60) % 5
FEATURES = RNG.standard_normal((60, 8)) + 3
TARGET = FEATURES[:, :2] + 0.5 * RNG.standard_normal((60, 2))


def by_scikit(features: np.ndarray, penalty: float) -> float:
    scale = features.var(axis=0).sum()
    residual = total = 0.0
    for k in range(5):
        train, test = k != FOLD, k == FOLD
        model = Ridge(alpha=penalty * scale).fit(features[train], TARGET[train])
        residual += ((TARGET[test] - model.predict(features[test])) ** 2).sum()
        total += ((TARGET[test] - TARGET[train].mean(axis=0)) ** 2).sum()
    return float(1 - residual / total)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_it_predicts_what_scikit_learn_predicts(
    monkeypatch: pytest.MonkeyPatch, penalty: float, kind: type
) -> None:
    monkeypatch.setattr(leakage, "PENALTIES", (penalty,))
    r2 = cross_validated_r2(kind(FEATURES), TARGET, FOLD)
    assert r2 == pytest.approx(by_scikit(FEATURES, penalty), abs=1e-9)


def test_many_useless_columns_get_a_large_penalty() -> None:
    noise = RNG.standard_normal((60, 400))
    assert cross_validated_r2(noise, TARGET, FOLD) == pytest.approx(0, abs=0.2)
    assert cross_validated_r2(FEATURES, TARGET, FOLD) > 0.6


def test_equal_rows_tell_nothing() -> None:
    assert cross_validated_r2(np.ones((60, 3)), TARGET, FOLD) == 0
    assert cross_validated_r2(FEATURES, np.ones((60, 2)), FOLD) == 0
