"""What a training saw: which evaluation was best, when there is nothing more to wait for."""

import math
from pathlib import Path

import pytest

from builder.models.checkpoint import History, _running_mean


def history(*values: float) -> History:
    evaluations = [{"step": 10 * (i + 1), "loss": value} for i, value in enumerate(values)]
    return History([1.0] * (10 * len(values)), evaluations, "loss")


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "patience", "stalled"),
    [
        ((), 1, False),
        ((3.0,), 1, False),
        ((3.0, 3.0), 1, True),  # as good is not better
        ((3.0, 4.0, 2.0), 2, False),
        ((3.0, 4.0, 4.0), 2, True),
        ((3.0, 4.0, 4.0, 2.0), 2, False),
        ((NAN, NAN), 2, True),
        ((NAN, 3.0, NAN), 2, False),
        ((3.0, 4.0, 4.0, 4.0), 0, False),
    ],
)
def test_it_stalls_after_as_many_evaluations_without_a_better_one(
    values: tuple[float, ...], patience: int, stalled: bool
) -> None:
    assert history(*values).stalled(patience) == stalled


def test_the_first_of_equals_is_the_best() -> None:
    assert history(3.0, 2.0, 2.0).best == {"step": 20, "loss": 2.0}
    assert history().best is None


def test_curves_are_written_as_csv_and_as_a_picture(tmp_path: Path) -> None:
    record = history(3.0, 2.0)
    record.write(tmp_path)
    assert (tmp_path / "evaluations.csv").read_text() == ("step,loss\n10,3.000000\n20,2.000000\n")
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == 21
    first = (tmp_path / "curves.png").read_bytes()
    record.write(tmp_path)
    assert (tmp_path / "curves.png").read_bytes() == first
    assert first.startswith(b"\x89PNG")


def test_without_evaluations_there_is_only_the_loss(tmp_path: Path) -> None:
    History([1.0, 2.0]).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["loss.csv"]


def test_the_running_mean_is_over_what_is_there() -> None:
    assert _running_mean([1.0, 3.0, 5.0, 1.0], 2) == pytest.approx([1, 2, 4, 3])


@pytest.mark.parametrize(("error", "step"), [(0.0, 20), (0.6, 20), (0.8, 30)])
def test_a_best_that_is_better_than_the_last_by_chance_is_not_preferred(
    error: float, step: int
) -> None:
    """3 against 5: two standard errors of the difference are 2.83 times each one's error."""
    rows = [(10, 9.0), (20, 3.0), (30, 5.0)]
    judged = History(
        evaluations=[{"step": s, "frechet": v, "frechet_error": error} for s, v in rows],
        watch="frechet",
    )
    assert judged.best is not None
    assert judged.best["step"] == 20
    assert judged.chosen is not None
    assert judged.chosen["step"] == step


def test_of_evaluations_without_an_error_the_best_is_chosen() -> None:
    assert history(3.0, 2.0, 2.5).chosen == {"step": 20, "loss": 2.0}
    assert history(3.0, 2.0, math.nan).chosen == {"step": 20, "loss": 2.0}
    assert history().chosen is None
