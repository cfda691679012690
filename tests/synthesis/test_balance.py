import json

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.synthesis.balance import allocate, expand, fractions_of, settle, solve
from builder.synthesis.target import Target

SHARES = np.array([28.78, 0.84, 45.33, 17.99, 1.14, 4.22, 1.69]) / 100.0


def tiles(n, seed=0):
    """(n, 7) pixel counts of 256 × 256 tiles ruled by one or two classes each."""
    fractions = np.random.default_rng(seed).dirichlet(1.2 * SHARES, n)
    counts = np.rint(fractions * 65536).astype(np.int64)
    return counts


def two_classes(tree):
    """Compositions with a fraction of Tree, the rest Water."""
    rows = np.zeros((len(tree), 7))
    rows[:, 0] = tree
    rows[:, 6] = 1 - np.asarray(tree)
    return rows


def test_natural_draws_every_layout_alike():
    pool = tiles(50)
    plan = solve(pool, Target.parse("natural"), rows=100)
    np.testing.assert_allclose(plan.weights, 1 / 50)
    np.testing.assert_allclose(plan.shares_planned, plan.shares_before)
    assert plan.feasible
    assert plan.effective_layouts == pytest.approx(50)
    assert plan.effective_size == pytest.approx(50)
    assert plan.max_expected_repeats == pytest.approx(2)
    assert plan.divergence == pytest.approx(0, abs=1e-12)
    assert plan.short_classes == ()


def test_two_classes_and_three_layouts_come_out_as_by_hand():
    z = (1 + np.sqrt(13)) / 2
    weights = np.array([z * z, z, 1]) / (1 + z + z * z)
    plan = solve(two_classes([1, 0.5, 0]), Target.parse("Tree=0.75,Water=0.25"), rows=100)
    np.testing.assert_allclose(plan.weights, weights, atol=1e-7)
    assert plan.max_expected_repeats == pytest.approx(100 * weights[0])
    assert plan.effective_size == pytest.approx(1 / (weights**2).sum())
    assert plan.effective_layouts == pytest.approx(np.exp(-(weights * np.log(weights)).sum()))


@pytest.mark.parametrize("target", ["uniform", "tempered:0.5", "Shrub=0.05,Water=0.05"])
def test_a_target_is_met_to_tolerance(target):
    pool = tiles(3000)
    plan = solve(pool, Target.parse(target), rows=9000)
    assert plan.feasible
    asked = Target.parse(target).shares(fractions_of(pool).mean(axis=0))
    np.testing.assert_allclose(plan.weights @ fractions_of(pool), asked, atol=1e-7)
    assert plan.weights.sum() == pytest.approx(1, abs=1e-12)
    assert plan.weights.min() > 0
    assert plan.effective_layouts > 100


def test_a_milder_target_keeps_more_layouts_in_play():
    pool = tiles(2000)
    effective = [
        solve(pool, Target.parse(target), rows=2000).effective_layouts
        for target in ("uniform", "tempered:0.3", "tempered:0.6", "natural")
    ]
    assert effective == sorted(effective)
    assert effective[0] < effective[-1] / 2


def test_counts_and_fractions_give_the_same_plan():
    pool = tiles(200)
    counts = solve(pool, Target.parse("tempered:0.5"), rows=400)
    fractions = solve(pool / 65536, Target.parse("tempered:0.5"), rows=400)
    np.testing.assert_allclose(counts.weights, fractions.weights, atol=1e-12)


def test_the_cap_bounds_expected_and_drawn_repeats_and_the_target_still_holds():
    pool = tiles(2000)
    free = solve(pool, Target.parse("tempered:0.5"), rows=6000)
    cap = int(free.max_expected_repeats) // 2
    plan = solve(pool, Target.parse("tempered:0.5"), rows=6000, max_repeats=cap)
    assert plan.feasible
    assert plan.capped > 0
    assert plan.max_expected_repeats == pytest.approx(cap)
    assert plan.divergence > free.divergence
    np.testing.assert_allclose(plan.shares_planned, plan.target, atol=1e-7)
    for seed in range(20):
        assert allocate(plan.weights, 6000, seed, compositions=pool).max() <= cap


def test_caps_of_single_layouts_are_kept():
    pool = tiles(500)
    caps = np.where(np.arange(500) % 2, 1, 20)
    plan = solve(pool, Target.parse("tempered:0.7"), rows=1000, max_repeats=caps)
    assert plan.feasible
    assert (plan.weights * 1000 <= caps * (1 + 1e-9)).all()
    assert (allocate(plan.weights, 1000, 1) <= caps).all()


def test_a_cap_too_low_is_reported_with_a_cap_that_is_enough():
    pool = tiles(2000)
    plan = solve(pool, Target.parse("uniform"), rows=6000, max_repeats=4)
    assert not plan.feasible
    assert plan.short_classes[0] == "Shrub"
    assert plan.distance_bound > 0
    assert plan.distance - plan.distance_bound < 1e-4
    assert plan.shortfall[1] == pytest.approx(1 / 7 - plan.shares_planned[1])
    assert plan.repeats_needed is not None
    assert plan.repeats_needed > 8
    assert f"it takes {plan.repeats_needed} repeats of a layout, of which at most 8" in plan.verdict
    assert "set variants in [generator]" in plan.verdict
    assert "max_repeats" not in plan.verdict
    enough = solve(pool, Target.parse("uniform"), rows=6000, max_repeats=plan.repeats_needed)
    assert enough.feasible
    less = int(0.85 * plan.repeats_needed)
    assert not solve(pool, Target.parse("uniform"), rows=6000, max_repeats=less).feasible


def test_a_cap_that_the_recipe_may_raise_is_the_advice_where_it_is_enough():
    pool = tiles(2000)
    plan = solve(pool, Target.parse("tempered:0.8"), rows=4000, max_repeats=2)
    assert not plan.feasible
    assert plan.repeats_needed in range(3, 9)
    assert f"set max_repeats to {plan.repeats_needed}, which is enough, lower" in plan.verdict


def test_a_target_outside_the_hull_is_reported_with_the_nearest_shares():
    # At most 30 % Shrub in any layout; the nearest to 80/20 has all its weight there.
    pool = np.array([[0.7, 0.3, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0, 0]])
    plan = solve(pool, Target.parse("Tree=0.2,Shrub=0.8"), rows=10)
    assert not plan.feasible
    assert plan.repeats_needed is None
    np.testing.assert_allclose(plan.shares_planned[:2], [0.7, 0.3], atol=1e-4)
    assert plan.short_classes == ("Shrub",)
    assert plan.shortfall[1] == pytest.approx(0.5, abs=1e-4)
    assert "no mixture of the layouts reaches it" in plan.verdict
    assert "set variants in [generator]" in plan.verdict
    assert "Shrub 30.00 % of 80.00 %" in plan.verdict


def test_a_share_of_zero_leaves_the_class_out_altogether():
    pool = tiles(1000)
    plan = solve(pool, Target.parse("Water=0"), rows=1000)
    assert plan.feasible
    assert (plan.weights[pool[:, 6] > 0] == 0).all()
    assert plan.shares_planned[6] == 0


def test_made_layouts_are_drawn_where_the_originals_do_not_reach_the_target():
    originals = two_classes([0.95, 0.9, 0.8, 0.7])
    layouts = two_classes([0.1, 0.2])
    pool = np.vstack([originals, layouts])
    prior = np.array([1, 1, 1, 1, 0.01, 0.01])
    natural = originals.mean(axis=0)

    def made_share(target):
        plan = solve(pool, Target.parse(target), rows=60, natural=natural, prior=prior)
        assert plan.feasible
        np.testing.assert_allclose(plan.shares_before, natural)
        return plan.weights[4:].sum()

    assert made_share("natural") < 0.006
    assert made_share("Tree=0.5,Water=0.5") > 0.3
    assert not solve(originals, Target.parse("Tree=0.5,Water=0.5"), rows=60).feasible


def test_divergence_is_measured_from_the_prior():
    pool = two_classes([1, 0])
    plan = solve(pool, Target.parse("Tree=0.5,Water=0.5"), rows=2, prior=[1, 3])
    assert plan.divergence == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))


def test_a_prior_that_is_none_is_refused():
    for wrong in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(ArasError, match="prior must be 2 positive numbers"):
            solve(two_classes([1, 0]), Target.parse("natural"), rows=2, prior=wrong)


def test_a_class_that_no_layout_has_is_named_with_the_way_out():
    pool = tiles(100)
    pool[:, 1] = 0
    with pytest.raises(ArasError, match=r"14.29 % Shrub.*none of the 100 layouts.*tempered:0"):
        solve(pool, Target.parse("uniform"), rows=100)
    assert solve(pool, Target.parse("tempered:0"), rows=100).target[1] == 0


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (np.zeros((0, 7)), "one or more rows of 7 classes"),
        (np.ones((3, 6)), r"shape \(3, 6\)"),
        (np.vstack([np.ones(7), np.zeros(7)]), "composition 1 is .*positive sum"),
        (np.vstack([np.ones(7), [1, 1, 1, -1, 1, 1, 1]]), "composition 1"),
        (np.full((1, 7), np.nan), "composition 0"),
    ],
)
def test_bad_compositions_are_refused_by_row(pool, words):
    with pytest.raises(ArasError, match=words):
        solve(pool, Target.parse("natural"), rows=1)


def test_rows_that_the_cap_cannot_fill_are_refused_with_the_cap_that_can():
    with pytest.raises(
        ArasError, match=r"make 20 rows with max_repeats, and 35 .* max_repeats to 4"
    ):
        solve(tiles(10), Target.parse("natural"), rows=35, max_repeats=2)
    with pytest.raises(ArasError, match=r"it takes 9 repeats .* set variants in \[generator\]"):
        solve(tiles(10), Target.parse("natural"), rows=81, max_repeats=8)
    for wrong in (0, 1.5, -1):
        with pytest.raises(ArasError, match="whole number, 1 or more"):
            solve(tiles(10), Target.parse("natural"), rows=5, max_repeats=wrong)
    with pytest.raises(ArasError, match="rows is 0"):
        solve(tiles(10), Target.parse("natural"), rows=0)


def test_the_plan_prints_as_a_table_and_as_json():
    plan = solve(tiles(300), Target.parse("uniform"), rows=600, max_repeats=4)
    lines = str(plan).splitlines()
    assert [line.split()[0] for line in lines[1:8]] == list(CLASSES)
    assert "at the cap" in lines[8]
    assert lines[9] == plan.verdict
    summary = json.loads(json.dumps(plan.summary().as_json()))
    assert summary["target"] == "uniform"
    assert sum(summary["shares_planned"].values()) == pytest.approx(1)
    assert "weights" not in summary


def test_a_plan_that_draws_on_few_layouts_says_so():
    pool = np.vstack([tiles(200) * [1, 1, 1, 1, 1, 1, 0], np.eye(7)[[6]]])
    rare = solve(pool, Target.parse("Water=0.5"), rows=100)
    assert rare.feasible
    assert rare.effective_layouts < 30
    assert str(solve(pool, Target.parse("natural"), rows=100)).count("few layouts") == 0
    crowded = solve(pool, Target.parse("Water=0.9"), rows=100)
    assert "few layouts" in str(crowded).splitlines()[-1]


@pytest.mark.parametrize("rows", [0, 1, 7, 399, 400, 401, 5000])
def test_repeats_sum_to_the_rows_and_round_the_expectation(rows):
    pool = tiles(400)
    plan = solve(pool, Target.parse("tempered:0.4"), rows=1000)
    for seed in range(10):
        repeats = allocate(plan.weights, rows, seed, compositions=pool)
        assert repeats.sum() == rows
        assert (np.abs(repeats - rows * plan.weights) < 1 + 1e-9).all()


def test_repeats_are_right_on_average():
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = np.mean([allocate(weights, 7, seed) for seed in range(4000)], axis=0)
    np.testing.assert_allclose(drawn, 7 * weights, atol=0.03)


def test_whole_expectations_are_drawn_exactly():
    np.testing.assert_array_equal(allocate([0.1, 0.2, 0.7], 10, 3), [1, 2, 7])
    np.testing.assert_array_equal(allocate(np.full(7, 1 / 7), 21, 3), np.full(7, 3))


def test_obtained_shares_are_nearer_to_the_plan_than_independent_draws_are():
    pool = tiles(3000)
    fractions = fractions_of(pool)
    plan = solve(pool, Target.parse("tempered:0.5"), rows=1500)

    def miss(repeats):
        return np.abs(repeats @ fractions / 1500 - plan.target).max()

    rng = np.random.default_rng(0)
    ours = [miss(allocate(plan.weights, 1500, seed, compositions=pool)) for seed in range(20)]
    independent = [miss(rng.multinomial(1500, plan.weights)) for _ in range(20)]
    assert np.mean(ours) < np.mean(independent) / 4
    assert max(ours) < 0.005


@pytest.mark.parametrize("alike", [False, True])
def test_the_draw_depends_on_seed_and_ids_and_not_on_the_order_of_layouts(alike):
    pool = tiles(300)
    if alike:
        pool[:] = pool[np.arange(300) % 10]
    ids = [f"real/{i:05d}" for i in range(300)]
    weights = solve(pool, Target.parse("tempered:0.5"), rows=500).weights
    first = allocate(weights, 500, 7, ids=ids, compositions=pool)
    np.testing.assert_array_equal(first, allocate(weights, 500, 7, ids=ids, compositions=pool))
    shuffle = np.random.default_rng(0).permutation(300)
    again = allocate(
        weights[shuffle], 500, 7, ids=[ids[i] for i in shuffle], compositions=pool[shuffle]
    )
    np.testing.assert_array_equal(again, first[shuffle])
    assert (allocate(weights, 500, 8, ids=ids, compositions=pool) != first).any()


def test_weights_that_cannot_be_drawn_from_are_refused():
    for weights in ([0.0, 0.0], [1.0, -0.1], [np.nan, 1.0]):
        with pytest.raises(ArasError, match="cannot allocate 5 rows"):
            allocate(weights, 5, 0)


def test_expand_numbers_the_repeats_of_each_layout():
    layout, repeat = expand([2, 0, 3])
    np.testing.assert_array_equal(layout, [0, 0, 2, 2, 2])
    np.testing.assert_array_equal(repeat, [0, 1, 0, 1, 2])


@pytest.mark.parametrize(("layouts", "rows", "most"), [(59, 16, 0.025), (800, 60, 0.002)])
def test_settled_rows_have_the_planned_shares_under_the_same_bounds(layouts, rows, most):
    pool = tiles(layouts)
    plan = solve(pool, Target.parse("tempered:0.5"), rows=rows, max_repeats=8)
    for seed in range(5):
        drawn = allocate(plan.weights, rows, seed, compositions=pool)
        settled = settle(drawn, plan.weights, pool, seed)
        gaps = [
            np.abs(r @ fractions_of(pool) / rows - plan.shares_planned) for r in (drawn, settled)
        ]
        assert gaps[1].max() <= min(most, gaps[0].max())
        assert settled.sum() == rows
        assert (np.abs(settled - rows * plan.weights) < 1 + 1e-9).all()
        again = settle(
            drawn[::-1],
            plan.weights[::-1],
            pool[::-1],
            seed,
            ids=list(map(str, range(layouts)))[::-1],
        )
        np.testing.assert_array_equal(again[::-1], settled)


def test_whole_expectations_cannot_settle_elsewhere():
    np.testing.assert_array_equal(settle([1, 2, 7], [0.1, 0.2, 0.7], np.eye(7)[:3], 0), [1, 2, 7])
