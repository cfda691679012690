"""Footprints, bounds and times of rows, and the footer of GeoParquet."""

import json

import numpy as np
import pyarrow as pa
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.land.columns import GEO_COLUMNS, PER_CLASS_COUNT
from builder.release import geo

STEP = 1 / 12_000
SOURCE = "ESA_WorldCover_10m_2021_V2_N36E032_S2RGBNIR.tif"


def table(*places: tuple[str | None, list[float] | None, int], source: str | None = SOURCE):
    """Rows with a CRS, a transform and a side in pixels, all of one class."""
    counts = [
        {name: side * side * (i == 0) for i, name in enumerate(CLASSES)} for *_, side in places
    ]
    rows = pa.table(
        {
            "id": [f"real/{i}" for i in range(len(places))],
            "crs": pa.array([crs for crs, *_ in places], pa.string()),
            "transform": pa.array([affine for _, affine, _ in places], pa.list_(pa.float64())),
            "pixels": pa.array(counts, PER_CLASS_COUNT),
            "source": pa.array([source] * len(places), pa.string()),
        }
    )
    centres = geo.footprints(rows).mean(axis=1)
    wrapped = (centres[:, 0] + 180) % 360 - 180
    for name, values in (("longitude", wrapped), ("latitude", centres[:, 1])):
        rows = rows.append_column(name, pa.array(values))
    return rows


def degrees(west: float, north: float, side: int = 256):
    return ("EPSG:4326", [STEP, 0.0, west, 0.0, -STEP, north], side)


def test_a_footprint_is_the_tile_counterclockwise_from_its_corners() -> None:
    rows = geo.with_geo(table(degrees(32, 36.5)))
    (ring,) = geo.rings(rows.column("geometry")[0].as_py())
    size = round(256 * STEP, 9)
    assert ring == pytest.approx(
        np.array(
            [[32, 36.5], [32, 36.5 - size], [32 + size, 36.5 - size], [32 + size, 36.5], [32, 36.5]]
        )
    )
    assert rows.column("bbox")[0].as_py() == {
        "xmin": 32.0,
        "ymin": 36.5 - size,
        "xmax": 32 + size,
        "ymax": 36.5,
    }


def test_neighbours_share_their_corners_to_the_last_bit() -> None:
    corners = geo.footprints(table(*(degrees(-78 + i * 256 * STEP, 0.168) for i in range(40))))
    assert (corners[:-1, 2:] == corners[1:, [1, 0]]).all()


def test_a_projected_tile_has_the_four_corners_that_its_crs_gives() -> None:
    left, top, metres = 600_000.0, 4_100_000.0, 10.0
    rows = table(("EPSG:32636", [metres, 0, left, 0, -metres, top], 256))
    (ring,) = geo.rings(geo.geo_columns(rows)["geometry"][0].as_py())
    x = [left, left, left + 2560, left + 2560]
    y = [top, top - 2560, top - 2560, top]
    expected = np.array(transform(CRS.from_epsg(32636), CRS.from_epsg(4326), x, y)).T
    assert ring[:4] == pytest.approx(expected, abs=1e-8)
    assert len(np.unique(ring[:4, 0])) == 4  # turned against the meridians, not its bounds


def test_a_tile_whose_rows_go_north_is_counterclockwise_too() -> None:
    rows = table(("EPSG:4326", [STEP, 0, 10.0, 0, STEP, 45.0], 64))
    x, y = geo.footprints(rows)[0].T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0


@pytest.mark.parametrize(
    "place",
    [
        degrees(180 - 100 * STEP, -16.0),
        degrees(-180 - 156 * STEP, -16.0),
        ("EPSG:32760", [10.0, 0, 819_000.0, 0, -10.0, 8_228_000.0], 256),
    ],
)
def test_a_tile_across_the_antimeridian_has_a_part_on_either_side(place) -> None:
    rows = geo.with_geo(table(place))
    west, east = geo.rings(rows.column("geometry")[0].as_py())
    assert west[:, 0].max() == 180
    assert west[:, 0].min() > 179
    assert east[:, 0].min() == -180
    assert east[:, 0].max() < -179
    box = rows.column("bbox")[0].as_py()
    assert (box["xmin"], box["xmax"]) == (-180, 180)
    footer = geo.GeoFooter()
    footer.see(rows)
    assert json.loads(footer.text())["columns"]["geometry"]["geometry_types"] == ["MultiPolygon"]


def test_a_tile_that_only_touches_the_antimeridian_is_one_polygon() -> None:
    for west in (180 - 256 * STEP, 180.0, -180.0):
        (ring,) = geo.rings(geo.geo_columns(table(degrees(west, 10)))["geometry"][0].as_py())
        assert np.ptp(ring[:, 0]) < 1


def test_a_tile_over_a_pole_and_a_row_without_a_place_have_none() -> None:
    pole = ("EPSG:3413", [10_000.0, 0, -1_280_000.0, 0, -10_000.0, 1_280_000.0], 256)
    columns = geo.geo_columns(table(pole, (None, None, 64), ("EPSG:4326", None, 64)))
    assert columns["geometry"].null_count == columns["bbox"].null_count == 3


def test_times_are_the_year_that_the_source_names() -> None:
    columns = geo.geo_columns(table(degrees(1, 1)))
    assert columns["start_datetime"][0].as_py().isoformat() == "2021-01-01T00:00:00+00:00"
    assert columns["end_datetime"][0].as_py().isoformat() == "2021-12-31T23:59:59+00:00"
    for source in ("scene.tif", None):
        nulls = geo.geo_columns(table(degrees(1, 1), source=source))
        assert nulls["start_datetime"].null_count == nulls["end_datetime"].null_count == 1


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        ("S2A_36SVF_20230601_0_L2A", "2023-06-01T00:00:00+00:00", "2023-06-01T23:59:59+00:00"),
        ("T36SVF_20230601T085601", *["2023-06-01T08:56:01+00:00"] * 2),
        ("scene.tif, 2023-06-01T08:56:01Z", *["2023-06-01T08:56:01+00:00"] * 2),
        (
            "mean.tif, 2023-06-01T00:00:00Z/2023-08-31T23:59:59Z",
            "2023-06-01T00:00:00+00:00",
            "2023-08-31T23:59:59+00:00",
        ),
    ],
)
def test_times_of_a_scene_are_those_that_its_source_says(
    source: str, first: str, last: str
) -> None:
    rows = geo.with_geo(table(degrees(1, 1), source=source))
    assert rows.column("start_datetime")[0].as_py().isoformat() == first
    assert rows.column("end_datetime")[0].as_py().isoformat() == last
    assert list(geo.misplaced(rows)) == []


def test_a_release_of_an_older_aras_has_no_time_of_a_scene_and_one_of_a_year_has() -> None:
    def timeless(source: str) -> pa.Table:
        rows = geo.with_geo(table(degrees(1, 1), source=source))
        for name in ("start_datetime", "end_datetime"):
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(
                place, rows.schema.field(place), pa.nulls(1, rows.field(name).type)
            )
        return rows

    assert list(geo.misplaced(timeless("T36SVF_20230601T085601"))) == []
    assert (
        len(list(geo.misplaced(timeless("ESA_WorldCover_10m_2021_V2_N36E033_S2RGBNIR.tif")))) == 2
    )


def test_an_unknown_crs_says_what_is_expected() -> None:
    for name in ("EPSG:none", "nowhere", ""):
        with pytest.raises(ArasError, match=r"is unknown .*expected one like EPSG:4326"):
            geo.footprints(table((name, [1.0, 0, 0, 0, -1, 0], 8)))


def test_the_footer_says_what_geoparquet_asks() -> None:
    rows = geo.with_geo(table(degrees(32, 36.5), degrees(33, 37.5), (None, None, 64)))
    footer = geo.GeoFooter()
    footer.see(rows)
    value = json.loads(footer.text())
    column = value["columns"]["geometry"]
    assert (value["version"], value["primary_column"]) == ("1.1.0", "geometry")
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Polygon"])
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert column["bbox"] == pytest.approx([32, 36.5 - 256 * STEP, 33 + 256 * STEP, 37.5])
    crs = CRS.from_user_input(json.dumps(column["crs"]))
    assert crs.is_geographic
    assert column["crs"]["id"] == {"authority": "OGC", "code": "CRS84"}


def test_the_footer_of_a_file_without_places_has_no_bounds() -> None:
    footer = geo.GeoFooter()
    rows = geo.with_geo(table((None, None, 64)))
    footer.see(rows)
    column = json.loads(footer.text())["columns"]["geometry"]
    assert column["geometry_types"] == []
    assert "bbox" not in column
    assert footer.bounds is None


def test_rows_as_they_were_located_are_not_misplaced() -> None:
    rows = geo.with_geo(table(degrees(32, 36.5), degrees(180 - 9 * STEP, 3), (None, None, 64)))
    assert list(geo.misplaced(rows)) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("geometry", "its geometry is not the footprint of its transform"),
        ("bbox", "its bbox is not that of its footprint"),
        ("start_datetime", "start_datetime is not that of its source"),
        ("end_datetime", "end_datetime is not that of its source"),
        ("longitude", "longitude and latitude are not the centre of its footprint"),
    ],
)
def test_a_place_or_time_of_another_row_is_named(name: str, message: str) -> None:
    rows = geo.with_geo(table(degrees(32, 36.5), degrees(40, 36.5)))
    other = geo.with_geo(table(degrees(40, 36.5), degrees(40, 36.5), source="a_10m_2020_b"))
    place = rows.schema.get_field_index(name)
    mixed = pa.concat_arrays(
        [other.column(name).combine_chunks()[:1], rows.column(name).combine_chunks()[1:]]
    )
    assert list(geo.misplaced(rows.set_column(place, name, mixed))) == [("real/0", message)]
    if name in GEO_COLUMNS:
        nulls = pa.nulls(2, rows.schema.field(name).type)
        problems = list(geo.misplaced(rows.set_column(place, name, nulls)))
        assert problems == [("real/0", message), ("real/1", message)]
