"""Which worker gets which task, on machines that come, go and fail."""

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from builder.core.errors import WorkFailed
from builder.core.progress import counted, say, words_of

Outcome = Any
"""What the worker returned, or the exception that the task ended with."""

Event = Hashable
"""Something that a worker was asked to do, and will have done."""

TURN = 1.0
"""Seconds after which room for more workers is looked for again."""

START = 60.0
"""Most seconds that a worker may take to start before its place is given up."""

STARTS = 6
"""Most rounds of workers that fail to start, one after the other, while none is alive."""

OWN_LOSSES, LOSSES = 2, 5
"""Losses of its worker after which a task fails: on a machine that lives, and of any kind."""

SAID = 60.0
"""Seconds between two lines about waiting; the first comes after a sixth of them."""

PATIENCE = 1800.0
"""Seconds without a living worker after which the tasks that are left fail."""


class Lost(Exception):
    """A worker ended before its task did. ``is_own``: its machine lives, so the task may be why."""

    def __init__(self, why: str, *, is_own: bool) -> None:
        super().__init__(why)
        self.is_own = is_own


class Machines(Protocol):
    """Where workers run: a Ray cluster, or a simulation of one."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""

    def room(self) -> int:
        """How many workers could be placed now, beside those that are running."""

    def start(self) -> Any:
        """A new worker."""

    def ask(self, worker: Any) -> Event:
        """Ask a worker whether it is ready."""

    def send(self, worker: Any, task: Any) -> Event:
        """Give a ready worker a task."""

    def wait(self, events: Sequence[Event], seconds: float) -> Sequence[Event]:
        """The events that have ended; none when none did within ``seconds``."""

    def result(self, event: Event) -> Outcome:
        """What an ended event came to. Raises Lost when its worker is gone."""

    def stop(self, worker: Any) -> None:
        """End a worker, dead or alive."""

    def words(self) -> str:
        """How much room there is, for a person."""


@dataclass(frozen=True)
class _Question:
    """A worker that was asked whether it is ready; ``is_new``: for the first time."""

    worker: Any
    since: float
    is_new: bool


@dataclass
class Dispatch:
    """Gives tasks to living workers, and starts workers only where there is room for them.

    A task whose worker was lost goes to another one: first of all when its machine was lost, last
    and at most once more when the worker alone died.
    """

    machines: Machines
    tasks: Sequence[Any]
    most: int = 0
    """Workers at once; 0 for as many as there is room for."""
    _queue: deque[int] = field(default_factory=deque)
    _idle: list[Any] = field(default_factory=list)
    _asked: dict[Event, _Question] = field(default_factory=dict)
    _flying: dict[Event, tuple[Any, int]] = field(default_factory=dict)
    """Event → its worker, and the number of its task."""
    _losses: Counter[int] = field(default_factory=Counter)
    _own_losses: Counter[int] = field(default_factory=Counter)
    _failed_starts: int = 0
    """Rounds of workers that could not start, since one could."""
    _failed_at: float = float("-inf")
    _reason: str = ""
    """Why the last worker failed to start."""
    _next_look: float = 0.0
    _alive: float = 0.0
    """When a worker was last known to be alive."""
    _next_words: float = 0.0

    def run(self) -> Iterator[tuple[Any, Outcome]]:
        """(task, outcome) as they end; every task once."""
        self._queue.extend(range(len(self.tasks)))
        self._next_look = self.machines.now()
        self._lives()
        try:
            while self._queue or self._flying:
                while self._queue and self._idle:
                    worker, number = self._idle.pop(), self._queue.popleft()
                    event = self.machines.send(worker, self.tasks[number])
                    self._flying[event] = (worker, number)
                self._grow()
                if why := self._despair():
                    while self._queue:
                        yield self.tasks[self._queue.popleft()], WorkFailed(why)
                    return
                for event in self.machines.wait([*self._flying, *self._asked], TURN):
                    if event in self._asked:
                        self._take_in(event)
                    else:
                        yield from self._ended(event)
        finally:
            busy = [worker for worker, _ in self._flying.values()]
            asked = [question.worker for question in self._asked.values()]
            for worker in [*self._idle, *busy, *asked]:
                self.machines.stop(worker)

    def _ended(self, event: Event) -> Iterator[tuple[Any, Outcome]]:
        worker, number = self._flying.pop(event)
        try:
            outcome = self.machines.result(event)
            self._idle.append(worker)
        except Lost as lost:
            self.machines.stop(worker)
            self._losses[number] += 1
            self._own_losses[number] += lost.is_own
            if not lost.is_own:  # others may have been on that machine
                while self._idle:
                    self._ask(self._idle.pop())
            if self._own_losses[number] < OWN_LOSSES and self._losses[number] < LOSSES:
                (self._queue.append if lost.is_own else self._queue.appendleft)(number)
                return
            outcome = WorkFailed(str(lost))
        yield self.tasks[number], outcome

    def _ask(self, worker: Any, *, is_new: bool = False) -> None:
        self._asked[self.machines.ask(worker)] = _Question(worker, self.machines.now(), is_new)

    def _take_in(self, event: Event) -> None:
        """A worker is ready, or gone."""
        question = self._asked.pop(event)
        try:
            self.machines.result(event)
        except Lost as lost:
            self.machines.stop(question.worker)
            if question.is_new:
                if question.since >= self._failed_at:  # not of a round that failed already
                    self._failed_starts += 1
                    self._failed_at = self.machines.now()
                self._next_look = self._failed_at + min(2**self._failed_starts, START)
                if str(lost) != self._reason:
                    self._reason = str(lost)
                    say(f"a worker could not start: {self._reason}")
        else:
            self._idle.append(question.worker)
            self._failed_starts = 0

    def _grow(self) -> None:
        """Start workers for waiting tasks where there is room; give up places that do not come."""
        now = self.machines.now()
        if not self._queue or now < self._next_look:
            return
        self._next_look = now + TURN
        for event, question in list(self._asked.items()):
            if now - question.since > START:
                del self._asked[event]
                self.machines.stop(question.worker)
        busy, asked = len(self._flying), len(self._asked)
        wanted = min(self.most or len(self.tasks), len(self._queue) + busy)
        wanted -= len(self._idle) + busy + asked
        if wanted > 0:  # those that start may take what is free now
            for _ in range(min(wanted, self.machines.room() - asked)):
                self._ask(self.machines.start(), is_new=True)

    def _lives(self) -> None:
        self._alive = self.machines.now()
        self._next_words = self._alive + SAID / 6

    def _despair(self) -> str:
        """Why the tasks that are left fail, because no worker lives; empty while there is hope."""
        if self._idle or self._flying:
            self._lives()
            return ""
        left = counted(len(self._queue), "task")
        if self._failed_starts >= STARTS:
            return f"no worker can start: {self._reason}"
        now = self.machines.now()
        if now - self._alive > PATIENCE:
            waited = words_of(now - self._alive)
            return f"no worker could be placed for {waited} ({self.machines.words()})"
        if now >= self._next_words:
            self._next_words = now + SAID
            what = f"waiting for room for a worker: {self.machines.words()}"
            say(f"{'no worker could start yet' if self._failed_starts else what}; {left} left")
        return ""
