"""The Ray engine on a real cluster of nodes on this machine, which die, come and are held."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from builder.core import dispatch
from builder.core.engine import Engine
from builder.core.store import CorruptShard, Store
from builder.steps.plan import Summary, run
from builder.steps.stage import Stage
from tests.makers.shards import digests
from tests.makers.squares import Squares
from tests.makers.toy import (
    Bell,
    Caption,
    Halves,
    Score,
    Source,
    command,
    environment,
    listening,
    write_project,
    write_rasters,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

RAY = Engine("ray")
CHAIN: tuple[Stage, ...] = (Source(), Halves(), Caption(), Score())
ROOT = str(Path(__file__).parents[2])
QUICK = {  # a lost node is noticed in two seconds instead of fifteen
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


@dataclass
class Nodes:
    """Nodes of a test in the cluster of the module."""

    cluster: Any
    added: list[Any] = field(default_factory=list)

    def add(self, **how: Any) -> Any:
        how = {"num_cpus": 1, "object_store_memory": 80_000_000, **how}
        node = self.cluster.add_node(**how)
        self.added.append(node)
        return node

    def kill(self, node: Any) -> None:
        """All its processes at once, as when the power goes."""
        self.added.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head has no CPU; a test adds the nodes that work."""
    import ray
    from ray.cluster_utils import Cluster

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("RAY_TMPDIR", folder)  # this machine's own cluster is none of our business
        head = {"num_cpus": 0, "object_store_memory": 80_000_000, "_system_config": QUICK}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        patch.setenv("RAY_ADDRESS", cluster.address)
        patch.setenv("PYTHONPATH", ROOT)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> Iterator[Nodes]:
    nodes = Nodes(cluster)
    yield nodes
    for node in list(nodes.added):
        cluster.remove_node(node)


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with listening(tmp_path) as listener:
        yield listener


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = Store(tmp_path_factory.mktemp("reference"))
    for stage in CHAIN:
        run(stage, store, Engine())
    return digests(store)


def build(store: Store, stages: tuple[Stage, ...], engine: Engine) -> dict[str, Summary]:
    return {stage.name: run(stage, store, engine) for stage in stages}


def only(reference: dict[str, str], stage: str) -> dict[str, str]:
    return {name: digest for name, digest in reference.items() if name.startswith(f"{stage}/")}


def test_two_nodes_give_the_digest_of_serial(
    nodes: Nodes, store: Store, reference: dict[str, str]
) -> None:
    nodes.add()
    nodes.add(num_gpus=1)  # for the stage that wants one
    summaries = build(store, CHAIN, RAY)
    assert digests(store) == reference
    assert {summary.shards_made for summary in summaries.values()} == {4}


def killing(nodes: Nodes, bell: Bell, count: int) -> threading.Thread:
    """Kill the nodes on which ``count`` shards hang, once they do."""

    def kill() -> None:
        raylets = {parent_of(int(pid)) for pid in bell.wait(count)}
        for node in [node for node in nodes.added if raylet_of(node) in raylets]:
            nodes.kill(node)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def raylet_of(node: Any) -> int:
    [raylet] = node.all_processes["raylet"]
    return int(raylet.process.pid)


@pytest.mark.parametrize(("count", "killed"), [(2, 1), (3, 2)], ids=["one of two", "two of three"])
def test_killed_nodes_cost_no_shard_and_double_none(
    nodes: Nodes, bell: Bell, store: Store, reference: dict[str, str], count: int, killed: int
) -> None:
    for _ in range(count):
        nodes.add()
    troubles = tuple((f"real-{i:05d}", "hang once") for i in range(killed))
    thread = killing(nodes, bell, killed)
    summary = run(Source(troubles=troubles), store, RAY)
    thread.join()
    assert (summary.shards_made, summary.rows, summary.failed) == (4, 32, {})
    assert digests(store) == only(reference, "tiles")
    assert len(nodes.added) == count - killed


def test_a_node_that_is_added_is_used(nodes: Nodes, tmp_path: Path) -> None:
    """Two tasks that wait for each other need a second worker."""
    os.mkfifo(tmp_path / "meeting")
    nodes.add()
    outcomes = RAY.map(Squares(tmp_path), [1, "give", "take"])
    assert next(outcomes) == (1, 1)
    nodes.add()
    assert {task for task, _ in outcomes} == {"give", "take"}


def test_cpus_that_others_hold_are_waited_for_and_that_is_said(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    nodes.add()
    assert dict(RAY.map(Squares(tmp_path), [2])) == {2: 4}  # the engine connects
    other = ray.remote(num_cpus=1)(Squares).remote(tmp_path)
    ray.get(other.work.remote(2))
    said: list[str] = []

    def release(line: str) -> None:
        said.append(line)
        ray.kill(other)

    monkeypatch.setattr(dispatch, "say", release)
    monkeypatch.setattr(dispatch, "SAID", 6)
    assert dict(RAY.map(Squares(tmp_path), [3, 4])) == {3: 9, 4: 16}
    assert said[0] == (
        "waiting for room for a worker: 2 nodes in the Ray cluster, 0 of 1 CPUs free; 2 tasks left"
    )


def test_a_lost_gpu_is_waited_for(
    nodes: Nodes, bell: Bell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.add()
    nodes.add(num_cpus=0, num_gpus=1)
    said: list[str] = []

    def replace(line: str) -> None:
        said.append(line)
        if len(nodes.added) == 1:
            nodes.add(num_cpus=0, num_gpus=1)

    monkeypatch.setattr(dispatch, "say", replace)
    monkeypatch.setattr(dispatch, "SAID", 18)
    thread = killing(nodes, bell, 1)
    outcomes = list(RAY.map(Squares(tmp_path), [1, "hang once", "gpu"], gpus=1))
    thread.join()
    assert sorted(outcomes, key=str) == [("gpu", "0"), ("hang once", "survived"), (1, 1)]
    assert said[0].startswith("waiting for room for a worker: 2 nodes in the Ray cluster, no GPU")


def test_workers_with_a_disk_of_their_own_fail_their_shards_by_name(
    nodes: Nodes, tmp_path: Path
) -> None:
    nodes.add(env_vars={"TOY_DISK": str(tmp_path / "disk of the node")})
    directory = write_project(tmp_path / "project")
    write_rasters(directory / "inputs")
    ended = subprocess.run(
        command(directory, "tiles", "--engine", "ray"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 1, ended.stderr
    assert "4 of 4 shards failed" in ended.stderr
    assert "real-00000, real-00001, real-00002, real-00003: its worker wrote it to" in ended.stderr
    assert "disk of the node/work/tiles, and it is not in " in ended.stderr
    assert "32 rows" not in ended.stdout + ended.stderr


def test_a_dead_actor_fails_only_its_own_task(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add(num_cpus=2)
    tasks = [1, "die", 2, "corrupt", 3, "die once", 4, "odd"]
    outcomes = dict(RAY.map(Squares(tmp_path), tasks))
    assert outcomes.keys() == set(tasks)
    assert isinstance(outcomes["corrupt"], CorruptShard)
    assert str(outcomes["die"]).endswith("because its worker process has died")
    assert "Unpicklable" in str(outcomes["odd"])
    assert outcomes["die once"] == "survived"
    assert [outcomes[i] for i in (1, 2, 3, 4)] == [1, 4, 9, 16]


def test_each_worker_gets_a_gpu_of_its_own_and_gives_it_back(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add(num_gpus=2)
    left = RAY.map(Squares(tmp_path), [1, 2, 3, 4], gpus=1)
    next(left)
    left.close()  # were the GPUs not free again, the next run would wait for ever
    gpus = [gpu for _, gpu in RAY.map(Squares(tmp_path), ["gpu"] * 6, gpus=1)]
    assert set(gpus) <= {"0", "1"}
    opened = (tmp_path / "opened").read_text().split()
    assert len(opened) == len(set(opened)) <= 4


PROGRAM = """
from pathlib import Path
from builder.core.engine import Engine
from builder.core.errors import ArasError
from tests.makers.squares import Squares
try:
    print(sorted(Engine("ray", 1).map(Squares(Path()), [2, 3])))
except ArasError as error:
    print(error)
"""


def squares_in_a_process(folder: Path, **variables: str) -> str:
    """Output of a process that squares numbers on the cluster that it finds."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment(), "RAY_TMPDIR": tempfile.gettempdir(), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture
def closed_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_address_where_no_cluster_answers_is_named(tmp_path: Path, closed_port: int) -> None:
    said = squares_in_a_process(tmp_path, RAY_ADDRESS=f"127.0.0.1:{closed_port}")
    assert said == (
        f"no Ray cluster answers at 127.0.0.1:{closed_port}, which RAY_ADDRESS names; start it, or "
        "unset RAY_ADDRESS\n"
    )


def test_the_address_of_a_cluster_that_is_gone_does_no_harm(
    tmp_path: Path, closed_port: int
) -> None:
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port}")
        said = squares_in_a_process(tmp_path, RAY_ADDRESS="", RAY_TMPDIR=folder)
    assert "[(2, 4), (3, 9)]" in said
    assert f"no Ray cluster answers at 127.0.0.1:{closed_port} any more" in said
