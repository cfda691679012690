"""Synthetic tiles: on their layouts, with provenance, the same bytes on any engine and batch."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.files import sha256_file
from builder.core.store import Store
from builder.land.classes import count_pixels
from builder.land.columns import SPLITS
from builder.land.pictures import decode_mask, decode_png
from builder.models import segmenter
from builder.pipeline import project as pipeline
from builder.pipeline.preview import preview
from builder.pipeline.project import Project
from builder.quality.segment import Segment
from builder.steps.plan import plan, run
from builder.steps.stage import shards
from builder.synthesis.generate import Generate
from builder.synthesis.section import GeneratorSection
from tests.makers.stages import by_default

COLUMNS = ("id", "split", "image", "mask", "layout", "pixels", "gen_seed", "gen_layout")
FACTS = ("gen_model", "gen_revision", "gen_config_sha256")


def draw_stage(project: Project, **changes: object) -> Generate:
    stage = project.synthesis()[1]
    assert isinstance(stage, Generate)
    return dataclasses.replace(stage, **changes)


def under(project: Project, folder: Path, lines: str) -> Project:
    """The same models and shards under a recipe with more ``lines`` in [generator]."""
    recipe = (project.directory / "dataset.toml").read_text()
    text = recipe.replace("[generator]\n", f"[generator]\n{lines}\n")
    (folder / "dataset.toml").write_text(text)
    for name in ("models", "work", "inputs"):
        (folder / name).symlink_to(project.directory / name)
    return Project(folder)


def undrawn(project: Project, root: Path) -> Store:
    """A store with the tiles of the training, in which the layouts are chosen and none is drawn."""
    for stage in ("tiles", "split", "layouts"):
        shutil.copytree(project.store.root / stage, root / stage)
    return Store(root)


def rows_of(store: Store, columns: tuple[str, ...]) -> list[dict]:
    return [
        row for s in shards(store, ("synthetic",)) for row in store.read(s, columns).to_pylist()
    ]


def test_a_row_is_published_on_its_layout_with_its_provenance(project: Project) -> None:
    weights = project.models / "generator" / "diffusion_pytorch_model.safetensors"
    rows = rows_of(project.store, (*COLUMNS, *FACTS))
    assert len(rows) == 10
    for row in rows:
        mask = decode_mask(row["mask"]["bytes"], row["id"])
        assert row["mask"] == row["layout"]
        assert list(row["pixels"].values()) == count_pixels(mask).tolist()
        assert decode_png(row["image"]["bytes"]).shape == (*mask.shape, 3)
        assert row["gen_revision"] == sha256_file(weights)
        assert row["gen_model"].startswith("aras pixel UNet2DModel")
    assert len({row["gen_config_sha256"] for row in rows}) == 1
    assert len({row["image"]["bytes"] for row in rows}) == 10


def test_layouts_are_those_of_train_tiles(project: Project) -> None:
    train = {
        row["id"]
        for shard in shards(project.store, ("real",))
        for row in project.store.read(shard, ("id", "split")).to_pylist()
        if row["split"] == SPLITS.index("train")
    }
    assert {row["gen_layout"] for row in rows_of(project.store, COLUMNS)} <= train


@pytest.mark.skipif(torch.cuda.is_available(), reason="exact on the CPU")
@pytest.mark.parametrize(
    ("engine", "batch"), [(Engine("serial"), 1), (Engine("serial"), 3), (Engine("processes", 2), 8)]
)
def test_the_bytes_are_the_same_at_any_batch_size_and_engine(
    project: Project, tmp_path: Path, engine: Engine, batch: int
) -> None:
    summary = run(draw_stage(project, batch=batch), undrawn(project, tmp_path), engine)
    assert summary.rows == 10
    known = run(draw_stage(project), project.store, Engine("serial"))
    assert known.shards_made == 0
    assert summary.digest == known.digest


@pytest.mark.parametrize("change", [{"sampling_steps": 3}, {"sampler": "ddim"}])
def test_a_changed_setting_makes_rows_stale_and_a_batch_size_does_not(
    project: Project, change: dict
) -> None:
    assert plan(draw_stage(project, **change), project.store).stale
    assert not plan(draw_stage(project, batch=5), project.store).stale


def test_with_mask_segmenter_the_mask_is_what_the_segmenter_sees(
    project: Project, tmp_path: Path
) -> None:
    store = undrawn(project, tmp_path)
    run(draw_stage(project, mask="segmenter"), store, Engine("serial"))
    model = project.models / "segmenter"
    label = Segment(model=model, labels=True, rows=("synthetic",))
    assert label.name == "label"
    run(label, store, Engine("serial"))
    rows = rows_of(store, (*COLUMNS, "percent", "mask_agreement"))
    assert len(rows) == 10
    images = np.stack([decode_png(row["image"]["bytes"]) for row in rows])
    seen, _ = segmenter.look(segmenter.load(model), images)
    for row, ids in zip(rows, seen, strict=True):
        np.testing.assert_array_equal(decode_mask(row["mask"]["bytes"], row["id"]), ids)
        layout = decode_mask(row["layout"]["bytes"], row["id"])
        assert row["mask_agreement"] == pytest.approx((ids == layout).mean())
        assert list(row["pixels"].values()) == count_pixels(ids).tolist()
        assert sum(row["percent"].values()) == 100


def test_the_recipe_chooses_between_layout_and_segmenter(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text('[generator]\nmask = "segmenter"\n')
    project = pipeline.Project(tmp_path)
    (label,) = project.labels()
    assert (label.name, label.rows) == ("label", ("synthetic",))
    assert project.segment().rows == ("real",)


def test_without_a_generator_the_command_that_trains_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="run `aras train generator` first"):
        plan(
            by_default(Generate, GeneratorSection(), size=0, model=tmp_path / "none"),
            Store(tmp_path / "work"),
        )


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ('objective = "edm"', "objective = 'flow', and the recipe says objective = 'edm'"),
        ('kind = "latent"', "kind = 'pixel', and the recipe says kind = 'latent'"),
        ("learning_rate = 0.5", r"learning_rate = 0.001, and the recipe says learning_rate = 0.5"),
    ],
)
def test_a_generator_of_another_recipe_is_refused_and_the_dry_run_says_so(
    project: Project, tmp_path: Path, line: str, settings: str
) -> None:
    changed = under(project, tmp_path, line)
    message = rf"is stale: it was trained with {settings}\. Run `aras train generator`"
    with pytest.raises(ArasError, match=message):
        plan(draw_stage(changed), changed.store)
    lines = preview(changed, changed.synthesis())
    assert "is stale" in lines[1].todo
    assert not plan(draw_stage(project), project.store).stale


def test_settings_that_only_change_speed_keep_the_generator(
    project: Project, tmp_path: Path
) -> None:
    changed = under(project, tmp_path, "accumulate = 2\nchannels_last = true")
    assert not plan(draw_stage(changed), changed.store).stale
