"""An experiment: what it declares, the runs of every arm and seed, and their records."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.core.files import digest_of, read_json, remove, write_json
from builder.core.progress import bar
from builder.experiments.rows import Arm, TrainRows
from builder.retrieval.ranks import Ints
from builder.retrieval.result import Checks, Part, libraries

SEEDS = 3
Trial = tuple[str, int]
"""(arm, seed)."""
Counts = Annotated[Ints, PlainValidator(np.asarray), PlainSerializer(lambda array: array.tolist())]
"""An array of a record; lists in JSON."""


class Loss(Part):
    """The first loss of a training, and the mean of the last ten."""

    first: float
    last: float

    @staticmethod
    def of(losses: Sequence[float]) -> "Loss":
        return Loss(first=losses[0], last=float(np.mean(losses[-10:])))


class Record(Part):
    """A finished run, as the JSON file of its trial holds it; an experiment adds its judgement."""

    kind: str = ""
    key: str = ""
    arm: str = ""
    seed: int = 0
    settings: dict[str, Any] | None = None
    loss: Loss | None = None
    """Settings and loss of the training, or the untrained ``model``."""
    model: dict[str, Any] | None = None
    libraries: dict[str, str] | None = None
    seconds: float = 0
    cpu_seconds: float | None = None
    """Processor time; not in records of earlier versions."""

    def as_json(self) -> dict[str, Any]:
        """The JSON object; what the run cost comes last."""
        values = super().as_json()
        cost = ("libraries", "seconds", "cpu_seconds")
        return {name: values[name] for name in sorted(values, key=cost.__contains__)}


R = TypeVar("R", bound=Record)


class Bench(Protocol[R]):
    """What an experiment declares, with its rows loaded; all else is shared by experiments."""

    name: str
    arms: dict[str, Arm]
    """The arms that are trained, in the order of the report."""
    untrained: Sequence[str]
    """Names of arms that are judged once, without a training."""
    floor: str
    """The arm that real rows must beat before arms are compared."""
    floor_model: str
    """What the model of that arm is, and what follows where real rows do not beat it."""
    rows: TrainRows
    tiles: int
    """Test tiles."""
    empty: str
    """Why the test tiles may say nothing about a figure."""
    checks: Checks | None
    """What was checked of the test tiles of a release."""
    record: type[R]

    def inputs(self, trial: Trial) -> Mapping[str, Any]:
        """All that the record of a trial depends on, as JSON."""

    def train(self, trial: Trial, key: str, folder: Path) -> R:
        """Train, with checkpoints in ``folder``, and judge on the test tiles."""


@dataclass(frozen=True)
class Experiment(Generic[R]):
    """Every arm of a bench with every seed, and a record of each in ``out``.

    It is what an engine's workers open: ``source`` is picklable and loads the bench in each.

        experiment = Experiment(partial(augmentation.Bench, release, out, settings), out)
        records = experiment.run_all(Engine("serial"))
        augmentation.report_of(experiment.bench, records).write(out)
    """

    source: Callable[[], Bench[R]]
    out: Path
    seeds: int = SEEDS

    @cached_property
    def bench(self) -> Bench[R]:
        return self.source()

    def __reduce__(self) -> tuple[Any, ...]:
        return Experiment, (self.source, self.out, self.seeds)

    def open(self) -> Callable[[Trial], R]:
        return self.run

    @property
    def trials(self) -> list[Trial]:
        """Every arm with one seed, then every arm with the next: halves are comparable too."""
        untrained = [(name, 0) for name in self.bench.untrained]
        return untrained + [(arm, s) for s in range(self.seeds) for arm in self.bench.arms]

    def path(self, trial: Trial) -> Path:
        return self.out / "runs" / f"{trial[0]}-seed{trial[1]}.json"

    def key(self, trial: Trial) -> str:
        return digest_of(self.bench.inputs(trial))

    def read(self, trial: Trial) -> R | None:
        """The record of a trial that was finished with the same inputs and settings."""
        try:
            values = read_json(self.path(trial))
        except (FileNotFoundError, ValueError):
            return None
        same = values.get("key") == self.key(trial)
        return self.bench.record.model_validate(values) if same else None

    def run(self, trial: Trial) -> R:
        """Train and judge unless there is a record; writes the record in one piece."""
        if record := self.read(trial):
            return record
        started, spent = time.monotonic(), time.process_time()
        path, key = self.path(trial), self.key(trial)
        checkpoints = path.with_suffix("")
        record = self.bench.train(trial, key, checkpoints).plus(
            kind=f"{self.bench.name}-run",
            key=key,
            arm=trial[0],
            seed=trial[1],
            libraries=libraries(),
            seconds=round(time.monotonic() - started, 1),
            cpu_seconds=round(time.process_time() - spent, 1),
        )
        write_json(path, record.as_json())
        remove(checkpoints)
        return record

    def run_all(self, engine: Engine) -> dict[str, list[R]]:
        """Run every trial that has no record yet; returns the records of each arm.

        A failed trial does not stop the others. Raises ArasError for fewer than two seeds and
        WorkFailed naming the trials that failed; the same command continues from the records and
        checkpoints that exist.
        """
        if self.seeds < 2:
            raise ArasError("seeds is below 2: differences between arms need a spread over seeds")
        missing = [trial for trial in self.trials if self.read(trial) is None]
        runs, failed = len(self.trials), []
        with bar(self.bench.name, runs, "runs") as advance:
            advance(runs - len(missing))
            for (arm, seed), outcome in engine.map(self, missing):
                advance(1, f"{arm}, seed {seed}")
                if isinstance(outcome, Exception):
                    failed.append(f"{arm}, seed {seed}: {outcome}")
        if failed:
            raise WorkFailed(
                f"{len(failed)} of {runs} runs failed, the others are kept; the same "
                "command tries these again\n  " + "\n  ".join(failed)
            )
        return self.records()

    def records(self) -> dict[str, list[R]]:
        """The records of each arm by seed. Raises WorkFailed where one is missing."""
        arms: dict[str, list[R]] = {}
        for arm, seed in self.trials:
            if (record := self.read((arm, seed))) is None:
                raise WorkFailed(f"{arm} has no record of seed {seed}; run the same command again")
            arms.setdefault(arm, []).append(record)
        return arms
