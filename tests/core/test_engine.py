"""Every engine does the same: all tasks, whatever becomes of one of them."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.core.store import CorruptShard
from tests.makers.squares import Squares
from tests.makers.toy import Bell, listening

IN_PROCESS = Engine("serial")
POOL = Engine("processes", 2)


@pytest.mark.parametrize("engine", [IN_PROCESS, POOL], ids=["serial", "processes"])
def test_every_task_is_answered_whatever_becomes_of_one(engine: Engine, tmp_path: Path) -> None:
    tasks = [1, 2, "corrupt", 3, "odd", *range(4, 12)]
    outcomes = dict(engine.map(Squares(tmp_path), tasks))
    assert outcomes.keys() == set(tasks)
    assert {task: outcomes[task] for task in tasks if isinstance(task, int)} == {
        task: task**2 for task in tasks if isinstance(task, int)
    }
    assert isinstance(outcomes["corrupt"], CorruptShard)  # with what a caller acts on
    assert (outcomes["corrupt"].stage, outcomes["corrupt"].shard) == ("tiles", "real-0")
    assert isinstance(outcomes["odd"], WorkFailed)
    assert "Unpicklable" in str(outcomes["odd"])
    opened = (tmp_path / "opened").read_text().split()
    assert len(opened) == len(set(opened)) <= engine.workers or opened == [str(os.getpid())]


@pytest.mark.parametrize("engine", [IN_PROCESS, POOL], ids=["serial", "processes"])
def test_a_worker_that_cannot_open_fails_its_tasks_with_the_reason(engine: Engine) -> None:
    outcomes = dict(engine.map(Squares(opens=False), [1, 2, 3]))
    assert [str(outcomes[i]) for i in (1, 2, 3)] == ["the model is missing"] * 3
    assert all(isinstance(outcome, ArasError) for outcome in outcomes.values())


@pytest.mark.parametrize(
    "engine", [IN_PROCESS, POOL, Engine("ray")], ids=lambda engine: engine.kind
)
def test_nothing_to_do_starts_nothing(engine: Engine) -> None:
    assert list(engine.map(Squares(opens=False), [])) == []
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_fails_only_its_own_task(tmp_path: Path) -> None:
    tasks = [1, "die", *range(2, 9), "die once"]
    outcomes = dict(POOL.map(Squares(tmp_path), tasks))
    assert outcomes.keys() == set(tasks)
    assert isinstance(outcomes.pop("die"), WorkFailed)
    assert outcomes.pop("die once") == "survived"  # tried once more, alone
    assert outcomes == {task: task**2 for task in range(1, 9)}
    assert multiprocessing.active_children() == []


def test_when_every_task_kills_its_worker_all_of_them_fail(tmp_path: Path) -> None:
    tasks = ["die", "die", "die"]
    outcomes = list(POOL.map(Squares(tmp_path), tasks))
    assert [task for task, _ in outcomes] == tasks
    assert all("its worker process died" in str(outcome) for _, outcome in outcomes)


def test_processes_that_want_gpus_are_as_many_as_these_and_see_one_each(tmp_path: Path) -> None:
    """Two tasks that wait for each other are in two processes."""
    os.mkfifo(tmp_path / "meeting")
    engine = Engine("processes", devices=("3", "5"))
    outcomes = dict(engine.map(Squares(tmp_path), ["give", "take"], gpus=1))
    assert set(outcomes.values()) == {"3", "5"}
    alone = tmp_path / "alone"
    alone.mkdir()
    outcomes = Engine("processes", devices=("7",)).map(Squares(alone), ["gpu"] * 8, gpus=1)
    assert [gpu for _, gpu in outcomes] == ["7"] * 8
    assert len((alone / "opened").read_text().split()) == 1


def test_processes_that_want_no_gpu_see_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    outcomes = dict(POOL.map(Squares(tmp_path), ["gpu"]))
    assert outcomes == {"gpu": "3,5"}
    assert dict(POOL.map(Squares(tmp_path), ["gpu"], gpus=1)) == {"gpu": "3"}


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with listening(tmp_path) as listener:
        yield listener


def test_leaving_early_ends_the_workers_at_once(tmp_path: Path, bell: Bell) -> None:
    outcomes = POOL.map(Squares(tmp_path), [1, "hang", "hang", "hang"])
    assert next(outcomes) == (1, 1)
    [pid, _] = bell.wait(2)
    assert int(pid) in {child.pid for child in multiprocessing.active_children()}
    outcomes.close()  # would wait two minutes for a worker that is not let go
    assert multiprocessing.active_children() == []


def test_an_interrupted_run_ends_its_workers_at_once(tmp_path: Path, bell: Bell) -> None:
    def interrupted() -> None:
        with contextlib.closing(POOL.map(Squares(tmp_path), [1, "hang", "hang"])) as outcomes:
            for _ in outcomes:
                bell.wait(1)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert multiprocessing.active_children() == []
