"""The generator: learns what its layout says, draws the same bytes at any batch size, resumes."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.core.errors import ArasError
from builder.core.files import read_json, sha256_file, write_json
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.land.pictures import decode_png
from builder.models import data, generator, segmenter, texture
from builder.models.checkpoint import History
from builder.models.codec import PixelCodec
from builder.models.freshness import is_fresh
from builder.models.judging import Judge
from builder.models.objective import Objective
from builder.models.record import require
from builder.models.settings import GeneratorSettings, SegmenterSettings
from builder.models.team import ALONE
from builder.pipeline.project import Project
from tests.makers.products import land
from tests.makers.tiles import make_store

SMALL = GeneratorSettings(
    steps=4,
    batch=2,
    crop=32,
    widths=(8, 16, 16, 16),
    evaluate_every=2,
    evaluation_tiles=4,
    evaluation_steps=2,
)
FEW = generator.Sampling(steps=2)
BARREN, WATER = CLASSES.index("Barren"), CLASSES.index("Water")
JUDGE = SegmenterSettings(steps=2, batch=2, crop=32, widths=(8, 8, 16, 16), decoder=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Tiles, and the segmenter that judges what is trained beside it."""
    home = tmp_path_factory.mktemp("home")
    store = make_store(home / "work", ["train"] * 8 + ["validation"] * 2 + ["test"] * 2)
    segmenter.train(store, home / "models" / "segmenter", JUDGE)
    return store


@pytest.fixture
def folder(store: Store, request: pytest.FixtureRequest) -> Path:
    """Where a test's generator goes, beside the segmenter."""
    name = request.node.name.split("[")[0]
    return store.root.parent / "models" / f"{name}-{abs(hash(request.node.name))}"


@pytest.fixture(scope="module")
def trained(store: Store) -> Path:
    """A generator that is trained for a few steps; tests must not change it."""
    path = store.root.parent / "models" / "trained"
    (path / "samples").mkdir(parents=True)
    (path / "samples" / "step-0000009.png").touch()  # of an earlier training
    generator.train(store, path, SMALL)
    return path


def test_what_it_draws_follows_the_layout(store: Store, folder: Path) -> None:
    """Water is dark and bare ground bright in the tiles, so they must be in what it draws."""
    settings = GeneratorSettings(
        steps=100,
        batch=8,
        crop=32,
        widths=(8, 16, 16, 32),
        learning_rate=3e-3,
        evaluate_every=0,
    )
    record = generator.train(store, folder, settings).record
    layout = np.full((64, 64), WATER, dtype=np.uint8)
    layout[:, 32:] = BARREN
    model = generator.load(folder)
    for mask in (layout, layout[:, ::-1]):
        seeds = [1, 2]
        drawn = generator.sample(model, np.stack([mask] * 2), seeds, generator.Sampling(steps=8))
        for tile in drawn.astype(float):
            assert tile[mask == BARREN].mean() > tile[mask == WATER].mean() + 20
    losses = np.loadtxt(folder / "loss.csv", delimiter=",", skiprows=1)[:, 1]
    assert record.final_loss < 0.6 * losses[:5].mean()


@pytest.mark.skipif(torch.cuda.is_available(), reason="exact on the CPU")
@pytest.mark.parametrize("sampler", ["dpm-solver", "ddim"])
def test_a_tile_depends_on_its_seed_and_layout_alone(project: Project, sampler: str) -> None:
    model = generator.load(project.models / "generator")
    how = generator.Sampling(sampler, 2)
    layouts = np.stack([land((64, 64), seed=i) for i in range(4)])
    seeds = [11, 12, 13, 14]
    whole = generator.sample(model, layouts, seeds, how)
    assert whole.shape == (4, 64, 64, 3)
    assert whole.dtype == np.uint8
    for i in (2, 0, 3):
        single = generator.sample(model, layouts[i : i + 1], seeds[i : i + 1], how)
        np.testing.assert_array_equal(single[0], whole[i])
    other = generator.sample(model, layouts[:1], [99], how)
    assert (other[0] != whole[0]).any()


def test_it_draws_at_sizes_that_it_was_not_trained_at(project: Project) -> None:
    model = generator.load(project.models / "generator")
    drawn = generator.sample(model, land((128, 96))[None], [1], FEW)
    assert drawn.shape == (1, 128, 96, 3)


def test_an_interrupted_training_resumes_to_the_same_model(
    store: Store, folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, history and pictures; the moving average and the optimiser are resumed too."""
    with monkeypatch.context() as patch:
        draw, calls = generator._batch, iter(range(100))

        def interrupted(*args: Any) -> Any:
            if next(calls) == 3:
                raise KeyboardInterrupt
            return draw(*args)

        patch.setattr(generator, "_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generator.train(store, folder, SMALL)
    assert not is_fresh(store, folder, SMALL)
    steps: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(generator, "_batch", lambda *args: [steps.append(args[-1]), draw(*args)][1])
        generator.train(store, folder, SMALL)
    assert steps == [2, 3]
    files = {path.relative_to(trained) for path in trained.rglob("*") if path.is_file()}
    assert len(files) >= 7
    assert files == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    for file in files:
        assert (folder / file).read_bytes() == (trained / file).read_bytes(), file


def test_it_is_judged_on_fixed_validation_tiles(trained: Path, store: Store) -> None:
    record = require(trained, "generator")
    lines = (trained / "evaluations.csv").read_text().splitlines()
    names = lines[0].split(",")
    assert names == ["step", "loss", "frechet", "frechet_error"]
    rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    assert [row["step"] for row in rows] == [2, 4]
    chosen = History(evaluations=rows, watch="frechet").chosen
    assert chosen is not None
    assert record.best == pytest.approx(chosen, abs=1e-5)
    assert record.stopped == "all 4 steps are made"
    assert not list((trained / "samples").glob("*9.png"))
    grids = sorted((trained / "samples").iterdir())
    assert [path.name for path in grids] == ["step-0000002.png", "step-0000004.png"]
    grid = decode_png(grids[0].read_bytes())
    assert grid.shape == (3 * 32, 4 * 32, 3)
    tiles = data.load(store, "validation").pixels
    windows = np.lib.stride_tricks.sliding_window_view(tiles[..., :3], (32, 32), axis=(1, 2))
    real = grid[32:64, :32].transpose(2, 0, 1)
    turned = [np.rot90(tile, k, axes=(1, 2)) for tile in (real, real[..., ::-1]) for k in range(4)]
    assert any((windows == tile).all(axis=(3, 4, 5)).any() for tile in turned)
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_published_model_is_the_average_at_the_best_evaluation(
    trained: Path, store: Store
) -> None:
    """Judged again, the model in the folder has the values of the best row."""
    best = require(trained, "generator").best
    model = generator.load(trained)
    objective = Objective(model.codec.encode, model.process, SMALL.precision)
    judge = generator._judge(
        model, objective, store=store, folder=trained, settings=SMALL, team=ALONE
    )
    assert isinstance(judge, Judge)
    measures = dataclasses.replace(judge, folder=trained.parent / "again")(best["step"])
    assert measures["loss"] == pytest.approx(best["loss"], rel=1e-5)
    assert measures["frechet"] == pytest.approx(best["frechet"], rel=1e-3)


def test_without_a_segmenter_the_frechet_distance_cannot_be_watched(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(ArasError, match="run `aras train segmenter` first"):
        generator.train(store, tmp_path / "models" / "generator", SMALL)
    alone = dataclasses.replace(SMALL, steps=2, watch="loss")
    record = generator.train(store, tmp_path / "models" / "generator", alone).record
    assert record.best.keys() == {"step", "loss"}


def test_another_segmenter_makes_it_stale(store: Store, trained: Path, tmp_path: Path) -> None:
    assert is_fresh(store, trained, SMALL)
    shutil.copytree(trained.parent, tmp_path / "models")
    segmenter.train(
        store, tmp_path / "models" / "segmenter", dataclasses.replace(JUDGE, learning_rate=1e-3)
    )
    assert not is_fresh(store, tmp_path / "models" / "trained", SMALL)


@pytest.mark.parametrize(
    "change",
    [
        {"layout_dropout": 0.9},
        {"objective": "edm"},
        {"objective": "ddpm"},
        {"condition": "none"},
        {"ema": 0.0},
    ],
)
def test_a_setting_changes_what_is_learnt(
    store: Store, folder: Path, trained: Path, change: dict[str, Any]
) -> None:
    settings = dataclasses.replace(SMALL, **change)
    assert not is_fresh(store, trained, settings)
    record = generator.train(store, folder, settings).record
    before = require(trained, "generator")
    assert record.weights_sha256 != before.weights_sha256
    drawn = generator.sample(generator.load(folder), land((32, 32))[None], [1], FEW)
    assert drawn.shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 2},
        {"checkpointing": True},
        {"channels_last": True},
        {"fused": True},
    ],
)
def test_a_setting_of_speed_or_memory_changes_rounding_only(
    store: Store, folder: Path, trained: Path, change: dict[str, Any]
) -> None:
    """So the model stays as fresh as it was, and an interrupted training may go on under it."""
    settings = dataclasses.replace(SMALL, **change)
    assert is_fresh(store, trained, settings)
    generator.train(store, folder, settings)
    first, two = (
        np.loadtxt(at / "loss.csv", delimiter=",", skiprows=1) for at in (trained, folder)
    )
    np.testing.assert_allclose(first, two, rtol=2e-3)


def test_compile_compiles_the_network(store: Store, folder: Path) -> None:
    """Told to refuse any compilation, torch refuses this one; compiling takes minutes here."""
    torch.compiler.set_stance("fail_on_recompile")
    try:
        with pytest.raises(RuntimeError, match="recompile"):
            generator.train(store, folder, dataclasses.replace(SMALL, compile="inductor"))
    finally:
        torch.compiler.set_stance("default")


def test_bf16_is_another_precision(store: Store, folder: Path, trained: Path) -> None:
    generator.train(store, folder, dataclasses.replace(SMALL, precision="bf16"))
    first, two = (
        np.loadtxt(at / "loss.csv", delimiter=",", skiprows=1) for at in (trained, folder)
    )
    assert (first != two).any()
    np.testing.assert_allclose(first, two, rtol=0.05)


def test_a_batch_that_cannot_be_parted_is_refused(store: Store, folder: Path) -> None:
    message = r"\[generator\] batch = 2 must be a multiple of 3: 1 processes take 3 parts each"
    with pytest.raises(ArasError, match=message):
        generator.train(store, folder, dataclasses.replace(SMALL, accumulate=3))


def test_the_record_tells_what_the_model_was_made_from(project: Project) -> None:
    record = require(project.models / "generator", "generator")
    assert record.data == data.digest(project.store, "train")
    assert record.settings["steps"] == record.steps == 3
    assert record.classes == CLASSES


def test_it_learns_layouts_of_other_classes_too(tmp_path: Path) -> None:
    """Without a store, and so without a judge: the last weights are kept."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 4), dtype=np.uint8)
    pixels[..., 3] %= 2
    record = generator.train_tiles(tmp_path, "k", data.Tiles(pixels, ""), SMALL, ("Land", "Sea"))
    assert (record.classes, record.best, record.steps) == (("Land", "Sea"), None, 4)
    model = generator.load(tmp_path, ("Land", "Sea"))
    drawn = generator.sample(model, pixels[:1, ..., 3], [1], FEW)
    assert drawn.shape == (1, 32, 32, 3)
    with pytest.raises(ArasError, match="a layout holds id 2; ids are 0…1"):
        generator.sample(model, pixels[:1, ..., 3] + 1, [1], FEW)
    with pytest.raises(ArasError, match=r"classes \['Land', 'Sea'\], not \['Tree'"):
        generator.load(tmp_path)


def test_a_crop_that_cannot_be_halved_is_refused(store: Store, folder: Path) -> None:
    odd = GeneratorSettings(steps=1, crop=36)
    with pytest.raises(ArasError, match=r"\[generator\] crop = 36 must be a multiple of 8"):
        generator.train(store, folder, odd)


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="run `aras train generator` first"):
        generator.load(tmp_path)


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained generator that may be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "generator"))


def test_damaged_weights_are_never_used(copy: Path) -> None:
    weights = copy / generator.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArasError, match=r"not the weights that record\.json .*describes"):
        generator.load(copy)


def test_damaged_textures_are_never_used(copy: Path) -> None:
    (copy / texture.WEIGHTS).write_bytes(b"")
    with pytest.raises(ArasError, match=r"textures\.safetensors: not the textures that record"):
        generator.load(copy)


def test_the_record_says_how_it_does_beside_textures_and_quilts(trained: Path) -> None:
    sticks = require(trained, "generator").yardsticks
    assert sticks is not None
    assert sticks.crops == SMALL.evaluation_tiles
    assert min(sticks.generator, sticks.texture, sticks.quilt) > 0
    nearer = sticks.model_copy(update={"generator": 1.0, "texture": 2.0})
    for error, beats in ((0.3, True), (0.4, False)):
        errors = {"generator_error": error, "texture_error": error}
        assert nearer.model_copy(update=errors).beats_texture == beats
        assert not nearer.model_copy(update={**errors, "generator": 3.0}).beats_texture


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    write_json(folder / name, {**read_json(folder / name), **changes})


def test_a_model_of_other_classes_is_refused(copy: Path) -> None:
    rewrite(copy, "record.json", classes=["Land", "Sea"])
    with pytest.raises(ArasError, match=r"trained for classes \['Land', 'Sea'\], not \['Tree'"):
        generator.load(copy)


def test_a_model_of_another_architecture_is_refused(copy: Path) -> None:
    rewrite(copy, "config.json", _class_name="UNet2DModel")
    with pytest.raises(ArasError, match="holds a UNet2DModel, expected a LayoutUNet"):
        generator.load(copy)


@pytest.mark.parametrize("change", [{"widths": (8, 16, 16, 32)}, {"layers": 2}, {"layers": 0}])
def test_weights_that_do_not_fit_their_configuration_are_refused(
    copy: Path, change: dict[str, Any]
) -> None:
    other = generator.build(dataclasses.replace(SMALL, **change), PixelCodec())
    config = (copy / "config.json").read_bytes()
    other.save_pretrained(copy)
    (copy / "config.json").write_bytes(config)
    rewrite(copy, "record.json", weights_sha256=sha256_file(copy / generator.WEIGHTS))
    with pytest.raises(ArasError, match=r"weights do not fit the architecture .*first: "):
        generator.load(copy)
