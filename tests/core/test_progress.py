"""The one progress reporter: what a log hears, and what a terminal of 80 columns shows."""

import io
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console

from builder.core import progress
from builder.core.progress import Place, Pulse, at, bar, settings


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    settings.quiet = settings.verbose = False
    settings.place = None


def test_a_log_hears_rate_time_left_and_the_place_in_the_whole_run() -> None:
    pulse = Pulse("segment", 1_000, "rows", started=0.0, done=250)
    assert pulse.line(50.0) == "segment: 250 of 1,000 rows, 5 rows/s, 2.5 minutes left"
    with at(Place(7, 30, rest=600.0)):
        assert pulse.line(50.0).endswith("step 7 of 30, the whole run about 12 minutes")


def test_steps_that_were_never_measured_are_said() -> None:
    pulse = Pulse("segment", 1_000, "rows", started=0.0, done=250)
    with at(Place(7, 30, rest=600.0, unknown=2)):
        assert pulse.line(50.0).endswith("the whole run over 12 minutes (2 steps never measured)")


def test_the_rate_of_a_resumed_training_counts_no_step_of_the_run_before() -> None:
    pulse = Pulse("train", 100, "steps", started=0.0, begun=50, done=60, note="loss 0.5000")
    assert pulse.line(10.0) == "train: 60 of 100 steps, 1 steps/s, 40 seconds left, loss 0.5000"


def test_a_shard_that_takes_long_is_said_to_run_still() -> None:
    line = Pulse("package", 3, "shards", started=0.0).line(90.0)
    assert line == "package: 0 of 3 shards, running for 90 seconds"


def test_a_line_comes_without_a_terminal_and_none_when_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = threading.Event()
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        heard.set()

    monkeypatch.setattr(progress, "say", say)
    monkeypatch.setattr(progress, "HEARTBEAT", 0.001)
    with bar("tiles", 4, "shards") as advance:
        advance(1)
        assert heard.wait(30)
    assert lines[0].startswith("tiles: ")
    settings.quiet = True
    lines.clear()
    with bar("tiles", 4, "shards") as advance:
        advance(1)
    assert lines == []


def test_a_bar_keeps_to_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(progress, "console", console)
    with at(Place(7, 30, rest=600.0)), bar("train-segmenter", 2_000, "steps") as advance:
        advance(1_000, "loss 0.1234")
        advance(1, "loss 0.1234")
    shown = screen.getvalue().replace("\r", "\n").splitlines()
    rows = [row for row in shown if "7/30 train-segmenter" in row]
    assert rows
    assert not any("minutes" in row or row.strip() == "min" for row in shown)  # nothing wraps
    assert "loss 0.1234" in rows[-1]
    assert "1001/2000" in rows[-1]
