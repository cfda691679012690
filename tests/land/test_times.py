"""When a scene was taken is read from its tags, its name, what lies beside it, or nowhere."""

import json
from pathlib import Path

import pytest

from builder.land import times

DAY = "2023-06-01T00:00:00Z/2023-06-01T23:59:59Z"
INSTANT = "2023-06-01T08:56:01Z"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2023-06-01", DAY),
        ("2023-06-01T08:56:01Z", INSTANT),
        ("2023-06-01T08:56:01.024Z", INSTANT),
        ("2023-06-01 08:56:01", INSTANT),
        ("2023-06-01T08:56:01+00:00", INSTANT),
        ("2023-06-01/2023-08-31", "2023-06-01T00:00:00Z/2023-08-31T23:59:59Z"),
    ],
)
def test_times_are_written_in_one_form(text: str, time: str) -> None:
    assert str(times.parse(text)) == time
    assert str(times.parse(time)) == time


@pytest.mark.parametrize(
    "text", ["", "summer", "2023-13-01", "2023-06-31", "2023/06/01", "2023-08-31/2023-06-01", "1/2"]
)
def test_what_is_no_time_says_what_is_expected(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected 2023-06-12|must be|out of range|before it begins"
    ):
        times.parse(text)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        (
            "ESA_WorldCover_10m_2021_V2_N36E033_S2RGBNIR.tif",
            "2021-01-01T00:00:00Z/2021-12-31T23:59:59Z",
        ),
        ("S2A_MSIL2A_20230601T085601_N0509_R007_T36SVF_20230601T141203.SAFE", INSTANT),
        ("T36SVF_20230601T085601_B04_10m.jp2", INSTANT),
        ("L2A_T36SVF_20230601T085601", INSTANT),
        ("S2B_T36SVF_20230601T085601_L2A", INSTANT),
        ("S2A_36SVF_20230601_0_L2A", DAY),
        ("sentinel2_S2C_36SVF_20230601_1_L2A_B04.tif", DAY),
        ("scene.tif", ""),
        ("export_20230601.tif", ""),  # of what, nobody says
        ("S2A_36SVF_20231399_0_L2A", ""),
        ("MYS2A_model_20230601.tif", ""),
        ("ESA_WorldCover_10m_0000_x.tif", ""),
    ],
)
def test_names_of_products_say_when(name: str, time: str) -> None:
    assert str(times.of_name(name) or "") == time


@pytest.mark.parametrize(
    ("tags", "time"),
    [
        ({"ACQUISITION_DATETIME": "2023-06-01T08:56:01.5Z"}, INSTANT),
        ({"ACQUISITIONDATETIME": "2023-06-01 08:56:01"}, INSTANT),
        ({"start_datetime": "2023-06-01", "end_datetime": "2023-06-01"}, DAY),
        ({"datetime": "none", "PRODUCT_START_TIME": "2023-06-01T08:56:01.024Z"}, INSTANT),
        ({"TIFFTAG_DATETIME": "2026:01:01 00:00:00", "datetime": "2026:01:01 00:00:00"}, ""),
        ({}, ""),
    ],
)
def test_tags_say_when(tags: dict[str, str], time: str) -> None:
    assert times.of_tags(tags) == time


def test_what_lies_beside_a_band_says_when(tmp_path: Path) -> None:
    bands = [tmp_path / "scene" / "R10m" / f"{band}.tif" for band in ("B04", "B03", "B02")]
    bands[0].parent.mkdir(parents=True)
    assert times.of_files(bands, "scene") == ("", None)
    item = bands[0].with_name("item.json")
    item.write_text("[" * 100_000)
    assert times.of_files(bands, "scene") == ("", None)
    item.write_text(json.dumps({"type": "Feature", "properties": {"datetime": INSTANT}}))
    assert times.of_files(bands, "scene") == ("", None)  # GeoJSON of anybody
    item.write_text(
        json.dumps(
            {"type": "Feature", "stac_version": "1.0.0", "properties": {"datetime": INSTANT}}
        )
    )
    assert times.of_files(bands, "scene") == (INSTANT, item)
    granule = tmp_path / "scene" / "MTD_TL.xml"
    granule.write_text(
        '<a><SENSING_TIME metadataLevel="Standard">2023-06-01T08:59:00.1Z</SENSING_TIME>'
    )
    assert times.of_files(bands, "scene") == ("2023-06-01T08:59:00Z", granule)
    assert times.of_files(bands, "T36SVF_20230601T085601") == (INSTANT, None)


def test_the_source_names_the_time_where_its_name_does_not() -> None:
    assert times.stated("T36SVF_20230601T085601", INSTANT) == "T36SVF_20230601T085601"
    assert times.stated("scene.tif", "") == "scene.tif"
    for name in ("scene.tif", "S2A_36SVF_20230601_0_L2A"):
        source = times.stated(name, INSTANT)
        assert source == f"{name}, {INSTANT}"
        assert str(times.of_source(source)) == INSTANT
