"""Any diffusers pipeline as generator: on layouts, from prompts or noise, by seed, told clearly."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land.classes import PALETTE
from builder.models.pipelines import (
    Artist,
    PipelineSection,
    Sources,
    conditions,
    find,
    load,
    shrink,
)
from builder.models.weights import Weights
from tests.makers import tiny_pipelines as make

ASK = PipelineSection(model="tiny", prompt="{{ composition }}", steps=2, guidance=3.0)
SEEDS = (11, 12, 13)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("pipelines")
    return {
        "controlled": make.tiny_controlled(base / "controlled"),
        "prompted": make.tiny_prompted(base / "prompted"),
        "controlnet": make.tiny_controlnet(base / "controlnet"),
        "unconditional": make.tiny_unconditional(base / "unconditional", side=32),
        "start": make.tiny_start_image(base / "start"),
    }


@pytest.fixture(scope="module")
def artist(folders: dict[str, Path]) -> Artist:
    return opened(folders["controlled"])


def opened(folder: Path, controlnet: Path | None = None, **changes: object) -> Artist:
    ask = ASK.model_copy(update={"controlnet": "net" if controlnet else "", **changes})
    return load(ask, find(local(folder, controlnet)))


def local(folder: Path, controlnet: Path | None = None) -> Sources:
    net = Weights("net", path=controlnet) if controlnet else None
    return Sources(Weights("tiny", path=folder), net)


def layouts(n: int = 3, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 7, (n, side // 8, side // 8), dtype=np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def test_a_tile_is_drawn_on_every_layout(artist: Artist) -> None:
    tiles = artist.sample(layouts(), SEEDS)
    assert (tiles.shape, tiles.dtype) == ((3, 32, 32, 3), np.uint8)
    assert tiles.std() > 1
    assert (artist.layout, artist.name) == ("image", "StableDiffusionControlNetPipeline")


def test_tiles_depend_on_their_own_seed_and_layout_and_prompt(artist: Artist) -> None:
    tile = artist.sample(layouts()[:1], SEEDS[:1])
    assert (artist.sample(layouts()[:1], (99,)) != tile).any()
    assert (artist.sample(layouts()[1:2], SEEDS[:1]) != tile).any()
    for changed in (
        artist.ask.model_copy(update={"control": 0.0}),
        artist.ask.model_copy(update={"prompt": "water"}),
        artist.ask.model_copy(update={"negative": "{{ composition }}"}),
        artist.ask.model_copy(update={"guidance": 1.0}),
    ):
        other = replace(artist, ask=changed).sample(layouts()[:1], SEEDS[:1])
        assert (other != tile).any(), changed


def test_the_same_tile_comes_out_at_any_batch_size(artist: Artist) -> None:
    whole = artist.sample(layouts(), SEEDS, batch=3)
    alone = [artist.sample(layouts()[i : i + 1], SEEDS[i : i + 1]) for i in (2, 0, 1)]
    np.testing.assert_array_equal(np.concatenate(alone), whole[[2, 0, 1]])
    np.testing.assert_array_equal(artist.sample(layouts(), SEEDS, batch=2), whole)


def test_tiles_drawn_larger_are_shrunk_by_squares(artist: Artist) -> None:
    wide = replace(artist, ask=artist.ask.model_copy(update={"size": 64}))
    assert wide.sample(layouts()[:1], SEEDS[:1]).shape == (1, 32, 32, 3)
    drawn = np.zeros((1, 4, 4, 3), np.float32)
    drawn[0, :2, :2] = [[[0, 0, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 1]]]
    assert shrink(drawn, (2, 2), "x")[0, 0, 0].tolist() == [191, 0, 64]
    with pytest.raises(ArasError, match=r"draws 4×4 pixels.*not a whole multiple.*3×3"):
        shrink(drawn, (3, 3), "x")
    with pytest.raises(ArasError, match="values that are not finite"):
        shrink(np.full((1, 2, 2, 3), np.nan, np.float32), (2, 2), "x")
    with pytest.raises(ArasError, match="three channels"):
        shrink(drawn[..., :1], (2, 2), "x")


def test_the_condition_is_the_layout_in_the_colours_of_the_classes() -> None:
    mask = np.array([[[0, 6], [3, 4]]], np.uint8)
    picture = np.asarray(conditions(mask, 2)[0])
    assert picture.shape == (4, 4, 3)
    np.testing.assert_array_equal(picture[::2, ::2], PALETTE[mask[0]])
    np.testing.assert_array_equal(picture[1::2, 1::2], PALETTE[mask[0]])


def test_a_controlnet_of_its_own_makes_a_prompted_pipeline_follow_layouts(
    folders: dict[str, Path],
) -> None:
    alone = opened(folders["prompted"])
    assert (alone.layout, alone.prompted) == (None, True)
    both = opened(folders["prompted"], folders["controlnet"])
    assert both.name == "StableDiffusionControlNetPipeline"
    # Weights drawn alike: the pipeline that was saved whole draws the same.
    whole = opened(folders["controlled"])
    np.testing.assert_array_equal(
        both.sample(layouts()[:1], SEEDS[:1]), whole.sample(layouts()[:1], SEEDS[:1])
    )


def test_an_unconditional_pipeline_draws_from_noise_alone(folders: dict[str, Path]) -> None:
    artist = opened(folders["unconditional"])
    assert (artist.layout, artist.prompted, artist.sized) == (None, False, False)
    tiles = artist.sample(layouts(), SEEDS)
    assert tiles.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(artist.sample(layouts()[::-1], SEEDS), tiles)
    assert (artist.sample(layouts()[:1], (99,)) != tiles[:1]).any()
    assert artist.sample(layouts(1, 16), SEEDS[:1]).shape == (1, 16, 16, 3)
    with pytest.raises(ArasError, match=r"draws 32×32 pixels.*tiles' 64×64"):
        artist.sample(layouts(1, 64), SEEDS[:1])


def test_pipelines_are_known_by_the_content_of_what_is_loaded(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def digest(folder: Path) -> str:
        return find(local(folder)).digest

    copy = tmp_path / "copy"
    shutil.copytree(folders["controlled"], copy)
    known = digest(copy)
    assert known == digest(folders["controlled"]) != digest(folders["prompted"])
    (copy / "README.md").write_text("words about the model")
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a variant")
    assert digest(copy) == known
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("1000", "999"))
    assert digest(copy) != known
    both = find(local(folders["prompted"], folders["controlnet"]))
    assert both.digest not in (digest(folders["prompted"]), known)
    assert both.named == "prompted with controlnet"


def test_a_pipeline_of_the_hubs_cache_is_named_with_its_commit(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--someone--tiny"
    shutil.copytree(folders["controlled"], home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    ask = ASK.model_copy(update={"model": "someone/tiny"})
    files = find(Sources(Weights(ask.model)))
    assert files.named == f"someone/tiny@{COMMIT}"
    assert files.digest == find(local(folders["controlled"])).digest
    assert load(ask, files).name == "StableDiffusionControlNetPipeline"
    with pytest.raises(ArasError, match="hf download someone/tiny --revision v2"):
        find(Sources(Weights(ask.model, "v2")))
    with pytest.raises(ArasError, match="hf download nobody/absent "):
        find(Sources(Weights("nobody/absent")))
    with pytest.raises(ArasError, match=r"'a b' is neither a folder, a file .* nor ORG/NAME"):
        find(Sources(Weights("a b")))


def test_a_pipeline_that_wants_more_than_we_have_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ArasError, match="StableDiffusionImg2ImgPipeline needs image; a pipeline"):
        opened(folders["start"])


def test_folders_and_files_that_are_no_pipeline_are_told_of(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArasError, match=r"not a pipeline of diffusers \(it has no model_index"):
        opened(folders["controlnet"])
    with pytest.raises(ArasError, match="not a ControlNet of diffusers"):
        opened(folders["prompted"], tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ArasError, match="not a JSON object"):
        opened(folders["prompted"], tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArasError, match="cannot be read"):
        opened(folders["prompted"], tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(folders["controlled"], broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ArasError, match=r"^tiny: diffusers cannot load it \(\w+: .+\)$"):
        opened(broken)
    index = json.loads((folders["controlled"] / "model_index.json").read_text())
    index["_class_name"] = "NoSuchPipeline"
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ArasError, match="NoSuchPipeline"):
        opened(broken)


def test_pickled_weights_are_not_loaded(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders["unconditional"], copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(ArasError, match="diffusers cannot load it"):
        opened(copy)
