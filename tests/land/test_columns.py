"""The schema: one truth for types, features and labels."""

import datasets
import pyarrow as pa
import pytest

from builder.core.arrow import BLOBS, leaves, options
from builder.land import columns
from builder.land.classes import CLASSES

NAMES = [column.name for column in columns.COLUMNS]


def test_every_column_is_named_once_and_explained() -> None:
    assert len(NAMES) == len(set(NAMES))
    for column in columns.COLUMNS:
        assert column.meaning.endswith(".")
        assert column.made_by


def test_datasets_reads_our_features_from_the_arrow_schema() -> None:
    arrow = columns.arrow_schema(NAMES)
    assert arrow.names == NAMES
    features = datasets.Features.from_arrow_schema(arrow)
    assert features == columns.features(NAMES)
    assert isinstance(features["image"], datasets.Image)
    assert isinstance(features["mask"], datasets.Image)
    assert features["dominant"].names == list(CLASSES)
    assert features["kind"].names == ["real", "synthetic"]
    assert features["split"].names == ["train", "validation", "test"]


def test_features_and_arrow_agree_on_every_type() -> None:
    """Else `datasets` would cast each file on loading."""
    arrow, features = columns.arrow_schema(NAMES), columns.features(NAMES).arrow_schema
    for name in NAMES:
        assert list(leaves(arrow.field(name))) == list(leaves(features.field(name))), name


def test_composition_has_a_field_per_class() -> None:
    for name in ("pixels", "percent"):
        kind = columns.arrow_type(name)
        assert [kind[i].name for i in range(kind.num_fields)] == list(CLASSES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("caption_full", columns.CAPTION), ("layout", columns.IMAGE), ("latitude", pa.float64())],
)
def test_columns_of_the_store_have_types_too(name: str, kind: pa.DataType) -> None:
    assert columns.arrow_type(name) == kind


def test_pictures_are_the_blobs_that_are_written_as_they_are() -> None:
    assert set(columns.BLOBS) <= set(BLOBS)
    written = options(columns.arrow_schema(NAMES))
    for leaf, compression in written["compression"].items():
        assert compression == ("none" if leaf.split(".")[0] in columns.BLOBS else "zstd")
    assert not any(leaf.split(".")[0] in columns.BLOBS for leaf in written["use_dictionary"])
