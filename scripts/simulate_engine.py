"""Simulate a stage on many machines: the engine's own scheduling (`builder/core/dispatch.py`), on
workers of which only the clock is invented. Machines die, come back, are slow; shards differ.

    python scripts/simulate_engine.py                      # 1,000 workers, 10,000 shards
    python scripts/simulate_engine.py --mtbf 2 --slow 0.05 # machines die each 2 h, 5% are slow

Prints how long the stage takes beside the best that these machines could do, what the workers did
meanwhile, and what one shard costs the driver.
"""

import argparse
import heapq
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from builder.core.dispatch import Dispatch, Event, Lost, Outcome


@dataclass(frozen=True)
class Shard:
    number: int
    seconds: float
    """On a machine of usual speed."""
    is_fatal: bool = False
    """Whether it kills its worker, like one that needs more memory than there is."""


@dataclass
class Machine:
    slots: int
    slowness: float = 1.0
    """How many times longer a shard takes here."""
    is_up: bool = True
    is_broken: bool = False
    """Whether no worker can start here, like where the package is missing."""


@dataclass(eq=False)
class Worker:
    machine: Machine | None
    """None while there is no room for it."""
    event: int | None = None
    """What it is doing."""
    begun: float = 0.0
    has_opened: bool = False
    is_gone: bool = False


@dataclass
class Simulation:
    """Machines with a clock of their own; `builder.core.dispatch.Machines` for `Dispatch`."""

    machines: list[Machine]
    start_s: float = 5.0
    """Until a new worker is ready."""
    open_s: float = 20.0
    """Added to a worker's first shard: its model is loaded."""
    notice_s: float = 15.0
    """Until the loss of a machine is noticed."""
    clock: float = 0.0
    useful: float = 0.0
    """Worker-seconds spent on shards that were finished; with `lost` and `opening` all that ran."""
    lost: float = 0.0
    opening: float = 0.0
    deaths: int = 0
    _numbers: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]
    _calendar: list[tuple[float, int, Any]] = field(default_factory=list)
    """(when, number, event or change): what will happen, soonest first."""
    _doers: dict[int, tuple[Worker, Shard | None]] = field(default_factory=dict)
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _workers: set[Worker] = field(default_factory=set)

    def at(self, when: float, change: Any) -> None:
        """``change()`` is called when the clock gets there."""
        heapq.heappush(self._calendar, (when, next(self._numbers), change))

    def lose(self, machine: Machine, back_s: float | None = None) -> None:
        """A machine dies with its workers, and comes back after ``back_s`` seconds."""
        if not machine.is_up:
            return
        machine.is_up = False
        self.deaths += 1
        for worker in [w for w in self._workers if w.machine is machine]:
            worker.is_gone = True
            if worker.event is not None:
                self._lose_event(worker, worker.event)
        if back_s is not None:
            self.at(self.clock + back_s, lambda: setattr(machine, "is_up", True))

    def _lose_event(self, worker: Worker, event: int) -> None:
        self.lost += self.clock - worker.begun
        self._outcomes[event] = Lost("its machine was lost", is_own=False)
        self.at(self.clock + self.notice_s, event)

    # What Dispatch asks for.

    def now(self) -> float:
        return self.clock

    def room(self) -> int:
        return sum(machine.slots for machine in self.machines if machine.is_up) - self._placed()

    def _placed(self) -> int:
        return sum(worker.machine is not None and not worker.is_gone for worker in self._workers)

    def start(self) -> Worker:
        taken: dict[int, int] = {}
        for worker in (worker for worker in self._workers if not worker.is_gone):
            taken[id(worker.machine)] = taken.get(id(worker.machine), 0) + 1
        free = (m for m in self.machines if m.is_up and taken.get(id(m), 0) < m.slots)
        worker = Worker(next(free, None))
        self._workers.add(worker)
        return worker

    def ask(self, worker: Worker) -> Event:
        return self._begin(worker, None, self.start_s if not worker.has_opened else 0.0)

    def send(self, worker: Worker, task: Shard) -> Event:
        opening = 0.0 if worker.has_opened else self.open_s
        slowness = worker.machine.slowness if worker.machine else 1.0
        return self._begin(worker, task, opening + task.seconds * slowness)

    def _begin(self, worker: Worker, task: Shard | None, seconds: float) -> int:
        event = next(self._numbers)
        worker.event, worker.begun = event, self.clock
        self._doers[event] = (worker, task)
        if worker.is_gone:
            self._lose_event(worker, event)
        elif worker.machine is not None:
            self.at(self.clock + seconds, event)
        return event

    def wait(self, events: Sequence[Event], seconds: float) -> Sequence[Event]:
        until = self.clock + seconds
        while self._calendar and self._calendar[0][0] <= until:
            self.clock, _, happening = heapq.heappop(self._calendar)
            if callable(happening):
                happening()
            elif happening in self._doers and self._ends(happening):
                return [happening]
        self.clock = until
        return []

    def _ends(self, event: int) -> bool:
        worker, task = self._doers[event]
        if event in self._outcomes:  # it was lost, and that is noticed now
            return True
        if worker.is_gone or worker.machine is None:
            return False
        worker.event = None
        self._outcomes[event] = task
        if worker.machine.is_broken:
            self._outcomes[event] = Lost("No module named 'builder'", is_own=True)
        elif task is not None and task.is_fatal:
            worker.is_gone = True
            self._outcomes[event] = Lost("its worker process died", is_own=True)
        elif task is not None:
            busy = self.clock - worker.begun
            opening = 0.0 if worker.has_opened else self.open_s
            worker.has_opened = True
            self.opening += opening
            self.useful += busy - opening
        return True

    def result(self, event: Event) -> Outcome:
        assert isinstance(event, int)
        del self._doers[event]
        outcome = self._outcomes.pop(event)
        if isinstance(outcome, Lost):
            raise outcome
        return outcome

    def stop(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._doers.pop(worker.event, None)  # type: ignore[arg-type]

    def words(self) -> str:
        up = sum(machine.is_up for machine in self.machines)
        return f"{up} of {len(self.machines)} machines are up"


@dataclass(frozen=True)
class Report:
    """What a simulated stage came to; times in seconds of the simulated clock."""

    workers: int
    shards: int
    seconds: float
    best_seconds: float
    """Were every worker busy with shards from the first second to the last."""
    useful: float
    """Shares of the worker-seconds of all machines, whether they were up or not."""
    opening: float
    lost: float
    idle: float
    tail: float
    """Share of the time after the last shard was handed out."""
    deaths: int
    failed: int
    driver_ms: float
    """CPU milliseconds of the driver's scheduling for a shard (measured, not simulated)."""


def simulate(options: argparse.Namespace) -> Report:
    rng = random.Random(options.seed)
    machines = [Machine(options.slots) for _ in range(options.workers // options.slots)]
    for machine in machines:
        if rng.random() < options.slow:
            machine.slowness = options.slowness
    spread = options.spread
    shards = [
        Shard(i, options.seconds * rng.lognormvariate(-(spread**2) / 2, spread))
        for i in range(options.shards)
    ]
    simulation = Simulation(machines, open_s=options.open)

    def die(machine: Machine) -> None:
        simulation.lose(machine, options.back)
        plan(machine)

    def plan(machine: Machine) -> None:
        if options.mtbf:
            wait = rng.expovariate(1 / (options.mtbf * 3600))
            simulation.at(simulation.clock + wait, lambda: die(machine))

    for machine in machines:
        plan(machine)
    handed_out: list[float] = []
    send = simulation.send

    def noting(worker: Worker, task: Shard) -> Event:
        handed_out.append(simulation.clock)
        return send(worker, task)

    simulation.send = noting  # type: ignore[method-assign]
    failed, seen, spent = 0, set(), time.process_time()
    for shard, outcome in Dispatch(simulation, shards).run():
        failed += isinstance(outcome, Exception)
        seen.add(shard.number)
    spent = time.process_time() - spent
    assert len(seen) == len(shards), "a shard was lost"
    total = simulation.clock * sum(machine.slots for machine in machines)
    useful, opening, lost = simulation.useful, simulation.opening, simulation.lost
    speed = sum(machine.slots / machine.slowness for machine in machines)
    return Report(
        workers=sum(machine.slots for machine in machines),
        shards=len(shards),
        seconds=simulation.clock,
        best_seconds=sum(shard.seconds for shard in shards) / speed,
        useful=useful / total,
        opening=opening / total,
        lost=lost / total,
        idle=1 - (useful + opening + lost) / total,
        tail=1 - handed_out[-1] / simulation.clock,
        deaths=simulation.deaths,
        failed=failed,
        driver_ms=1000 * spent / len(shards),
    )


def lines(report: Report) -> list[str]:
    share = report.best_seconds / report.seconds
    return [
        f"{report.workers:,} workers, {report.shards:,} shards, {report.deaths} machines lost, "
        f"{report.failed} shards failed",
        f"{report.seconds / 60:.1f} minutes; {report.best_seconds / 60:.1f} would be the least "
        f"({share:.0%})",
        f"worker time: {report.useful:.1%} shards that were finished, {report.lost:.1%} lost with "
        f"machines, {report.opening:.1%} loading models, {report.idle:.1%} idle or down",
        f"{report.tail:.1%} of the time after the last shard was handed out",
        f"driver: {report.driver_ms:.2f} ms of CPU a shard",
    ]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8, help="workers of a machine")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300, help="mean seconds of a shard")
    parser.add_argument("--spread", type=float, default=0.3, help="sigma of their logarithms")
    parser.add_argument("--open", type=float, default=20, help="seconds to load a model")
    parser.add_argument("--mtbf", type=float, default=0, help="hours between deaths of a machine")
    parser.add_argument("--back", type=float, default=300, help="seconds until it is replaced")
    parser.add_argument("--slow", type=float, default=0, help="share of slow machines")
    parser.add_argument("--slowness", type=float, default=3, help="times slower that they are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    arguments = options().parse_args()
    result = simulate(arguments)
    print(json.dumps(asdict(result)) if arguments.json else "\n".join(lines(result)))
