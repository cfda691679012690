"""The unconditional way: rows without layouts, tiles from noise alone, masks by the segmenter."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.land.classes import count_pixels
from builder.land.columns import COLUMN_NAMES
from builder.land.pictures import decode_mask, decode_png
from builder.models import generator, segmenter
from builder.models.record import require
from builder.pipeline.project import Project
from builder.pipeline.recipe import load
from builder.pipeline.run import run_steps
from builder.release.check import violations
from builder.release.package import package
from builder.steps.plan import run
from tests.makers.project import RECIPE, built_project

BLANK = RECIPE.replace("[generator]\n", '[generator]\ncondition = "none"\n')


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project, made with layouts first, then gone over to none and packaged."""
    built = built_project(tmp_path_factory.getbasetemp())
    home = tmp_path_factory.mktemp("blank") / "project"
    shutil.copytree(built.directory, home, ignore=shutil.ignore_patterns("release"))
    (home / "dataset.toml").write_text(BLANK)
    project = Project(home)
    run_steps(project, project.steps(), Engine("serial"))
    package(project.inputs())
    return project


def rows(project: Project) -> list[dict]:
    paths = sorted((project.releases / "0.1.0" / "synthetic").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_masks_are_what_the_segmenter_sees_and_say_so(blank: Project) -> None:
    drawn = rows(blank)
    assert len(drawn) == 10
    assert set(drawn[0]) >= set(COLUMN_NAMES) - {"image_sha256", "mask_sha256"}
    images = np.stack([decode_png(row["image"]["bytes"]) for row in drawn])
    assert images.shape == (10, 64, 64, 3)
    seen, _ = segmenter.look(segmenter.load(blank.models / "segmenter"), images)
    for row, ids in zip(drawn, seen, strict=True):
        np.testing.assert_array_equal(decode_mask(row["mask"]["bytes"], row["id"]), ids)
        assert list(row["pixels"].values()) == count_pixels(ids).tolist()
        assert row["gen_mask"] == "segmenter"
        assert (row["gen_layout"], row["gen_transform"], row["mask_agreement"]) == (None,) * 3
        assert row["nearest_real_id"] is not None
        assert row["captions"]


def test_with_layouts_the_mask_says_that_it_is_one(tmp_path_factory) -> None:
    built = built_project(tmp_path_factory.getbasetemp())
    assert {row["gen_mask"] for row in rows(built)} == {"layout"}


def test_the_release_is_whole_and_its_card_tells_the_way(blank: Project) -> None:
    assert violations(blank.releases / "0.1.0") == []
    card = (blank.releases / "0.1.0" / "README.md").read_text()
    assert "no layout was given" in card
    assert "is the segmenter's prediction (`gen_mask`); there is no" in card
    assert "conditioned on" not in card
    assert "pictures/balance.png" not in card


def test_the_generator_sees_no_layout(blank: Project) -> None:
    record = require(blank.models / "generator", "generator")
    assert record.settings["condition"] == "none"
    model = generator.load(blank.models / "generator")
    assert not model.takes_layout
    assert model.unet.unet.config.in_channels == 3


def test_noise_is_that_of_the_row_alone(blank: Project, tmp_path: Path) -> None:
    """The same rows come out whatever the shards are cut to."""
    source, draw = blank.synthesis()
    known = {row["id"]: row["image"]["bytes"] for row in rows(blank)}
    store = type(blank.store)(tmp_path)
    for stage in ("tiles", "split"):
        shutil.copytree(blank.store.root / stage, tmp_path / stage)
    run(type(source)(**{**source.__dict__, "shard_rows": 4}), store, Engine("serial"))
    run(draw, store, Engine("serial"))
    drawn = [
        row
        for shard in store.shards("generate")
        for row in store.read(shard, ("id", "image")).to_pylist()
    ]
    assert {row["id"]: row["image"]["bytes"] for row in drawn} == known


def test_the_dry_run_says_that_there_is_no_plan(blank: Project) -> None:
    done = CliRunner().invoke(cli, ["-C", str(blank.directory), "generate", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "drawn without layouts: there is no balance plan" in done.output


def test_a_generator_of_the_other_kind_is_refused(blank: Project, tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(RECIPE)
    other = Project(tmp_path)
    for part in ("models", "work/tiles", "work/split"):
        shutil.copytree(blank.directory / part, tmp_path / part)
    source, draw = other.synthesis()
    run(source, other.store, Engine("serial"))
    with pytest.raises(ArasError, match="trained with condition = 'none', and the recipe says"):
        run(draw, other.store, Engine("serial"))


@pytest.mark.parametrize("line", ['balance = "uniform"', "variants = 2", "guidance = 2.0"])
def test_settings_about_layouts_do_not_go_without_them(tmp_path: Path, line: str) -> None:
    (tmp_path / "dataset.toml").write_text(f'[generator]\ncondition = "none"\n{line}\n')
    key = line.split()[0]
    with pytest.raises(ArasError, match=rf"generator\.{key} = .* is about layouts, and condition"):
        load(tmp_path)
