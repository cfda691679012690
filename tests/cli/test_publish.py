"""``aras publish hub`` as it is typed, and what a plain user then loads."""

# ruff: noqa: F811 - a fixture is imported and then named as an argument

import hashlib
import io
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from PIL import Image

from builder.core import files
from tests.loopback.hub import TOKEN
from tests.loopback.hub_kit import REPO, ROOT, command, desk, server  # noqa: F401

PLAIN_USER = """
import hashlib, json, socket
hosts, connect = set(), socket.socket.connect
def watched(self, address):
    if self.family != socket.AF_UNIX:
        hosts.add(address[0])
    return connect(self, address)
socket.socket.connect = watched
from datasets import load_dataset
rows = [
    [row["id"], hashlib.sha256(row["image"].tobytes()).hexdigest(), row["captions"][0]["text"]]
    for row in load_dataset("org/name", "real", split="train", streaming=True)
]
print(json.dumps({"rows": rows, "hosts": sorted(hosts)}))
import os, sys
sys.stdout.flush()
os._exit(0)
"""


def run(desk, *arguments, token=TOKEN, **environment):
    secret = {"HF_TOKEN": token} if token else {}
    done = subprocess.run(
        command(*arguments),
        env={**desk.environment(), **secret, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    desk.assert_no_secret(done.stdout, done.stderr)
    return done


def packaged_rows(release):
    listed = files.read_json(release / "manifest.json")["configs"]["real"]["train"]["files"]
    for row in (row for name in listed for row in pq.read_table(release / name).to_pylist()):
        pixels = Image.open(io.BytesIO(row["image"]["bytes"])).tobytes()
        yield [row["id"], hashlib.sha256(pixels).hexdigest(), row["captions"][0]["text"]]


@pytest.mark.parametrize("desk", ["xet"], indirect=True)
def test_published_as_typed_and_loaded_by_a_plain_user(desk):
    done = run(desk, desk.release, "--repo", REPO, "--json", HF_DATASETS_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    desk.assert_published()
    result = json.loads(done.stdout)
    assert result["status"] == "published"
    assert result["commit"] == desk.hub.repo(REPO).tags["0.1.0"]
    assert "loading real, synthetic, augmented, metadata as a user would" in done.stderr

    done = subprocess.run(
        [sys.executable, "-c", PLAIN_USER],
        env=desk.environment(),
        cwd=desk.folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["rows"] == list(packaged_rows(desk.release))
    assert seen["hosts"] == ["127.0.0.1"]


def test_a_dry_run_prints_what_would_be_sent(desk):
    done = run(desk, desk.release, "--repo", REPO, "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    size = (desk.release / "real/train-00000-of-00002.parquet").stat().st_size
    assert f"add      {size:>15,}  real/train-00000-of-00002.parquet\n" in done.stdout
    assert "19 to add, 0 to replace, 0 to remove, 0 to keep; " in done.stdout
    assert desk.hub.writes() == []


def test_the_token_of_a_login_is_found_and_no_token_is_told(desk, tmp_path_factory):
    done = run(desk, desk.release, "--repo", REPO, token=None)
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert done.stdout == ""
    assert desk.hub.log == []

    login = tmp_path_factory.mktemp("login") / "token"
    login.write_text(TOKEN)
    desk.fault("GET", "/whoami-v2", "refuse", status=403)
    done = run(desk, desk.release, "--repo", REPO, token=None, HF_TOKEN_PATH=str(login))
    assert done.returncode == 2
    assert "use a token with write access" in done.stderr
    assert desk.hub.log[0][:2] == ("GET", "/api/whoami-v2")


def test_a_hub_that_does_not_work_ends_with_exit_code_1(desk):
    wait = {"Retry-After": "0"}
    desk.fault("PUT", "/lfs/", "refuse", headers=wait)
    desk.fault("POST", "/commit/", "refuse", times=99, headers=wait)
    done = run(desk, desk.release, "--repo", REPO)
    assert done.returncode == 1
    assert "run the same command again to continue" in done.stderr
    assert "X-Amz-Signature=[redacted]" in done.stderr  # what the client logs of its own attempts
    assert "Traceback" not in done.stderr
    assert desk.hub.repo(REPO).tags == {}
