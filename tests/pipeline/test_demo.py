"""The demo: a made-up scene with all classes, and the whole way on a shrunken one."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from builder.cli import cli
from builder.land.classes import CLASSES, DEFAULT_REMAP, count_pixels
from builder.land.products import PER_DEGREE, inspect
from builder.pipeline import demo, recipe
from tests.makers.page import driver, walk

__all__ = ["driver"]

SMALL = {
    "steps = 120\n\n[generator]": "steps = 2\nbatch = 2\ncrop = 64\n\n[generator]",
    "rows = 16": "rows = 2",
    'kind = "processes"': 'kind = "serial"',
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scene of 6 × 8 patches in place of 10 × 11."""
    for name, value in {"ROWS": 6, "LEFT": 5, "RIGHT": 3}.items():
        monkeypatch.setattr(demo, name, value)


@pytest.mark.usefixtures("small")
def test_the_demo_ends_with_a_checked_release_that_opens(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe.write(tmp_path / "demo", demo=True)
    path = tmp_path / "demo" / "dataset.toml"
    text = path.read_text(encoding="utf-8")
    for old, new in SMALL.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["-C", str(tmp_path), "demo", "demo"])
    assert done.exit_code == 0, done.output
    release = tmp_path / "demo" / "release" / "0.1.0"
    assert f'load_dataset("{release}", "real")' in done.output
    assert "256×256 RGB" in done.output
    assert "train-generator: fitted to " in done.output
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "no place on Earth" in card
    again = CliRunner().invoke(cli, ["-C", str(tmp_path), "demo", "demo", "--json"])
    assert again.exit_code == 0, again.output
    summary = json.loads(again.stdout)
    assert not any(step.get("made") for step in summary["steps"])
    assert summary["steps"][-1]["violations"] == []
    walk(request.getfixturevalue("driver"), release, tmp_path / "page")  # last: it may be skipped


@pytest.mark.usefixtures("small")
def test_the_scene_is_in_the_shape_of_the_real_products(tmp_path: Path) -> None:
    paths = demo.make_scene(tmp_path)
    maps, composites = paths[:2], paths[2:]
    for path in maps:
        raster = inspect(path, "Map", resample=False)
        assert raster.width == raster.height == 3 * PER_DEGREE
        assert path.stat().st_size < 2_000_000
    for path in composites:
        raster = inspect(path, "S2RGBNIR", resample=False)
        assert raster.width == raster.height == PER_DEGREE
    with rasterio.open(composites[1]) as east, rasterio.open(maps[1]) as land:
        top = demo.FIRST_ROW * demo.PATCH
        rows = (top, top + demo.ROWS * demo.PATCH)
        window = (rows, (0, demo.RIGHT * demo.PATCH))
        dn = east.read(window=window)
        below = ((rows[0] + 2 * PER_DEGREE, rows[1] + 2 * PER_DEGREE), window[1])
        codes = land.read(1, window=below)
    seen = dn.any(axis=0)
    assert seen.mean() > 0.9
    assert not seen[:, -demo.PATCH // 2 :].any() or not seen[: demo.PATCH // 2, -1].any()
    assert set(np.unique(codes)) <= set(DEFAULT_REMAP)


def test_the_same_seed_makes_the_same_land_with_every_class() -> None:
    first, two, other = (demo.land_cover(np.random.default_rng(s), (1280, 1280)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, two)
    assert (first != other).any()
    shares = count_pixels(first) / first.size
    assert (shares > 0.001).all(), dict(zip(CLASSES, shares, strict=True))


def test_every_class_has_its_own_colour_and_no_pixel_is_black() -> None:
    ids = np.repeat(np.arange(7, dtype=np.uint8), 64)[None].repeat(64, axis=0)
    dn = demo.reflectance(np.random.default_rng(0), ids)
    assert dn.min() > 0
    means = np.array([dn[:, ids == i].mean(axis=1) for i in range(7)])
    gaps = np.abs(means[:, None] - means).max(axis=2)[~np.eye(7, dtype=bool)]
    assert gaps.min() > 100


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    ids = np.zeros((1, 64, 64), dtype=np.uint8)
    path = tmp_path / "a.tif"
    path.write_bytes(b"mine")
    demo.write_product(path, (0, 0), 1, ids, 0, 0)
    assert path.read_bytes() == b"mine"
