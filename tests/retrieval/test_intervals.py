"""Intervals of single models cover, and clusters widen them; `test_crossed` has the tests."""

from statistics import NormalDist

import numpy as np
import pytest

from builder.retrieval import intervals


def test_cluster_sums_by_hand():
    sums = intervals.cluster_sums([[1.0], [0.0], [0.5]], [1, 1, 0], 3)
    assert sums.tolist() == [[0.5, 1], [1.0, 2], [0.0, 0]]


def test_the_interval_of_a_proportion_is_that_of_the_normal_approximation():
    hits = np.zeros(1000)
    hits[:300] = 1
    sums = intervals.cluster_sums(hits[:, None], np.arange(1000), 1000)
    draws = intervals.resampled(sums)
    low, high = intervals.percentile(draws[:, 0] / draws[:, 1])
    half = NormalDist().inv_cdf(0.975) * np.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == (
        pytest.approx(0.3 - half, abs=0.003),
        pytest.approx(0.3 + half, abs=0.003),
    )


def test_the_same_seed_gives_the_same_interval():
    sums = np.random.default_rng(0).random((50, 2))
    first, again = intervals.resampled(sums, 100, 7), intervals.resampled(sums, 100, 7)
    np.testing.assert_array_equal(first, again)
    assert (first != intervals.resampled(sums, 100, 8)).any()


def test_equal_captions_of_an_image_widen_the_interval_by_their_number():
    rng = np.random.default_rng(0)
    hits = np.repeat(rng.random(400) < 0.5, 5).astype(float)[:, None]

    def width(cluster, clusters):
        draws = intervals.resampled(intervals.cluster_sums(hits, cluster, clusters), 1000)
        low, high = intervals.percentile(draws[:, 0] / draws[:, 1])
        return high - low

    ratio = width(np.repeat(np.arange(400), 5), 400) / width(np.arange(2000), 2000)
    assert ratio == pytest.approx(np.sqrt(5), rel=0.1)


def test_intervals_cover_at_their_level():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        p = np.clip(rng.normal(0.5, 0.2, 100), 0, 1)
        hits = (rng.random((100, 5)) < p[:, None]).astype(float).reshape(-1, 1)
        sums = intervals.cluster_sums(hits, np.repeat(np.arange(100), 5), 100)
        draws = intervals.resampled(sums, 300, trial)
        low, high = intervals.percentile(draws[:, 0] / draws[:, 1])
        covered += low <= 0.5 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_holm_by_hand():
    adjusted = intervals.holm([0.04, 0.01, 0.03, 0.5])
    np.testing.assert_allclose(adjusted, [0.09, 0.04, 0.09, 0.5])
    assert intervals.holm([0.6, 0.9]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("queries", "points"), [(10_000, 0.886), (5_000, 1.253), (1_000, 2.80)])
def test_detectable_differences(queries, points):
    assert intervals.detectable(queries) == pytest.approx(points, abs=0.005)


def test_a_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    n, discordance = 4000, 0.10
    delta = intervals.detectable(n, discordance) / 100
    up = rng.binomial(n, (discordance + delta) / 2, 4000)
    down = rng.binomial(n, (discordance - delta) / 2, 4000)
    z = (up - down) / np.sqrt(up + down)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.80, abs=0.03)


def test_codes_number_the_distinct_values():
    code, number = intervals.codes(["b", "a", "b"])
    assert (code.tolist(), number) == ([1, 0, 1], 2)
