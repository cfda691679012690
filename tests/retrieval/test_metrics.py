"""Figures from ranks: by hand, by simulation and against scikit-learn and SciPy."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import top_k_accuracy_score

from builder.retrieval import metrics
from builder.retrieval.ranks import Positives, Ranks, rank
from builder.scores import relevance
from tests.retrieval.test_ranks import scene


def ranks(above, level=None, negatives=99):
    above = np.array(above)
    level = np.zeros_like(above) if level is None else np.array(level)
    return Ranks(above, level, np.full_like(above, negatives))


def test_recall_and_median_by_hand():
    figures = metrics.direction(ranks([0, 0, 3, 7, 40]))
    assert figures == {"R@1": 40.0, "R@5": 60.0, "R@10": 80.0, "MedR": 4.0}


@pytest.mark.parametrize(
    ("above", "level", "k", "share"),
    [
        (0, 0, 1, 1),
        (0, 1, 1, 1 / 2),
        (0, 9, 5, 1 / 2),
        (4, 3, 5, 1 / 4),
        (5, 0, 5, 0),
        (2, 1, 10, 1),
    ],
)
def test_ties_earn_the_chance_of_a_random_order(above, level, k, share):
    tied = ranks([above], [level])
    assert metrics.credit(tied, k)[0] == pytest.approx(share)
    rng = np.random.default_rng(0)
    place = above + 1 + rng.integers(0, level + 1, 40_000)
    assert (place <= k).mean() == pytest.approx(share, abs=0.01)
    assert metrics.credit(tied, k, "optimistic")[0] == (above < k)
    assert metrics.credit(tied, k, "pessimistic")[0] == (above + level < k)


def test_mean_recall_is_the_mean_of_the_six():
    scores = metrics.both(ranks([0, 3]), ranks([0, 6]))
    assert scores.mR == pytest.approx((50 + 100 + 100 + 50 + 50 + 100) / 6)


def test_bounds_are_shown_only_where_ties_matter():
    assert set(metrics.summary(ranks([0, 3]), ranks([1])).as_json()) == {"t2i", "i2t", "mR"}
    # Ranks 3 or 4 change no recall, but they change the median.
    tied = metrics.summary(ranks([2], [1]), ranks([1]))
    assert tied.optimistic.t2i["MedR"] == 3
    assert tied.t2i["MedR"] == 3.5
    assert tied.pessimistic.t2i["MedR"] == 4


def test_text_to_image_recall_equals_scikit_learn():
    x, y, owner = scene(images=80)
    t2i, _ = rank(x, y, Positives.owned(owner))
    scores = y.astype(np.float64) @ x.T.astype(np.float64)
    for k in metrics.KS:
        expected = top_k_accuracy_score(owner, scores, k=k, labels=np.arange(80))
        assert metrics.direction(t2i)[f"R@{k}"] == pytest.approx(100 * expected)


def test_image_to_text_recall_equals_a_sorted_dense_matrix():
    x, y, owner = scene(images=80)
    _, i2t = rank(x, y, Positives.owned(owner))
    order = np.argsort(-(x.astype(np.float64) @ y.T.astype(np.float64)), axis=1)
    for k in metrics.KS:
        hit = (owner[order[:, :k]] == np.arange(80)[:, None]).any(1)
        assert metrics.direction(i2t)[f"R@{k}"] == pytest.approx(100 * hit.mean())


@pytest.mark.parametrize(
    ("caption", "other"),
    [
        ("Mostly water.", "mostly  WATER"),
        ("urban, with trees", "Urban with trees!"),
        ("ﬁelds", "fields"),
        ("built-up", "built up"),
    ],
)
def test_captions_that_differ_in_form_only_are_equal(caption, other):
    assert relevance.normalise(caption) == relevance.normalise(other)


def test_percentages_and_numbers_keep_captions_apart():
    assert relevance.normalise("79% grass") != relevance.normalise("79 grass")
    assert relevance.groups_of(["a b", "A b.", "a c"]).tolist() == [0, 0, 1]


def test_the_ceiling_of_repeated_captions_by_hand():
    # Caption 0 stands on images 0, 1, 2; caption 1 twice on image 3; caption 2 on image 4.
    ceiling = metrics.ceiling([0, 1, 2, 3, 3, 4], [0, 0, 0, 1, 1, 2])
    assert ceiling["R@1"] == pytest.approx(100 * (1 / 3 * 3 + 1 + 1 + 1) / 6)
    assert ceiling["R@5"] == 100


def test_no_model_passes_the_ceiling():
    x, y, owner = scene(images=40, per_image=1, noise=0)
    group = np.arange(40) // 4
    y = y[np.argsort(owner)][group * 4]  # four images share one caption
    t2i, _ = rank(x, y, Positives.owned(np.arange(40)))
    assert metrics.direction(t2i)["R@1"] == metrics.ceiling(np.arange(40), group)["R@1"] == 25


def test_the_gallery_curve_equals_scipy_and_ends_at_the_full_gallery():
    counted = Ranks(np.array([0, 3, 17, 60]), np.zeros(4, dtype=int), np.array([99, 99, 99, 99]))
    curve = metrics.gallery_curve(counted, [20, 100, 101])
    assert list(curve) == ["20", "100"]
    for k in metrics.KS:
        expected = stats.hypergeom.cdf(k - 1, 99, counted.above, 19).mean()
        assert curve["20"][f"R@{k}"] == pytest.approx(100 * expected)
        assert curve["100"][f"R@{k}"] == pytest.approx(metrics.direction(counted)[f"R@{k}"])


def test_the_gallery_curve_averages_ties_and_unequal_galleries():
    counted = Ranks(np.array([2, 5]), np.array([3, 0]), np.array([30, 40]))
    places = [stats.hypergeom.cdf(0, 30, r, 9) for r in (2, 3, 4, 5)]
    expected = (np.mean(places) + stats.hypergeom.cdf(0, 40, 5, 9)) / 2
    assert metrics.gallery_curve(counted, [10])["10"]["R@1"] == pytest.approx(100 * expected)


def test_a_large_gallery_keeps_its_precision():
    counted = Ranks(np.array([50]), np.array([0]), np.array([400_000]))
    expected = stats.hypergeom.cdf(9, 400_000, 50, 99_999)
    recall = metrics.gallery_curve(counted, [100_000])["100000"]["R@10"]
    assert recall == pytest.approx(100 * expected, rel=1e-6)


def test_figures_by_class_average_over_the_members_only():
    member = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    figures = metrics.by_class({"R@1": np.array([1.0, 0.0, 0.5])}, member, ["a", "b", "c"])
    assert figures == {
        "a": {"queries": 2, "R@1": 50.0},
        "b": {"queries": 2, "R@1": 25.0},
    }


def test_the_tail_is_the_rarest_fifth():
    dominant = np.repeat([0, 1, 2, 3], [50, 33, 12, 5])
    assert metrics.tail(dominant, 7) == [2, 3]
    assert metrics.tail(np.zeros(10, dtype=int), 7) == []


@pytest.mark.parametrize(("above", "level", "tied"), [(0, 4, 2), (1, 3, 3), (2, 5, 1), (4, 2, 2)])
def test_credit_is_the_mean_over_every_order_of_the_ties(above, level, tied):
    ranks = Ranks(*(np.array([n]) for n in (above, level, 20, tied)))
    places = [
        above + 1 + min(own) for own in itertools.combinations(range(level + tied), tied)
    ]  # all orders of equal items are equally likely
    for k in metrics.KS:
        assert metrics.credit(ranks, k)[0] == pytest.approx(np.mean([p <= k for p in places]))
    assert ranks.expected[0] == pytest.approx(np.mean(places))
    whole = metrics.gallery_curve(ranks, [21])["21"]
    for k in metrics.KS:
        assert whole[f"R@{k}"] == pytest.approx(100 * metrics.credit(ranks, k)[0])


def test_a_collapsed_model_earns_chance_in_both_directions():
    images, per_image = 24, 5
    x = np.tile(np.full((1, 16), 0.25, np.float32), (images, 1))
    owner = np.repeat(np.arange(images), per_image)
    t2i, i2t = rank(x, x[owner], Positives.owned(owner))
    assert i2t.tied.tolist() == [per_image] * images
    assert metrics.direction(t2i)["R@1"] == pytest.approx(100 / images)
    assert metrics.direction(i2t)["R@1"] == pytest.approx(100 / images)
    small = metrics.gallery_curve(i2t, [21])["21"]["R@1"]
    assert small == pytest.approx(100 * 5 / 25)  # five own texts among 20 others
