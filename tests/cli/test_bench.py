"""``aras bench embeddings`` as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builder.cli import cli
from tests.retrieval.test_ranks import scene

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    x, y, owner = scene(images=40)
    for name, array in (("x", x), ("y", y), ("o", owner)):
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def bench(folder, *more):
    files = ["--images", "x.npy", "--texts", "y.npy", "--owner", "o.npy"]
    return CliRunner().invoke(cli, ["-C", str(folder), "bench", "embeddings", *files, *more])


def test_json_alone_stands_on_stdout(folder):
    outcome = bench(folder, "--json")
    assert outcome.exit_code == 0
    result = json.loads(outcome.stdout)
    x, y, owner = (np.load(folder / f"{name}.npy") for name in "xyo")
    order = np.argsort(-(y.astype(float) @ x.T.astype(float)), axis=1)
    for k in (1, 5, 10):
        hit = (order[:, :k] == owner[:, None]).any(1)
        assert result["t2i"][f"R@{k}"] == pytest.approx(100 * hit.mean())
    assert list(result["i2t"]) == ["R@1", "R@5", "R@10", "MedR"]
    six = [result[way][f"R@{k}"] for way in ("t2i", "i2t") for k in (1, 5, 10)]
    assert result["mR"] == pytest.approx(np.mean(six))
    assert "optimistic" not in result


def test_a_collapsed_model_does_not_look_perfect(folder):
    np.save(folder / "x.npy", np.ones((40, 8), "f2"))
    np.save(folder / "y.npy", np.ones((120, 8), "f4"))
    outcome = bench(folder, "--json")
    result = json.loads(outcome.stdout)
    assert result["t2i"]["R@1"] == pytest.approx(100 / 40)
    assert result["optimistic"]["mR"] == 100
    assert result["pessimistic"]["mR"] == 0
    assert "normalised" in outcome.stderr


def test_the_table_shows_two_decimals_intervals_and_bounds(folder):
    outcome = bench(folder, "--intervals")
    mean = json.loads(bench(folder, "--json").stdout)["mR"]
    assert f"mR          {mean:10.2f}" in outcome.stdout
    assert outcome.stdout.count("95 %") == 7
    assert "ties" not in outcome.stdout
    x = np.load(folder / "x.npy")
    x[1] = x[0]
    np.save(folder / "x.npy", x)
    assert "ties pessimistic" in bench(folder).stdout


def test_bad_rows_end_with_one_message_and_exit_code_2(folder):
    y = np.load(folder / "y.npy")
    y[17, 0] = np.nan
    np.save(folder / "y.npy", y)
    outcome = bench(folder, "--json")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "y.npy: row 17 holds NaN" in outcome.stderr


def test_an_unusable_device_is_refused(folder):
    outcome = bench(folder, "--device", "abacus")
    assert outcome.exit_code == 2
    assert "device abacus" in outcome.stderr


def test_the_program_runs_from_a_shell(folder):
    command = [sys.executable, "-m", "builder", "bench", "embeddings", "--json"]
    files = ["--images", folder / "x.npy", "--texts", folder / "y.npy", "--owner", folder / "o.npy"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *files], cwd=folder, env=environment, capture_output=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(json.loads(done.stdout)) == {"t2i", "i2t", "mR"}
