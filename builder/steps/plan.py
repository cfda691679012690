"""Plan and run: which shards of a stage are stale, and making exactly those."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from builder.core.arrow import combine, type_name
from builder.core.dispatch import Outcome
from builder.core.engine import Engine
from builder.core.errors import ArasError, RunEnded, WorkFailed
from builder.core.files import digest_of
from builder.core.progress import bar, counted
from builder.core.store import CorruptShard, Store
from builder.land.columns import KINDS, arrow_type
from builder.steps.stage import SOURCES, Maker, Output, Report, Stage, Unit, shards
from builder.steps.written import Witness, Written

Part = tuple[int, int]
"""(i, n): the i-th of n parts, from 1; the parts together are the whole."""


@dataclass(frozen=True)
class Task:
    """A unit and the key that its shard file must carry."""

    unit: Unit
    key: str
    stale: bool
    changed: bool = False
    """Whether a shard is there that was made from other inputs or with other settings."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Rows that are to be tried again, and why they failed."""


@dataclass(frozen=True)
class Plan:
    """All tasks of a stage, or of a part of it."""

    stage: Stage
    tasks: list[Task]
    names: list[str]
    """Every shard of the stage, whatever the part."""

    @property
    def stale(self) -> list[Task]:
        return [task for task in self.tasks if task.stale]

    @property
    def failed(self) -> dict[str, str]:
        """Rows that failed in an earlier run, and why."""
        return {row: why for task in self.tasks for row, why in task.failed.items()}


@dataclass(frozen=True)
class Setup:
    """What decides how fast a stage makes a row."""

    stage: str
    """Digest of its settings, models and batch size."""
    device: str
    """Name of the GPU, or cpu."""
    engine: str
    workers: int | None
    """0 for all that there are."""


@dataclass
class Summary:
    """What a run of a stage did: a `Report`."""

    stage: str
    shards: int = 0
    shards_made: int = 0
    rows_made: int = 0
    rows: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Shard → why it failed."""
    ended: str = ""
    """Why the run ended before every shard was tried; empty where it did not."""
    row_errors: int = 0
    failed_rows: dict[str, str] = field(default_factory=dict)
    """Id of each row that the stage could not make → why."""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    digest: str = ""
    corrupt: list[str] = field(default_factory=list)
    """STAGE/SHARD of each input that turned out corrupt on reading."""
    report: Report | None = None
    setup: Setup | None = None
    """Only of a stage with a model."""

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to do and nothing to say."""
        return not (self.shards_made or self.failed or self.failed_rows)

    def as_json(self) -> dict[str, Any]:
        values = {
            "kind": "stage",
            "stage": self.stage,
            "shards": self.shards,
            "made": self.shards_made,
            "rows_made": self.rows_made,
            "rows": self.rows,
            "failed": self.failed,
            "row_errors": self.row_errors,
            "counts": self.counts,
            "seconds": round(self.seconds, 2),
            "digest": self.digest,
            "corrupt": self.corrupt,
            "report": self.report.as_json() if self.report else {},
        }
        if self.failed_rows:
            values["failed_rows"] = self.failed_rows
        if self.ended:
            values["ended"] = self.ended
        return values if self.setup is None else {**values, "setup": asdict(self.setup)}

    def lines(self) -> list[str]:
        failed = len(self.failed)
        work = "nothing to do"
        if self.shards_made or failed:
            work = f"{self.shards_made} of {self.shards} shards made"
        if failed:
            work += f", {failed} failed"
        shards = self.shards - failed
        text = f"{self.stage}: {self.rows:,} rows in {shards} shards, {work} ({self.seconds:.1f} s)"
        counts = [
            counted(n, SINGULAR.get(name, name).replace("_", " "), name.replace("_", " "))
            for name, n in self.counts.items()
            if n
        ]
        more = [", ".join(counts)] if counts else []
        more += failure_lines(self.failed_rows)
        more += self.report.lines() if self.report else []
        return [text, *(f"  {line}" for line in more)]


SHOWN_ROWS = 3
"""Most failed rows that a summary names; reports/STAGE.json lists all."""


def failure_lines(failed: Mapping[str, str]) -> list[str]:
    """Rows that failed, the first of them with the reason, and what becomes of them."""
    if not failed:
        return []
    shown = [f"  {row}: {why}" for row, why in list(failed.items())[:SHOWN_ROWS]]
    more = [f"  and {len(failed) - SHOWN_ROWS:,} more"] if len(failed) > SHOWN_ROWS else []
    what = f"{counted(len(failed), 'row', 'rows')} failed"
    return [f"{what}; the next run tries them again, a release leaves them out:", *shown, *more]


SINGULAR = {"caption_errors": "caption_error", "copies": "copy", "repeats": "repeat"}
"""Counts of a stage that are plural → what a single one is called."""


def plan(stage: Stage, store: Store, part: Part = (1, 1)) -> Plan:
    """Compare every shard's key with what its file says. Costs one footer per file.

    Raises NotMade when a needed column is missing, ArasError when there are no rows at all.
    """
    base = {"stage": stage.name, "version": stage.version, **stage.config()}
    base["models"] = stage.models()
    base["types"] = {name: type_name(arrow_type(name)) for name in stage.adds}
    if (stage.needs or stage.surveys) and not shards(store, KINDS):
        raise ArasError("there are no tiles yet: run `aras tiles` (or `aras import`) first")

    if stage.surveys:
        surveyed = {s: store.find(s, stage.surveys) for s in shards(store, stage.surveyed)}
        base["survey"] = digest_of(
            [
                [shard, *[digest for _, digest in where.values()]]
                for shard, where in surveyed.items()
            ]
        )
    common = digest_of(base)
    units = stage.units(store)
    tasks = []
    for unit in units[part[0] - 1 :: part[1]]:
        needed = store.find(unit.shard, stage.needs) if stage.needs else {}
        inputs = {name: digest for name, (_, digest) in needed.items()}
        key = digest_of([common, unit.shard, unit.inputs, inputs])
        footer = store.fresh(stage.name, unit.shard)
        stale = footer is None or footer.key != key or footer.errors > 0
        is_other = footer is not None and footer.key != key
        failed = footer.failed if footer is not None and not is_other else {}
        tasks.append(Task(unit, key, stale, is_other, failed))
    return Plan(stage, tasks, [unit.shard for unit in units])


def survey(stage: Stage, store: Store) -> Any:
    """What a stage with ``surveys`` must know of all shards; None for the others."""
    if not stage.surveys:
        return None
    seen = shards(store, stage.surveyed)
    return stage.survey(lambda columns: store.scan(seen, columns))


@dataclass(frozen=True)
class Worker:
    """Opens a stage once per process, then makes and writes shard after shard."""

    stage: Stage
    store: Store
    survey: Any

    def open(self) -> "OpenWorker":
        if self.store.mirror:  # on another machine models may be missing
            self.store.mirror.bring_models()
        return OpenWorker(self.stage, self.store, self.stage.open(self.store, self.survey))


@dataclass(frozen=True)
class OpenWorker:
    stage: Stage
    store: Store
    make: Maker

    def __call__(self, task: Task) -> Written:
        """Make and write a shard. Nothing is written unless all of it is right."""
        stage, shard = self.stage, task.unit.shard
        if not stage.needs:
            rows = Rows(self.make(task.unit.payload))
        else:
            rows = self._rows(task, self.store.read(shard, stage.needs))
        columns = _typed(rows.output.table, stage.adds)
        footer = self.store.write(
            stage.name,
            shard,
            columns,
            key=task.key,
            errors=rows.output.errors + len(rows.failed),
            counts=rows.output.counts,
            failed=rows.failed,
            withheld=rows.withheld,
        )
        return Written(footer.rows, footer.key, footer.digest, self.store.place(stage.name))

    def _rows(self, task: Task, table: pa.Table) -> "Rows":
        """Where only failed rows are to be tried again, a stage is handed its own earlier columns;
        if whole rows failed, it is handed these alone, and the others keep what they have."""
        store, shard, adds = self.store, task.unit.shard, self.stage.adds
        footer = store.fresh(self.stage.name, shard)
        earlier = None
        tried: Mapping[str, str] = {}
        if footer is not None and footer.key == task.key:
            earlier, tried = store.load(self.stage.name, shard), footer.failed
            for column in earlier.column_names:
                table = table.append_column(column, earlier.column(column))
        lost = store.failed(shard, self.stage.needs)
        result = Output(pa.schema([(name, arrow_type(name)) for name in adds]).empty_table())
        rows = list(range(table.num_rows))
        if tried or lost:
            ids = _ids(store, shard, table)
            rows = [i for i in rows if ids[i] not in lost and (not tried or ids[i] in tried)]
        if rows or not table.num_rows:
            part = table if len(rows) == table.num_rows else table.take(pa.array(rows))
            result = self._make(shard, part)
        if not (tried or lost or result.failed):
            return Rows(result)
        ids = _ids(store, shard, table)
        failed = {ids[rows[n]]: why for n, why in result.failed.items()}
        # Where the values of each row are: among the earlier, behind them, or nowhere.
        columns, kept = _typed(result.table, adds), 0
        if tried and earlier is not None and footer is not None:
            columns = pa.concat_tables([_typed(earlier, adds), columns])
            kept = len(ids)
            counts = Counter(footer.counts)
            counts.update(result.counts)
            result = result._replace(counts=dict(counts))
        new = {i: None if ids[i] in failed else kept + n for n, i in enumerate(rows)}
        old = [None if row in lost or not kept else i for i, row in enumerate(ids)]
        places = pa.array([new.get(i, old[i]) for i in range(len(ids))], pa.int64())
        withheld = {row: lost[row] for row in ids if row in lost}
        return Rows(result._replace(table=columns.take(places)), failed, withheld)

    def _make(self, shard: str, table: pa.Table) -> Output:
        result = self.make(table)
        if result.table.num_rows != table.num_rows:
            raise ArasError(
                f"{self.stage.name} returned {result.table.num_rows} rows for "
                f"{table.num_rows} in {shard}"
            )
        return result


@dataclass(frozen=True)
class Rows:
    """What is written of a shard: columns of all its rows, the rows that failed, and those that
    were withheld from the stage, because a stage before it failed on them, with the reasons."""

    output: Output
    failed: dict[str, str] = field(default_factory=dict)
    withheld: dict[str, str] = field(default_factory=dict)


def _ids(store: Store, shard: str, table: pa.Table) -> list[str]:
    known = table if "id" in table.column_names else store.read(shard, ["id"])
    return list(known.column("id").to_pylist())


def _typed(table: pa.Table, adds: tuple[str, ...]) -> pa.Table:
    """The added columns in their published types and order."""
    schema = pa.schema([pa.field(name, arrow_type(name)) for name in adds])
    return table.select(list(adds)).cast(schema)


def run(
    stage: Stage, store: Store, engine: Engine, part: Part = (1, 1), todo: Plan | None = None
) -> Summary:
    """Make what is stale of a stage. A failed shard is reported and does not stop the others.

    Raises ArasError when the stage cannot be planned.
    """
    started = time.monotonic()
    store.sweep(stage.name)
    todo = todo or plan(stage, store, part)
    summary = Summary(stage.name, shards=len(todo.tasks))
    stale = todo.stale
    worker = Worker(stage, store, survey(stage, store) if stale else None)
    untried = {task.unit.shard for task in stale}
    witness = Witness(store, stage.name)
    outcomes = engine.map(worker, stale, stage.gpus, stage.light)
    try:
        amounts, unit = sizes(stage, store, stale)
        total = sum(amounts.values())
        with bar(stage.name, total, unit) as advance, contextlib.closing(outcomes):
            for task, outcome in outcomes:
                _account(summary, task, outcome, witness)
                advance(amounts[task.unit.shard])
                untried.discard(task.unit.shard)
                if summary.ended:
                    break
    finally:
        store.sweep(stage.name)
    store.prune(stage.name, todo.names)
    missing = untried | summary.failed.keys()
    whole = [task.unit.shard for task in todo.tasks if task.unit.shard not in missing]
    store.claim(stage.name, stage.adds, whole, spare=SOURCES)
    _total(summary, whole, store)
    store.remember(stage.name, todo.names)
    if part == (1, 1) and not summary.failed:
        summary.report = stage.report(store)
    summary.seconds = time.monotonic() - started
    return summary


def sizes(stage: Stage, store: Store, tasks: Sequence[Task]) -> tuple[dict[str, int], str]:
    """Shard → its rows, and "rows"; of a source, which does not know them, 1 and "shards"."""
    names = [task.unit.shard for task in tasks]
    if not stage.needs:
        return dict.fromkeys(names, 1), "shards"
    rows = {}
    for name in names:
        footers = (store.fresh(source, name) for source in SOURCES)
        rows[name] = next((footer.rows for footer in footers if footer is not None), 0)
    return rows, "rows"


def _account(summary: Summary, task: Task, outcome: Outcome, witness: Witness) -> None:
    """Count a shard as made only when this process can read what its worker says that it wrote."""
    if not isinstance(outcome, BaseException):
        try:
            witness.check(task.unit.shard, outcome)
        except WorkFailed as error:
            outcome = error
        else:
            summary.shards_made += 1
            summary.rows_made += outcome.rows
            return
    if isinstance(outcome, RunEnded):
        summary.ended = str(outcome)
    if isinstance(outcome, CorruptShard):
        summary.corrupt.append(f"{outcome.stage}/{outcome.shard}")
    kind = "" if isinstance(outcome, ArasError) else f"{type(outcome).__name__}: "
    summary.failed[task.unit.shard] = f"{kind}{outcome}"


def _total(summary: Summary, whole: Sequence[str], store: Store) -> None:
    counts: Counter[str] = Counter()
    digests = {}
    for shard in whole:
        footer = store.fresh(summary.stage, shard)
        if footer is None:
            summary.failed[shard] = "its file was whole and is not any more; check the disk"
            continue
        counts.update(footer.counts)
        digests[shard] = footer.digest
        summary.rows += footer.rows
        summary.row_errors += footer.errors
        summary.failed_rows |= footer.failed
    summary.counts = dict(counts)
    summary.digest = combine(digests)


def setup_of(stage: Stage, engine: Engine) -> Setup:
    """The setup in which ``stage`` would run here. Raises ArasError when a model is missing."""
    import torch

    batch = getattr(stage, "batch", None)
    workers = {"serial": 1, "ray": engine.workers}.get(
        engine.kind, engine.workers or os.cpu_count()
    )
    return Setup(
        stage=digest_of({**stage.config(), "models": stage.models(), "batch": batch}),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        engine=engine.kind,
        workers=workers,
    )
