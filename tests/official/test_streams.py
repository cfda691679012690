"""Provenance of captions is what somebody vouches for, and null where nobody does."""

import json
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.official.names import OFFICIAL_MD5, STREAMS
from builder.official.streams import PUBLISHED, UNKNOWN, Column, layout_columns, write_sidecar

OURS = Column("text_qwen3-4b", "composition", "aras-template", "3", "ab" * 32)


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    write_sidecar(tmp_path, {**dict.fromkeys(STREAMS), OURS.name: OURS})
    return tmp_path / "streams.json"


def test_a_sidecar_says_which_streams_there_are(sidecar: Path) -> None:
    assert layout_columns([sidecar.parent], {}) == (OURS,)


@pytest.mark.parametrize("name", ["train", "test.zip", "captions.csv"])
def test_it_lies_beside_the_sources_too(sidecar: Path, name: str) -> None:
    if name == "train":
        (sidecar.parent / name).mkdir()
    assert layout_columns([sidecar.parent / name], {"test.zip": "any"}) == (OURS,)


def test_the_official_zips_name_their_models_by_their_md5(tmp_path: Path) -> None:
    zips = [tmp_path / name for name in OFFICIAL_MD5 if name.endswith(".zip")]
    assert layout_columns(zips, {}) == PUBLISHED
    assert layout_columns([*zips, tmp_path / "captions.csv"], {}) == PUBLISHED
    for path in zips:
        path.touch()
    assert layout_columns([tmp_path], {}) == PUBLISHED


@pytest.mark.parametrize("sum_", ["any", "0" * 32])
def test_other_zips_and_folders_name_none(tmp_path: Path, sum_: str) -> None:
    zips = [tmp_path / "train.zip", tmp_path / "test.zip"]
    assert layout_columns(zips, {"test.zip": sum_}) == UNKNOWN
    assert layout_columns([tmp_path], {}) == UNKNOWN
    assert {column.model for column in UNKNOWN} == {None}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"format": "aras streams 9", "columns": {}}),
        json.dumps({"format": "aras streams 1", "columns": {"caption": {"stream": "a"}}}),
        json.dumps({"format": "aras streams 1", "columns": {"text_qwen3-4b": {"name": "a"}}}),
        json.dumps(
            {
                "format": "aras streams 1",
                "columns": {name: {"stream": "a"} for name in list(STREAMS)[:2]},
            }
        ),
    ],
)
def test_a_file_that_is_no_sidecar_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "streams.json").write_text(text)
    with pytest.raises(ArasError, match=r"streams\.json: does not say which streams"):
        layout_columns([tmp_path], {})


def test_two_that_differ_are_an_error(sidecar: Path) -> None:
    (sidecar.parent / "a").mkdir()
    write_sidecar(sidecar.parent / "a", dict.fromkeys(STREAMS))
    with pytest.raises(ArasError, match="differ: keep only the file"):
        layout_columns([sidecar.parent / "a"], {})
