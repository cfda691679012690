"""JPEG 2000, and Sentinel-2 products as ESA gives them: folders with bands, clouds and metadata."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio

from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land import rasters, safe
from builder.steps.stage import shards
from tests.makers.products import SIZE, codes_of, land, write_tif
from tests.tiles.test_own_rasters import (
    BANDS,
    DN,
    NEAREST,
    PLACE,
    UTM,
    made,
    recipe,
    scene_map,
    write_bands,
)

PRODUCT = "S2A_MSIL2A_20230601T085601_N0509_R007_T36SVF_20230601T141203.SAFE"
LOSSLESS = {
    "driver": "JP2OpenJPEG",
    "compress": None,
    "nodata": None,
    "QUALITY": "100",
    "REVERSIBLE": "YES",
}
LOSSY = {**LOSSLESS, "QUALITY": "10", "REVERSIBLE": "NO"}
SAFE = f'composites = ["inputs/*.SAFE"]\n{NEAREST}'


def write_jp2(path: Path, data: np.ndarray, **more: Any) -> Path:
    return write_tif(path, data, 0, 0, crs=UTM, **{"transform": PLACE, **LOSSLESS, **more})


def write_safe(
    folder: Path, dn: np.ndarray, *, scl: np.ndarray | None = None, name: str = PRODUCT
) -> Path:
    """A product of one granule: its bands of 10 m and, if given, its classification of 20 m."""
    granule = folder / name / "GRANULE/L2A_T36SVF_A041474_20230601T085601"
    for number, band in zip((4, 3, 2), dn[:3], strict=True):
        band_name = f"T36SVF_20230601T085601_B0{number}_10m.jp2"
        write_jp2(granule / "IMG_DATA/R10m" / band_name, band[None])
    if scl is not None:
        place = PLACE @ rasterio.Affine.scale(2)
        scl_name = "T36SVF_20230601T085601_SCL_20m.jp2"
        write_jp2(granule / "IMG_DATA/R20m" / scl_name, scl[None], transform=place)
    return folder / name


def tiles(folder: Path) -> pa.Table:
    store = Store(folder / "work")
    return pa.concat_tables([store.load("tiles", s) for s in shards(store, ("real",))])


def pictures(rows: pa.Table) -> dict[str, bytes]:
    values = rows.select(["id", "image"]).to_pylist()
    return {row["id"]: row["image"]["bytes"] for row in values}


def test_a_product_folder_gives_the_tiles_of_its_bands_as_geotiffs(tmp_path: Path) -> None:
    for name in ("tif", "safe"):
        scene_map(tmp_path / name / "inputs")
    write_bands(tmp_path / "tif/inputs", DN)
    made(recipe(tmp_path / "tif", f"offset = 0\n{BANDS}"), tmp_path / "tif")
    write_safe(tmp_path / "safe/inputs", DN + 1000, scl=np.full((80, 80), 4, np.uint8))
    stage = recipe(tmp_path / "safe", SAFE)
    made(stage, tmp_path / "safe")
    rows = tiles(tmp_path / "safe")
    assert pictures(rows) == pictures(tiles(tmp_path / "tif"))
    assert set(rows.column("source").to_pylist()) == {"T36SVF_20230601T085601"}
    lines = "\n".join(
        line for some in stage.understood(Store(tmp_path / "safe/work")).values() for line in some
    )
    assert "offset -1000: processing baseline 05.09 in the name of its folder" in lines
    assert "no data by T36SVF_20230601T085601_SCL_20m.jp2: no data, saturated" in lines
    assert "compressed with loss" not in lines


def test_a_tile_with_clouds_by_the_classification_is_left_out(tmp_path: Path) -> None:
    scene_map(tmp_path / "inputs")
    scl = np.full((80, 80), 4, np.uint8)
    write_safe(tmp_path / "inputs", DN, scl=scl)
    summary, masks = made(recipe(tmp_path, f"offset = 0\n{SAFE}"), tmp_path)
    (path,) = tmp_path.glob("inputs/*/GRANULE/*/IMG_DATA/R20m/*")
    scl[15:25, 15:25] = 9
    path.unlink()
    write_jp2(path, scl[None], transform=PLACE @ rasterio.Affine.scale(2))
    again, fewer = made(recipe(tmp_path, f"offset = 0\n{SAFE}"), tmp_path)
    assert len(fewer) < len(masks)
    assert again.counts["partly_black"] > summary.counts["partly_black"]


def test_the_baseline_of_a_renamed_product_is_that_of_its_metadata(tmp_path: Path) -> None:
    scene_map(tmp_path / "inputs")
    product = write_safe(tmp_path / "inputs", DN, name="mine.SAFE")
    with pytest.raises(ArasError, match="nor its processing baseline; set offset"):
        made(recipe(tmp_path, SAFE), tmp_path)
    text = "<a><PROCESSING_BASELINE>05.10</PROCESSING_BASELINE></a>"
    (product / "MTD_MSIL2A.xml").write_text(text)
    stage = recipe(tmp_path, SAFE)
    composites, _ = stage.products(Store(tmp_path / "work"))
    assert product / "MTD_MSIL2A.xml" in composites[0].beside
    made(stage, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (("MTD_MSIL1C.xml",), "is a Level-1C product"),
        (("GRANULE/L1C_T36SVF/IMG_DATA/T36SVF_B04.jp2",), "is a Level-1C product"),
        (("GRANULE/L2A_T36SVF/IMG_DATA/R60m/T36SVF_B04_60m.jp2",), "with its 10 m bands"),
        ((), "fetch the product again"),
    ],
)
def test_a_folder_without_what_is_needed_says_what_it_is(
    tmp_path: Path, make: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "X.SAFE"
    folder.mkdir()
    for name in make:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with pytest.raises(ArasError, match=message):
        safe.bands_of(folder)


def test_any_other_folder_among_the_composites_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ArasError, match="is a folder, and not a Sentinel-2 product"):
        safe.bands_of(tmp_path / "photos")


def test_what_was_lost_is_said_of_pictures_and_refused_of_maps(tmp_path: Path) -> None:
    picture = write_jp2(tmp_path / "B04.jp2", DN[:1], **LOSSY)
    described = rasters.describe(picture, ("red",))
    assert described.loss == "JPEG 2000"
    assert "compressed with loss: JPEG 2000" in described.lines()
    codes = codes_of(land((SIZE, SIZE)))[None]
    ways: dict[str, dict[str, Any]] = {
        "a.jp2": LOSSY,
        "b.tif": {"driver": "GTiff", "compress": "jpeg", "nodata": None},
        "c.tif": {"driver": "GTiff", "compress": "lerc", "MAX_Z_ERROR": "2", "nodata": None},
    }
    for name, options in ways.items():
        path = write_tif(tmp_path / name, codes, 0, 0, **options)
        with pytest.raises(ArasError, match=r"codes are compressed with loss \((JPEG|LERC)"):
            rasters.describe(path, rasters.CLASS)
    for name, options in {
        "e.jp2": LOSSLESS,
        "f.tif": {"compress": "lerc", "MAX_Z_ERROR": "0"},
    }.items():
        path = write_tif(tmp_path / name, codes, 0, 0, **options)
        assert rasters.describe(path, rasters.CLASS).loss == ""


def test_a_cut_or_foreign_file_called_jp2_is_named(tmp_path: Path) -> None:
    path = write_jp2(tmp_path / "B04.jp2", DN[:1])
    data = path.read_bytes()
    for damaged in (data[:60], b"", b"P6 1 1 255\n\0\0\0", data[:40] + b"\xff" * 200):
        path.write_bytes(damaged)
        with pytest.raises(ArasError, match=r"B04\.jp2: "):
            rasters.describe(path, ("red",))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArasError, match=r"B04\.jp2: "):
        whole(path)


def whole(path: Path) -> rasters.Pixels:
    description = rasters.describe(path, ("red",))
    with rasters.opened(description) as reader:
        return reader.read(0, 0, description.width, description.height)


def test_without_the_driver_the_way_out_is_named(tmp_path: Path) -> None:
    scene_map(tmp_path / "inputs")
    write_safe(tmp_path / "inputs", DN)
    recipe(tmp_path, SAFE)
    command = [sys.executable, "-m", "builder", "-C", str(tmp_path), "tiles", "--dry-run"]
    environment = {**os.environ, "GDAL_SKIP": "JP2OpenJPEG"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "is JPEG 2000, which this GDAL does not read" in run.stdout
    assert "gdal_translate" in run.stdout
    assert "Traceback" not in run.stderr
