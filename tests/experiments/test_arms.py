"""The arms of the imbalance experiment: which rows, how often, with which caption."""

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.experiments.imbalance import agrees, design, grounded, load
from builder.experiments.rows import Holding, TrainRows, balanced, drawn
from tests.makers.bench_release import bench_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def rows(release):
    return load(release, "numbers")


def names(planned):
    return list(planned.arms)


def test_rows_are_the_train_rows_with_a_caption(rows):
    assert (len(rows.real), len(rows.synthetic)) == (24, 12)
    assert all(name.startswith("synthetic/") for name in np.array(rows.ids)[rows.synthetic])
    np.testing.assert_allclose(rows.shares.sum(1), 1)


def test_every_arm_is_there_at_every_ratio_that_the_rows_allow(rows):
    planned = design(rows)
    assert names(planned) == [
        "real", "synthetic", "natural-0.25", "balanced-0.25", "natural-0.5", "balanced-0.5",
        "oversampled", "filtered", "shuffled", "stripped",
    ]  # fmt: skip
    assert planned.ratio == 0.5
    assert planned.missing[0].startswith("ratios 1, 3: 12 synthetic rows beside 24 real ones")
    assert len(planned.missing) == 1
    passed = set(rows.synthetic[rows.passes[rows.synthetic]])
    pool = planned.arms["filtered"].pool
    assert set(pool[rows.is_synthetic[pool]]) <= passed < set(rows.synthetic)


def test_arms_to_be_compared_have_as_many_rows(rows):
    planned = design(rows)
    sizes = {name: len(arm.pool) for name, arm in planned.arms.items()}
    assert sizes["natural-0.5"] == sizes["balanced-0.5"] == sizes["oversampled"] == 36
    assert sizes["real"] == sizes["shuffled"] == sizes["stripped"] == 24
    for name, arm in planned.arms.items():
        flags = rows.is_synthetic[arm.pool]
        if name == "synthetic":
            assert flags.all()
        elif name.startswith(("natural", "balanced")):
            assert flags.sum() == sizes[name] - 24
        elif name != "filtered":
            assert not flags.any()


def test_balanced_rows_are_more_even_than_random_ones(rows):
    even = rows.shares[balanced(rows, rows.synthetic, 12, 0)].mean(0)
    natural = rows.shares[rows.synthetic].mean(0)
    assert np.std(even) < 0.7 * np.std(natural)


def test_oversampled_real_rows_come_near_the_balanced_arms_shares(rows):
    planned = design(rows)
    wanted = rows.shares[planned.arms["balanced-0.5"].pool].mean(0)
    have = rows.shares[planned.arms["oversampled"].pool].mean(0)
    before = rows.shares[rows.real].mean(0)
    assert np.abs(have - wanted).sum() < 0.5 * np.abs(before - wanted).sum()


def test_shuffled_and_stripped_change_the_captions_and_nothing_else(rows):
    planned = design(rows)
    mixed, plain = planned.arms["shuffled"], planned.arms["stripped"]
    np.testing.assert_array_equal(mixed.pool, rows.real)
    assert sorted(mixed.texts) == sorted(rows.texts)
    moved = [i for i in rows.real if mixed.texts[i] != rows.texts[i]]
    assert len(moved) > 12
    assert not any(c.isdigit() for i in plain.pool for c in plain.texts[i])


def test_without_numbers_there_is_nothing_to_strip(release):
    planned = design(load(release, "words"))
    assert "stripped" not in names(planned)
    assert any(why.startswith("stripped: captions hold no numbers") for why in planned.missing)


def test_the_filter_drops_leaks_and_ungrounded_captions():
    shares = np.tile([0.6, 0.4, 0, 0, 0, 0, 0], (3, 1))
    texts = [
        "Mostly tree cover with some shrubland.",
        "60% tree cover and 40% shrubland.",
        "A desert of barren sand.",
    ]
    assert grounded(texts, shares).tolist() == [True, False, False]


def test_the_filter_drops_tiles_whose_mask_the_segmenter_does_not_see():
    synthetic = np.array([False] * 4 + [True] * 3)
    agreement = [0.9, 0.8, 0.7, 0.2, 0.6, 0.5, np.nan]
    # A quarter of the real rows lies below 0.575.
    assert agrees(agreement, synthetic).tolist() == [True, True, True, False, True, False, True]
    assert agrees([np.nan] * 7, synthetic).all()


def test_rows_are_drawn_to_the_shares_asked_for():
    pure = np.repeat(np.eye(2), 4, axis=0)
    rows = TrainRows(list("abcdefgh"), np.ones(8, bool), pure, classes=("Dry", "Wet"))
    chosen = drawn(rows, np.arange(8), 16, np.array([0.75, 0.25]), 0)
    assert rows.shares[chosen].sum(0).tolist() == [12, 4]
    assert np.bincount(chosen).max() == 3
    capped = drawn(rows, np.arange(8), 16, np.array([1.0, 0.0]), 0, repeats=3)
    assert rows.shares[capped].sum(0).tolist() == [12, 4]


def some_of(rows, order):
    return TrainRows(
        [rows.ids[i] for i in order],
        rows.is_synthetic[order],
        rows.shares[order],
        [rows.texts[i] for i in order],
        rows.passes[order],
    )


def test_the_design_depends_on_ids_not_on_order(rows):
    order = np.random.default_rng(0).permutation(len(rows.ids))
    other = some_of(rows, order)
    arms = design(rows).arms, design(other).arms
    for a, b in zip(*(pools.values() for pools in arms), strict=True):
        assert sorted(rows.ids[i] for i in a.pool) == sorted(other.ids[i] for i in b.pool)


def test_a_report_says_what_an_arm_holds(rows):
    holding = Holding.of(rows, design(rows).arms["natural-0.25"])
    assert (holding.rows, holding.synthetic) == (30, 6)
    assert sum(holding.class_shares.values()) == pytest.approx(1, abs=1e-3)


def test_few_synthetic_rows_are_one_ratio(rows):
    fewer = some_of(rows, np.concatenate([rows.real, rows.synthetic[:3]]))
    assert design(fewer).ratio == 0.125


def test_both_sources_are_needed(tmp_path):
    bare = bench_release(tmp_path, synthetic=0)
    with pytest.raises(ArasError, match="0 synthetic train rows have a caption"):
        load(bare, "words")
    with pytest.raises(ArasError, match="it has numbers, words"):
        load(bare, "poem")
