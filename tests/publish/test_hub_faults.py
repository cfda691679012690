"""Publishing to a Hub ends well whatever goes wrong on the way, over LFS and over Xet.

Which test is which cell; each runs for basic, multipart and xet (``TRANSFERS``) unless it says so:

| case | test |
|---|---|
| fresh, no-op rerun | test_fresh_and_again |
| 429, 503 | test_throttled_at_every_step, by its parameter |
| 504 but committed, answer lost | test_committed_but_the_answer_is_a_time_out_or_lost |
| 409 | test_conflict_without_a_commit |
| 412 | test_somebody_else_commits_first |
| connection dropped | test_connection_cut_in_the_middle_of_the_upload; xet: see below |
| corrupted bytes | test_bytes_corrupted_on_the_way (basic, multipart) |
| | test_the_hub_records_other_bytes_than_it_was_sent |
| kill -9, resume | test_killed_in_the_middle_of_the_upload |
| | test_killed_around_the_commit_and_the_tag, by its parameters |
| | test_killed_while_rows_are_counted (basic) |
| | test_a_killed_xet_upload_sends_no_noted_block_again (xet, within one file) |

Xet is the client's own pipeline into a ``local://`` folder: there is no PUT that a server could
cut or damage. What can be cut is the call for its token, before each file, and the process, at any
point within a file. The client checks its blocks by hash, so what arrives twice is one block.
"""

# ruff: noqa: F811 - a fixture is imported and then named as an argument

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from builder.core import files
from builder.core.errors import WorkFailed
from builder.publish.hub_client import environment
from tests.loopback.hub import TOKEN
from tests.loopback.hub_kit import (  # noqa: F401
    REPO,
    ROOT,
    command,
    desk,
    server,
)

TRANSFERS = pytest.mark.parametrize("desk", ["basic", "multipart", "xet"], indirect=True)
SHARD = "real/train-00001-of-00002.parquet"
UPLOAD = {
    "basic": ("PUT", "/lfs/"),
    "multipart": ("PUT", "/lfs/"),
    "xet": ("GET", "/xet-write-token/"),
}


@TRANSFERS
def test_fresh_and_again(desk):
    assert desk.publish()["status"] == "published"
    desk.assert_published()
    writes, preuploaded = len(desk.hub.writes()), len(desk.hub.preuploaded)
    assert desk.publish()["status"] == "already published"
    assert (len(desk.hub.writes()), len(desk.hub.preuploaded)) == (writes, preuploaded)
    desk.assert_published()


@TRANSFERS
@pytest.mark.parametrize("status", [429, 503])
def test_throttled_at_every_step(desk, status):
    steps = [
        ("GET", "/whoami-v2"),
        ("GET", "/refs"),
        ("POST", "/repos/create"),
        ("POST", "/preupload/"),
        ("POST", "/validate-yaml"),
        ("POST", "/commit/"),
        ("GET", "/tree/"),
        ("POST", "/tag/"),
        UPLOAD[desk.hub.transfer],
    ]
    wait = {"Retry-After": "0"}
    faults = [desk.fault(*step, "refuse", status=status, headers=wait) for step in steps]
    desk.publish()
    assert all(fault.seen > 1 for fault in faults)
    desk.assert_published()


def test_a_gateway_that_answers_with_a_page(desk):
    steps = [
        ("POST", "/validate-yaml", 2),  # the first is ours, the second the client's own
        ("POST", "/commit/", 1),
        ("POST", "/tag/", 1),
        ("GET", "/tree/", 1),
    ]
    page = {"status": 502, "body": b"<html>Bad Gateway</html>"}
    faults = [desk.fault(method, path, "refuse", nth=nth, **page) for method, path, nth in steps]
    desk.publish()
    assert all(fault.seen > fault.nth for fault in faults)
    desk.assert_published()


@TRANSFERS
@pytest.mark.parametrize("do", ["commit", "lose"])
def test_committed_but_the_answer_is_a_time_out_or_lost(desk, do):
    fault = desk.fault("POST", "/commit/", do, status=504)
    desk.publish()
    assert fault.seen == 1  # the head told that it was done
    desk.assert_published()


@TRANSFERS
def test_tagged_and_created_but_the_answers_are_lost(desk):
    faults = [desk.fault("POST", path, "lose") for path in ("/repos/create", "/tag/")]
    desk.publish()
    assert all(fault.seen == 2 for fault in faults)
    desk.assert_published()


@TRANSFERS
def test_conflict_without_a_commit(desk):
    fault = desk.fault("POST", "/commit/", "refuse", status=409)
    desk.publish()
    assert fault.seen == 2
    desk.assert_published()


@TRANSFERS
def test_somebody_else_commits_first(desk):
    desk.fault("POST", "/commit/", lambda: desk.hub.put(REPO, "NOTES.md", b"mine\n", "theirs"))
    desk.publish()
    assert [status for _, _, status in desk.hub.requests("POST", "/commit/")] == [412, 200]
    desk.assert_published()
    assert "theirs" in [commit.title for commit in desk.hub.repo(REPO).history()]


@TRANSFERS
def test_connection_cut_in_the_middle_of_the_upload(desk):
    fault = desk.fault(*UPLOAD[desk.hub.transfer], "drop", nth=3)
    desk.publish()
    assert fault.seen > 3
    desk.assert_published()


@pytest.mark.parametrize("desk", ["basic", "multipart"], indirect=True)
def test_bytes_corrupted_on_the_way(desk):
    fault = desk.fault("PUT", "/lfs/", "corrupt", nth=3)
    desk.publish()
    assert fault.seen > 3
    assert 400 in [status for _, path, status in desk.hub.log if path.startswith("/lfs/")]
    desk.assert_published()


@TRANSFERS
def test_the_hub_records_other_bytes_than_it_was_sent(desk):
    desk.hub.damages = [SHARD]
    desk.publish()
    assert desk.hub.damages == []
    assert any(SHARD in line for line in desk.said)
    assert desk.hub.preuploaded.count(SHARD) == 2
    desk.assert_published(commits=2)


@TRANSFERS
def test_a_hub_that_always_records_other_bytes_gets_no_tag(desk):
    desk.hub.damages = [SHARD] * 9
    with pytest.raises(WorkFailed, match=SHARD):
        desk.publish()
    assert desk.hub.repo(REPO).tags == {}


@TRANSFERS
def test_a_hub_that_is_down_for_long_is_finished_later_without_sending_again(desk):
    fault = desk.fault("POST", "/commit/", "refuse", times=6)
    with pytest.raises(WorkFailed, match=r"(?s)HTTP 503.*run the same command again to continue"):
        desk.publish()
    assert fault.seen == 6
    assert desk.hub.repo(REPO).tags == {}
    before = len(desk.hub.preuploaded)
    desk.publish()
    shards = [path for path in desk.hub.preuploaded[before:] if path.endswith(".parquet")]
    assert shards == []
    desk.assert_published()


@TRANSFERS
def test_a_hub_that_lost_what_an_earlier_run_sent_is_sent_it_again(desk):
    desk.fault("POST", "/commit/", "refuse", times=6)
    with pytest.raises(WorkFailed):
        desk.publish()
    (desk.hub.objects / files.sha256_file(desk.release / SHARD)).unlink(missing_ok=True)
    if desk.hub.transfer == "xet":
        desk.hub.forget_xet()
    desk.publish()
    desk.hub.received = list(dict.fromkeys(desk.hub.received))
    desk.assert_published()


# kill -9. The server holds the request back until the client is dead: no timing, no sleep.


def kill_while_held(desk):
    """Run the command, kill it with SIGKILL when the server holds it back; what it printed."""
    process = subprocess.Popen(
        command(desk.release, "--repo", REPO),
        env={**desk.environment(), "HF_TOKEN": TOKEN},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert desk.hub.held.wait(60), process.communicate(timeout=5)[0]
    finally:
        process.kill()
        output = process.communicate()[0]
    desk.hub.release.set()
    assert process.returncode == -signal.SIGKILL
    desk.assert_no_secret(output)


@TRANSFERS
def test_killed_in_the_middle_of_the_upload(desk):
    nth = {"basic": 4, "multipart": 12, "xet": 4}[desk.hub.transfer]
    desk.fault(*UPLOAD[desk.hub.transfer], "hold", nth=nth)
    kill_while_held(desk)
    (journal,) = (desk.release.parent / ".publish").glob("0.1.0-hub-*.json")
    finished = set(files.read_json(journal)["uploaded"])
    assert 0 < len(finished) < 9

    before, again = len(desk.hub.preuploaded), []
    arrived = desk.hub.hide_blocks()
    assert bool(arrived) == (desk.hub.transfer == "xet")
    desk.fault("POST", "/commit/", lambda: again.extend(desk.hub.show_blocks()))
    desk.publish()
    assert finished.isdisjoint(desk.hub.preuploaded[before:])
    assert again == []  # blocks that were there before and were sent once more
    desk.assert_published()


@pytest.mark.parametrize(
    ("desk", "path", "do"),
    [
        ("basic", "/commit/", "hold"),
        ("basic", "/commit/", "hold after"),
        ("basic", "/tag/", "hold"),
        ("multipart", "/commit/", "hold"),
        ("multipart", "/commit/", "hold after"),
        ("multipart", "/tag/", "hold"),
        ("multipart", "/tag/", "hold after"),
        ("xet", "/commit/", "hold"),
        ("xet", "/commit/", "hold after"),
        ("xet", "/tag/", "hold"),
    ],
    indirect=["desk"],
)
def test_killed_around_the_commit_and_the_tag(desk, path, do):
    desk.fault("POST", path, do)
    kill_while_held(desk)
    before = len(desk.hub.preuploaded)
    desk.publish()
    again = [path for path in desk.hub.preuploaded[before:] if path.endswith(".parquet")]
    assert again == []
    desk.assert_published()


def test_killed_while_rows_are_counted(desk, tmp_path, monkeypatch):
    """Both processes at once, as when a machine loses power; the next run clears up after them."""
    rooms = tmp_path / "tmp"
    (rooms / "aras-load-of-somebody-else").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(rooms))
    publish = command(desk.release, "--repo", REPO)
    settings = {"env": {**desk.environment(), "HF_TOKEN": TOKEN}, "cwd": ROOT}
    desk.fault("GET", "/resolve/.*/real/train", "hold")
    process = subprocess.Popen(publish, **settings, start_new_session=True)
    try:
        assert desk.hub.held.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    desk.hub.release.set()
    assert len(list(rooms.glob(".aras-load.*"))) == 1
    subprocess.run(publish, **settings, check=True, capture_output=True)
    assert [path.name for path in rooms.iterdir()] == ["aras-load-of-somebody-else"]
    desk.assert_published()


ONE_FILE = """
import sys
import hf_xet
from huggingface_hub.utils._xet import get_xet_session
place = {"endpoint": f"local://{sys.argv[1]}", "token": "x", "token_expiry_unix_secs": 2**40}
with get_xet_session().new_upload_commit(**place) as commit:
    commit.start_upload_file(sys.argv[2], sha256=hf_xet.COMPUTE_SHA256)
"""


def test_a_killed_xet_upload_sends_no_noted_block_again(tmp_path):
    """Within one large file, as huggingface_hub sends it, under the settings that we give Xet."""
    cas, big = tmp_path / "cas", tmp_path / "big.bin"
    size = 140_000_000  # two full blocks of 64 MiB and a rest
    big.write_bytes(np.random.default_rng(5).bytes(size))
    asked = [sys.executable, "-c", ONE_FILE, str(cas), str(big)]
    settings = {**os.environ, **environment("http://127.0.0.1:9"), "HF_HOME": str(tmp_path / "hf")}

    process = subprocess.Popen(asked, env=settings)
    while process.poll() is None and not noted(cas):
        pass
    assert len(blocks(cas)) < 3  # noted when it has arrived, not when all have: kill before that
    process.kill()
    assert process.wait() == -signal.SIGKILL
    count, arrived = len(noted(cas)), blocks(cas)
    for name in arrived:
        (cas / "xet/xorbs/xorbs" / name).rename(tmp_path / name)

    subprocess.run(asked, env=settings, check=True, capture_output=True)
    sent = blocks(cas)
    kept = arrived.keys() - sent.keys()
    assert len(kept) >= count > 0
    assert sum(sent.values()) + sum(arrived[name] for name in kept) < 1.01 * size


def noted(cas):
    return list((cas / "xet/shard-session").rglob("*.mdb"))


def blocks(cas):
    paths = (cas / "xet/xorbs/xorbs").glob("default.*")
    return {path.name: path.stat().st_size for path in paths if path.suffix != ".tagset"}
