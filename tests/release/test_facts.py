"""Facts of a release: models and files by name, prompts in full, sources by how it was made."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core import manifest
from builder.pipeline.project import Project
from builder.release.check import violations
from builder.release.facts import worldcover
from builder.release.package import content_key, package
from tests.makers.project import RECIPE

PROMPT = "Look at `it` and say {{ layout }} in one sentence.\n"
STREAM = """
[captions.absence]
backend = "openai"
base_url = "http://127.0.0.1:1/v1"
model = "/home/alice/models/seer"
sees = ["image", "layout"]
system = "You are terse."
prompt_file = "PROMPTS/mine.j2"
"""


@pytest.fixture
def folder(project: Project, tmp_path: Path) -> Path:
    """The built project without its release, its recipe full of paths."""
    ignore = shutil.ignore_patterns("release", "inputs", ".cache")
    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy, ignore=ignore)
    (copy / "prompts").mkdir()
    (copy / "prompts/mine.j2").write_text(PROMPT)
    stream = STREAM.replace("PROMPTS", str(copy / "prompts"))
    recipe = RECIPE.replace('[captions.absence]\nstyle = "absence"\n', stream)
    inputs = f'maps = ["{copy}/inputs/*_Map.tif"]\ncomposites = ["../x/*_S2RGBNIR.tif"]\n'
    (copy / "dataset.toml").write_text(recipe.replace("[tiles]\n", f"[tiles]\n{inputs}"))
    rename_models(
        Project(copy), "caption-absence", lambda caption: {**caption, "model": "/srv/models/seer"}
    )
    return copy


def rename_models(project: Project, stage: str, change: Callable[[Any], Any]) -> None:
    """Rewrite the captions of a stage in the store."""
    store = project.store
    for shard in store.shards(stage):
        table = store.load(stage, shard)
        (name,) = [column for column in table.column_names if column.startswith("caption_")]
        place = table.column_names.index(name)
        cells = pa.array(
            [change(caption) for caption in table.column(name).to_pylist()], table[name].type
        )
        footer = store.footer(stage, shard)
        assert footer is not None
        changed = table.set_column(place, table.schema.field(place), cells)
        store.write(stage, shard, changed, key="another", counts=footer.counts)


def test_no_path_of_the_recipe_or_of_a_server_leaves_the_machine(folder: Path) -> None:
    package(Project(folder).inputs())
    release = folder / "release/0.1.0"
    recipe = manifest.read_manifest(release).facts.recipe
    assert recipe["tiles"]["maps"] == ["*_Map.tif"]
    assert recipe["tiles"]["composites"] == ["*_S2RGBNIR.tif"]
    assert recipe["captions"]["absence"]["model"] == "seer"
    rows = pq.read_table(next((release / "metadata").glob("train-*")), columns=["captions"])
    streams = {
        caption["stream"]: caption for row in rows.to_pylist() for caption in row["captions"]
    }
    assert streams["absence"]["model"] == "seer"
    assert streams["full"]["model"] == "aras-template"
    assert violations(release) == []
    for name in ("manifest.json", "README.md", "croissant.json", ".zenodo.json", "CITATION.cff"):
        text = (release / name).read_text(encoding="utf-8")
        assert not [
            private for private in (str(folder), "alice", "/srv", "127.0.0.1") if private in text
        ]


def test_the_prompt_of_a_model_s_stream_stands_in_the_card_in_full(folder: Path) -> None:
    package(Project(folder).inputs())
    card = (folder / "release/0.1.0/README.md").read_text(encoding="utf-8")
    (block,) = [part for part in card.split("<details>")[1:] if "<code>absence</code>" in part]
    block = block.split("</details>")[0]
    assert f"```text\n{PROMPT}```" in block
    assert "```text\nYou are terse.\n```" in block
    assert "the prompt of seer, which also sees image and layout" in block
    assert "Decoding: greedy; at most 100 tokens; 1 attempt." in block
    assert "\n\n\n" not in block
    assert "Template captions (`dominant`, `composition`, `layout`, `full`)" in card
    assert "Captions by models repeat the biases of these models" in card


def test_where_the_inputs_lie_makes_no_other_release(folder: Path) -> None:
    key = content_key(Project(folder).inputs())
    recipe = folder / "dataset.toml"
    recipe.write_text(recipe.read_text().replace("/home/alice/models", "/elsewhere"))
    assert content_key(Project(folder).inputs()) == key


@pytest.mark.parametrize(("years", "versions"), [([2020], ["v100"]), ([], ["v200"])])
def test_worldcover_is_cited_by_the_years_of_the_composites(
    years: list[int], versions: list[str]
) -> None:
    maps = [source for source in worldcover(years) if source.doi]
    assert [source.name.split()[-1] for source in maps] == versions
    dois = {"v100": "10.5281/zenodo.5571936", "v200": "10.5281/zenodo.7254221"}
    assert [source.doi for source in maps] == [dois[version] for version in versions]
