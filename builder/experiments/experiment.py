"""An experiment of trainings by arm and seed: which are done, and how the others are run."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.core.files import read_json
from builder.core.progress import bar
from builder.core.seeds import seed as seed_of
from builder.land.classes import CLASSES
from builder.land.columns import KINDS, SPLITS
from builder.land.pictures import per_class
from builder.release.read import metadata
from builder.retrieval.ranks import Floats, Ints
from builder.synthesis import balance, maxent
from builder.synthesis.target import Target

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


MAX_REPEATS = 8
EVEN = "tempered:0"
"""The same share for every class that there is."""
COLUMNS = ("id", "kind", "pixels", "copy")


@dataclass(frozen=True)
class TrainRows:
    """Train rows: ids, flags (n,) and shares (n, K) of ``classes``."""

    ids: list[str]
    synthetic: npt.NDArray[np.bool_]
    copy: npt.NDArray[np.bool_]
    shares: Floats
    classes: tuple[str, ...] = field(default=CLASSES, kw_only=True)

    @property
    def real(self) -> Ints:
        return np.flatnonzero(~self.synthetic)

    @property
    def made(self) -> Ints:
        return np.flatnonzero(self.synthetic)


def train_table(release: Path, columns: Sequence[str] = ()) -> pa.Table:
    """The train rows' `COLUMNS` and more. Raises ArasError when there are none."""
    wanted = (*COLUMNS, *columns)
    tables = [table for name, table in metadata(release, wanted) if name == SPLITS[0]]
    table = pa.concat_tables(tables) if tables else None
    if table is None or not table.num_rows:
        raise ArasError(f"{release}: has no train rows")
    return table


def train_rows(table: pa.Table) -> TrainRows:
    """The rows of a table of `COLUMNS`."""
    pixels = per_class(table.column("pixels")).astype(np.float64)
    return TrainRows(
        table.column("id").to_pylist(),
        table.column("kind").to_numpy() == KINDS.index("synthetic"),
        np.array([bool(one) for one in table.column("copy").to_pylist()]),
        pixels / np.maximum(pixels.sum(1, keepdims=True), 1),
    )


def balanced(
    rows: TrainRows,
    among: Ints,
    count: int,
    seed: int,
    target: str = EVEN,
    natural: Floats | None = None,
) -> Ints:
    """``count`` rows of ``among``, some repeated, whose class shares come near ``target``.

    The target is a recipe's balance, relative to the shares ``natural`` (K,), those of ``among``
    unless given; of it, classes that ``among`` lacks are left out.
    """
    shares = rows.shares[among]
    natural = shares.mean(0) if natural is None else natural
    wanted = Target.parse(target).shares(np.where(shares.sum(0) > 0, natural, 0.0))
    return drawn(rows, among, count, wanted / wanted.sum(), seed, MAX_REPEATS)


def alike(rows: TrainRows, among: Ints, like: Ints, count: int, seed: int) -> Ints:
    """``count`` rows of ``among``, repeated so as to come near the class shares of ``like``."""
    wanted = rows.shares[like].mean(0)
    wanted = np.where(rows.shares[among].sum(0) > 0, wanted, 0.0)
    return drawn(rows, among, count, wanted / wanted.sum(), seed)


def drawn(
    rows: TrainRows,
    among: Ints,
    count: int,
    wanted: Floats,
    seed: int,
    repeats: int | None = None,
) -> Ints:
    """``count`` rows of ``among`` whose class shares are (K,) ``wanted``, or as near as can be.

    Of all ways to weight the rows that give these shares the one nearest to uniform is taken, no
    row more than ``repeats`` times unless there are too few rows for that.
    """
    shares = rows.shares[among]
    most = count if repeats is None else max(repeats, -(-count // len(among)))
    cap = np.full(len(among), min(1.0, most / count))
    weights = maxent.project(shares, wanted, cap).weights
    number = seed_of(seed, "imbalance", str(np.round(wanted, 6).tolist()))
    ids = [rows.ids[i] for i in among]
    times = balance.allocate(weights, count, number, ids=ids, compositions=shares)
    return np.repeat(among, times)
