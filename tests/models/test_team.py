"""Two processes train one generator: as one process does, and killed they resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from builder.models import generator
from builder.models.record import Record, require
from builder.models.team import ALONE, Team
from builder.pipeline.project import Project
from tests.makers.project import RECIPE, built_project
from tests.makers.toy import environment, listening

STEPS = 6


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project before its generator, which is to take six steps."""
    home = tmp_path_factory.mktemp("together") / "start"
    built = built_project(tmp_path_factory.getbasetemp())
    for part in ("inputs", "work/tiles", "work/split", "models/segmenter"):
        shutil.copytree(built.directory / part, home / part)
    settings = f"rows = 10\nevaluate_every = 2\nsteps = {STEPS}\nlearning_rate = 0.003\n"
    recipe = RECIPE.replace("rows = 10\nsteps = 3\n", settings)
    assert recipe != RECIPE
    (home / "dataset.toml").write_text(recipe)
    return home


def command(directory: Path, *arguments: str) -> list[str]:
    """``--multi_gpu`` is how accelerate starts several processes, also where there is no GPU."""
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    return [*launcher, "-m", "tests.makers.launched", str(directory), *arguments]


@pytest.fixture(scope="module")
def together(start: Path) -> Path:
    """The project trained by two processes."""
    home = Path(shutil.copytree(start, start.with_name("two")))
    done = subprocess.run(command(home), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == STEPS  # one of the two reports
    return home


def test_two_processes_learn_what_one_does(start: Path, together: Path) -> None:
    """Each takes one half of every batch, so only the order of sums differs."""
    home = Path(shutil.copytree(start, start.with_name("one")))
    Project(home).training("generator").run(Project(home).store)
    both, alone = (at / "models" / "generator" for at in (together, home))
    records = [require(at, "generator") for at in (both, alone)]
    assert [record.processes for record in records] == [2, 1]
    assert records[0].key == records[1].key
    losses = [np.loadtxt(at / "loss.csv", delimiter=",", skiprows=1) for at in (both, alone)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    weights = [load_file(at / generator.WEIGHTS) for at in (both, alone)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=2e-3, msg=name)
    rows = [np.loadtxt(at / "evaluations.csv", delimiter=",", skiprows=1) for at in (both, alone)]
    np.testing.assert_allclose(rows[0][:, :2], rows[1][:, :2], rtol=1e-3)
    assert sorted(path.name for path in both.iterdir()) == sorted(
        path.name for path in alone.iterdir()
    )


def test_killed_together_they_resume_to_the_same_weights(start: Path, together: Path) -> None:
    home = Path(shutil.copytree(start, start.with_name("killed")))
    with listening(home) as bell:
        launcher = subprocess.Popen(command(home, "3"), env=environment())
        try:
            for process in bell.wait(times=2):
                os.kill(int(process), signal.SIGKILL)
        finally:
            launcher.kill()
            launcher.wait()
    folder = home / "models" / "generator"
    assert (folder / "checkpoint.pt").exists()
    assert Record.read(folder) is None
    done = subprocess.run(command(home), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = require(together / "models" / "generator", "generator")
    assert require(folder, "generator") == whole


def test_a_process_alone_is_a_team_of_one() -> None:
    assert Team.join() is ALONE
    assert (ALONE.rank, ALONE.world, ALONE.leads) == (0, 1, True)
    model = torch.nn.Linear(1, 1)
    assert ALONE.share(model) is ALONE.bare(model) is model
    assert ALONE.map(lambda i: i * i, 4) == [0, 1, 4, 9]
    assert ALONE.mean(torch.tensor(2.5)) == ALONE.agree(2.5) == 2.5
