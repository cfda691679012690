"""The pixel grid: products checked against their names, mosaics over seams, other grids."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform as warp_points

from builder.core.errors import ArasError
from builder.land import grid, products
from builder.land.legends import public
from builder.land.rasters import rendered
from tests.makers import raster_ways
from tests.makers.products import (
    CELL,
    codes_of,
    composite_name,
    land,
    map_name,
    reflect,
    shown,
    write_composite,
    write_map,
    write_tif,
)

LEFT, TOP = grid.cell_origin(CELL)
LEGEND = public("worldcover")


def inspect_map(path: Path, *, resample: bool = False) -> products.Raster:
    return products.inspect(path, products.MAP, resample=resample)


def inspect_composite(path: Path, *, resample: bool = False) -> products.Raster:
    return products.inspect(path, products.COMPOSITE, resample=resample)


@pytest.mark.parametrize(
    ("cell", "longitude", "latitude"),
    [("N36E033", 33, 37), ("S01W079", -79, 0), ("N00W078", -78, 1), ("S03E179", 179, -2)],
)
def test_a_cell_is_named_by_its_lower_left_corner(cell: str, longitude: int, latitude: int) -> None:
    assert grid.lonlat(*grid.cell_origin(cell)) == pytest.approx((longitude, latitude))


def test_a_map_cell_spans_three_degrees() -> None:
    assert grid.lonlat(*grid.cell_origin("N36E033", 3)) == pytest.approx((33, 39))


@pytest.mark.parametrize("cell", ["36N033E", "N36E33", "n36e033", ""])
def test_what_is_no_cell_name_is_refused(cell: str) -> None:
    with pytest.raises(ArasError, match="not a cell name; expected one like N36E028"):
        grid.cell_origin(cell)


def test_a_cropped_product_is_placed_in_the_global_grid(tmp_path: Path) -> None:
    path = write_composite(tmp_path, reflect(land((70, 90))), LEFT + 128, TOP + 192)
    raster = inspect_composite(path)
    assert (raster.column, raster.row, raster.width, raster.height) == (
        LEFT + 128,
        TOP + 192,
        90,
        70,
    )
    assert (raster.cell, raster.warp) == (CELL, False)


IDS = land((64, 64))


def bad_composite(folder: Path, fault: str) -> Path:
    """A composite with one fault."""
    dn, place = reflect(IDS), (LEFT, TOP)
    shifted = rasterio.Affine(1 / 12000, 0, 33 + 0.4 / 12000, 0, -1 / 12000, 37)
    utm = {"crs": "EPSG:32636", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_094_000)}
    path = folder / composite_name(CELL)
    if fault == "text":
        path.write_text("this is no raster")
    elif fault == "empty":
        path.touch()
    elif fault == "png":
        Image.fromarray(IDS).save(path, format="PNG")
    elif fault == "bands":
        write_composite(folder, dn[:2], *place)
    elif fault == "dtype":
        write_composite(folder, dn.astype(np.uint8), *place)
    elif fault == "no crs":
        write_composite(folder, dn, *place, crs=None)
    elif fault == "other cell":
        write_composite(folder, dn, LEFT + grid.PER_DEGREE, TOP)
    elif fault == "sticks out":
        write_composite(folder, dn, LEFT - 32, TOP)
    elif fault == "crs":
        write_composite(folder, dn, *place, **utm)
    elif fault == "pixel size":
        write_composite(folder, dn, *place, per_degree=6000)
    elif fault == "shifted":
        write_composite(folder, dn, *place, transform=shifted)
    elif fault == "rotated":
        turned = rasterio.Affine(1 / 12000, 1e-6, 33, 1e-6, -1 / 12000, 37)
        write_composite(folder, dn, *place, transform=turned)
    elif fault == "name":
        return write_composite(folder, dn, *place, name="my_scene.tif")
    elif fault == "is a map":
        return write_composite(folder, dn, *place, name=map_name(CELL))
    return path


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("text", "not a readable GeoTIFF .*fetch the file again"),
        ("empty", "not a readable GeoTIFF .*fetch the file again"),
        ("png", "a PNG file, expected a GeoTIFF"),
        ("bands", "2 bands, expected at least 3"),
        ("dtype", "samples are uint8 without a scale: a rendered picture, expected reflectance"),
        ("no crs", "has no CRS; expected a georeferenced GeoTIFF"),
        ("other cell", r"its name says cell N36E033 \(1°\), its georeference 34\.0000 to 34\.0053"),
        ("sticks out", "its name says cell N36E033"),
        ("crs", 'its CRS is EPSG:32636, not EPSG:4326; set resample = "nearest" or "bilinear"'),
        ("pixel size", "not 1/12000°; set resample"),
        ("shifted", "shifted against the grid by a fraction of a pixel; set resample"),
        ("rotated", "its grid is rotated; set resample"),
        ("name", "not named like a WorldCover S2RGBNIR product .*rename it"),
        ("is a map", "not named like a WorldCover S2RGBNIR product"),
    ],
)
def test_a_bad_product_is_refused_by_name_with_the_way_out(
    tmp_path: Path, fault: str, message: str
) -> None:
    path = bad_composite(tmp_path, fault)
    with pytest.raises(ArasError, match=message) as raised:
        inspect_composite(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("fault", ["crs", "pixel size", "shifted", "rotated"])
def test_a_product_on_another_grid_is_accepted_for_resampling(tmp_path: Path, fault: str) -> None:
    raster = inspect_composite(bad_composite(tmp_path, fault), resample=True)
    assert raster.warp
    assert min(grid.overlap(raster, LEFT, TOP, grid.PER_DEGREE, grid.PER_DEGREE)) > 0
    assert (raster.column, raster.row) == pytest.approx((LEFT, TOP), abs=200)
    assert 60 <= raster.width <= 130


def test_resampling_does_not_excuse_a_product_that_lies_elsewhere(tmp_path: Path) -> None:
    dn = reflect(IDS)
    path = write_composite(tmp_path, dn, LEFT + 2 * grid.PER_DEGREE, TOP, per_degree=6000)
    with pytest.raises(ArasError, match="its name says cell N36E033"):
        inspect_composite(path, resample=True)


def test_a_truncated_product_says_where_it_cannot_be_read(tmp_path: Path) -> None:
    path = write_composite(tmp_path, reflect(land((256, 256))), LEFT, TOP, blockysize=16)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    raster = inspect_composite(path)
    with (
        products.opened(raster) as product,
        pytest.raises(ArasError, match="truncated or damaged: fetch it again") as raised,
    ):
        product.read(LEFT, TOP, 256, 256)
    assert str(path) in str(raised.value)


def test_nearest_resampling_of_pixels_twice_as_large_repeats_each_twice(tmp_path: Path) -> None:
    dn = reflect(land((32, 40)))
    path = write_composite(tmp_path, dn, LEFT, TOP, per_degree=6000)
    raster = inspect_composite(path, resample=True)
    with products.opened(raster, "nearest") as product:
        read = product.read(LEFT, TOP, 80, 64).values
    np.testing.assert_array_equal(read, dn[:3].repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("what", ["S2RGBNIR", "Map"])
def test_a_product_on_another_grid_means_the_same_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(raster_ways, "STEP", 2 / grid.PER_DEGREE)
    ids = land((20, 30))
    hole = np.zeros(ids.shape, bool)
    hole[3:9, 4:11] = True
    left, top = grid.cell_origin("N36W033")
    dn, codes = reflect(ids), codes_of(ids)[None]
    ways = raster_ways.COMPOSITES if what == "S2RGBNIR" else raster_ways.MAPS
    for number, way in enumerate(ways.values()):
        path = tmp_path / str(number) / f"x_N36W033_{what}.tif"
        path.parent.mkdir()
        way(path, dn if what == "S2RGBNIR" else codes, hole, left, top)
        with products.opened(products.inspect(path, what, resample=True)) as product:
            values, valid = product.read(left, top, 60, 40)
            bands = product.bands
        np.testing.assert_array_equal(valid, ~hole.repeat(2, axis=0).repeat(2, axis=1))
        expected = (shown(dn[:3]) if what == "S2RGBNIR" else codes).repeat(2, 1).repeat(2, 2)
        if what == "S2RGBNIR":
            values, _ = rendered(values, bands, 0.0, 0.275)
        np.testing.assert_array_equal(values[:, valid], expected[:, valid])


def test_bilinear_resampling_of_a_plane_gives_the_plane(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :40]
    dn = np.stack([1000 + 40 * x + 20 * y] * 4).astype(np.uint16)
    path = write_composite(tmp_path, dn, LEFT, TOP, per_degree=6000)
    raster = inspect_composite(path, resample=True)
    with products.opened(raster, "bilinear") as product:
        read = product.read(LEFT, TOP, 80, 80).values[0]
    row, column = np.mgrid[:80, :80]
    plane = 1000 + 40 * ((column + 0.5) / 2 - 0.5) + 20 * ((row + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(read[2:-2, 2:-2], plane[2:-2, 2:-2], atol=1)


def test_nearest_resampling_from_utm_shows_the_pixel_that_lies_there(tmp_path: Path) -> None:
    codes = codes_of(land((200, 200), grain=6))
    place = rasterio.Affine(10, 0, 515_000, 0, -10, 4_080_000)
    path = write_map(tmp_path, codes, 0, 0, crs="EPSG:32636", transform=place)
    raster = inspect_map(path, resample=True)
    xs, ys = warp_points("EPSG:32636", "EPSG:4326", [515_000, 517_000], [4_080_000, 4_078_000])
    column, row = round((xs[0] + 180) * 12000) + 20, round((90 - ys[0]) * 12000) + 20
    with products.opened(raster) as product:
        read = product.read(column, row, 120, 120).values[0]
    lines, columns = np.mgrid[:120, :120]
    lon, lat = grid.lonlat(0, 0)
    lons = lon + (column + columns.ravel() + 0.5) / 12000
    lats = lat - (row + lines.ravel() + 0.5) / 12000
    east, north = warp_points("EPSG:4326", "EPSG:32636", lons.tolist(), lats.tolist())
    i = ((4_080_000 - np.array(north)) // 10).astype(int)
    j = ((np.array(east) - 515_000) // 10).astype(int)
    # GDAL warps with an approximation an eighth of a pixel wide, so a few edges may fall aside.
    assert (read.ravel() == codes[i, j]).mean() > 0.98


def two_maps(folder: Path) -> tuple[np.ndarray, list[products.Raster]]:
    """Land on both sides of 33° E, and its two maps."""
    ids = land((60, 100), seed=4)
    west = write_map(folder, codes_of(ids[:, :50]), LEFT - 50, TOP, name=map_name("N36E030"))
    east = write_map(folder, codes_of(ids[:, 50:]), LEFT, TOP, name=map_name("N36E033"))
    return ids, [inspect_map(west), inspect_map(east)]


def test_a_mosaic_continues_over_the_seam_of_two_maps(tmp_path: Path) -> None:
    ids, rasters = two_maps(tmp_path)
    with products.opened(rasters[0]) as west, products.opened(rasters[1]) as east:
        maps = [west, east]
        mosaic = products.mosaic(maps, LEGEND, LEFT - 30, TOP + 10, 64, 40)
        wider = products.mosaic(maps, LEGEND, LEFT + 40, TOP + 50, 20, 20)
    np.testing.assert_array_equal(mosaic, ids[10:50, 20:84])
    np.testing.assert_array_equal(wider[:10, :10], ids[50:, 90:])
    assert (wider[10:] == products.OUTSIDE).all()
    assert (wider[:, 10:] == products.OUTSIDE).all()


def test_a_class_value_that_worldcover_lacks_names_map_value_and_count(tmp_path: Path) -> None:
    codes = codes_of(land((40, 40)))
    codes[5:8, 5:9] = 37
    path = write_map(tmp_path, codes, LEFT, TOP)
    raster = inspect_map(path)
    with products.opened(raster) as product, pytest.raises(ArasError) as raised:
        products.mosaic([product], LEGEND, LEFT, TOP, 40, 40)
    assert f"{path}: class value 37 (12 pixels)" in str(raised.value)
    assert "add it to remap in [tiles]" in str(raised.value)


def haversine(a: np.ndarray, b: np.ndarray) -> float:
    """Kilometres along the great circle between (longitude, latitude) points."""
    (lon, lat), (lon2, lat2) = np.radians(a), np.radians(b)
    h = np.sin((lat2 - lat) / 2) ** 2
    h += np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    return float(2 * grid.EARTH_KM * np.arcsin(np.sqrt(h)))


@pytest.mark.parametrize("latitude", [0.0, 36.0, -60.0])
@pytest.mark.parametrize("west", [33.0, 179.95])
def test_the_gap_between_tiles_is_the_distance_between_their_edges(
    latitude: float, west: float
) -> None:
    size = 256 / grid.PER_DEGREE
    for dx, dy in [(3, 0), (0, 5), (4, 2), (10, 7)]:
        a = np.array([west, latitude])
        b = a + np.array([dx, dy]) * size
        wrapped = np.array([(b[0] + 180) % 360 - 180, b[1]])
        gap = grid.gap_km(*a[:, None], *wrapped[:, None], size)[0]
        edge = [a + size / 2 * np.sign([dx, dy]), b - size / 2 * np.sign([dx, dy])]
        assert gap == pytest.approx(haversine(*edge), rel=0.02)


def test_neighbouring_tiles_have_no_gap() -> None:
    size = 256 / grid.PER_DEGREE
    place = np.array([[33.0, 36.0], [33 + size, 36.0], [33 + size, 36 - size], [33.001, 36.001]])
    gaps = grid.gap_km(place[:1, 0], place[:1, 1], place[:, 0], place[:, 1], size)
    assert gaps.tolist() == [0, 0, 0, 0]


def test_write_tif_is_read_back_where_it_was_put(tmp_path: Path) -> None:
    data = codes_of(land((20, 30)))[None]
    path = write_tif(tmp_path / map_name(CELL), data, LEFT + 5, TOP + 7)
    with rasterio.open(path) as source:
        assert source.transform.c == pytest.approx(33 + 5 / 12000)
        assert source.transform.f == pytest.approx(37 - 7 / 12000)
