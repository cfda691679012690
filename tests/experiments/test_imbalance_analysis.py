"""Figures, contrasts and power of the imbalance experiment, against made-up ranks."""

import numpy as np
import pytest

from builder.experiments import imbalance_analysis
from builder.experiments.imbalance_analysis import FIGURES, Groups, analyse, figures, pairs_at, sums
from builder.experiments.statistics import hierarchical
from builder.land.classes import CLASSES
from builder.retrieval.ranks import Ranks

DOMINANT = np.array([0] * 8 + [1] * 8 + [2] * 4)
TRAIN = np.array([0] * 50 + [1] * 40 + [2] * 10)
GROUPS = Groups.of(TRAIN)


def ranks(above):
    above = np.asarray(above, dtype=np.int64)
    return Ranks(above, np.zeros_like(above), np.full(len(above), len(above) - 1))


def noisy(rate, seed):
    """A pair in which a query is found first with probability ``rate``, else never."""
    rng = np.random.default_rng(seed)
    return tuple(ranks(np.where(rng.random(20) < rate, 0, 19)) for _ in range(2))


def test_figures_of_a_case_worked_by_hand():
    t2i = np.array([0] * 8 + [4] * 8 + [19] * 4)
    i2t = np.array([0] * 10 + [19] * 10)
    parts = sums((ranks(t2i), ranks(i2t)), DOMINANT, np.arange(20), 20, GROUPS)
    found = dict(zip(FIGURES, figures(parts.sum(0)[None], GROUPS)[0], strict=True))
    assert found["t2i R@1"] == 40
    assert found["t2i R@5"] == 80
    assert found["i2t R@10"] == 50
    assert found["mR"] == pytest.approx((40 + 80 + 80 + 50 * 3) / 6)
    assert found["head"] == pytest.approx((100 + 100 + 100 + 25) / 4)
    assert found["tail"] == 0


def test_a_group_without_test_tiles_has_no_figure():
    groups = Groups(CLASSES, [0], [6])
    parts = sums((ranks([0, 0]), ranks([0, 0])), np.array([0, 0]), np.arange(2), 2, groups)
    found = figures(parts.sum(0)[None], groups)[0]
    assert found[-2] == 100
    assert np.isnan(found[-1])


def test_the_hierarchical_bootstrap_is_wider_than_either_level():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(4, 30, 1)) + 3 * rng.normal(size=(4, 1, 1))
    both = hierarchical(parts, 600).std()
    clusters_only = hierarchical(parts.mean(0, keepdims=True), 600).std()
    seeds_only = hierarchical(parts.mean(1, keepdims=True), 600).std() * 30
    assert both > 1.2 * clusters_only
    assert both > 0.95 * seeds_only


def arms(**rates):
    return {
        name.replace("_", "-"): [noisy(rate, 10 * n + seed) for seed in range(3)]
        for n, (name, rate) in enumerate(rates.items())
    }


def test_a_large_difference_is_found_and_none_is_not():
    found = analyse(
        arms(real=0.5, shuffled=0.0, balanced_1=1.0, oversampled=0.5),
        DOMINANT, None, GROUPS, [1.0], 1.0, resamples=300,
    )  # fmt: skip
    by_pair = {(one["ours"], one["theirs"]): one for one in found["contrasts"]}
    gain = by_pair["balanced-1", "real"]["mR"]
    assert gain["interval"][0] > 20
    assert gain["p_holm"] < 0.05
    assert 0 < gain["low"] < gain["difference"]
    assert gain["p_holm"] >= gain["p"]
    floor = by_pair["real", "shuffled"]["mR"]
    assert floor["p_holm"] == floor["p"]
    assert found["tail"] == ["Grass"]
    assert found["test_tiles"]["Grass"] == 4
    same = analyse(
        arms(real=0.5, shuffled=0.0, balanced_1=0.5),
        DOMINANT,
        None,
        GROUPS,
        [1.0],
        1.0,
        resamples=300,
    )
    same = next(one for one in same["contrasts"] if one["theirs"] == "real")
    assert same["mR"]["p_holm"] > 0.05
    assert same["mR"]["detectable"] > abs(same["mR"]["difference"])


def test_an_arm_of_one_run_stands_for_all_seeds():
    ranks_of = arms(real=0.9, shuffled=0.0) | {"zero-shot": [noisy(0.1, 5)]}
    found = analyse(ranks_of, DOMINANT, None, GROUPS, [], 1.0, resamples=100)
    gain = next(one for one in found["contrasts"] if one["theirs"] == "zero-shot")
    assert gain["mR"]["difference"] > 30
    assert len(set(found["arms"]["zero-shot"]["mR"]["seeds"])) == 1


def test_differences_are_told_by_class_and_by_ratio():
    t2i = [ranks(np.where(DOMINANT == 2, k, 19)) for k in (19, 0)]  # Grass: never, then always
    told = {"real": [(t2i[0], t2i[0])] * 2, "balanced-0.5": [(t2i[1], t2i[1])] * 2}
    found = analyse(told, DOMINANT, None, GROUPS, [0.5], 0.5, resamples=100)
    gain = found["ratios"][0]
    assert (gain["arm"], gain["tail"]["difference"]) == ("balanced-0.5", 100)
    assert {n: one["difference"] for n, one in gain["classes"].items()} == {
        "Tree": 0, "Shrub": 0, "Grass": 100,
    }  # fmt: skip
    lines = imbalance_analysis.gains_and_losses(found)
    assert lines[0].startswith("Classes with a gain")
    assert "Grass +100.00" in lines[0]
    assert lines[1].endswith("none.")


def test_blocks_are_drawn_whole():
    two = arms(real=0.5, shuffled=0.0)
    blocks = np.repeat(["a", "b", "c", "d", "e"], 4)
    found = analyse(two, DOMINANT, blocks, GROUPS, [1.0], 1.0, resamples=50)
    assert found["clusters"] == {"unit": "block", "number": 5}


def test_contrasts_are_those_of_the_arms_that_are_there():
    assert [(a, b) for a, b, _ in pairs_at(0.5, ["real", "synthetic", "balanced-0.5"])] == [
        ("balanced-0.5", "real"),
        ("synthetic", "real"),
    ]
