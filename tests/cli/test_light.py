"""What planning may not import, and what works without the extra that makes datasets."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.extras import LIBRARIES
from builder.pipeline.project import Project

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEAVY = {"torch", "diffusers", "transformers", "rasterio"}
HEAVY |= {"scipy", "sklearn", "requests", "datasets"}

SCRIPT = """
import json, sys
from click.testing import CliRunner
from builder.cli import cli

answer = CliRunner().invoke(cli, sys.argv[1:])
assert answer.exit_code == 0, answer.output
print(json.dumps([name for name in sys.modules if "." not in name]))
"""


def loaded_by(command: Sequence[str]) -> set[str]:
    words = [sys.executable, "-c", SCRIPT, *command]
    return set(json.loads(subprocess.run(words, check=True, capture_output=True).stdout))


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["build", "--dry-run"]])
def test_planning_a_built_project_loads_no_heavy_library(
    project: Project, command: Sequence[str]
) -> None:
    loaded = loaded_by(["-C", str(project.directory), *command])
    assert "builder" in loaded
    assert not HEAVY & loaded


LIGHT = """
import json, sys
from importlib.machinery import PathFinder
from builder.core.extras import LIBRARIES

class Installed(PathFinder):
    "Finds what is installed without the extra."

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        known = name.partition(".")[0] not in LIBRARIES
        return PathFinder.find_spec(name, path, target) if known else None

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
from click.testing import CliRunner
from builder.cli import cli

for words in json.loads(sys.argv[1]):
    answer = CliRunner().invoke(cli, words)
    print(json.dumps([answer.exit_code, answer.output]))
"""


def test_the_plain_install_reads_checks_cuts_and_compares(project: Project, tmp_path: Path) -> None:
    """Every library of aras[make] is absent; a command that needs it says so."""
    release = str(project.releases / "0.1.0")
    rng = np.random.default_rng(0)
    for name, rows in (("images", 13), ("texts", 65)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(rows, 8)).astype(np.float32))
    np.save(tmp_path / "owner.npy", np.arange(65) // 5)
    files = [f"--{name}={tmp_path / name}.npy" for name in ("images", "texts", "owner")]
    commands = [
        ["--help"],
        ["check", release],
        ["get", release, str(tmp_path / "part"), "--where", "split = 'test'"],
        ["explore", release, "--out", str(tmp_path / "page")],
        ["bench", "embeddings", *files, "--json"],
        ["bench", "retrieval", release, "--model", "random", "--near", "keep"],
        ["-C", str(project.directory), "train", "retriever"],
    ]
    run = [sys.executable, "-c", LIGHT, json.dumps(commands)]
    ended = subprocess.run(run, capture_output=True, text=True, check=True)
    *done, retrieval, train = map(json.loads, ended.stdout.splitlines())
    assert [code for code, _ in done] == [0] * 5, ended.stdout
    assert json.loads(done[4][1].splitlines()[-1])["mR"] > 0
    for code, output in (retrieval, train):
        assert code == 2
        assert "pip install 'aras[make]'" in output


def test_what_the_extra_brings_is_what_the_package_says() -> None:
    tables = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^\w-]", line)[0] for line in tables["optional-dependencies"]["make"]}
    imported = {"scikit-learn": "sklearn", "zenodo-client": "zenodo_client"}
    assert {imported.get(name, name) for name in names} == set(LIBRARIES) - {"tokenizers"}
    plain = {re.split(r"[^\w-]", line)[0] for line in tables["dependencies"]}
    assert not plain & names


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_embeddings_of_a_few_tiles_are_scored_without_heavy_libraries(
    tmp_path: Path, kind: str
) -> None:
    x, owner = np.eye(4, dtype=np.float32), np.arange(4)
    columns = {"x": ("id", "vector"), "y": ("id", "vector"), "o": ("id", "owner")}
    for name, values in {"x": x, "y": x, "o": owner}.items():
        if kind == "npy":
            np.save(tmp_path / f"{name}.npy", values)
        else:
            both = pa.table([pa.array(owner), pa.array(values.tolist())], names=columns[name])
            pq.write_table(both, tmp_path / f"{name}.parquet")
    options = {"--images": "x", "--texts": "y", "--owner": "o"}
    paths = {key: str(tmp_path / f"{name}.{kind}") for key, name in options.items()}
    files = [word for option in paths.items() for word in option]
    loaded = loaded_by(["bench", "embeddings", *files])
    assert "numpy" in loaded
    # pyarrow itself loads pandas, where that is installed
    assert not (HEAVY | ({"pandas", "pyarrow"} if kind == "npy" else set())) & loaded
