"""Stage commands as a user runs them: killed, interrupted, crowded, out of space, in parts."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.store import Store
from tests.makers import toy
from tests.makers.shards import damage, digests, marks

SHARDS = 8


def run(directory: Path, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        toy.command(directory, *arguments),
        env=toy.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )


def start(directory: Path, *arguments: object) -> subprocess.Popen[str]:
    """A command in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        toy.command(directory, *arguments),
        env=toy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def family(pid: int) -> list[int]:
    """Handles of a process and all that descend from it."""
    handles, queue = [], [pid]
    while queue:
        member = queue.pop()
        handles.append(os.pidfd_open(member))
        tasks = Path(f"/proc/{member}/task").glob("*/children")
        queue += [int(child) for path in tasks for child in path.read_text().split()]
    return handles


def have_ended(handles: list[int]) -> bool:
    """True once all of them have ended; False when one still lives after a minute."""
    until = time.monotonic() + 60
    ended = [
        bool(select.select([handle], [], [], until - time.monotonic())[0]) for handle in handles
    ]
    for handle in handles:
        os.close(handle)
    return all(ended)


def hidden(directory: Path) -> list[str]:
    """Leftovers of unfinished writes."""
    return [path.name for path in (directory / "work").rglob(".*.tmp")]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    project = toy.write_project(tmp_path_factory.mktemp("reference"), shards=SHARDS)
    assert run(project, "tiles", "--engine", "serial").returncode == 0
    return digests(Store(project / "work"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    return toy.write_project(tmp_path / "project", shards=SHARDS)


@pytest.mark.parametrize("moment", ["hang", "hang-writing"])
@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_killed_in_the_middle_and_run_again_it_ends_as_if_nothing_had_been(
    directory: Path, reference: dict[str, str], engine: str, moment: str
) -> None:
    arguments = ("tiles", "--engine", engine, "--workers", 2)
    toy.write_project(directory, shards=SHARDS, troubles=[["real-00004", moment]])
    with toy.listening(directory) as bell:
        process = start(directory, *arguments)
        try:
            bell.wait()
            processes = family(process.pid)
        finally:
            process.kill()
            process.communicate()
    assert len(processes) >= (3 if engine == "processes" else 1)
    assert have_ended(processes)  # the workers are gone with their parent
    finished = {k: v for k, v in marks(directory / "work").items() if k.endswith(".parquet")}
    assert 0 < len([name for name in finished if "/." not in name]) < SHARDS
    if moment == "hang-writing":
        torn = [name for name in hidden(directory) if "real-00004" in str(name)]
        assert len(torn) == 1  # it is there, under no shard's name

    toy.write_project(directory, shards=SHARDS)
    again = run(directory, *arguments, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["made"] == SHARDS - len(finished)
    assert digests(Store(directory / "work")) == reference
    assert hidden(directory) == []
    after = marks(directory / "work")
    assert {name: after[name] for name in finished} == finished  # none was made again


@pytest.mark.parametrize("whom", ["the command", "its process group"])
def test_ctrl_c_keeps_what_is_finished_and_exits_130(
    directory: Path, reference: dict[str, str], whom: str
) -> None:
    toy.write_project(directory, shards=SHARDS, troubles=[["real-00003", "hang"]])
    with toy.listening(directory) as bell:
        process = start(directory, "tiles", "--engine", "processes", "--workers", 2)
        try:
            bell.wait()
            processes = family(process.pid)
            send = os.killpg if whom == "its process group" else os.kill
            send(process.pid, signal.SIGINT)
            _, message = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130
    kept = "finished shards and the last checkpoint of a training are kept"
    assert message == f"interrupted: {kept}; run the same command to continue\n"
    assert have_ended(processes)
    assert hidden(directory) == []
    before = marks(directory / "work")
    assert 0 < len(before) < SHARDS
    toy.write_project(directory, shards=SHARDS)
    assert run(directory, "tiles").returncode == 0
    assert digests(Store(directory / "work")) == reference
    assert {name: marks(directory / "work")[name] for name in before} == before


def test_two_commands_at_once_in_one_directory_do_no_harm(
    directory: Path, reference: dict[str, str]
) -> None:
    arguments = ("tiles", "--engine", "processes", "--workers", 2)
    both = [start(directory, *arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert digests(Store(directory / "work")) == reference
    assert hidden(directory) == []
    assert json.loads(run(directory, *arguments, "--json").stdout)["made"] == 0


def test_parts_that_run_at_once_make_the_whole(directory: Path, reference: dict[str, str]) -> None:
    parts = [start(directory, "tiles", "--engine", "serial", "--part", f"{i}/3") for i in (1, 2, 3)]
    outputs = [process.communicate(timeout=120) for process in parts]
    assert [process.returncode for process in parts] == [0, 0, 0], outputs
    assert digests(Store(directory / "work")) == reference


@pytest.mark.parametrize("command", ["tiles", "build"])
def test_a_failed_shard_ends_the_command_with_1_and_its_name(directory: Path, command: str) -> None:
    toy.write_project(directory, shards=SHARDS, troubles=[["real-00002", "fail"]])
    result = run(directory, command, "--engine", "serial", "--json")
    assert result.returncode == 1
    summary = json.loads(result.stdout)
    summary = summary["steps"][-1] if command == "build" else summary
    assert (summary["made"], list(summary["failed"])) == (SHARDS - 1, ["real-00002"])
    assert result.stderr.splitlines()[-2:] == [
        "Error: tiles: 1 of 8 shards failed, the others are kept; the same command tries these "
        "again",
        "  real-00002: real-00002 was told to fail",
    ]
    assert len(Store(directory / "work").shards("tiles")) == SHARDS - 1


def test_a_shard_that_kills_its_worker_is_the_only_one_that_fails(directory: Path) -> None:
    toy.write_project(directory, shards=SHARDS, troubles=[["real-00002", "die"]])
    result = run(directory, "tiles", "--engine", "processes", "--workers", 2)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "  real-00002: its worker process died (out of memory, or a crash)"
    )
    assert len(Store(directory / "work").shards("tiles")) == SHARDS - 1


def test_a_damaged_shard_is_mended_by_the_command_that_makes_it(
    directory: Path, reference: dict[str, str]
) -> None:
    run(directory, "tiles", "--engine", "serial")
    damage(Store(directory / "work"), "tiles/real-00005.parquet", "truncated")
    result = run(directory, "tiles", "--engine", "serial", "--json")
    assert (result.returncode, json.loads(result.stdout)["made"]) == (0, 1)
    assert digests(Store(directory / "work")) == reference


def disk_of(kilobytes: int, directory: Path, arguments: list[str]) -> str:
    """A shell line that runs a command with ``directory`` on a file system of that size, then
    lists what is there and runs it again with more space."""
    command = " ".join(f"'{argument}'" for argument in arguments)
    return (
        f"cp -r '{directory}' '{directory}.copy'"
        f" && mount -t tmpfs -o size={kilobytes}k none '{directory}'"
        f" && cp '{directory}.copy'/* '{directory}'"
        f" && {{ {command}; echo code $?; find '{directory}' -type f -printf '%P\\n';"
        f" mount -o remount,size=100m '{directory}' && {command}; echo code $?;"
        f" find '{directory}' -type f -printf '%P\\n'; }}"
    )


def may_mount() -> bool:
    line = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="needs user namespaces: unshare -rm and mount")
def test_a_full_disk_leaves_nothing_torn_and_the_command_goes_on_with_space(
    directory: Path,
) -> None:
    toy.write_project(directory, shards=SHARDS, rows=64)  # some 40 kB a shard
    line = disk_of(200, directory, toy.command(directory, "tiles", "--engine", "processes"))
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", line],
        env=toy.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    codes = [line for line in result.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["code 1", "code 0"], result.stdout + result.stderr
    assert "No space left on device" in result.stderr
    full, roomy = result.stdout.split("code 1\n")[1].split("code 0\n")
    shards = [name for name in full.splitlines() if name.startswith("work/tiles/")]
    assert 0 < len(shards) < SHARDS
    assert ".tmp" not in full
    assert len([name for name in roomy.splitlines() if name.startswith("work/tiles/")]) == SHARDS
    assert ".tmp" not in roomy


def test_a_file_that_may_not_grow_leaves_nothing_torn(directory: Path) -> None:
    """The same through a limit on the size of files, where nothing may be mounted."""
    toy.write_project(directory, shards=SHARDS, rows=64)
    limit = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "runpy.run_module('tests.makers.toy', run_name='__main__', alter_sys=True)"
    )
    arguments = [sys.executable, "-c", limit, str(directory), "tiles", "--engine", "serial"]
    result = subprocess.run(
        arguments, env=toy.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in (directory / "work" / "tiles").iterdir()] == []


@pytest.mark.skipif(not may_mount(), reason="needs user namespaces: unshare -rm and mount")
def test_a_directory_that_cannot_be_written_is_one_clear_line(directory: Path) -> None:
    """Trouble of the system outside any shard: here, reports/ is read-only."""
    (directory / "reports").mkdir()
    command = " ".join(
        f"'{argument}'" for argument in toy.command(directory, "tiles", "--engine", "serial")
    )
    line = f"mount -t tmpfs -o ro none '{directory}/reports' && {command}"
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", line],
        env=toy.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert re.fullmatch(
        r"Error: .*Read-only file system.*reports.*; finished work is kept: correct this and run "
        "the same command again",
        result.stderr.strip(),
    )
    assert len(Store(directory / "work").shards("tiles")) == SHARDS


def test_a_dry_run_makes_nothing(directory: Path) -> None:
    before = marks(directory)
    result = run(directory, "tiles", "--dry-run")
    assert (result.returncode, result.stdout.split()) == (
        0,
        ["tiles", "8", "of", "8", "shards", "to", "make"],
    )
    plan = json.loads(run(directory, "tiles", "--dry-run", "--json", "--part", "1/4").stdout)
    assert plan == {"kind": "plan", "steps": [{"stage": "tiles", "shards": 2, "stale": 2}]}
    assert marks(directory) == before
    assert not (directory / "work").exists()


def test_json_is_one_object_and_all_of_stdout(directory: Path) -> None:
    result = run(directory, "tiles", "--engine", "serial", "--json")
    assert result.stdout.count("\n") == 1
    summary = json.loads(result.stdout)
    assert (summary["stage"], summary["shards"], summary["made"], summary["rows"]) == (
        "tiles",
        8,
        8,
        64,
    )
    assert summary == json.loads((directory / "reports" / "tiles.json").read_text())
    plain = run(directory, "tiles", "--engine", "serial")
    assert plain.stdout == ""
    assert "64 rows in 8 shards, nothing to do" in plain.stderr


@pytest.mark.parametrize("part", ["0/3", "4/3", "a/b", "3", "1/0", ""])
def test_a_part_that_is_none_is_a_usage_error(directory: Path, part: str) -> None:
    result = CliRunner().invoke(cli, ["-C", str(directory), "tiles", "--part", part])
    assert result.exit_code == 2
    assert f"{part!r} is not a part; expected i/n with 1 ≤ i ≤ n, for example 2/8" in result.stderr


def test_build_has_no_part_and_says_how_to_share_its_work(directory: Path) -> None:
    """A part of all stages makes no sense: a stage needs every part of the one before."""
    result = CliRunner().invoke(cli, ["-C", str(directory), "build", "--part", "1/3"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    text = CliRunner().invoke(cli, ["build", "--help"]).stdout
    assert "run each stage with --part" in " ".join(text.split())


def test_a_caption_stream_that_is_not_in_the_recipe_is_a_usage_error(directory: Path) -> None:
    recipe = directory / "dataset.toml"
    recipe.write_text("[captions.one]\n[captions.two]\n")
    result = CliRunner().invoke(cli, ["-C", str(directory), "caption", "three"])
    assert result.exit_code == 2
    assert "'three' is not in the recipe; streams: one, two" in result.stderr
    recipe.write_text("")
    result = CliRunner().invoke(cli, ["-C", str(directory), "caption"])
    assert result.exit_code == 2
    assert "the recipe has no [captions.NAME] section" in result.stderr
