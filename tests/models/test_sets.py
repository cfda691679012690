"""Set distances against closed forms and independent implementations."""

import numpy as np
import pytest
from scipy import linalg

from builder.core.errors import ArasError
from builder.models import sets
from builder.models.sets import Moments


def draw(seed: int, n: int, d: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) / np.sqrt(d)
    return (rng.standard_normal((n, d)) @ mixing) * scale + shift


def test_moments_merged_by_shard_equal_those_of_the_whole():
    features = draw(0, 1_000, 12, shift=1e4)  # a large mean: raw second moments would lose this
    parts = np.split(features, [1, 10, 500, 777])
    merged, whole = sets.moments(parts), Moments.of(features)
    assert merged.n == whole.n
    assert merged.mean == pytest.approx(whole.mean, rel=1e-12)
    assert merged.covariance == pytest.approx(np.cov(features.T), rel=1e-9)


def test_the_frechet_distance_of_known_gaussians():
    a = Moments(101, np.zeros(3), np.eye(3) * 100)  # covariance I
    b = Moments(101, np.array([3.0, 4.0, 0.0]), np.eye(3) * 400)  # covariance 4 I
    assert sets.frechet(a, b) == pytest.approx(25 + 3 * (1 + 4 - 2 * 2))


@pytest.mark.parametrize("n", [400, 20])  # 20 < 32: singular covariances
def test_the_frechet_distance_agrees_with_scipys_matrix_root(n):
    x, y = draw(1, n, 32), draw(2, n, 32, shift=0.3)
    a, b = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(a.astype(complex) @ b)
    gap = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected = gap + np.trace(a) + np.trace(b) - 2 * np.trace(root).real
    assert sets.frechet(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-3)


def test_extrapolation_takes_the_bias_away_and_its_error_is_its_spread_over_other_images():
    """N(0, I) against N(0.1, 1.44 I) in 24 dimensions: 24 (0.1² + 0.2²) apart."""
    truth = 24 * (0.1**2 + 0.2**2)
    estimates = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((300, 24)), 1.2 * rng.standard_normal((300, 24)) + 0.1
        estimates.append(sets.frechet_estimate(x, y))
    at_infinity = np.array([estimate.at_infinity for estimate in estimates])
    plain = [estimate.value for estimate in estimates]
    assert min(plain) > truth
    assert abs(at_infinity.mean() - truth) < 0.1 * (np.mean(plain) - truth)
    errors = np.array([estimate.error for estimate in estimates])
    assert 0.85 < np.sqrt((errors**2).mean()) / at_infinity.std(ddof=1) < 1.35


def test_the_distance_of_all_groups_is_that_of_the_whole():
    x, y = draw(0, 90, 6), draw(1, 90, 6, shift=0.5)
    whole = sets.frechet(Moments.of(x), Moments.of(y))
    assert sets.frechet_estimate(x, y).value == pytest.approx(whole, rel=1e-9)


def test_the_interval_of_the_distance_is_as_wide_as_its_spread_over_other_images():
    distances, reach = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((400, 4)), 1.5 * rng.standard_normal((400, 4)) + 1
        estimate = sets.frechet_estimate(x, y)
        low, high = estimate.interval
        distances.append(estimate.value)
        assert low < estimate.value < high
        reach.append((high - low) / 2)
    assert np.mean(reach) == pytest.approx(2.26 * np.std(distances), rel=0.3)
    covered = np.abs(np.array(distances) - 4 * (1 + 0.5**2)) < reach
    assert covered.mean() >= 0.85


def test_an_interval_of_equal_sides_ends_at_zero_and_needs_enough_images():
    x = draw(3, 200, 4)
    assert sets.frechet_estimate(x, x[::-1]).interval[0] == 0
    with pytest.raises(ArasError, match="at least 20 images"):
        sets.frechet_estimate(x[:19], x)


@pytest.mark.parametrize(("n", "shift"), [(200, 0.0), (700, 1e3)])
def test_two_equal_sets_have_density_one(n, shift):
    """Every ball holds its own centre and the neighbours before the k-th, which lies on it."""
    features = draw(4, n, 16, shift=shift)
    measures = sets.precision_recall(features, features, k=5)
    assert measures == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}


def test_kid_of_one_distribution_is_about_zero_and_of_two_is_not():
    rng = np.random.default_rng(0)
    mixing = np.random.default_rng(5).standard_normal((16, 16)) / 4
    x, y = (np.random.default_rng(i).standard_normal((500, 16)) @ mixing for i in (6, 7))
    same = sets.kid(x, y, rng, subsets=20, size=400)
    other = sets.kid(x, y + 0.5, rng, subsets=20, size=400)
    assert same[1] < 0 < same[2]
    assert other[1] > 10 * abs(same[0])


def test_the_unbiased_kernel_estimate_by_hand():
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])

    def k(u: float, v: float) -> float:
        return (u * v + 1) ** 3

    cross = np.mean([k(u, v) for u in (0, 2) for v in (1, 1)])
    expected = k(0, 2) + k(1, 1) - 2 * cross
    value, low, high = sets.kid(x, y, np.random.default_rng(0), subsets=3, size=2)
    assert value == low == high == pytest.approx(1000 * expected)


def test_precision_recall_density_coverage_agree_with_prdc():
    prdc = pytest.importorskip("prdc", reason="the package prdc is not installed")
    x, y = draw(1, 300, 8), draw(2, 300, 8, shift=0.4)
    measures = sets.precision_recall(x, y, k=5)
    expected = prdc.compute_prdc(real_features=x, fake_features=y, nearest_k=5)
    assert measures == pytest.approx({name: float(expected[name]) for name in measures})


def test_too_few_images_are_refused():
    single = np.zeros((1, 4))
    with pytest.raises(ArasError, match="at least two"):
        sets.frechet(Moments.of(single), Moments.of(single))
    with pytest.raises(ArasError, match="finite"):
        Moments.of([[np.nan, 1.0]])
    with pytest.raises(ArasError, match="no features"):
        sets.moments([])


@pytest.mark.parametrize("cuts", [[1, 2], [500], [3, 400, 401, 999]])
def test_the_frechet_distance_of_merged_moments_is_that_of_the_whole(cuts):
    x, y = draw(1, 1_000, 16, shift=100), draw(2, 1_000, 16, shift=100.5)
    whole = sets.frechet(Moments.of(x), Moments.of(y))
    merged = sets.frechet(sets.moments(np.split(x, cuts)), sets.moments(np.split(y, cuts)))
    assert merged == pytest.approx(whole, rel=1e-9)
