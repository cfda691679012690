"""An experiment of trainings by arm and seed: which are done, and how the others are run."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from builder.engine import Engine
from builder.errors import ArasError, WorkFailed
from builder.files import read_json
from builder.progress import bar

Trial = tuple[str, int]
"""(arm, seed)."""


class Experiment(Protocol):
    """All that the figures depend on; picklable, and what an engine's worker opens."""

    @property
    def out(self) -> Path: ...

    @property
    def seeds(self) -> int: ...

    def open(self) -> Callable[[Trial], dict[str, Any]]: ...


E = TypeVar("E", bound=Experiment)


class Bench(ABC, Generic[E]):
    """The trials of an experiment, each with a record under ``out``/runs once it is finished."""

    def __init__(self, experiment: E) -> None:
        self.experiment = experiment

    @property
    @abstractmethod
    def arms(self) -> Sequence[str]:
        """Names of the arms that are trained, in the order of the report."""

    @abstractmethod
    def key(self, trial: Trial) -> str:
        """Digest of all that the record of a trial depends on."""

    @abstractmethod
    def run(self, trial: Trial) -> dict[str, Any]:
        """Train and judge; writes the record in one piece and returns it."""

    @property
    def trials(self) -> list[Trial]:
        """Every arm with one seed, then every arm with the next: halves are comparable too."""
        return [(arm, seed) for seed in range(self.experiment.seeds) for arm in self.arms]

    def path(self, trial: Trial) -> Path:
        return self.experiment.out / "runs" / f"{trial[0]}-seed{trial[1]}.json"

    def record(self, trial: Trial) -> dict[str, Any] | None:
        """The record of a trial that was finished with the same inputs and settings."""
        try:
            found: dict[str, Any] = read_json(self.path(trial))
        except (FileNotFoundError, ValueError):
            return None
        return found if found.get("key") == self.key(trial) else None

    def run_all(self, engine: Engine, label: str) -> list[dict[str, Any]]:
        """Run every trial that has no record yet; returns all records.

        A failed trial does not stop the others. Raises ArasError for fewer than two seeds and
        WorkFailed naming the trials that failed; the same command goes on from the records and
        checkpoints that are there.
        """
        if self.experiment.seeds < 2:
            raise ArasError("seeds is below 2: differences between arms need a spread over seeds")
        todo = [trial for trial in self.trials if self.record(trial) is None]
        failed: list[str] = []
        with bar(label, len(self.trials), "runs") as advance:
            advance(len(self.trials) - len(todo))
            for trial, outcome in engine.map(self.experiment, todo):
                advance(1, f"{trial[0]}, seed {trial[1]}")
                if isinstance(outcome, Exception):
                    failed.append(f"{trial[0]}, seed {trial[1]}: {outcome}")
        if failed:
            raise WorkFailed(
                f"{len(failed)} of {len(self.trials)} runs failed, the others are kept; the same "
                "command tries these again\n  " + "\n  ".join(failed)
            )
        found = [self.record(trial) for trial in self.trials]
        return [one for one in found if one is not None]
