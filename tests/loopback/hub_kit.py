"""Fixtures that publish tiny releases to the loopback Hub with the real clients.

``from tests.loopback.hub_kit import desk, server`` in a test module brings them in.
"""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.core import files
from builder.publish import hub_steps
from builder.publish.hub_client import environment
from builder.publish.hub_load import Counts, LoadFailed
from builder.publish.targets import Job
from builder.release.published import publications
from tests.loopback.hub import READER, SIGNATURE, TOKEN, Fault, Hub, chunks_of_shard
from tests.makers.tiny_release import digest_tree, tiny_release

ROOT = Path(__file__).parents[2]
REPO = "org/name"
SECRETS = (TOKEN, READER, SIGNATURE)

LOADER = """
import json, sys
import datasets.config
from huggingface_hub.utils import close_session
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # it guards the exit, which here is a kill
from builder.publish.hub_load import count_rows
for line in sys.stdin:
    close_session()
    try:
        answer = {"counts": count_rows(*json.loads(line))}
    except Exception as error:
        answer = {"error": repr(error)}
    print("ANSWER " + json.dumps(answer), flush=True)
"""


DRIVER = """
import sys, types
check = types.ModuleType("builder.release.check")
check.violations = lambda release: []
sys.modules["builder.release.check"] = check
from builder.cli import cli
cli(prog_name="aras")
"""


def command(*arguments: Any) -> list[str]:
    """`aras publish hub …`, whose check finds nothing: tiny releases are not meant to pass it."""
    return [sys.executable, "-c", DRIVER, "publish", "hub", *map(str, arguments)]


def clean_environment(home: Path, url: str) -> dict[str, str]:
    """An environment whose Hub is ``url``, whose home is ``home``, and that holds no token."""
    held = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    paths = {"HOME": str(home), "HF_HOME": str(home / "hf"), "PYTHONPATH": str(ROOT)}
    return {**held, **environment(url), **paths, "OMP_NUM_THREADS": "1"}


class Loader:
    """`hub_load.count_rows` in one process for many tests: importing datasets takes seconds."""

    def __init__(self, home: Path, url: str) -> None:
        self.url = url
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOADER],
            env={**clean_environment(home, url), "HF_TOKEN": TOKEN},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, endpoint: str, token: str | None, *job: Any) -> Counts:
        assert endpoint == self.url
        assert token == TOKEN
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                answer = json.loads(line[7:])
                if "error" in answer:
                    raise LoadFailed(answer["error"])
                return answer["counts"]
        raise AssertionError("the loader ended")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One loopback Hub and one loader for the tests of a module."""
    home = tmp_path_factory.mktemp("hub-home")
    with Hub(home / "hub") as hub, pytest.MonkeyPatch.context() as patch:
        # Where the Xet client of this process keeps its cache and logs.
        patch.setenv("HF_HOME", str(home / "hf"))
        patch.setenv("HF_XET_CACHE", str(home / "xet"))
        loader = Loader(home, hub.url)
        yield SimpleNamespace(hub=hub, loader=loader)
        loader.close()


class Desk:
    """A release, a Hub, and what publishing said."""

    def __init__(self, hub: Hub, loader: Loader, folder: Path) -> None:
        self.hub, self.loader, self.folder = hub, loader, folder
        self.release = tiny_release(folder / "release")
        manifest = files.read_json(self.release / "manifest.json")
        files.write_json(self.release / "manifest.json", {**manifest, "endpoint": hub.url})
        self.packaged = digest_tree(self.release)
        self.said: list[str] = []
        self.violations: list[str] = []

    def publish(self, release: Path | None = None, **options: Any) -> dict[str, Any]:
        job = Job(
            release or self.release,
            options.pop("dry_run", False),
            self.said.append,
            options.pop("check", lambda release: self.violations),
            options.pop("render", lambda release, **names: pytest.fail(f"cards anew for {names}")),
        )
        options = {
            "repo": REPO,
            "endpoint": self.hub.url,
            "token": TOKEN,
            "base": 0.001,
            "count": self.loader,
            **options,
        }
        return hub_steps.publish(job, **options).as_json()

    def environment(self) -> dict[str, str]:
        """For a process of its own that publishes to, or loads from, this Hub; no token in it."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        disabled = "0" if self.hub.transfer == "xet" else "1"
        return {**clean_environment(home, self.hub.url), "HF_HUB_DISABLE_XET": disabled}

    def fault(self, method: str, path: str, do: Any, **options: Any) -> Fault:
        fault = Fault(method, path, do, **options)
        self.hub.faults.append(fault)
        return fault

    def assert_published(self, commits: int = 1, release: Path | None = None) -> None:
        """Exactly one version, every byte right, nothing sent twice, the release untouched; and it
        loads as a plain user loads it."""
        release = release or self.release
        repo = self.hub.repo(REPO)
        head = repo.resolve("main")
        assert repo.tags == {release.name: head}
        paths = {p.relative_to(release).as_posix(): p for p in release.rglob("*") if p.is_file()}
        assert set(repo.files(head)) == {*paths, ".gitattributes"}
        for path, local in paths.items():
            assert self.hub.content(repo.files(head)[path]) == local.read_bytes(), path
        titles = Counter(commit.title for commit in repo.history())
        assert titles[f"Release {release.name}"] == commits
        assert self.sent_twice() == []
        assert digest_tree(self.release) == self.packaged
        (entry,) = publications(release)
        assert (entry.repo, entry.commit, entry.tag) == (REPO, head, release.name)
        splits = files.read_json(release / "manifest.json")["configs"]["real"]
        loaded = self.loader(self.hub.url, TOKEN, REPO, None, ["real"])  # no revision, as most load
        assert loaded["real"] == {name: split["rows"] for name, split in splits.items()}

    def sent_twice(self) -> list[str]:
        """LFS objects that arrived more than once; over Xet, chunks that lie in two blocks."""
        times = Counter(oid for oid, _ in self.hub.received)
        shards = (self.hub.cas / "xet/xorbs/shards").glob("*.mdb")
        chunks = {pair for shard in shards for pair in chunks_of_shard(shard.read_bytes())}
        assert bool(chunks) == (self.hub.transfer == "xet")
        times.update(chunk for _, chunk in chunks)
        return [name for name, count in times.items() if count > 1]

    def assert_no_secret(self, *texts: str) -> None:
        """No secret in what was said, in ``texts``, or in any file this run may have written."""
        for text in (*self.said, *texts):
            assert not any(secret in text for secret in SECRETS)
        for path in self.folder.rglob("*"):
            if path.is_file() and "objects" not in path.parts:
                data = path.read_bytes()
                assert not any(secret.encode() in data for secret in SECRETS), path


@pytest.fixture
def desk(request, server, tmp_path, monkeypatch, capfd, caplog):
    """A fresh Hub and release; ``parametrize("desk", [transfer], indirect=True)`` names a transfer.

    Any connection off this machine fails the test; the clients' waits between their own attempts
    are cut to nothing; after the test, no output and no file may hold a token.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, close_session, disable_progress_bars

    transfer = getattr(request, "param", "basic")
    server.hub.reset(tmp_path / "hub", transfer)
    close_session()
    disable_progress_bars()
    monkeypatch.setattr(constants, "ENDPOINT", server.hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", transfer != "xet")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    connect = socket.socket.connect
    strays = []

    def only_loopback(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
        ):
            strays.append(address)
            raise OSError(f"{address} is not on this machine")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)
    desk = Desk(server.hub, server.loader, tmp_path)
    yield desk
    assert strays == []
    captured = capfd.readouterr()
    desk.assert_no_secret(captured.out, captured.err, caplog.text)
