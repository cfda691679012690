"""``aras generate --dry-run``: the plan, what is to be drawn, and what that costs."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from builder.cli import cli
from builder.core.progress import words_of
from builder.models import costs, rehearsal
from builder.models.costs import forecast
from builder.models.drawing import Sampling
from builder.models.settings import AUTOENCODER, GENERATOR
from builder.pipeline.preview import cost_of
from builder.pipeline.project import LastRun
from builder.steps.plan import Setup
from tests.makers.project import built_project


@pytest.fixture
def directory(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = built_project(tmp_path_factory.getbasetemp()).directory
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def dry_run(directory: Path, *more: str) -> str:
    result = CliRunner().invoke(cli, ["-C", str(directory), "generate", "--dry-run", *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_shows_shares_and_that_all_rows_are_there(directory: Path) -> None:
    text = dry_run(directory)
    assert text.splitlines()[0].split() == ["class", "natural", "target", "planned", "short"]
    assert "target natural is met" in text
    assert text.splitlines()[-1] == "nothing to draw: all rows exist"


def forget_one_shard(directory: Path) -> None:
    sorted((directory / "work" / "generate").glob("*.parquet"))[0].unlink()


def test_rows_to_draw_are_costed_by_the_last_run_that_drew_any(directory: Path) -> None:
    again = CliRunner().invoke(cli, ["-C", str(directory), "generate", "--engine", "serial"])
    assert "nothing to do" in again.stderr  # and yet the rate of the run before is kept
    forget_one_shard(directory)
    plan = json.loads(dry_run(directory, "--json"))
    assert plan["steps"][-1] == {"stage": "generate", "shards": 2, "stale": 1}
    assert plan["rows_to_draw"] == 5
    assert plan["hours"] == pytest.approx(5 / plan["tiles_per_second"] / 3600)
    assert "5 rows to draw: about " in dry_run(directory)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device without a GPU is meant")
def test_without_a_gpu_the_cost_is_in_cpu_hours(directory: Path) -> None:
    forget_one_shard(directory)
    plan = json.loads(dry_run(directory, "--json"))
    assert (plan["device"], plan["gpu_hours"], plan["cpu_hours"]) == ("cpu", None, plan["hours"])
    assert "CPU-hours) at the " in dry_run(directory)


@pytest.mark.parametrize(
    ("device", "engine", "workers", "hours", "unit"),
    [
        ("cpu", "processes", 4, 8.0, "CPU-hours"),
        ("cpu", "ray", 0, None, "CPU-hours"),  # how many cores the cluster has is not known
        ("NVIDIA H100", "serial", 1, 2.0, "GPU-hours"),
        ("NVIDIA H100", "processes", 4, 2.0, "GPU-hours"),  # they share the machine's first GPU
        ("NVIDIA H100", "ray", 4, 8.0, "GPU-hours"),
    ],
)
def test_hours_are_counted_per_core_or_gpu(
    device: str, engine: str, workers: int, hours: float | None, unit: str
) -> None:
    setup = Setup("of this generator", device, engine, workers)
    last = LastRun(rows_made=10, seconds=10.0, setup=setup)
    cost = cost_of(7_200, last, setup)
    assert (cost.rate, cost.hours, cost.processor_hours, cost.unit) == (1.0, 2.0, hours, unit)
    other = dataclasses.replace(setup, stage="of another generator")
    assert cost_of(7_200, last, other).hours is None


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (("--engine", "processes", "--workers", "2"), ""),
        (("--engine", "serial"), "sampler = 'ddim'"),
        (("--engine", "serial"), "sampling_batch = 3"),
    ],
)
def test_a_rate_of_other_settings_is_not_used(
    directory: Path, options: tuple[str, ...], lines: str
) -> None:
    recipe = directory / "dataset.toml"
    recipe.write_text(recipe.read_text().replace("rows = 10\n", f"rows = 10\n{lines}\n", 1))
    forget_one_shard(directory)
    assert json.loads(dry_run(directory, "--json", *options))["tiles_per_second"] is None
    text = dry_run(directory, *options).splitlines()[-1]
    assert text.endswith("rows to draw; no rate measured for these settings yet")


def test_without_a_rate_the_gpu_profile_is_forecast_by_counted_operations(tmp_path: Path) -> None:
    """.0151 TFLOP once through the network, 25 times, and .156 to decode; 312 TFLOP/s at .4."""
    recipe = '[generator]\nprofile = "gpu"\nrows = 300000\ncondition = "none"\n'
    (tmp_path / "dataset.toml").write_text(recipe)
    text = dry_run(tmp_path).splitlines()[-1]
    assert "no rate measured for these settings yet. 0.53 TFLOP a tile (counted): " in text
    assert "0.36 to 0.71 h on one A100" in text
    assert "at 40% to 20% of its peak (assumed)" in text
    more = recipe + "guidance = 1.0\nwidths = [64, 64]\n"
    (tmp_path / "dataset.toml").write_text(more)
    assert dry_run(tmp_path).endswith("no rate measured for these settings yet\n")


def test_the_counted_operations_are_those_of_the_rehearsal() -> None:
    network = rehearsal.drawing_batch(
        GENERATOR["gpu"], AUTOENCODER["gpu"], Sampling(steps=1), 1, 256
    )
    for steps, guidance in ((1, 1.0), (25, 2.0)):
        counted = forecast(GENERATOR["gpu"], 1, 256, steps, guidance)
        assert counted is not None
        passes = steps * (1 if guidance == 1 else 2)
        assert counted.tflop == pytest.approx(
            network.flops / 1e12 + (passes - 1) * costs.NETWORK, rel=0.01
        )
    assert forecast(GENERATOR["cpu"], 1, 256, 4, 1.0) is None


@pytest.mark.parametrize(("nearest", "refused"), [("false", True), ("true", False)])
def test_a_target_out_of_reach_is_said_to_be_refused_unless_nearest(
    directory: Path, nearest: str, refused: bool
) -> None:
    recipe = directory / "dataset.toml"
    more = f'rows = 10\nbalance = "Shrub=0.99"\nnearest = {nearest}'
    recipe.write_text(recipe.read_text().replace("rows = 10", more, 1))
    assert ("`aras generate` will refuse this" in dry_run(directory)) == refused
    assert json.loads(dry_run(directory, "--json"))["refused"] == refused
    done = CliRunner().invoke(cli, ["-C", str(directory), "generate", "--engine", "serial"])
    assert done.exit_code == (2 if refused else 0), done.output


def test_before_layouts_are_chosen_drawing_waits_for_them(directory: Path) -> None:
    for stage in ("layouts", "generate"):
        shutil.rmtree(directory / "work" / stage)
    text = dry_run(directory)
    assert "generate               waits for layouts" in text
    assert "fresh" not in text
    assert "10 rows to draw" in text


def test_changed_layouts_make_all_rows_stale(directory: Path) -> None:
    recipe = directory / "dataset.toml"
    recipe.write_text(recipe.read_text().replace("rows = 10", "rows = 12", 1))
    assert json.loads(dry_run(directory, "--json"))["rows_to_draw"] == 12


def test_without_a_rate_or_a_generator_it_says_what_is_missing(directory: Path) -> None:
    (directory / "reports" / "generate.json").unlink()
    shutil.rmtree(directory / "models" / "generator")
    text = dry_run(directory)
    assert "run `aras train generator` first" in text
    assert text.splitlines()[-1] == "10 rows to draw; no rate measured for these settings yet"


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (0.01, "36 seconds"),
        (0.2, "12 minutes"),
        (3.5, "3.5 hours"),
        (30.0, "30 hours"),
        (100.0, "4.2 days"),
    ],
)
def test_durations_are_said_as_people_do(hours: float, words: str) -> None:
    assert words_of(3600 * hours) == words
