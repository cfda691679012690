"""Steps on a bucket: whatever the service or a process does, nothing is lost, doubled or torn."""

import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core import objects
from builder.core.bucket import StoreSection
from builder.core.engine import Engine
from builder.core.errors import ArasError, RunEnded
from builder.core.store import Store
from builder.steps.plan import Summary, run
from tests.loopback import s3
from tests.makers.bucket_run import chain
from tests.makers.shards import digests
from tests.makers.toy import environment

SHARDS = 4
KILLS = int(os.environ.get("ARAS_KILLS", "6"))
"""How often a run is killed."""


@pytest.fixture(scope="module")
def server() -> Iterator[s3.S3]:
    with s3.serving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, server: s3.S3, monkeypatch: pytest.MonkeyPatch) -> Store:
    server.empty()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "RETRY_WAIT", 0.01)
    return Store.of_recipe(tmp_path / "work", StoreSection(url="s3://tiles/demo"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the same stages make in a folder."""
    store = Store(tmp_path_factory.mktemp("local"))
    build(store)
    return digests(store)


def build(store: Store, engine: Engine | None = None) -> list[Summary]:
    return [run(stage, store, engine or Engine()) for stage in chain(SHARDS)]


def anew(store: Store) -> Store:
    """As the next command, or another machine, opens it."""
    return pickle.loads(pickle.dumps(store))


def test_a_bucket_holds_what_a_folder_would(store: Store, reference: dict[str, str]) -> None:
    build(store, Engine("processes", 2))
    assert digests(store) == reference
    again = build(anew(store))
    assert [summary.shards_made for summary in again] == [0, 0, 0]


def test_planning_costs_a_list_and_an_index_of_each_stage(store: Store, server: s3.S3) -> None:
    build(store)
    server.requests.clear()
    build(anew(store))
    assert server.count("LIST") == 1
    assert server.count("GET") == 3
    assert server.count("PUT") == 0


FAULTS = {
    "a PUT is answered late": s3.once(s3.is_put, s3.late(0.5), 2),
    "the answer to a PUT is lost": s3.once(s3.is_put, s3.lost_answer, 3),
    "a PUT never arrives": s3.once(s3.is_put, s3.dropped, 3),
    "the service is busy": s3.once(lambda _: True, s3.unavailable, 4),
    "a list is slow": s3.once(lambda request: request.is_list, s3.late(0.5), 2),
    "a read is cut": s3.once(lambda request: request.method == "GET", s3.dropped, 4),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_service_are_overcome(
    fault: str, store: Store, server: s3.S3, reference: dict[str, str]
) -> None:
    server.faults.append(FAULTS[fault])
    summaries = build(store)
    server.faults.clear()
    assert digests(store) == reference
    assert sum(summary.rows_made for summary in summaries) == sum(
        summary.rows for summary in summaries
    )


def test_a_list_that_is_behind_makes_nothing_twice(
    store: Store, server: s3.S3, reference: dict[str, str]
) -> None:
    """The list of an eventually consistent service: as it was before anything was written."""
    behind: list[list[bytes]] = []

    def stale(request: s3.Request) -> list[bytes] | None:
        if not request.is_list:
            return None
        if not behind:
            behind.append(request.answer())
            return behind[0]
        request.start("200 OK", [("Content-Type", "application/xml")])
        return behind[0]

    server.faults.append(stale)
    build(store)
    written = listed(store, server)
    build(anew(store))  # sees an empty bucket
    assert listed(store, server) == written
    server.faults.clear()
    assert digests(store) == reference


def listed(store: Store, server: s3.S3) -> dict[str, str]:
    faults, server.faults = server.faults, []
    shards = {
        path: seen.etag
        for path, seen in anew(store).files.objects.list()  # type: ignore[attr-defined]
        if path.endswith(".parquet")
    }
    server.faults = faults
    return shards


@pytest.mark.parametrize("fault", [s3.expired, s3.forbidden, s3.skewed])
def test_refused_keys_end_the_run_in_one_line_and_lose_nothing(
    fault: s3.Fault, store: Store, server: s3.S3, reference: dict[str, str]
) -> None:
    build(Store.of_recipe(store.root.parent / "first/work", StoreSection(url="s3://tiles/demo")))
    for path in listed(store, server):
        if path.startswith("caption"):
            anew(store).files.objects.remove(path)  # type: ignore[attr-defined]
    server.faults.append(s3.after(3, s3.is_put, fault))
    store = anew(store)
    text = ended(store)
    assert "\n" not in text
    assert "s3://tiles/demo/work" in text
    assert s3.KEYS["AWS_SECRET_ACCESS_KEY"] not in text
    server.faults.clear()
    made = build(anew(store))
    assert made[2].shards_made == 1  # three had been written before the keys were refused
    assert digests(store) == reference


def ended(store: Store) -> str:
    """Why a run ended that could not go on."""
    try:
        return next(summary.ended for summary in build(store) if summary.ended)
    except RunEnded as error:
        return str(error)


def test_two_commands_at_once_write_each_shard_once(
    store: Store, server: s3.S3, reference: dict[str, str], tmp_path: Path
) -> None:
    server.faults.append(s3.once(s3.is_put, s3.late(0.2), 12))
    commands = [start(server, tmp_path / str(i), 2) for i in range(2)]
    assert [command.wait(120) for command in commands] == [0, 0]
    server.faults.clear()
    assert digests(store) == reference


def test_of_two_writers_of_a_shard_the_second_takes_what_is_there(store: Store) -> None:
    stage = chain(SHARDS)[0]
    first, second = anew(store), anew(store)
    assert second.shards("tiles") == []  # its list is from before
    run(stage, first, Engine())
    before = [second.files.objects.head(f"tiles/{name}.parquet") for name in first.shards("tiles")]  # type: ignore[attr-defined]
    summary = run(stage, second, Engine())
    assert not summary.failed
    after = [second.files.objects.head(f"tiles/{name}.parquet") for name in first.shards("tiles")]  # type: ignore[attr-defined]
    assert before == after


def start(server: s3.S3, folder: Path, workers: int) -> "subprocess.Popen[bytes]":
    url = "s3://tiles/demo"
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.makers.bucket_run"),
            *(str(folder), url, str(SHARDS), str(workers)),
        ],
        env=environment(**server.environment),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    store: Store, server: s3.S3, reference: dict[str, str], tmp_path: Path
) -> None:
    """The driver, or one of its workers, is killed at random moments between PUTs and in them."""
    rng = random.Random(1)
    server.faults.append(s3.once(s3.is_put, s3.late(0.1), 10_000))
    for number in range(KILLS):
        if number % 3 == 0:
            server.clear_objects()
        command = start(server, tmp_path / "machine", 1 + number % 2)
        puts = rng.randrange(13)
        seen = len(server.requests)
        deadline = time.monotonic() + 30
        while (
            sum(name == "PUT" for name, _ in server.requests[seen:]) <= puts
            and command.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        with contextlib.suppress(ProcessLookupError):  # it was done already
            os.killpg(command.pid, signal.SIGKILL)
        command.wait(30)
        for name, digest in digests(store).items():
            assert reference[name] == digest  # what is there is whole and right
    command = start(server, tmp_path / "machine", 2)
    assert command.wait(60) == 0, command.stderr and command.stderr.read().decode()
    assert digests(store) == reference


def test_an_address_that_is_no_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match=r"expected the address of a bucket, such as s3://"):
        objects.Objects("ftp://somewhere/x")
    with pytest.raises(ArasError, match=r"expected the address of a bucket"):
        objects.Objects("s3://")


def test_a_bucket_that_is_not_there_is_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Store.of_recipe(store.root, StoreSection(url="s3://nobody-has-this/demo"))
    with pytest.raises(ArasError, match=r"s3://nobody-has-this/demo/work: .*NoSuchBucket") as text:
        gone.stages()
    assert "\n" not in str(text.value)
    monkeypatch.setattr(objects, "RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ArasError, match=r"s3://tiles/demo/work: .*run the command again"):
        anew(store).stages()
