"""What `aras package` wrote, checked by the real `aras check`, goes to the Hub and comes back."""

# ruff: noqa: F811 - a fixture is imported and then named as an argument

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from builder.core.manifest import read_manifest
from builder.release.published import publications
from tests.loopback.hub import TOKEN
from tests.loopback.hub_kit import REPO, ROOT, desk, server  # noqa: F401
from tests.makers.project import built_project

LOAD = """
import json, os, sys
from datasets import ClassLabel, load_dataset
told = {}
for config in sys.argv[2:]:
    told[config] = {}
    for split, rows in load_dataset("org/name", config, revision=sys.argv[1]).items():
        told[config][split] = sorted(rows["id"])
    assert config in ("controls", "embeddings") or isinstance(rows.features["dominant"], ClassLabel)
print(json.dumps(told))
sys.stdout.flush()
os._exit(0)
"""


def run(desk, *command, token=TOKEN):
    secret = {"HF_TOKEN": token} if token else {}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**desk.environment(), **secret},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


def run_snippets(desk, card):
    """Run every Python snippet of a card as a plain user of the Hub; how many there were."""
    assert "someone/tiny" not in card  # what the recipe names
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = "\n".join(snippets) + "\nassert row['mask'].mode == 'P' and first['id']"
    code += "\nassert len(subset['train']) and len(table)\nimport os\nos._exit(0)\n"
    done = run(desk, "-c", code, token=None)
    assert done.returncode == 0, done.stderr
    assert desk.hub.requests("GET", f"/api/datasets/{REPO}/revision/main")
    return len(snippets)


@pytest.fixture
def release(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = built_project(tmp_path_factory.getbasetemp())
    copy = tmp_path / "packaged" / project.recipe.dataset.version
    shutil.copytree(project.releases / copy.name, copy)
    return copy


@pytest.mark.parametrize("desk", ["xet"], indirect=True)
def test_a_packaged_release_is_published_and_every_row_loads(desk, release):
    publish = ("-m", "builder", "publish", "hub", release, "--repo", REPO, "--json")
    done = run(desk, *publish)
    assert done.returncode == 0, done.stderr
    (place,) = publications(release)
    assert (place.repo, place.tag) == (REPO, release.name)

    stored = desk.hub.repo(REPO).files(release.name)["README.md"]
    assert run_snippets(desk, desk.hub.content(stored).decode()) >= 4

    manifest = read_manifest(release)
    loaded = run(desk, "-c", LOAD, release.name, *manifest.configs, token=None)
    assert loaded.returncode == 0, loaded.stderr
    seen = json.loads(loaded.stdout)
    for config, splits in manifest.configs.items():
        for split, entry in splits.items():
            ids = [
                row_id
                for name in entry.files
                for row_id in pq.read_table(release / name, columns=["id"])["id"].to_pylist()
            ]
            assert seen[config][split] == sorted(ids), (config, split)

    again = run(desk, *publish)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["plan"] is None
    assert desk.sent_twice() == []


def test_a_release_that_fails_the_check_is_refused_before_anything_is_sent(desk, release):
    shard = next((release / "real").glob("train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = run(desk, "-m", "builder", "publish", "hub", release, "--repo", REPO)
    assert done.returncode == 2
    assert shard.name in done.stderr
    assert desk.hub.writes() == []
