"""Redundancy: exact repeats, and repeats after each normalisation."""

import pyarrow as pa
import pytest

from builder.scores.redundancy import VARIANTS, Redundancy, Repetition, summarise

TEXTS = [
    "Forest covers 86% of it.",
    "Forest covers 86% of it.",
    "forest  covers 86% of it.",
    "Forest covers 86 % of it!",
    "Forest covers 7% of it.",
    "Water.",
    "WATER",
    "Wáter",
]


def counted(*batches):
    counts = Redundancy()
    for batch in batches:
        counts.add(pa.array(batch, pa.string()))
    return counts


def test_each_variant_merges_what_its_name_says():
    unique = {name: repetition.unique for name, repetition in counted(TEXTS).summary().items()}
    assert unique == {
        "raw": 7,
        "lowercase_single_space": 6,  # "forest  covers"
        "words_only": 4,  # also "86 % of it!" and "Water."
        "words_without_numbers": 3,  # also 86 and 7
    }
    assert tuple(unique) == VARIANTS


def test_redundancy_is_one_minus_unique_over_total():
    raw = counted(TEXTS).summary()["raw"]
    assert (raw.n, raw.redundancy) == (8, pytest.approx(1 - 7 / 8))


def test_batches_and_nulls_make_no_difference():
    parts = counted(TEXTS[:3], [None], [], TEXTS[3:])
    assert parts.summary() == counted(TEXTS).summary()


def test_sliced_arrays_are_counted_from_their_own_start():
    sliced = Redundancy()
    sliced.add(pa.array(["x", *TEXTS, "y"]).slice(1, len(TEXTS)))
    assert sliced.summary() == counted(TEXTS).summary()


def test_several_streams_are_counted_together():
    both = summarise([counted(["a", "b"]), counted(["b", "c"])])
    assert both["raw"] == Repetition(n=4, unique=3, redundancy=0.25)


def test_no_captions_have_no_redundancy():
    assert Redundancy().summary()["raw"] == Repetition(n=0, unique=0, redundancy=None)
