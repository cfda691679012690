"""A score is one file and two lines: everything that shows scores finds it in the registry."""

import json
import shutil
from pathlib import Path

from builder.core.store import Store
from builder.pipeline.project import Project
from tests.makers.extended import aras_with


def test_a_new_score_is_computed_released_and_shown(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "capitals"
    shutil.copytree(project.directory, folder, ignore=shutil.ignore_patterns("release"))
    steps = ("score", "package", "check release/0.1.0", "report release/0.1.0")
    aras_with("toy_score", folder, *steps)
    store = Store(folder / "work")
    shard = store.shards("score-full")[0]
    (cell, *_) = store.read(shard, ("caption_full", "score_full")).to_pylist()
    text = cell["caption_full"]["text"]
    expected = sum(map(str.isupper, text)) / len(text)
    assert abs(cell["score_full"]["capitals"] - expected) < 1e-6

    release = folder / "release" / "0.1.0"
    census = json.loads((release / "manifest.json").read_text())["facts"]["census"]
    assert all(stream["capitals"] > 0 for stream in census["streams"].values())
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "- `capitals`: Share of capital letters among the characters." in card
    page = folder / "reports" / "0.1.0.html"
    assert "<th>capitals</th>" in page.read_text(encoding="utf-8")

    (folder / "texts.csv").write_text("text\nA FOREST.\n", encoding="utf-8")
    summary = json.loads(aras_with("toy_score", folder, "score captions texts.csv --json"))
    assert abs(summary["streams"]["text"]["means"]["capitals"] - 7 / 9) < 1e-6
