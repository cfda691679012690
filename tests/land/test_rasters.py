"""A raster is read as it describes itself, or refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags

from builder.core.errors import ArasError
from builder.land import rasters
from builder.land.grid import cell_origin
from tests.makers.products import codes_of, land, reflect, shown
from tests.makers.raster_ways import COMPOSITES, MAPS, write

PLACE = cell_origin("N36W033")
IDS = land((20, 30))
DN = reflect(IDS)
HOLE = np.zeros(IDS.shape, bool)
HOLE[3:9, 4:11] = True
RED, GREEN, BLUE = ColorInterp.red, ColorInterp.green, ColorInterp.blue
UNDEFINED = ColorInterp.undefined


@pytest.mark.parametrize("way", COMPOSITES)
def test_a_composite_means_the_same_however_it_is_written(tmp_path: Path, way: str) -> None:
    path = tmp_path / "composite.tif"
    COMPOSITES[way](path, DN, HOLE, *PLACE)
    description = rasters.describe(path, rasters.COLOURS)
    with rasters.opened(description) as reader:
        values, valid = reader.read(2, 1, 20, 15)
    np.testing.assert_array_equal(valid, ~HOLE[1:16, 2:22])
    image, _ = rasters.rendered(values, description.bands, 0.0, 0.275)
    np.testing.assert_array_equal(image[:, valid], shown(DN[:3, 1:16, 2:22])[:, valid])


@pytest.mark.parametrize("way", MAPS)
def test_a_map_means_the_same_however_it_is_written(tmp_path: Path, way: str) -> None:
    path = tmp_path / "map.tif"
    codes = codes_of(IDS)
    MAPS[way](path, codes[None], HOLE, *PLACE)
    with rasters.opened(rasters.describe(path, rasters.CLASS)) as reader:
        (read,), valid = reader.read(2, 1, 20, 15)
    np.testing.assert_array_equal(valid, ~HOLE[1:16, 2:22])
    np.testing.assert_array_equal(read[valid], codes[1:16, 2:22][valid])


def test_what_was_understood_of_a_file_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "composite.tif"
    COMPOSITES["aux.xml"](path, DN, HOLE, *PLACE)
    assert rasters.describe(path, rasters.COLOURS).lines() == [
        "30 × 20 uint16, EPSG:4326, north up; bands red 1, green 2, blue 3 (by order: the file "
        "names none)",
        "reflectance = value × 0.0001 − 0.1",
        "no data: value 65535",
        "read together with composite.tif.aux.xml",
    ]


def test_without_a_word_on_it_no_data_is_0_in_every_band(tmp_path: Path) -> None:
    path = tmp_path / "composite.tif"
    dn = DN.copy()
    dn[:2, 0, 0] = dn[:, 1, 1] = 0
    write(path, dn, *PLACE)
    description = rasters.describe(path, rasters.COLOURS)
    assert "no data: 0 in every band (the file names none)" in description.lines()
    with rasters.opened(description) as reader:
        valid = reader.read(0, 0, 30, 20).valid
    assert np.argwhere(~valid).tolist() == [[1, 1]]


@pytest.mark.parametrize("internal", [True, False])
def test_each_band_may_have_no_data_of_its_own(tmp_path: Path, internal: bool) -> None:
    path = tmp_path / "composite.tif"
    dn = DN.copy()
    dn[0, 0, 0], dn[1, 1, 1], dn[0, 2, 2] = 65535, 7, 7
    write(path, dn, *PLACE, mask=~HOLE, internal=internal)
    values = "".join(
        f'<PAMRasterBand band="{i + 1}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        for i, value in enumerate((65535, 7, 65535))
    )
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{values}</PAMDataset>")
    with rasters.opened(rasters.describe(path, rasters.COLOURS)) as reader:
        valid = reader.read(0, 0, 30, 20).valid
    missing = HOLE.copy()
    missing[0, 0] = missing[1, 1] = True
    np.testing.assert_array_equal(~valid, missing)


@pytest.mark.parametrize("nodata", [-9999, 70000, 0.5, float("nan"), float("inf")])
def test_a_no_data_value_that_samples_cannot_have_hides_nothing(
    tmp_path: Path, nodata: float
) -> None:
    path = tmp_path / "composite.tif"
    COMPOSITES["as products are"](path, DN, HOLE & False, *PLACE)
    value = f"<NoDataValue>{nodata}</NoDataValue>"
    bands = "".join(f'<PAMRasterBand band="{n}">{value}</PAMRasterBand>' for n in (1, 2, 3))
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    with rasters.opened(rasters.describe(path, rasters.COLOURS)) as reader:
        assert reader.read(0, 0, 30, 20).valid.all()


def test_a_near_infrared_band_that_gdal_takes_for_alpha_hides_nothing_once_it_is_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "composite.tif"
    dn = DN.copy()
    dn[3, :5] = 0
    tags = {
        "colorinterp": [RED, GREEN, BLUE, ColorInterp.alpha],
        "descriptions": ["B4", "B3", "B2", "B8"],
    }
    write(path, dn, *PLACE, photometric="RGB")
    with rasterio.open(path, "r+") as out:
        out.colorinterp, out.descriptions = tags["colorinterp"], tags["descriptions"]
        assert out.mask_flag_enums[0][-1] is MaskFlags.alpha
    with rasters.opened(rasters.describe(path, rasters.COLOURS)) as reader:
        assert reader.read(0, 0, 30, 20).valid.all()


def bands(*names: str) -> dict[str, Any]:
    return {"tags": {"descriptions": names}}


def colours(*which: ColorInterp) -> dict[str, Any]:
    return {"tags": {"colorinterp": which}}


POINTS = [GroundControlPoint(0, 0, 33, 37), GroundControlPoint(20, 30, 34, 36)]
COMPLEX = DN.astype(np.complex64)
REFUSED: list[tuple[np.ndarray, dict[str, Any], str]] = [
    (DN[:2], {}, "2 bands, expected at least 3"),
    (DN.astype(np.uint8), {}, "samples are uint8 without a scale: a rendered picture"),
    (COMPLEX, {}, "samples are complex64, expected whole numbers or floats"),
    (DN, bands("B04", "B04", "B02", "B08"), "names its bands 1 B04, 2 B04.* expected red"),
    (DN, bands("B02", "B03", "B08", "B11"), "expected red .* once among them"),
    (DN, bands("VV", "VH", "slope", "dem"), "names its bands 1 VV, 2 VH, 3 slope"),
    (DN, bands("red edge", "green", "blue", "nir"), "expected red"),
    (DN, bands("B8A", "B03", "B02", "B04A"), "expected red"),
    (DN, colours(RED, GREEN, UNDEFINED, UNDEFINED), "only some of red, green and blue are marked"),
    (
        DN,
        {
            "tags": {
                "descriptions": ["red", "green", "blue", "nir"],
                "colorinterp": [BLUE, GREEN, RED, UNDEFINED],
            }
        },
        "its colours say red, green, blue are bands 3, 2, 1; correct either",
    ),
    (DN, {"tags": {"scales": [0.0] * 4}}, "scale 0 and offset 0 of band 1"),
    (DN, {"tags": {"scales": [float("nan")] * 4}}, "scale nan and offset 0 of band 1"),
    (DN, {"tags": {"offsets": [float("inf")] * 4}}, "scale 1 and offset inf of band 1"),
    (DN, {"crs": None}, "has no CRS; expected a georeferenced GeoTIFF"),
    (DN, {"crs": "EPSG:4326", "gcps": POINTS, "transform": None}, "ground control points only"),
]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(("data", "how", "message"), REFUSED)
def test_what_is_not_understood_of_a_composite_is_refused_by_name(
    tmp_path: Path, data: np.ndarray, how: dict[str, Any], message: str
) -> None:
    path = tmp_path / "composite.tif"
    write(path, data, *PLACE, **how)
    with pytest.raises(ArasError, match=message) as raised:
        rasters.describe(path, rasters.COLOURS)
    assert str(path) in str(raised.value)


CODES = codes_of(IDS)[None]


@pytest.mark.parametrize(
    ("data", "how", "message"),
    [
        (CODES.astype(np.float32), {}, "samples are float32, expected whole numbers: class codes"),
        (CODES, {"tags": {"scales": [0.5]}}, "its class codes have scale 0.5 and offset 0"),
        (
            np.concatenate([CODES, CODES]),
            {},
            "2 bands .without names., expected one",
        ),
        (np.concatenate([CODES, CODES]), bands("map", "class"), "2 bands .1 map, 2 class."),
    ],
)
def test_what_is_not_understood_of_a_map_is_refused_by_name(
    tmp_path: Path, data: np.ndarray, how: dict[str, Any], message: str
) -> None:
    path = tmp_path / "map.tif"
    write(path, data, *PLACE, **how)
    with pytest.raises(ArasError, match=message):
        rasters.describe(path, rasters.CLASS)


def test_floats_that_cannot_be_reflectance_are_refused_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "composite.tif"
    write(path, DN.astype(np.float32), *PLACE)
    with (
        rasters.opened(rasters.describe(path, rasters.COLOURS)) as reader,
        pytest.raises(ArasError, match=r"floats up to .* without a scale, expected reflectance"),
    ):
        reader.read(0, 0, 30, 20)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8", "int32", "float32"])
def test_reflectance_is_rendered_alike_from_any_samples(dtype: str) -> None:
    stored = np.array([[0, 1, 50, 100, 127]], dtype)
    band = rasters.Band("red", 1, 0.002, 0.01, None)
    image, above = rasters.rendered(stored, [band], 0.02, 0.22)
    assert image.tolist() == [[0, 0, 115, 242, 255]]
    assert above.tolist() == [[False, False, False, False, True]]
