"""An experiment: arms, the runs of every arm and seed, their records, and how rows are drawn."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.core.files import read_json, remove, write_json
from builder.core.progress import bar
from builder.core.seeds import seed as seed_of
from builder.land.classes import CLASSES
from builder.land.columns import KINDS, SPLITS
from builder.land.pictures import per_class
from builder.release.rows import metadata
from builder.retrieval.ranks import Floats, Ints
from builder.retrieval.result import Checks, libraries
from builder.synthesis import balance, maxent
from builder.synthesis.target import Target

Trial = tuple[str, int]
"""(arm, seed)."""


@dataclass(frozen=True)
class TrainRows:
    """Train rows: ids, flags (n,) and shares (n, K) of ``classes``."""

    ids: list[str]
    is_synthetic: npt.NDArray[np.bool_]
    is_copy: npt.NDArray[np.bool_]
    shares: Floats
    classes: tuple[str, ...] = field(default=CLASSES, kw_only=True)

    @property
    def real(self) -> Ints:
        return np.flatnonzero(~self.is_synthetic)

    @property
    def synthetic(self) -> Ints:
        return np.flatnonzero(self.is_synthetic)

    def mean_shares(self, rows: Ints) -> Floats:
        """(K,) class shares of some rows together; a row listed twice counts twice."""
        return np.asarray(self.shares[rows].mean(0))


@dataclass(frozen=True)
class Arm:
    """Train rows that batches are drawn from; a row listed twice is drawn twice as often."""

    what: str
    pool: Ints
    texts: list[str] = field(default_factory=list)
    """(n,) the caption of every train row in this arm, where the arm trains on captions."""


@dataclass(frozen=True)
class Holding:
    """What an arm holds: rows, distinct ones, synthetic ones, distinct captions, class shares."""

    what: str
    rows: int
    distinct: int
    synthetic: int
    captions: int | None
    class_shares: dict[str, float]

    @staticmethod
    def of(rows: TrainRows, arm: Arm) -> "Holding":
        shares = rows.mean_shares(arm.pool)
        return Holding(
            arm.what,
            len(arm.pool),
            len(np.unique(arm.pool)),
            int(rows.is_synthetic[arm.pool].sum()),
            len({arm.texts[i] for i in arm.pool}) if arm.texts else None,
            {n: round(float(s), 4) for n, s in zip(rows.classes, shares, strict=True)},
        )

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


class Judgement(Protocol):
    """What the test tiles say of a trained model."""

    def as_json(self) -> dict[str, Any]: ...


J = TypeVar("J", bound=Judgement)


@dataclass(frozen=True)
class Loss:
    """The first loss of a training, and the mean of the last ten."""

    first: float
    last: float

    @staticmethod
    def of(losses: Sequence[float]) -> "Loss":
        return Loss(losses[0], float(np.mean(losses[-10:])))


@dataclass(frozen=True)
class Outcome(Generic[J]):
    """A run's judgement, with settings and loss of the training, or the untrained model."""

    judgement: J
    settings: Mapping[str, Any] | None = None
    loss: Loss | None = None
    model: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Record(Generic[J]):
    """A finished run, as the JSON file of its trial holds it."""

    kind: str
    key: str
    arm: str
    seed: int
    outcome: Outcome[J]
    libraries: dict[str, str]
    seconds: float
    cpu_seconds: float | None = None
    """Processor time; None in records of earlier versions."""

    def as_json(self) -> dict[str, Any]:
        run = self.outcome
        values = {
            "kind": self.kind,
            "key": self.key,
            "arm": self.arm,
            "seed": self.seed,
            "settings": run.settings,
            "loss": run.loss and vars(run.loss),
            "model": run.model,
            **run.judgement.as_json(),
            "libraries": self.libraries,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }
        return {name: value for name, value in values.items() if value is not None}

    @staticmethod
    def from_json(
        values: Mapping[str, Any], judgement: Callable[[Mapping[str, Any]], J]
    ) -> "Record[J]":
        kind, key, arm, seed = (values[name] for name in ("kind", "key", "arm", "seed"))
        settings, loss, model = (values.get(name) for name in ("settings", "loss", "model"))
        outcome = Outcome(judgement(values), settings, loss and Loss(**loss), model)
        versions, seconds = values["libraries"], values["seconds"]
        spent = values.get("cpu_seconds")
        return Record(kind, key, arm, seed, outcome, versions, seconds, spent)


class Experiment(Protocol):
    """All that the figures depend on; picklable, and what an engine's worker opens."""

    @property
    def out(self) -> Path: ...

    @property
    def seeds(self) -> int: ...

    def open(self) -> Callable[[Trial], Any]: ...


class Bench(Protocol[J]):
    """An experiment with its rows loaded: what its arms are, and how a model is judged."""

    name: str
    arms: dict[str, Arm]
    """The arms that are trained, in the order of the report."""
    untrained: list[str]
    """Names of arms that are judged once, without a training."""
    floor: str
    """The arm that real rows must beat before arms are compared."""
    floor_model: str
    """What the model of that arm is, and what follows where real rows do not beat it."""
    tiles: int
    """Test tiles."""
    empty: str
    """Why the test tiles may say nothing about a figure."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def rows(self) -> TrainRows: ...

    @property
    def checks(self) -> Checks | None:
        """What was checked of the test tiles of a release."""

    def key(self, trial: Trial) -> str:
        """Digest of all that the record of a trial depends on."""

    def judge(self, trial: Trial, folder: Path) -> Outcome[J]:
        """Train, with checkpoints in ``folder``, and judge on the test tiles."""

    def judgement(self, values: Mapping[str, Any]) -> J:
        """The judgement in the JSON of a record."""


def trials(bench: Bench[Any]) -> list[Trial]:
    """Every arm with one seed, then every arm with the next: halves are comparable too."""
    untrained = [(name, 0) for name in bench.untrained]
    return untrained + [(arm, s) for s in range(bench.experiment.seeds) for arm in bench.arms]


def record_path(bench: Bench[Any], trial: Trial) -> Path:
    return bench.experiment.out / "runs" / f"{trial[0]}-seed{trial[1]}.json"


def read_record(bench: Bench[J], trial: Trial) -> Record[J] | None:
    """The record of a trial that was finished with the same inputs and settings."""
    try:
        values = read_json(record_path(bench, trial))
    except (FileNotFoundError, ValueError):
        return None
    if values.get("key") != bench.key(trial):
        return None
    return Record.from_json(values, bench.judgement)


def run_trial(bench: Bench[J], trial: Trial) -> Record[J]:
    """Train and judge unless there is a record; writes the record in one piece."""
    if record := read_record(bench, trial):
        return record
    started, spent = time.monotonic(), time.process_time()
    path = record_path(bench, trial)
    checkpoints = path.with_suffix("")
    record = Record(
        f"{bench.name}-run",
        bench.key(trial),
        *trial,
        bench.judge(trial, checkpoints),
        libraries(),
        round(time.monotonic() - started, 1),
        round(time.process_time() - spent, 1),
    )
    write_json(path, record.as_json())
    remove(checkpoints)
    return record


def run_all(bench: Bench[J], engine: Engine) -> list[Record[J]]:
    """Run every trial that has no record yet; returns all records.

    A failed trial does not stop the others. Raises ArasError for fewer than two seeds and
    WorkFailed naming the trials that failed; the same command continues from the records and
    checkpoints that exist.
    """
    if bench.experiment.seeds < 2:
        raise ArasError("seeds is below 2: differences between arms need a spread over seeds")
    planned = trials(bench)
    missing = [trial for trial in planned if read_record(bench, trial) is None]
    failed: list[str] = []
    with bar(bench.name, len(planned), "runs") as advance:
        advance(len(planned) - len(missing))
        for (arm, seed), outcome in engine.map(bench.experiment, missing):
            advance(1, f"{arm}, seed {seed}")
            if isinstance(outcome, Exception):
                failed.append(f"{arm}, seed {seed}: {outcome}")
    if failed:
        raise WorkFailed(
            f"{len(failed)} of {len(planned)} runs failed, the others are kept; the same "
            "command tries these again\n  " + "\n  ".join(failed)
        )
    records = [read_record(bench, trial) for trial in planned]
    return [record for record in records if record is not None]


def by_arm(bench: Bench[J], records: Sequence[Record[J]]) -> dict[str, list[Record[J]]]:
    """The records of each arm. Raises WorkFailed where an arm lacks a seed."""
    arms: dict[str, list[Record[J]]] = {}
    for record in records:
        arms.setdefault(record.arm, []).append(record)
    trained = [runs for arm, runs in arms.items() if arm not in bench.untrained]
    if any(len(runs) != bench.experiment.seeds for runs in trained):
        raise WorkFailed("arms have different numbers of seeds; run the same command again")
    return arms


MAX_REPEATS = 8
EVEN = "tempered:0"
"""The same share for every class that the rows have."""
COLUMNS = ("id", "kind", "pixels", "copy")


def train_table(release: Path, columns: Sequence[str] = ()) -> pa.Table:
    """The train rows' `COLUMNS` and ``columns``. Raises ArasError when there are none."""
    shards = metadata(release, (*COLUMNS, *columns))
    tables = [table for split, table in shards if split == SPLITS[0]]
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
        np.array([bool(copy) for copy in table.column("copy").to_pylist()]),
        pixels / np.maximum(pixels.sum(1, keepdims=True), 1),
    )


def require_both(release: Path, rows: TrainRows, least: int = 1, which: str = "") -> None:
    """Raise ArasError when real or synthetic rows are fewer than ``least``."""
    for kind, members in (("real", rows.real), ("synthetic", rows.synthetic)):
        if len(members) < least:
            raise ArasError(
                f"{release}: {len(members)} {kind} train rows{which}; the experiment compares real "
                "with synthetic rows and needs both"
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
    wanted = np.where(rows.shares[among].sum(0) > 0, rows.mean_shares(like), 0.0)
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

    Of all weights of the rows that give these shares those nearest to uniform are taken, no row
    more than ``repeats`` times unless there are too few rows for that.
    """
    shares = rows.shares[among]
    most = count if repeats is None else max(repeats, -(-count // len(among)))
    cap = np.full(len(among), min(1.0, most / count))
    weights = maxent.project(shares, wanted, cap).weights
    # The name in the seed stays, so that arms hold the rows that published runs were trained on.
    number = seed_of(seed, "imbalance", str(np.round(wanted, 6).tolist()))
    ids = [rows.ids[i] for i in among]
    times = balance.allocate(weights, count, number, ids=ids, compositions=shares)
    return np.repeat(among, times)
