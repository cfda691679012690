"""Every task ends once, whatever becomes of the machines; the clock is that of a simulation."""

import random
from collections import Counter

import pytest

from builder.core import dispatch, progress
from builder.core.dispatch import Dispatch, Outcome
from builder.core.errors import WorkFailed
from scripts.simulate_engine import Machine, Shard, Simulation, Worker


def shards(count: int, seconds: float = 60) -> list[Shard]:
    return [Shard(i, seconds) for i in range(count)]


def outcomes(simulation: Simulation, tasks: list[Shard], most: int = 0) -> dict[Shard, Outcome]:
    """What each task came to; every one exactly once."""
    ended = list(Dispatch(simulation, tasks, most).run())
    assert Counter(task for task, _ in ended) == Counter(tasks)
    return dict(ended)


def made(ended: dict[Shard, Outcome]) -> bool:
    return all(outcome == task for task, outcome in ended.items())


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(dispatch, "say", said.append)
    return said


def test_there_are_as_many_workers_as_room_and_no_more_than_tasks_or_the_limit() -> None:
    for most, count, expected in ((0, 100, 12), (5, 100, 5), (0, 3, 3)):
        simulation = Simulation([Machine(8), Machine(4)])
        started: list[Worker] = []
        start = simulation.start

        def counting(start=start, started=started) -> Worker:  # type: ignore[no-untyped-def]
            started.append(start())
            return started[-1]

        simulation.start = counting  # type: ignore[method-assign]
        assert made(outcomes(simulation, shards(count), most))
        assert len(started) == expected


def test_a_lost_machine_loses_no_task_and_a_new_one_is_used() -> None:
    machines = [Machine(4), Machine(4)]
    simulation = Simulation(machines)
    simulation.at(90, lambda: simulation.lose(machines[0]))
    simulation.at(600, lambda: machines.append(Machine(20)))
    assert made(outcomes(simulation, shards(100)))
    assert simulation.lost > 0
    assert simulation.clock < 1000  # the four workers that are left would take 1,500 s


def test_a_task_is_not_sent_to_the_neighbours_of_a_worker_that_was_lost() -> None:
    """Seven idle workers lie on the lost machine: one after the other would use up its tries."""
    big, small = Machine(8), Machine(0)
    simulation = Simulation([big, small])
    simulation.at(100, lambda: simulation.lose(big))
    simulation.at(100, lambda: setattr(small, "slots", 1))
    tasks = [*shards(7, seconds=10), Shard(7, 200)]
    assert made(outcomes(simulation, tasks))


def test_a_task_that_kills_its_workers_fails_alone_at_the_second() -> None:
    simulation = Simulation([Machine(2)])
    tasks = [*shards(5), Shard(5, 60, is_fatal=True)]
    ended = outcomes(simulation, tasks)
    assert str(ended.pop(tasks[5])) == "its worker process died"
    assert made(ended)


def test_a_task_whose_machines_are_lost_again_and_again_fails_in_the_end() -> None:
    machine = Machine(1)
    simulation = Simulation([machine])
    for minute in range(10, 100, 10):
        simulation.at(minute * 60, lambda: simulation.lose(machine, back_s=30))
    [outcome] = outcomes(simulation, shards(1, seconds=3600)).values()
    assert isinstance(outcome, WorkFailed)
    assert simulation.deaths == dispatch.LOSSES


def test_where_others_hold_all_room_it_is_said_and_waited_for(lines: list[str]) -> None:
    machine = Machine(0)
    simulation = Simulation([machine])
    simulation.at(300, lambda: setattr(machine, "slots", 2))
    assert made(outcomes(simulation, shards(4)))
    assert lines[0].startswith("waiting for room for a worker: 1 of 1 machines are up; 4 tasks")
    assert len(lines) == 5  # one soon, then one a minute


def test_when_no_room_comes_the_tasks_that_are_left_fail(lines: list[str]) -> None:
    machine = Machine(2)
    simulation = Simulation([machine])
    simulation.at(100, lambda: simulation.lose(machine))
    ended = outcomes(simulation, shards(6))
    failed = [outcome for outcome in ended.values() if isinstance(outcome, WorkFailed)]
    assert {str(outcome) for outcome in failed} == {
        "no worker could be placed for 30 minutes (0 of 1 machines are up)"
    }
    assert len(failed) == 4
    assert simulation.clock < 100 + dispatch.PATIENCE + 100


def test_where_no_worker_can_start_the_reason_is_said_once(lines: list[str]) -> None:
    simulation = Simulation([Machine(1, is_broken=True)])
    ended = outcomes(simulation, shards(3))
    assert lines[0] == "a worker could not start: No module named 'builder'"
    assert set(lines[1:]) == {"no worker could start yet; 3 tasks left"}
    assert {str(outcome) for outcome in ended.values()} == {
        "no worker can start: No module named 'builder'"
    }
    assert simulation.clock < 300


def test_many_workers_that_are_lost_while_they_start_are_no_reason_to_give_up(
    lines: list[str],
) -> None:
    machine = Machine(32)
    simulation = Simulation([machine])
    simulation.at(2, lambda: simulation.lose(machine, back_s=60))
    assert made(outcomes(simulation, shards(40)))
    assert lines[0] == "a worker could not start: its machine was lost"


def test_a_broken_machine_beside_a_whole_one_stops_nothing(lines: list[str]) -> None:
    simulation = Simulation([Machine(1, is_broken=True), Machine(2)])
    assert made(outcomes(simulation, shards(40)))
    assert len(lines) == 1


@pytest.mark.parametrize("seed", range(20))
def test_random_deaths_lose_and_double_nothing(seed: int) -> None:
    rng = random.Random(seed)
    machines = [Machine(rng.randint(1, 8), rng.uniform(1, 3)) for _ in range(rng.randint(1, 10))]
    simulation = Simulation(machines)
    for _ in range(rng.randint(0, 40)):
        victim, back = rng.choice(machines), rng.uniform(1, 300)

        def die(victim: Machine = victim, back: float = back) -> None:
            simulation.lose(victim, back)

        simulation.at(rng.uniform(0, 3000), die)
    tasks = [Shard(i, rng.uniform(1, 300)) for i in range(rng.randint(1, 300))]
    ended = outcomes(simulation, tasks)
    assert all(outcome == task for task, outcome in ended.items() if isinstance(outcome, Shard))
    failed = [outcome for outcome in ended.values() if not isinstance(outcome, Shard)]
    assert dispatch.LOSSES * len(failed) <= 8 * simulation.deaths  # a death loses 8 at most


def test_leaving_early_stops_every_worker() -> None:
    simulation = Simulation([Machine(8)])
    run = Dispatch(simulation, shards(40)).run()
    next(run)
    run.close()
    assert not simulation._workers
    assert progress.settings.place is None
