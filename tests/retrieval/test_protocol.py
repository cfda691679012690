"""The protocols S, D and C on scenes whose figures are known, and paired comparison."""

import json

import numpy as np
import pytest
from scipy import stats

from builder.retrieval import intervals, metrics
from builder.retrieval.intervals import compare, spans
from builder.retrieval.protocol import About, evaluate
from builder.retrieval.ranks import Positives, Ranks, rank
from tests.retrieval.test_ranks import scene, unit


def figures(*arrays, **options):
    """What `evaluate` gives, as a result file has it."""
    return evaluate(*arrays, **options).as_json()


def copies(images=30, kinds=10, width=16, seed=0):
    """A model that reads captions perfectly, where `images` share only `kinds` captions."""
    rng = np.random.default_rng(seed)
    kind = np.arange(images) % kinds
    caption = unit(rng.standard_normal((kinds, width)))
    x = unit(caption[kind] + 0.01 * rng.standard_normal((images, width)))
    return x, caption[kind], np.arange(images), [f"Scene {k}." for k in kind]


def test_a_repeated_caption_is_no_error_under_d():
    x, y, owner, captions = copies()
    result = figures(x, y, owner, About(captions=captions), resamples=50)
    # Three images share each caption: strictly one of three texts finds its own image first.
    assert result["S"]["t2i"]["R@1"] == pytest.approx(100 / 3)
    assert result["S"]["ceiling"]["R@1"] == pytest.approx(100 / 3)
    assert result["S"]["of_ceiling"]["R@1"] == pytest.approx(100)
    assert result["D"]["captions"] == 10
    for way in ("t2i", "i2t"):
        assert result["D"][way]["R@1"] == 100
        assert result["D"]["mAP@R"][way] == pytest.approx(100)
    assert result["D"]["mR"] == 100


def test_near_duplicates_are_merged_beside_equal_captions():
    x, y, owner, captions = copies()
    # Kinds 0 and 1 say nearly the same: 6 of the 30 tiles carry one caption, or the other.
    near = ["low" if i % 10 < 2 else f"alone {i}" for i in range(30)]
    y[np.arange(30) % 10 == 1] = y[0]
    result = figures(x, y, owner, About(captions=captions, near=near), resamples=50)
    assert (result["D"]["captions"], result["D~"]["captions"]) == (10, 9)
    assert result["D"]["t2i"]["R@1"] == pytest.approx(90)
    assert result["D~"]["t2i"]["R@1"] == 100
    alone = figures(x, y, owner, About(near=near), resamples=50)
    assert alone["D~"]["captions"] == 25
    assert "D" not in alone


def test_groups_that_share_a_caption_are_one():
    assert metrics.joined([7, 7, 8, 9], [0, 1, 1, 2]).tolist() == [0, 0, 0, 1]
    assert metrics.joined([7, 7, 8, 9]).tolist() == [0, 0, 1, 2]


def test_d_equals_the_dense_definition_over_merged_captions():
    x, y, owner = scene(images=40, per_image=3)
    group = np.random.default_rng(5).integers(0, 25, len(owner))
    first = np.array([np.flatnonzero(group == g)[0] for g in range(25)])
    y = y[first][group]  # a model gives equal captions equal vectors
    result = figures(x, y, owner, About(near=group), resamples=20)
    scores = x.astype(float) @ y[first].T.astype(float)
    positive = np.zeros((40, 25), dtype=bool)
    positive[owner, group] = True

    def hits(s, p):
        order = np.argsort(-s, axis=1)[:, :5]
        return np.take_along_axis(p, order, axis=1).any(1)

    assert result["D~"]["i2t"]["R@5"] == pytest.approx(100 * hits(scores, positive).mean())
    by_text = hits(scores.T, positive.T)[group]
    assert result["D~"]["t2i"]["R@5"] == pytest.approx(100 * by_text.mean())


def test_images_of_near_equal_composition_are_positives_under_c():
    x, y, owner, _ = copies()
    share = np.eye(10, dtype=np.float32)[np.arange(30) % 10][:, :7]
    share[:, 6] += 1 - share.sum(1)  # kinds 7, 8 and 9 are water, as kind 6 is
    result = figures(x, y, owner, About(compositions=share), resamples=50)
    for way in ("t2i", "i2t"):
        assert result["C"][way]["R@1"] == 100
        assert result["C"]["nDCG@10"][way] < 100
    assert result["S"]["t2i"]["R@1"] < 40
    # 18 images of six kinds with three each, 12 of water: overlap is 1 within a kind, else 0.
    pairs = 6 * 3 + 66
    assert result["C"]["chance_overlap"] == pytest.approx(pairs / (30 * 29 / 2))


def test_c_is_s_where_no_two_compositions_are_alike():
    x, y, owner = scene(images=40)
    share = np.eye(40)  # forty classes, one for each image
    about = About(
        compositions=share, classes=[str(n) for n in range(40)], blocks=np.arange(40) // 4
    )
    result = figures(x, y, owner, about, resamples=200)
    for key in ("t2i", "i2t", "mR", "intervals", "mAP@R"):
        assert result["C"][key] == result["S"][key]
    assert result["C"]["chance_overlap"] == 0


def test_a_random_model_earns_no_ndcg():
    rng = np.random.default_rng(0)
    x, y = unit(rng.standard_normal((600, 32))), unit(rng.standard_normal((600, 32)))
    share = rng.dirichlet([0.5] * 7, 600)
    result = figures(x, y, np.arange(600), About(compositions=share), resamples=20)
    for way in ("t2i", "i2t"):
        assert abs(result["C"]["nDCG@10"][way]) < 2
    assert 20 < 100 * result["C"]["chance_overlap"] < 60


def test_figures_by_class_and_tail():
    x, y, owner = scene(images=60, per_image=2, noise=0)
    x[:6] = x[6:12]  # the rare class cannot tell its images from others'
    y = x[owner]
    share = np.full((60, 3), 0.0)
    share[:6, 2] = 1
    share[6:30, 0], share[6:30, 1] = 0.7, 0.3
    share[30:, 1] = 1
    about = About(compositions=share, classes=("Tree", "Grass", "Water"))
    classes = figures(x, y, owner, about, resamples=20)["S"]["classes"]
    assert classes["t2i"]["dominant"]["Water"] == {
        "queries": 12,
        "R@1": 50.0,
        "R@5": 100.0,
        "R@10": 100.0,
    }
    assert classes["t2i"]["dominant"]["Grass"]["R@1"] == 100
    assert classes["t2i"]["present"]["Grass"]["queries"] == 2 * (24 + 30)
    assert list(classes["tail"]["classes"]) == ["Water"]
    assert classes["tail"]["t2i"]["R@1"] == 50


def test_the_result_is_json_and_repeats():
    x, y, owner, captions = copies()
    share = np.random.default_rng(0).dirichlet([0.4] * 7, 30)
    about = About(captions=captions, compositions=share, blocks=np.arange(30) // 5)
    first, again = (figures(x, y, owner, about, resamples=40) for _ in range(2))
    assert json.dumps(first) == json.dumps(again)
    assert first["clusters"] == {"unit": "block", "number": 6}
    assert "10 % differently" in first["power"]["statement"]


def test_only_what_is_known_is_reported():
    x, y, owner = scene()
    result = figures(x, y, owner, resamples=20)
    assert "D" not in result
    assert "C" not in result
    assert "classes" not in result["S"]
    assert "ceiling" not in result["S"]


def test_ranks_counted_elsewhere_are_used():
    x, y, owner = scene()
    ranks = rank(x, y, Positives.owned(owner))
    worse = (ranks[0], ranks[1].take(np.zeros(61, dtype=int)))
    result = figures(x, y, owner, ranks=worse, resamples=20)
    assert result["S"]["i2t"] == metrics.direction(worse[1])


def test_list_metrics_sample_their_queries():
    x, y, owner = scene()
    result = figures(x, y, owner, queries=50, resamples=20)
    assert result["list_queries"] == {"t2i": 50, "i2t": 50}
    full = figures(x, y, owner, resamples=20)
    assert result["S"]["mAP@R"] != full["S"]["mAP@R"]
    assert result["S"]["t2i"] == full["S"]["t2i"]


def test_intervals_hold_the_figures_and_blocks_widen_them():
    x, y, owner = scene(images=120)
    order = np.argsort(rank(x, y, Positives.owned(owner))[1].above)
    block = np.empty(120, dtype=int)
    block[order] = np.arange(120) // 12  # blocks of images that are alike in difficulty
    pair = rank(x, y, Positives.owned(owner))
    by_image, by_block = spans(pair, owner), spans(pair, owner, block)
    scores = metrics.both(*pair)
    for intervals_ in (by_image, by_block):
        low, high = intervals_.mR
        assert low < scores.mR < high
        for way in ("t2i", "i2t"):
            for name, (low, high) in getattr(intervals_, way).items():
                assert low <= getattr(scores, way)[name] <= high
    width = [np.ptp(intervals_.i2t["R@1"]) for intervals_ in (by_image, by_block)]
    assert width[1] > 1.5 * width[0]


def test_a_better_model_is_told_from_a_worse_one_and_an_equal_one_is_not():
    x, y, owner = scene(images=300, per_image=2, noise=1.2)
    rng = np.random.default_rng(9)
    noisy = unit(y + 0.25 * rng.standard_normal(y.shape))
    good, bad = (rank(x, t, Positives.owned(owner)) for t in (y, noisy))
    differences = compare(good, bad, owner)
    assert differences["mR"].difference == pytest.approx(
        metrics.both(*good).mR - metrics.both(*bad).mR
    )
    assert differences["mR"].interval[0] > 0
    assert differences["mR"].p_holm < 0.05
    assert all(figure.p_holm >= figure.p for figure in differences.values())
    same = compare(good, good, owner)
    assert all(figure.difference == 0 and figure.p == 1 for figure in same.values())


def test_blocks_make_a_comparison_more_careful():
    x, y, owner = scene(images=300, per_image=2, noise=1.2)
    noisy = unit(y + 0.25 * np.random.default_rng(9).standard_normal(y.shape))
    good, bad = (rank(x, t, Positives.owned(owner)) for t in (y, noisy))
    gap = metrics.credit(good[1], 1) - metrics.credit(bad[1], 1)
    block = np.empty(300, dtype=int)
    block[np.argsort(gap)] = np.arange(300) // 30
    by_image = compare(good, bad, owner)["i2t R@1"]
    by_block = compare(good, bad, owner, block)["i2t R@1"]
    assert by_block.difference == pytest.approx(by_image.difference)
    assert by_block.p > by_image.p
    assert np.ptp(by_block.interval) > np.ptp(by_image.interval)


def test_interval_and_p_of_a_comparison_agree():
    """The interval excludes 0 exactly where p is below 0.05, over images and over blocks."""
    x, y, owner = scene(images=120, per_image=2, noise=1.2)
    rng = np.random.default_rng(9)
    outcomes = set()
    for noise in (0.02, 0.06, 0.1, 0.2):
        noisy = unit(y + noise * rng.standard_normal(y.shape))
        good, bad = (rank(x, t, Positives.owned(owner)) for t in (y, noisy))
        for blocks in (None, np.arange(120) // 10, np.arange(120) // 20):
            for figure in compare(good, bad, owner, blocks).values():
                low, high = figure.interval
                assert (low > 0 or high < 0) == (figure.p < 0.05)
                outcomes.add(figure.p < 0.05)
    assert outcomes == {True, False}


def test_few_blocks_have_no_interval_and_no_test():
    x, y, owner = scene(images=40)
    pair = rank(x, y, Positives.owned(owner))
    block = np.arange(40) // 10
    assert spans(pair, owner, block) is None
    assert spans(pair, owner, np.arange(40) // 8) is not None
    assert all(figure.p is None and figure.interval is None
               for figure in compare(pair, pair, owner, block).values())  # fmt: skip
    assert "intervals" not in figures(x, y, owner, About(blocks=block), resamples=20)["S"]


def test_queries_that_both_models_answer_alike_say_nothing_of_the_spread():
    """One model wins on four images of four hundred and loses on none: no evidence yet."""
    none = np.zeros(400, dtype=np.int64)
    good = Ranks(none, none, none + 399)
    worse = Ranks(np.where(np.arange(400) < 4, 9, 0), none, none + 399)
    figure = compare((good, good), (worse, worse), np.arange(400))["i2t R@1"]
    exact = stats.binomtest(4, 4).pvalue
    assert figure.p == pytest.approx(exact, abs=0.02)
    assert figure.interval[0] < 0 < figure.difference < figure.interval[1]


def test_power_follows_the_number_of_queries():
    assert intervals.power(10_000).detectable_points == pytest.approx(0.886, abs=0.001)
    assert "0.89 percentage points" in intervals.power(10_000).statement
