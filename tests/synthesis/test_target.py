import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.synthesis.target import Target

NATURAL = np.array([0.40, 0.01, 0.30, 0.20, 0.04, 0.05, 0.0])


def test_natural_is_what_the_layouts_hold():
    np.testing.assert_array_equal(Target.parse("natural").shares(NATURAL), NATURAL)


def test_uniform_is_a_seventh_each_even_for_an_absent_class():
    np.testing.assert_allclose(Target.parse("uniform").shares(NATURAL), np.full(7, 1 / 7))


def test_tempered_flattens_by_its_exponent_and_leaves_absent_classes_at_zero():
    half = Target.parse("tempered:0.5").shares(NATURAL)
    np.testing.assert_allclose(half, np.sqrt(NATURAL) / np.sqrt(NATURAL).sum())
    np.testing.assert_allclose(Target.parse({"tempered": 1}).shares(NATURAL), NATURAL)
    np.testing.assert_allclose(Target.parse("tempered:0").shares(NATURAL), [*[1 / 6] * 6, 0])


def test_classes_left_out_share_the_rest_as_they_do_naturally():
    shares = Target.parse({"Shrub": 0.05, "Barren": 0.15}).shares(NATURAL)
    assert shares[1] == 0.05
    assert shares[5] == 0.15
    np.testing.assert_allclose(shares[[0, 2, 3, 4]], 0.8 * NATURAL[[0, 2, 3, 4]] / 0.94)
    assert shares.sum() == pytest.approx(1)


def test_shares_that_sum_to_one_leave_nothing_to_the_others():
    shares = Target.parse("Tree=0.3,Water=0.7").shares(NATURAL)
    np.testing.assert_allclose(shares, [0.3, 0, 0, 0, 0, 0, 0.7])


def test_seven_rounded_shares_are_scaled_to_one():
    names = ("Tree", "Shrub", "Grass", "Crop", "Built-up", "Barren", "Water")
    shares = Target.parse(dict.fromkeys(names, 0.1429)).shares(NATURAL)
    np.testing.assert_allclose(shares, np.full(7, 1 / 7))


@pytest.mark.parametrize(
    "value",
    ["natural", "uniform", "tempered:0.25", {"tempered": 0.1}, {"Water": 0.05, "Shrub": 1 / 3}],
)
def test_a_targets_text_reads_back_as_the_same_target(value):
    target = Target.parse(value)
    assert Target.parse(str(target)) == target
    assert Target.parse(target) is target


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("balanced", "'balanced' is unknown; expected 'natural'"),
        (3, "3 is unknown"),
        ({}, "sum to 0"),
        ("tempered:1.5", "between 0 and 1"),
        ("tempered:x", "between 0 and 1"),
        ({"tempered": "nan"}, "between 0 and 1"),
        ({"Trees": 0.5}, "'Trees'; expected a class: Tree, Shrub"),
        ({"Tree": 30}, "Tree = 30; expected a fraction of 1"),
        ({"Tree": -0.1}, "a fraction of 1"),
        ({"Tree": None}, "a fraction of 1"),
        ({"Tree": 0.7, "Crop": 0.5}, "sum to 1.2, and must sum to 1 at most"),
        ("Tree=0.7, Crop=0.5", "balance target 'Tree=0.7,Crop=0.5': the shares sum to 1.2, and"),
        ("Tree=.1,Shrub=.1,Grass=.1,Crop=.1,Built-up=.1,Barren=.1,Water=.1", "must sum to 1"),
    ],
)
def test_a_value_that_is_no_target_is_refused_with_the_way_out(value, words):
    with pytest.raises(ArasError) as error:
        Target.parse(value)
    assert words in str(error.value)


def test_a_rest_that_no_class_can_take_is_refused():
    natural = np.array([0.5, 0.5, 0, 0, 0, 0, 0])
    with pytest.raises(ArasError, match=r"leaves 0.2 to classes that no layout has"):
        Target.parse("Tree=0.4,Shrub=0.4").shares(natural)
