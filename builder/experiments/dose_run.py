"""Running a table of doses: forecast, every run that has no record yet, and the report."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builder.core.engine import Engine
from builder.core.progress import say
from builder.experiments import dose_report, dose_study
from builder.experiments.dose_analysis import Analysis
from builder.experiments.dose_response import Bench, Hits, Training, measured
from builder.experiments.experiment import Experiment

TRIED = 8
"""Steps that a forecast trains for."""


@dataclass(frozen=True)
class Forecast:
    """Runs that are missing, and the processor seconds that they will take."""

    runs: int
    seconds: float

    def __str__(self) -> str:
        if not self.runs:
            return "every run has a record"
        minutes = math.ceil(self.seconds / 60)
        return f"{self.runs:,} runs are missing, about {minutes:,} CPU minutes on this machine"


def forecast(experiment: Experiment[Hits], bench: Bench, folder: Path) -> Forecast:
    """The cost of the runs that have no record, from a short training; writes nothing that stays.

    What is done once, drawing tiles and reading features, is not in it.
    """
    missing = [trial for trial in experiment.trials if experiment.read(trial) is None]
    if not missing:
        return Forecast(0, 0.0)
    steps = bench.table.training.steps
    costs = []
    for tried in (1, TRIED + 1):
        training = bench.table.training.model_copy(update={"steps": tried})
        short = replace_training(bench, training)
        started = time.process_time()
        short.train(("real", 0), "forecast", folder)
        costs.append(time.process_time() - started)
        shutil.rmtree(folder, ignore_errors=True)
    each = max(0.0, costs[1] - costs[0]) / TRIED
    total = sum(costs[0] + each * steps * bench.plans[arm].steps for arm, _ in missing)
    return Forecast(len(missing), total)


def replace_training(bench: Bench, training: Training) -> Bench:
    """The bench with another training, and the same tiles."""
    table = bench.table.model_copy(update={"training": training})
    return Bench(lambda: bench.material, table)


def run(source: Callable[[], Bench], out: Path, seeds: int, engine: Engine) -> Analysis:
    """Run what has no record yet, measure the doses, and write records and report into ``out``.

    Raises WorkFailed naming the runs that failed; the same command goes on.
    """
    experiment = Experiment[Hits](source, out, seeds)
    bench = experiment.bench
    assert isinstance(bench, Bench)
    say(f"forecast: {forecast(experiment, bench, out / 'forecast')}")
    records = experiment.run_all(engine)
    study = dose_study.of_bench(bench, records, measured(bench))
    name = bench.table.training.encoder
    study.write(out / name, records)
    return dose_report.write(out, {name: study})[name]
