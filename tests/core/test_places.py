"""Places: a release tells models and files by name, never by where they lie."""

import json
from pathlib import Path

import pytest

from builder.core.fields import Place, published
from builder.pipeline.recipe import Recipe, load

PATHS = """
[import]
sources = ["{here}/zips/train.zip", "../elsewhere/val.zip"]
[tiles]
maps = ["{here}/inputs/*_Map.tif"]
composites = ["inputs/*_S2RGBNIR.tif", "~/more/*.tif"]
[generator]
rows = 0
kind = "latent"
autoencoder = "{here}/models/vae"
[generator.pipeline]
model = "~/models/pipe"
controlnet = "./models/control"
[retriever]
weights = "{here}/models/clip-a"
[bench]
embeddings = "models/here"
[scores]
clip = "{here}/models/clip-b/"
tokenizer = "openai/clip-vit-base-patch32"
features = "{here}/inception-2015-12-05.pt"
[captions.local]
backend = "transformers"
model = "{here}/models/captioner.gguf"
sees = ["image"]
prompt_file = "{here}/prompts/mine.j2"
[captions.served]
backend = "openai"
base_url = "http://10.0.0.7:8000/v1"
model = "/models/qwen"
sees = ["image"]
prompt = "Describe it."
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models/here").mkdir(parents=True)
    (tmp_path / "dataset.toml").write_text(PATHS.format(here=tmp_path))
    return tmp_path


def test_every_path_of_a_recipe_is_told_by_its_name(folder: Path) -> None:
    values = published(load(folder), folder)
    assert values["imports"]["sources"] == ["train.zip", "val.zip"]
    assert values["tiles"]["maps"] == ["*_Map.tif"]
    assert values["tiles"]["composites"] == ["*_S2RGBNIR.tif", "*.tif"]
    assert values["generator"]["autoencoder"] == "vae"
    assert values["generator"]["pipeline"]["model"] == "pipe"
    assert values["generator"]["pipeline"]["controlnet"] == "control"
    assert values["retriever"]["weights"] == "clip-a"
    assert values["bench"]["embeddings"] == "here"
    assert values["scores"]["clip"] == "clip-b"
    assert values["scores"]["features"] == "inception-2015-12-05.pt"
    assert values["captions"]["local"]["model"] == "captioner"
    assert values["captions"]["local"]["prompt_file"] == "mine.j2"
    assert values["captions"]["served"]["model"] == "qwen"
    words = json.dumps(values)
    assert not [text for text in (str(folder), "elsewhere", "~", "10.0.0.7") if text in words]


def test_names_on_the_hub_and_all_else_stay_as_they_are(folder: Path) -> None:
    values = published(load(folder), folder)
    assert values["scores"]["tokenizer"] == "openai/clip-vit-base-patch32"
    recipe = Recipe()
    plain = published(recipe, folder)
    plain["tiles"] |= {key: recipe.tiles.model_dump()[key] for key in ("maps", "composites")}
    assert plain == recipe.model_dump(mode="json")


@pytest.mark.parametrize(
    ("place", "text", "shown"),
    [
        (Place.FILE, ".", "project"),
        (Place.FILE, "../project/..", "base"),
        (Place.MODEL, "", ""),
        (Place.MODEL, "org/name", "org/name"),
        (Place.MODEL, "./name", "name"),
    ],
)
def test_a_folder_is_named_whatever_way_it_is_written(
    tmp_path: Path, place: Place, text: str, shown: str
) -> None:
    (tmp_path / "base/project").mkdir(parents=True)
    assert place.shown(text, tmp_path / "base/project") == shown
