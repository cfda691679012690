"""A folder of files: what is kept, what fails alone, what ends the run."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.core.web import new_session
from builder.fetch import folder
from builder.fetch.download import Remote
from builder.fetch.folder import Outcome, Plan
from tests.loopback.files import Fault, FileServer, file_server

SIZE = len("file 00 ") * 500


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def remotes(server: FileServer, count: int, **known: object) -> list[Remote]:
    files = []
    for index in range(count):
        body = f"file {index:02} ".encode() * 500
        server.put(f"/{index}", body, etag=f'"{index}"')
        md5 = hashlib.md5(body).hexdigest()
        files.append(Remote(f"sub/{index}", f"{server.url}/{index}", md5=md5, **known))  # type: ignore[arg-type]
    return files


def survey(files: list[Remote], to: Path) -> Plan:
    return folder.survey(files, to, new_session(4), jobs=4, say=lambda text: None, backoff=0.001)


def fetch(files: list[Remote], to: Path, jobs: int = 4) -> Outcome:
    with folder.locked(to):
        return folder.fetch(
            survey(files, to),
            to,
            new_session(jobs),
            jobs=jobs,
            advance=lambda *arguments: None,
            say=lambda text: None,
            backoff=0.001,
        )


def test_all_files_arrive_and_are_counted(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 12)
    outcome = fetch(files, tmp_path / "deep" / "to")
    assert outcome.failed == {}
    assert set(outcome.fetched) == set(files)
    for file, size in outcome.fetched.items():
        assert (tmp_path / "deep" / "to" / file.name).stat().st_size == size


def test_no_more_files_than_jobs_are_under_way_at_once(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 12, size=SIZE)
    plan = Plan(todo=dict.fromkeys(files, SIZE))
    gate = threading.Barrier(3)

    def advance(count: int, note: str = "") -> None:
        if count:
            gate.wait(timeout=20)

    with folder.locked(tmp_path):
        outcome = folder.fetch(
            plan, tmp_path, new_session(3), jobs=3, advance=advance, say=lambda text: None
        )
    # The barrier opens only when three transfers have their bytes at the same time.
    assert not gate.broken
    assert len(outcome.fetched) == 12
    assert server.busiest <= 3


def test_a_verified_file_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 3)
    fetch(files, tmp_path)
    server.log.clear()
    assert set(survey(files, tmp_path).kept) == set(files)
    assert fetch(files, tmp_path).fetched == {}
    assert server.log == []


def test_files_brought_by_other_means_are_verified_and_kept(
    server: FileServer, tmp_path: Path
) -> None:
    files = remotes(server, 2)
    fetch(files, tmp_path / "a")
    os.rename(tmp_path / "a" / "sub", tmp_path / "sub")
    server.log.clear()
    plan = survey(files, tmp_path)
    assert set(plan.kept) == set(files)
    assert server.log == []


def test_a_file_that_was_changed_in_place_is_fetched_again(
    server: FileServer, tmp_path: Path
) -> None:
    files = remotes(server, 3)
    fetch(files, tmp_path)
    victim = tmp_path / "sub" / "1"
    good = victim.read_bytes()
    victim.write_bytes(b"X" + good[1:])
    outcome = fetch(files, tmp_path)
    assert list(outcome.fetched) == [files[1]]
    assert victim.read_bytes() == good


def test_a_torn_ledger_costs_a_verification_not_a_download(
    server: FileServer, tmp_path: Path
) -> None:
    files = remotes(server, 2)
    fetch(files, tmp_path)
    (tmp_path / folder.LEDGER).write_text("{")
    assert set(survey(files, tmp_path).kept) == set(files)


def test_a_new_sum_under_an_old_name_is_fetched(server: FileServer, tmp_path: Path) -> None:
    fetch(remotes(server, 1), tmp_path)
    server.put("/0", b"second edition", etag='"new"')
    md5 = hashlib.md5(b"second edition").hexdigest()
    fetch([Remote("sub/0", f"{server.url}/0", md5=md5)], tmp_path)
    assert (tmp_path / "sub" / "0").read_bytes() == b"second edition"


def test_failed_files_do_not_stop_the_others(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 6, size=SIZE)
    server.fault("/1", always=Fault(flip=7))
    server.fault("/3", Fault(status=403))
    server.fault("/4", always=Fault(status=500))
    outcome = fetch(files, tmp_path)
    assert {file.name for file in outcome.fetched} == {"sub/0", "sub/2", "sub/5"}
    why = {file.name: text for file, text in outcome.failed.items()}
    assert set(why) == {"sub/1", "sub/3", "sub/4"}
    assert "md5" in why["sub/1"]
    assert "403" in why["sub/3"]
    assert "500" in why["sub/4"]


def test_an_optional_file_that_is_not_there_is_absent(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 1)
    sea = Remote("sub/sea", f"{server.url}/sea", optional=True)
    needed = Remote("sub/needed", f"{server.url}/needed")
    plan = survey([*files, sea, needed], tmp_path)
    assert plan.absent == [sea]
    assert set(plan.todo) == {files[0], needed}
    # Where sizes were not asked for beforehand the GET finds out.
    with folder.locked(tmp_path):
        outcome = folder.fetch(
            Plan(todo={sea: None, needed: None}),
            tmp_path,
            new_session(),
            jobs=1,
            advance=lambda *arguments: None,
            say=lambda text: None,
        )
    assert outcome.absent == [sea]
    assert list(outcome.failed) == [needed]


def test_sizes_are_asked_for_without_bodies(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 3)
    plan = survey(files, tmp_path)
    assert plan.bytes == 3 * SIZE
    assert plan.unknown == 0
    assert {asked.method for asked in server.log} == {"HEAD"}
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    with file_server() as closed:
        url = closed.url
    with pytest.raises(ArasError, match=f"cannot reach {url}/0: .*Connection refused"):
        survey([Remote("0", f"{url}/0")], tmp_path)


def test_more_than_the_disk_holds_is_refused_before_anything_is_fetched(
    server: FileServer, tmp_path: Path
) -> None:
    (file,) = remotes(server, 1, size=10**18)
    with pytest.raises(ArasError, match="no space left"):
        fetch([file], tmp_path)
    assert server.gets("/0") == []


def test_a_folder_is_fetched_into_by_one_command_at_a_time(tmp_path: Path) -> None:
    with (
        folder.locked(tmp_path),
        pytest.raises(ArasError, match="another aras fetch"),
        folder.locked(tmp_path),
    ):
        pass
    with folder.locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ArasError, match=r"cannot write to .*file/to: Not a directory"),
        folder.locked(tmp_path / "file" / "to"),
    ):
        pass


def test_the_ledger_holds_what_was_verified(server: FileServer, tmp_path: Path) -> None:
    (file,) = remotes(server, 1)
    fetch([file], tmp_path)
    ledger = json.loads((tmp_path / folder.LEDGER).read_text())
    assert ledger["sub/0"]["md5"] == file.md5


def test_a_bug_in_a_worker_ends_the_run(server: FileServer, tmp_path: Path) -> None:
    files = remotes(server, 2)

    def advance(count: int, note: str = "") -> None:
        raise ZeroDivisionError

    with folder.locked(tmp_path), pytest.raises(ZeroDivisionError):
        folder.fetch(
            Plan(todo=dict.fromkeys(files, SIZE)),
            tmp_path,
            new_session(),
            jobs=1,
            advance=advance,
            say=lambda text: None,
        )
