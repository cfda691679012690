"""A generator that is damaged, of another dataset, or out of disk is one clear line each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.files import read_json, sha256_file, write_json
from builder.models.generator import WEIGHTS
from builder.pipeline.project import Project
from builder.pipeline.run import StepFailed, run_steps
from builder.steps.plan import plan
from tests.makers.generators import real_project

GENERATE = ("layouts", "generate")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Real tiles and a generator of textures, trained on them."""
    project = real_project(tmp_path_factory.mktemp("drawing") / "base", kind="texture")
    run_steps(project, [project.training("generator")], Engine("serial"))
    return project


@pytest.fixture
def project(base: Project, tmp_path: Path) -> Project:
    shutil.copytree(base.directory, tmp_path / "copy")
    return Project(tmp_path / "copy")


def test_weights_that_are_no_numbers_draw_nothing(tmp_path: Path) -> None:
    project = real_project(tmp_path / "pixel", kind="pixel")
    run_steps(project, [project.training("generator")], Engine("serial"))
    path = project.models / "generator" / WEIGHTS
    weights = safetensors.numpy.load_file(path)
    first = next(name for name, values in weights.items() if values.ndim == 4)
    weights[first] = weights[first].copy()
    weights[first].flat[0] = np.nan
    safetensors.numpy.save_file(weights, path, metadata={"format": "pt"})
    place = project.models / "generator" / "record.json"
    write_json(place, {**read_json(place), "weights_sha256": sha256_file(path)})
    with pytest.raises(StepFailed, match="values that are not finite numbers: its weights are"):
        run_steps(project, list(project.synthesis()), Engine("serial"))
    assert project.store.shards("generate") == []


def test_a_generator_of_another_dataset_is_refused(project: Project) -> None:
    table = project.store.read("real-N36E032-00", ("split",))
    splits = table.column("split").to_pylist()[::-1]  # the same pictures, others of them train
    project.store.write("split", "real-N36E032-00", table.from_pydict({"split": splits}), key="k")
    layouts, draw = project.synthesis()
    run_steps(project, [layouts], Engine("serial"))
    with pytest.raises(ArasError, match="was trained on other tiles than those here"):
        plan(draw, project.store)


def test_a_disk_that_fills_while_drawing_tears_nothing_and_the_next_run_ends(
    project: Project,
) -> None:
    limit = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
        "sys.argv[0] = 'aras'; runpy.run_module('builder', run_name='__main__')"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", limit, "-C", str(project.directory), "generate"]
    result = subprocess.run(
        [*command, "--engine", "serial"],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(project.store.root.glob("generate/*")) == []
    run_steps(project, list(project.synthesis()), Engine("serial"))
    assert project.store.shards("generate") == project.store.shards("layouts")
