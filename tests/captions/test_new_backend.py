"""A backend is one file and one line: everything else finds it in the registry."""

import json
import shutil
from pathlib import Path

from builder.core.store import Store
from builder.pipeline.project import Project
from tests.makers.extended import aras_with

RECIPE = """
[captions.echo]
backend = "echo"
model = "echo-writer"
sees = ["composition"]
prompt = "This tile shows {{ composition }}."
"""


def test_a_new_backend_captions_is_released_and_is_named_on_the_card(
    project: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "echo"
    shutil.copytree(project.directory, folder, ignore=shutil.ignore_patterns("release"))
    with (folder / "dataset.toml").open("a", encoding="utf-8") as recipe:
        recipe.write(RECIPE)
    dry = aras_with("toy_backend", folder, "caption echo --dry-run --json")
    assert json.loads(dry)["steps"][0]["estimate"]["requests"] > 0

    aras_with("toy_backend", folder, "caption echo", "score", "package", "check release/0.1.0")
    store = Store(folder / "work")
    shard = store.shards("caption-echo")[0]
    (cell, *_) = store.read(shard, ("caption_echo",)).column(0).to_pylist()
    assert cell["text"].startswith("This tile shows ")
    assert (cell["model"], cell["revision"]) == ("echo-writer", "1")
    card = (folder / "release" / "0.1.0" / "README.md").read_text(encoding="utf-8")
    assert "| `echo` | echo-writer 1 | This tile shows" in card
    summary = "Stream <code>echo</code>: the prompt of echo-writer, which also sees composition"
    assert summary in card
