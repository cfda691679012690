"""The whole way on the real scene: the right answer is known, to the pixel."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from builder.core.engine import Engine
from builder.land.classes import CLASSES
from builder.land.pictures import per_class
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.release.check import violations
from builder.release.package import package
from builder.steps.stage import shards
from tests.makers.page import driver, walk

__all__ = ["driver"]

SCENE = Path(__file__).parents[3] / "shared" / "data" / "scene"

TILES = {"N00W079": 119, "S01W079": 136, "N00W078": 7, "S01W078": 8}
PIXELS = {
    "Tree": 3_884_088,
    "Shrub": 1_470_065,
    "Grass": 8_892_530,
    "Crop": 2_697_628,
    "Built-up": 572_340,
    "Barren": 133_171,
    "Water": 44_898,
}

RECIPE = f"""
[dataset]
name = "scene"
date = "2026-01-31"
[tiles]
maps = ["{SCENE}/worldcover_2021/*_Map.tif"]
composites = ["{SCENE}/S2RGB_2021/*_S2RGBNIR.tif"]
[split]
block = 0.128
[segmenter]
steps = 4
batch = 2
crop = 64
[generator]
rows = 4
steps = 4
batch = 2
crop = 32
sampling_steps = 1
[memorization]
drop_copies = false
[captions.full]
style = "full"
"""

pytestmark = [
    pytest.mark.scene,
    pytest.mark.skipif(not SCENE.is_dir(), reason=f"the scene is not at {SCENE}"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("scene")
    (folder / "dataset.toml").write_text(RECIPE)
    return Project(folder)


@pytest.fixture(scope="module")
def reports(project: Project) -> dict[str, dict]:
    """Summaries of all steps, by name."""
    done = run_steps(project, project.steps(), Engine("serial"))
    return {summary.stage: summary.as_json() for summary in done}


def test_every_candidate_of_the_scene_is_accounted_for(reports: dict[str, dict]) -> None:
    assert reports["tiles"]["rows"] == 270
    assert reports["tiles"]["counts"] == {
        "candidates": 4 * 46 * 46,
        "kept": 270,
        "black": 8_124,
        "partly_black": 70,
        "no_map": 0,
        "nodata": 0,
        "water": 0,
    }


def test_tiles_and_class_pixels_are_the_known_ones(
    reports: dict[str, dict], project: Project
) -> None:
    assert reports
    cells: Counter[str] = Counter()
    pixels = np.zeros(len(CLASSES), dtype=np.int64)
    for _, table in project.store.scan(shards(project.store, ("real",)), ("id", "pixels")):
        cells.update(re.findall(r"/(\w{7})_", " ".join(table.column("id").to_pylist())))
        pixels += per_class(table.column("pixels")).sum(axis=0)
    assert cells == TILES
    assert dict(zip(CLASSES, pixels.tolist(), strict=True)) == PIXELS


def test_all_splits_have_tiles_and_keep_their_distance(reports: dict[str, dict]) -> None:
    counts = reports["split"]["counts"]
    assert min(counts[name] for name in ("train", "validation", "test")) > 0
    assert sum(counts.values()) == 270
    distances = reports["split"]["report"]["smallest_distance_km"]
    assert min(distances.values()) >= 1.0


def test_the_release_is_right_and_opens(reports: dict[str, dict], project: Project) -> None:
    assert reports
    packaged = package(project.inputs())
    assert violations(packaged.release) == []
    data = datasets.load_dataset(str(packaged.release), "augmented", streaming=True)
    row = next(iter(data["train"]))
    assert row["image"].size == (256, 256)
    assert packaged.rows["synthetic"] == {"train": 4}
    assert sum(packaged.rows["real"].values()) == 270 - reports["split"]["counts"]["set_aside"]


def test_its_release_is_shown_in_a_browser(
    reports: dict[str, dict], project: Project, driver: Any, tmp_path: Path
) -> None:
    assert reports
    walk(driver, package(project.inputs()).release, tmp_path / "page")
