"""Rows are flagged by the recipe's thresholds, left out for one reason each, and counted."""

from typing import Any

import pyarrow as pa
import pydantic
import pytest

from builder.land.columns import arrow_type
from builder.pipeline.recipe import Recipe
from builder.quality.limits import declared
from builder.release.funnel import Funnel, flags_of

COLUMNS = ("split", "copy", "flags", "sharpness", "cloudiness", "contrast", "blankness")
MORE = ("mask_agreement", "realism")


def rows(**columns: list[Any]) -> pa.Table:
    n = len(next(iter(columns.values())))
    given = {"split": [0] * n, **columns}
    names = (*COLUMNS, *MORE)
    return pa.table({k: pa.array(given.get(k, [None] * n), arrow_type(k)) for k in names})


def repeats(*values: bool) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.bool_())])


def recipe(**sections: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(sections)


def funnel_of(**sections: dict[str, Any]) -> Funnel:
    """The funnel of a recipe, with the thresholds that it names."""
    known = recipe(**sections)
    return Funnel(known, declared(known.quality))


def test_a_value_beyond_a_threshold_is_flagged_and_a_missing_one_is_not() -> None:
    table = rows(sharpness=[5.0, 10.0, None], cloudiness=[0.6, 0.5, 0.7], realism=[None] * 3)
    limits = {"min_sharpness": 10.0, "max_cloudiness": 0.5, "min_realism": 0.9}
    flags = flags_of(table, declared(recipe(quality=limits).quality))
    assert flags == [["sharpness", "cloudiness"], [], ["cloudiness"]]


@pytest.mark.parametrize("value", [False, 0, 0.0])
def test_a_threshold_that_is_switched_off_flags_nothing(value: Any) -> None:
    quality = recipe(quality={"min_sharpness": value, "min_realism": False}).quality
    assert declared(quality) == []
    assert declared(recipe(quality={"max_cloudiness": False}).quality) == []


@pytest.mark.parametrize(("value", "words"), [(True, "or false for no threshold"), ("x", "number")])
def test_a_threshold_is_a_number_or_false(value: Any, words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        recipe(quality={"min_contrast": value})


def test_each_row_is_left_out_for_the_first_reason_that_holds() -> None:
    table = rows(
        split=[None, 0, 0, 0, 0], copy=[True, True, False, None, None], sharpness=[0, 0, 0, 0, 50]
    )
    funnel = funnel_of(quality={"min_sharpness": 1.0})
    kept = funnel.keep("synthetic", table, repeats(False, True, True, False, False))
    assert kept.column("sharpness").to_pylist() == [50]
    assert funnel.left_out == {
        "synthetic": {"set_aside": 1, "copies": 1, "repeats_held_out": 1, "flagged": 1}
    }
    assert funnel.flags == {"synthetic": {"sharpness": 4}}


def test_flags_without_dropping() -> None:
    quality = {"min_sharpness": 1.0, "drop_flagged": False}
    funnel = funnel_of(quality=quality, memorization={"drop_copies": False})
    kept = funnel.keep("real", rows(sharpness=[0.0, 2.0], copy=[True, None]), repeats(False, False))
    assert kept.column("flags").to_pylist() == [["sharpness"], []]
    assert funnel.left_out["real"].total() == 0


def test_thresholds_can_be_for_synthetic_rows_only() -> None:
    funnel = funnel_of(quality={"min_sharpness": 1.0, "kinds": ["synthetic"]})
    table = rows(sharpness=[0.0])
    assert funnel.keep("real", table, repeats(False)).column("flags").to_pylist() == [[]]
    assert funnel.keep("synthetic", table, repeats(False)).num_rows == 0


@pytest.mark.parametrize(("split", "kept"), [("official", 1), ("blocks", 0)])
def test_the_official_split_is_not_mended(split: str, kept: int) -> None:
    funnel = Funnel(recipe(**{"import": {"sources": ["x.zip"], "split": split}}))
    assert funnel.keep("synthetic", rows(sharpness=[1.0]), repeats(True)).num_rows == kept
