"""The one progress reporter: a bar on a terminal, a line each half minute elsewhere; and counts in
words. A build says which of its steps runs, and how long the others take."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from builder.core.escape import terminal

console = Console(stderr=True, highlight=False)

HEARTBEAT = 30.0
"""Seconds between two lines where there is no terminal: a log of Slurm or CI."""


@dataclass
class _Settings:
    """How much this process says, and which step of a run it is at."""

    quiet: bool = False
    verbose: bool = False
    place: "Place | None" = None


settings = _Settings()


@dataclass(frozen=True)
class Place:
    """Step ``number`` of ``total`` of a run; ``rest`` is what the steps after it take, in seconds,
    by the rates of earlier runs, and ``unknown`` how many of them have no such rate."""

    number: int
    total: int
    rest: float = 0.0
    unknown: int = 0
    is_timed: bool = True
    """Whether the whole run's time is to be said."""

    def left(self, seconds: float | None) -> str:
        """What is left of the whole run when this step takes ``seconds`` more."""
        known = self.rest + (seconds or 0.0)
        if not self.is_timed or not known:
            return ""
        if not self.unknown and seconds is not None:
            return f"the whole run about {words_of(known)}"
        more = counted(self.unknown, "step") if self.unknown else "this step"
        return f"the whole run over {words_of(known)} ({more} never measured)"


def say(text: str) -> None:
    """Print a line on stderr, so that stdout stays clean for --json; a terminal only shows it."""
    console.print(terminal(text), markup=False, soft_wrap=True)


def note(text: str) -> None:
    """`say` what nobody must know: not with --quiet."""
    if not settings.quiet:
        say(text)


def words_of(seconds: float) -> str:
    """Seconds in words: 40 seconds, 12 minutes, 3.5 hours, 4.2 days."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        count = seconds / size
        if count >= 2:
            return f"{count:.2g} {unit}" if count < 10 else f"{count:.0f} {unit}"
    return f"{seconds:.0f} seconds"


Advance = Callable[..., None]


def counted(n: int, noun: str, plural: str = "") -> str:
    """``n`` with its noun: 1 row, 2,000 rows; ``plural`` where it is not ``noun`` + s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("–/s", style="progress.data.speed", no_wrap=True)
        is_bytes = task.fields.get("unit") == "bytes"
        text = _speed(speed, "bytes") if is_bytes else f"{speed:.3g}/s"
        return Text(text, style="progress.data.speed", no_wrap=True)


class _Rest(ProgressColumn):
    """What is left of the whole run."""

    def render(self, task: Task) -> Text:
        place = settings.place
        if place is None or task.finished:
            return Text("")
        if place.unknown or not place.is_timed or task.time_remaining is None:
            return Text("")
        words = words_of(place.rest + task.time_remaining).replace("inutes", "in")
        return Text(f"run {words}", style="progress.elapsed", no_wrap=True)


class _Count(MofNCompleteColumn):
    def render(self, task: Task) -> Text:
        if task.fields.get("unit") != "bytes":
            return super().render(task)
        total = "?" if task.total is None else f"{task.total / 1e6:,.1f}"
        return Text(f"{task.completed / 1e6:,.1f}/{total} MB", style="progress.download")


@contextlib.contextmanager
def at(place: Place) -> Iterator[None]:
    """Bars inside belong to a step of a run."""
    before, settings.place = settings.place, place
    try:
        yield
    finally:
        settings.place = before


@dataclass
class Pulse:
    """Counts of work that is under way, and the line that says how far it is."""

    label: str
    total: float | None
    unit: str
    started: float
    begun: float = 0
    """Units that were done before, by an earlier run."""
    done: float = 0
    note: str = ""

    def line(self, now: float) -> str:
        """What a log hears: done of total, rate, time left of the step and of the run."""
        rate = (self.done - self.begun) / max(now - self.started, 1e-9)
        of = "" if self.total is None else f" of {_amount(self.total, self.unit)}"
        parts = [f"{_amount(self.done, self.unit)}{of} {'' if self.unit == 'bytes' else self.unit}"]
        seconds = None
        if rate > 0:
            parts.append(_speed(rate, self.unit))
            if self.total is not None:
                seconds = (self.total - self.done) / rate
                parts.append(f"{words_of(seconds)} left")
        else:
            parts.append(f"running for {words_of(now - self.started)}")
        if self.note:
            parts.append(self.note)
        if place := settings.place:
            parts.append(f"step {place.number} of {place.total}")
            parts += [left] if (left := place.left(seconds)) else []
        return f"{self.label}: {', '.join(part.strip() for part in parts)}"


def _amount(count: float, unit: str) -> str:
    return f"{count / 1e6:,.1f} MB" if unit == "bytes" else f"{count:,.0f}"


def _speed(rate: float, unit: str) -> str:
    return f"{rate / 1e6:.1f} MB/s" if unit == "bytes" else f"{rate:.3g} {unit}/s"


@contextlib.contextmanager
def bar(label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[Advance]:
    """Show progress; yields ``advance(n=1, note="")``. ``done`` units were done before.

    A terminal shows a bar; where there is none a line comes each `HEARTBEAT` seconds. Nothing is
    shown with --quiet, or when there is nothing to do.
    """
    shown = terminal(label)
    pulse = Pulse(shown, total, unit, time.monotonic(), done, done)
    silent = settings.quiet or total == 0
    if silent or not console.is_terminal:
        with contextlib.nullcontext() if silent else _beating(pulse):
            yield _counting(pulse)
        return
    place = settings.place
    with Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=6),
        _Count(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        _Rest(),
        console=console,
        transient=True,  # the line that sums a step up takes its place
    ) as progress:
        name = f"{place.number}/{place.total} {shown}" if place else f"{shown:<16}"
        task = progress.add_task(name, total=total, completed=int(done), unit=unit, note="")

        def advance(n: float = 1, note: str | None = None) -> None:
            progress.update(task, advance=n)
            if note is not None:
                progress.update(task, note=terminal(note))

        yield advance


def _counting(pulse: Pulse) -> Advance:
    def advance(n: float = 1, note: str | None = None) -> None:
        pulse.done += n
        if note is not None:
            pulse.note = terminal(note)

    return advance


@contextlib.contextmanager
def _beating(pulse: Pulse) -> Iterator[None]:
    """Say how far ``pulse`` is each `HEARTBEAT` seconds, also while a long shard is made."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            say(pulse.line(time.monotonic()))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
