"""A diffusers pipeline behind the generate stage: provenance, equal bytes, what it refuses."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.pictures import decode_png
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.release.package import package
from builder.steps.plan import plan, run
from builder.steps.stage import shards
from builder.synthesis.generate import Generate
from tests.makers.project import RECIPE
from tests.makers.tiny_pipelines import tiny_controlled, tiny_unconditional

SECTION = '\n[generator.pipeline]\nmodel = "./tiny-sd"\nsteps = 2\nprompt = "{{ composition }}"\n'
COLUMNS = ("id", "image", "mask", "layout", "gen_model", "gen_revision", "gen_config_sha256")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose recipe names the pipelines beside it."""
    folder = tmp_path_factory.mktemp("with-pipeline")
    tiny_controlled(folder / "tiny-sd")
    tiny_unconditional(folder / "tiny-ddim")
    text = RECIPE.replace("sampling_steps = 2\n", SECTION)
    (folder / "dataset.toml").write_text(text)
    return folder


def stage_of(folder: Path, **changes: object) -> Generate:
    stage = Project(folder).synthesis()[1]
    assert isinstance(stage, Generate)
    return dataclasses.replace(stage, **changes)


def layouts_alone(project: Project, root: Path) -> Store:
    shutil.copytree(project.store.root / "layouts", root / "layouts")
    return Store(root)


def rows_of(store: Store, columns: tuple[str, ...] = COLUMNS) -> list[dict]:
    return [
        row for s in shards(store, ("synthetic",)) for row in store.read(s, columns).to_pylist()
    ]


def test_rows_are_drawn_on_layouts_and_name_pipeline_and_weights(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    store, stage = layouts_alone(project, tmp_path), stage_of(folder)
    run(stage, store, Engine("serial"))
    rows = rows_of(store)
    assert len(rows) == 10
    for row in rows:
        assert row["mask"] == row["layout"]
        assert decode_png(row["image"]["bytes"]).shape == (64, 64, 3)
        assert row["gen_model"] == "StableDiffusionControlNetPipeline tiny-sd"
        assert row["gen_revision"] == stage.models()["generator"]
    assert len({row["image"]["bytes"] for row in rows}) == 10
    assert str(folder) not in json.dumps([stage.config(), rows[0]["gen_model"]])


def test_the_bytes_are_the_same_at_any_batch_size_and_engine(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    digests = {
        run(
            stage_of(folder, batch=batch),
            layouts_alone(project, tmp_path / f"{batch}"),
            Engine(engine, workers=1),
        ).digest
        for batch, engine in ((1, "serial"), (4, "serial"), (8, "processes"))
    }
    assert len(digests) == 1


def test_what_decides_the_tiles_makes_them_stale(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    store = layouts_alone(project, tmp_path)
    stage = stage_of(folder)
    assert stage.pipeline is not None
    run(stage, store, Engine("serial"))
    assert not plan(dataclasses.replace(stage, batch=5), store).stale
    assert not plan(dataclasses.replace(stage, sampler="ddim", sampling_steps=9), store).stale
    for changed in ({"steps": 3}, {"prompt": "water"}, {"guidance": 1.0}):
        other = stage.pipeline.model_copy(update=changed)
        assert plan(dataclasses.replace(stage, pipeline=other), store).stale


def test_a_pipeline_without_layout_needs_the_segmenters_masks(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    text = (folder / "dataset.toml").read_text().replace("./tiny-sd", "./tiny-ddim")
    recipe = tmp_path / "unconditional"
    shutil.copytree(folder / "tiny-ddim", recipe / "tiny-ddim")
    (recipe / "dataset.toml").write_text(text)
    summary = run(stage_of(recipe), layouts_alone(project, tmp_path / "a"), Engine("serial"))
    assert all("takes no layout" in why for why in summary.failed.values())
    assert len(summary.failed) == 2
    store = layouts_alone(project, tmp_path / "b")
    stage = stage_of(recipe, mask="segmenter")
    run(stage, store, Engine("serial"))
    rows = rows_of(store, ("id", "image", "gen_model"))
    assert {row["gen_model"] for row in rows} == {"DDIMPipeline tiny-ddim"}
    pictures = [decode_png(row["image"]["bytes"]) for row in rows]
    assert len(np.unique(np.stack(pictures), axis=0)) == 10
    assert "mask" not in stage.adds


def test_a_release_says_on_its_card_which_pipeline_drew_it(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    whole = Project(Path(shutil.copytree(project.directory, tmp_path / "whole")))
    text = RECIPE.replace("sampling_steps = 2\n", SECTION.replace("./", f"{folder}/"))
    (whole.directory / "dataset.toml").write_text(text)
    shutil.rmtree(whole.models / "generator")
    shutil.rmtree(whole.releases)
    copy = Project(whole.directory)
    run_steps(copy, copy.steps(), Engine("serial"))
    package(copy.inputs())
    release = next(copy.releases.iterdir())
    card = " ".join((release / "README.md").read_text().split())
    assert "The diffusers pipeline `tiny-sd` drew them in 2 steps" in card
    assert "`{{ composition }}`" in card
    assert "A diffusion UNet" not in card
    assert str(folder) not in card + (release / "manifest.json").read_text()


def test_no_generator_is_trained_beside_a_pipeline(folder: Path) -> None:
    assert [training.model for training in Project(folder).trainings()] == ["segmenter"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('model = "./absent"', r"model: .*absent: no such model folder"),
        (
            'model = "./tiny-sd"\nrevision = "v1"',
            r"only a model of the Hub .* has revisions",
        ),
        ('model = "./tiny-sd"\nprompt = "{{ season }}"', r"uses \{\{ season \}\}; variables are"),
        ('model = "./tiny-sd"\nprompt = "{{"', r"not Jinja"),
        ('model = "./tiny-sd"\nsize = 96', r"size = 96 is not a whole multiple of tiles.size = 64"),
        ('modle = "x"', r"did you mean model"),
        ('model = "x"\n[generator]\nsampling_steps = 3', r"sampling_steps belongs to our own"),
    ],
)
def test_bad_recipes_are_told_of(folder: Path, tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "tiny-sd").symlink_to(folder / "tiny-sd")
    recipe = f"[tiles]\nsize = 64\n[generator.pipeline]\n{line}\n"
    (tmp_path / "dataset.toml").write_text(recipe)
    with pytest.raises(ArasError, match=words):
        Project(tmp_path).synthesis()
