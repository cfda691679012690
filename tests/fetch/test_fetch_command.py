"""``aras fetch`` as a user runs it: a process, its exit code, what it prints and leaves behind."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from builder.cli.fetch import inputs, official
from builder.fetch.catalogue import PRESETS
from builder.land.grid import cell_origin
from builder.official.names import OFFICIAL_RECORD
from builder.pipeline.demo import write_product
from tests.fetch.worldcover_tiles import composite, land_map
from tests.loopback.files import Fault, FileServer, file_server
from tests.makers.products import codes_of, land, reflect

ROOT = Path(__file__).parents[2]
BODY = random.Random(3).randbytes(1_000_000)
HALF = len(BODY) // 2
MAP = "maps/ESA_WorldCover_10m_2021_v200_N36E027_Map.tif"
MAP_KEY = "/v200/2021/map/ESA_WorldCover_10m_2021_v200_N36E027_Map.tif"
COMPOSITE = "composites/ESA_WorldCover_10m_2021_v200_N36E028_S2RGBNIR.tif"
COMPOSITE_KEY = "/rgbnir/2021/N36/ESA_WorldCover_10m_2021_v200_N36E028_S2RGBNIR.tif"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "builder", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **more}


def aras(*arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def put_record(server: FileServer, number: int = 42, **bodies: bytes) -> str:
    files = []
    for name, body in bodies.items():
        key = name.replace("_zip", ".zip")
        md5 = hashlib.md5(body).hexdigest()
        files.append({"key": key, "size": len(body), "checksum": f"md5:{md5}"})
        server.put(f"/api/records/{number}/files/{key}/content", body, etag=f'"{md5}"')
    listing = json.dumps({"id": number, "files": files}).encode()
    server.put(f"/api/records/{number}", listing, content_type="application/json")
    return f"/api/records/{number}/files/{{}}/content"


@pytest.fixture
def cell(server: FileServer) -> tuple[object, ...]:
    """One map cell and one composite cell on the server, and the arguments that ask for them."""
    server.put(MAP_KEY, land_map(36, 27))
    server.put(COMPOSITE_KEY, composite(36, 28))
    return ("fetch", "inputs", "--bbox", 28.2, 36.2, 28.8, 36.8, "--base-url", server.url)


def begin(server: FileServer, cwd: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a command whose file stalls at HALF; return once the partial file has most of it."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell may have started the tests with SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert server.stalled.wait(30)
    partial = cwd / "official" / ".test.zip.part"
    tick = threading.Event()
    for _ in range(3000):
        if partial.exists() and partial.stat().st_size > HALF - (1 << 16):
            break
        assert process.poll() is None
        tick.wait(0.01)
    return process


def test_official_brings_a_record_and_says_so(server: FileServer, tmp_path: Path) -> None:
    put_record(server, train_zip=b"train" * 100, test_zip=BODY)
    arguments = ("fetch", "official", "--record", 42, "--base-url", server.url)
    done = aras(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "official: 2 fetched (1.0 MB), 0 already there, 0 absent on the server, 0 failed\n"
    )
    assert (tmp_path / "official" / "test.zip").read_bytes() == BODY
    again = aras(*arguments, "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == {
        "to": "official",
        "fetched": {},
        "bytes": 0,
        "kept": ["test.zip", "train.zip"],
        "absent": [],
        "failed": {},
    }


def product(folder: Path, cell: str, degrees: int, data: np.ndarray) -> bytes:
    """A file of a whole cell, sparse, as the real products are, with data in its upper left."""
    origin = cell_origin(cell, degrees)
    west, north = cell_origin("N36E028")
    path = folder / f"{cell}-{degrees}.tif"
    write_product(path, origin, degrees, data, west, north)
    return path.read_bytes()


def test_init_then_fetch_then_build_works_without_an_edit(
    server: FileServer, tmp_path: Path
) -> None:
    ids = land((10 * 64, 10 * 64))
    server.put(MAP_KEY, product(tmp_path, "N36E027", 3, codes_of(ids)[None]))
    server.put(COMPOSITE_KEY, product(tmp_path, "N36E028", 1, reflect(ids)))
    begun = aras("init", "data", "--from", "eurosat-like", cwd=tmp_path)
    fetch = begun.stderr.splitlines()[1].partition("#")[0].split()[1:]
    box = ["28.2", "36.2", "28.8", "36.8"]
    at = fetch.index("--bbox") + 1
    fetch[at : at + 4] = box
    done = aras(*fetch, "--base-url", server.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in (tmp_path / "data" / "inputs").rglob("*.tif")) == [
        "composites",
        "maps",
    ]
    assert aras("-C", "data", "build", "--dry-run", cwd=tmp_path).returncode == 0
    cut = aras("-C", "data", "tiles", "--json", cwd=tmp_path)
    assert json.loads(cut.stdout)["rows"] > 50, cut.stderr


def test_dash_C_is_where_the_folder_lies(server: FileServer, tmp_path: Path) -> None:
    put_record(server, a_zip=b"a")
    done = aras(
        "-C", "data", "fetch", "official", "--record", 42, "--base-url", server.url, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "official" / "a.zip").read_bytes() == b"a"


def test_after_kill_9_only_the_missing_bytes_are_asked_for(
    server: FileServer, tmp_path: Path
) -> None:
    content = put_record(server, test_zip=BODY).format("test.zip")
    server.fault(content, Fault(stall_after=HALF))
    arguments = ("fetch", "official", "--record", 42, "--base-url", server.url)
    process = begin(server, tmp_path, *arguments)
    process.kill()
    process.communicate(timeout=30)
    partial = tmp_path / "official" / ".test.zip.part"
    there = partial.stat().st_size
    assert HALF - (1 << 16) < there <= HALF
    assert partial.read_bytes() == BODY[:there]
    assert not (tmp_path / "official" / "test.zip").exists()
    server.log.clear()

    done = aras(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (asked,) = server.gets(content)
    assert asked.status == 206
    assert asked.range == f"bytes={there}-"
    assert asked.sent == len(BODY) - there
    assert (tmp_path / "official" / "test.zip").read_bytes() == BODY
    assert not partial.exists()


def test_ctrl_c_exits_130_at_once_and_keeps_the_part(server: FileServer, tmp_path: Path) -> None:
    content = put_record(server, test_zip=BODY).format("test.zip")
    server.fault(content, Fault(stall_after=HALF))
    arguments = ("fetch", "official", "--record", 42, "--base-url", server.url)
    process = begin(server, tmp_path, *arguments)
    process.send_signal(signal.SIGINT)
    # The server is silent and its time-out is a minute: the command does not wait for it.
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted: official keeps what has arrived" in stderr
    assert "Traceback" not in stderr
    there = (tmp_path / "official" / ".test.zip.part").stat().st_size
    server.log.clear()
    assert aras(*arguments, cwd=tmp_path).returncode == 0
    assert [asked.range for asked in server.gets(content)] == [f"bytes={there}-"]
    assert (tmp_path / "official" / "test.zip").read_bytes() == BODY


def test_a_corrupt_file_fails_by_name_and_the_others_arrive(
    server: FileServer, tmp_path: Path
) -> None:
    content = put_record(server, a_zip=b"a" * 99, b_zip=b"b" * 99)
    server.fault(content.format("a.zip"), always=Fault(flip=5))
    done = aras(
        "fetch", "official", "--record", 42, "--base-url", server.url, "--json", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "1 of 2 files could not be fetched" in done.stderr
    assert "a.zip: its md5 is" in done.stderr
    summary = json.loads(done.stdout)
    assert list(summary["failed"]) == ["a.zip"]
    assert list(summary["fetched"]) == ["b.zip"]
    left = {path.name for path in (tmp_path / "official").iterdir()}
    assert left == {"b.zip", ".fetch.json"}


def test_a_dry_run_lists_and_writes_nothing(
    server: FileServer, tmp_path: Path, cell: tuple[object, ...]
) -> None:
    done = aras(*cell, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listing = json.loads(done.stdout)
    assert {file["name"]: file["bytes"] for file in listing["files"]} == {
        MAP: len(land_map(36, 27)),
        COMPOSITE: len(composite(36, 28)),
    }
    assert listing["bytes"] == len(land_map(36, 27)) + len(composite(36, 28))
    assert list(tmp_path.iterdir()) == []
    assert {asked.method for asked in server.log} == {"HEAD"}


def test_a_dry_run_without_network_still_lists(tmp_path: Path) -> None:
    with file_server() as closed:
        url = closed.url
    done = aras(
        "fetch", "inputs", "--bbox", 28, 36, 29, 37, "--base-url", url, "--dry-run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "sizes are not known: cannot reach" in done.stderr
    assert MAP in done.stdout
    assert "2 to fetch (2 of unknown size)" in done.stdout


def test_an_unreachable_record_names_the_ways_out(tmp_path: Path) -> None:
    with file_server() as closed:
        url = closed.url
    done = aras("fetch", "official", "--base-url", url, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert f"cannot reach {url}/api/records/18890661: " in last
    assert "HTTPS_PROXY" in last
    assert "--base-url" in last
    assert list(tmp_path.iterdir()) == []


def test_inputs_brings_maps_and_composites_into_their_folders(
    tmp_path: Path, cell: tuple[object, ...]
) -> None:
    done = aras(*cell, "--to", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / MAP).read_bytes() == land_map(36, 27)
    assert (tmp_path / "here" / COMPOSITE).read_bytes() == composite(36, 28)


@pytest.mark.parametrize(("only", "name"), [("--maps", MAP), ("--composites", COMPOSITE)])
def test_one_kind_of_input_can_be_asked_for(
    tmp_path: Path, cell: tuple[object, ...], only: str, name: str
) -> None:
    done = aras(*cell, only, "--json", cwd=tmp_path)
    assert list(json.loads(done.stdout)["fetched"]) == [name]


def test_cells_of_open_sea_are_counted_and_no_failure(
    server: FileServer, tmp_path: Path, cell: tuple[object, ...]
) -> None:
    wider = [*cell[:3], 27.5, 36.2, 29.5, 36.8, *cell[7:]]
    done = aras(*wider, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 fetched" in done.stdout
    assert "2 absent on the server, 0 failed" in done.stdout


def test_a_tile_that_does_not_decode_is_fetched_again(
    server: FileServer, tmp_path: Path, cell: tuple[object, ...]
) -> None:
    server.fault(COMPOSITE_KEY, Fault(flip=len(composite(36, 28)) // 2))
    done = aras(*cell, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{COMPOSITE}: it is not a GeoTIFF that can be read whole" in done.stderr
    assert (tmp_path / "inputs" / COMPOSITE).read_bytes() == composite(36, 28)


def test_the_proxy_of_the_environment_is_used(
    server: FileServer, tmp_path: Path, cell: tuple[object, ...]
) -> None:
    arguments = [*cell[:-1], "http://localhost:1"]
    done = aras(*arguments, "--maps", cwd=tmp_path, http_proxy=server.url, NO_PROXY="127.0.0.1")
    # The server, as a proxy, is asked for the whole address, which it does not have.
    assert [asked.path for asked in server.log] == ["http://localhost:1" + MAP_KEY]
    assert "1 absent" in done.stdout


def test_the_command_offers_every_preset_and_the_official_record() -> None:
    preset = next(option for option in inputs.params if option.name == "preset")
    assert set(preset.type.choices) == set(PRESETS)
    record = next(option for option in official.params if option.name == "record")
    assert record.default == OFFICIAL_RECORD


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inputs", "--bbox", 30, 36, 28, 37), "reversed"),
        (("inputs", "--bbox", 28, 36, 29, 97), "leaves the Earth"),
        (("inputs",), "give either --bbox"),
        (("inputs", "--preset", "turkiye", "--bbox", 28, 36, 29, 37), "give either --bbox"),
        (("inputs", "--preset", "turkiye", "--base-url", "http://example.org"), "https://"),
        (("official", "--record", "latest"), "not a Zenodo record"),
        (("official", "--jobs", "99"), "1<=x<=16"),
    ],
)
def test_bad_arguments_exit_2_with_the_way_out(
    tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    done = aras("fetch", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_record_exits_2(server: FileServer, tmp_path: Path) -> None:
    done = aras("fetch", "official", "--record", 7, "--base-url", server.url, cwd=tmp_path)
    assert done.returncode == 2
    assert "no record at" in done.stderr


def test_a_folder_that_cannot_be_written_exits_2(
    server: FileServer, tmp_path: Path, cell: tuple[object, ...]
) -> None:
    (tmp_path / "file").touch()
    done = aras(*cell, "--to", "file/to", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot write to file/to" in done.stderr


ALONE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    probe = (*ALONE, "mount -t tmpfs -o size=1m tmpfs /tmp")
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_arrived(
    server: FileServer, tmp_path: Path, cell: tuple[object, ...]
) -> None:
    # Without an announced length nobody can see it coming: the disk fills up while writing.
    server.put(COMPOSITE_KEY, random.Random(4).randbytes(3_000_000))
    server.fault(COMPOSITE_KEY, always=Fault(chunked=True))
    server.put(COMPOSITE_KEY.replace("E028", "E029"), composite(36, 29))
    wider = [*cell[:3], 28.2, 36.2, 29.5, 36.8, *cell[7:], "--jobs", 1]
    mounted = 'mkdir inputs && mount -t tmpfs -o size=1m tmpfs inputs && "$@"; code=$?; '
    done = subprocess.run(
        [*ALONE, mounted + "ls -A inputs/*; exit $code", "sh", *command(*wider)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"{COMPOSITE}: no space left on the disk; the partial file is kept" in done.stderr
    assert f"{COMPOSITE.replace('E028', 'E029')}: stopped: no space left" in done.stderr
    assert Path(MAP).name in done.stdout.split()
    assert f".{Path(COMPOSITE).name}.part" in done.stdout.split()
    assert server.gets(COMPOSITE_KEY.replace("E028", "E029")) == []
