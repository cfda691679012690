"""The one progress reporter: a bar with rate and time left on stderr, quiet where nobody looks; and
counts in words."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from builder.core.escape import terminal

console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line on stderr, so that stdout stays clean for --json; a terminal only shows it."""
    console.print(terminal(text), markup=False, soft_wrap=True)


Advance = Callable[..., None]


def counted(n: int, noun: str, plural: str = "") -> str:
    """``n`` with its noun: 1 row, 2,000 rows; ``plural`` where it is not ``noun`` + s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        if not speed:
            return Text(f"– {unit}/s", style="progress.data.speed")
        if unit == "bytes":
            return Text(f"{speed / 1e6:.1f} MB/s", style="progress.data.speed")
        return Text(f"{speed:.1f} {unit}/s", style="progress.data.speed")


class _Count(MofNCompleteColumn):
    def render(self, task: Task) -> Text:
        if task.fields.get("unit") != "bytes":
            return super().render(task)
        total = "?" if task.total is None else f"{task.total / 1e6:,.1f}"
        return Text(f"{task.completed / 1e6:,.1f}/{total} MB", style="progress.download")


@contextlib.contextmanager
def bar(label: str, total: float | None, unit: str = "it") -> Iterator[Advance]:
    """Show a bar; yields ``advance(n=1, note="")``. Nothing is drawn when stderr is no
    terminal, or when there is nothing to do."""
    with Progress(
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(bar_width=28),
        _Count(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=False,
        disable=not console.is_terminal or total == 0,
    ) as progress:
        task = progress.add_task(terminal(label), total=total, unit=unit, note="")

        def advance(n: float = 1, note: str | None = None) -> None:
            progress.update(task, advance=n)
            if note is not None:
                progress.update(task, note=terminal(note))

        yield advance
