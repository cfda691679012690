"""One atomic write, one hash, one lock."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.core import files
from tests.makers.toy import environment


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_atomic_write_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    with files.atomic(path) as temporary:
        temporary.write_bytes(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert listing(path.parent) == ["file.bin"]


@pytest.mark.parametrize("trouble", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_broken_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, trouble: BaseException
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with files.atomic(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise trouble

    with pytest.raises(type(trouble)):
        write()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file.bin"]


def test_a_folder_is_written_atomically_too(tmp_path: Path) -> None:
    path = tmp_path / "release"

    def write(trouble: Exception | None = None) -> None:
        with files.atomic(path) as temporary:
            (temporary / "data").mkdir(parents=True)
            (temporary / "data" / "a").write_text("a")
            if trouble:
                raise trouble

    with pytest.raises(RuntimeError):
        write(RuntimeError())
    assert listing(tmp_path) == []
    write()
    assert listing(tmp_path) == ["release", "release/data", "release/data/a"]


def test_writers_of_one_path_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with files.atomic(path) as first, files.atomic(path) as two:
        first.write_text("one")
        two.write_text("two")
    assert path.read_text() in ("one", "two")
    assert listing(tmp_path) == ["file.txt"]


def test_sweep_removes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "mine.bin") as mine:
        mine.write_bytes(b"being written")
        left = mine.name.replace(f".{os.getpid()}.", f".{dead_pid()}.")
        elsewhere = left.replace(f".{files._HOST}.", ".another-host.")
        (tmp_path / left).write_bytes(b"torn")
        (tmp_path / left.replace("mine.bin", "folder")).mkdir()
        (tmp_path / left.replace("mine.bin", "folder") / "inside").write_bytes(b"torn")
        for name in (elsewhere, ".hidden.tmp", "plain.tmp", "whole.bin"):
            (tmp_path / name).write_bytes(b"keep")
        assert files.sweep(tmp_path, "other") == 0
        assert files.sweep(tmp_path) == 2
        kept = {mine.name, elsewhere, ".hidden.tmp", "plain.tmp", "whole.bin"}
        assert set(listing(tmp_path)) == kept
    assert files.sweep(tmp_path / "missing") == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_sweep_takes_a_process_for_dead_that_nobody_has_waited_for(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is kept
        (tmp_path / f".shard.bin.{files._HOST}.{child.pid}.0.tmp").write_bytes(b"torn")
        assert files.sweep(tmp_path) == 1
    finally:
        child.wait()
    assert listing(tmp_path) == []


def test_removing_what_is_gone_already_is_fine(tmp_path: Path) -> None:
    files.remove(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(tmp_path / "target", target_is_directory=True)
    (tmp_path / "target").mkdir()
    files.remove(tmp_path / "link")
    assert listing(tmp_path) == ["target"]


HOLD = """
import sys, threading
from pathlib import Path
from builder.core.files import locked
with locked(Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    threading.Event().wait(120)
"""


def test_a_lock_makes_others_wait_until_its_holder_is_done_or_killed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, env=environment()
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waiting, done = threading.Event(), threading.Event()

        def want() -> None:
            with files.locked(folder, waiting.set):
                done.set()

        thread = threading.Thread(target=want)
        thread.start()
        assert waiting.wait(30)
        assert not done.is_set()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    thread.join(30)
    assert done.is_set()
    with files.locked(folder, lambda: pytest.fail("nobody holds it any more")):
        pass


def test_json_survives_the_round_trip_and_reads_well(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "Türkiye"}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    assert "Türkiye" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert (tmp_path / "x.json").read_bytes().endswith(b"}\n")


def test_a_digest_depends_on_the_value_and_not_on_the_order_of_keys() -> None:
    assert files.digest_of({"a": 1, "b": (2, 3)}) == files.digest_of({"b": [2, 3], "a": 1})
    different = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"b": 1}, [{"a": 1}], {}]
    assert len({files.digest_of(values) for values in different}) == len(different)


def test_files_are_hashed_by_any_number_of_algorithms_at_once(tmp_path: Path) -> None:
    body = os.urandom(3_000_001)
    (tmp_path / "x").write_bytes(body)
    sums = files.hash_file(tmp_path / "x", "sha256", "md5")
    assert sums == {
        "sha256": hashlib.sha256(body).hexdigest(),
        "md5": hashlib.md5(body).hexdigest(),
    }
    assert files.sha256_file(tmp_path / "x") == sums["sha256"]


def test_input_hashes_are_remembered_by_size_and_time(tmp_path: Path) -> None:
    small, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "work" / ".inputs.json"
    small.write_bytes(b"one")
    two.write_bytes(b"two")
    first = files.content_hashes([small, two], cache)
    assert first == {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in (small, two)}
    stamp = small.stat().st_mtime_ns
    small.write_bytes(b"ONE")
    os.utime(small, ns=(stamp, stamp))
    assert files.content_hashes([small], cache)[str(small)] == first[str(small)]  # as git would
    os.utime(small, ns=(stamp, stamp + 1))
    assert files.content_hashes([small], cache)[str(small)] == hashlib.sha256(b"ONE").hexdigest()
    assert str(two) in files.read_json(cache)  # what was not asked for is not forgotten


def test_input_hashes_that_cannot_be_remembered_are_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    sums = files.content_hashes([tmp_path / "one"], Path("/proc/nobody/cache"))
    assert list(sums.values()) == [hashlib.sha256(b"one").hexdigest()]


@pytest.mark.parametrize("damage", ["", "{", "[1]", "null"])
def test_a_damaged_memory_of_input_hashes_is_made_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "one").write_bytes(b"one")
    (tmp_path / "cache").write_text(damage)
    sums = files.content_hashes([tmp_path / "one"], tmp_path / "cache")
    assert list(sums.values()) == [hashlib.sha256(b"one").hexdigest()]
    with pytest.raises(FileNotFoundError):
        files.content_hashes([tmp_path / "missing"], tmp_path / "cache")


def test_a_missing_file_names_what_lies_beside_it_the_nearest_first(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "captions.csv", ".hidden", "z.csv", "zz.csv"):
        (tmp_path / name).touch()
    error = str(files.no_such_file(tmp_path / "caption.csv"))
    assert error.endswith(
        "caption.csv: no such file; beside it: captions.csv, a.csv, b.csv, z.csv, zz.csv"
    )
    deeper = str(files.no_such_file(tmp_path / "there" / "x.csv"))
    assert f"no such file; in {tmp_path}: " in deeper
    assert ".hidden" not in error + deeper
