"""Whatever talks to a server ends with a line, and in time, when that server trickles."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import huggingface_hub
import pytest
import requests
from huggingface_hub.utils import _http, close_session, get_session

from builder.captions.ask import Ask
from builder.captions.base import Running
from builder.captions.server import Server
from builder.core import budgets, hub_session
from builder.core.errors import ArasError, RunEnded
from builder.core.web import is_transient, new_session
from builder.fetch import catalogue, download
from builder.models import weights
from builder.parts import sources
from builder.publish import zenodo_client
from builder.publish.hub_client import HubRepo
from tests.loopback.trickle import trickling
from tests.makers.caption_requests import request

NETWORK = sys.modules[type(get_session()).__module__.partition(".")[0]].TransportError
"""What the library of the Hub raises where a connection fails."""

BASE = 0.001
"""First wait between attempts."""


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (0.1, 0.1)
    monkeypatch.setattr(budgets, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(budgets, "CALL_SECONDS", 1.0)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    for module in (catalogue, download, sources, zenodo_client):
        monkeypatch.setattr(module, "TIMEOUT", limits)


def hub(url: str) -> HubRepo:
    return HubRepo(url.rstrip("/"), "org/name", "hf_secret0123", base=BASE)


def zenodo(url: str) -> zenodo_client.Client:
    return zenodo_client.Client(url, token="secret", first_wait=BASE)


def commit(url: str) -> None:
    hub(url).call("committing", lambda: hub(url).commit([], ["x"], title="t", parent=None, ref="m"))


def fetch(url: str, folder: Path) -> None:
    line = download.Line(new_session(), lambda n: None, lambda text: None, Event(), BASE)
    try:
        download.download(download.Remote("a.zip", f"{url}a.zip"), folder / "a.zip", line)
    except requests.RequestException as error:
        raise ArasError(str(error)) from error  # as the command says it


CALLS: dict[str, Callable[[str, Path], object]] = {
    "the Hub's token": lambda url, folder: hub(url).check_token(),
    "the Hub's head": lambda url, folder: hub(url).sha(),
    "the Hub's files": lambda url, folder: hub(url).tree("main"),
    "a commit": lambda url, folder: commit(url),
    "a tag": lambda url, folder: hub(url).tag("0.1.0", "abc"),
    "a release on the Hub": lambda url, folder: sources.open_source(
        "hf://datasets/org/name@0.1.0", BASE
    ),
    "a release on a server": lambda url, folder: sources.open_source(url, BASE).whole("x"),
    "Zenodo's token": lambda url, folder: zenodo(url).check_token(),
    "a draft": lambda url, folder: zenodo(url).create({}),
    "its metadata": lambda url, folder: zenodo(url).put_metadata("1", {}),
    "a record's files": lambda url, folder: catalogue.official(
        new_session(), base_url=url, backoff=BASE
    ),
    "a download": fetch,
}


UNREAD = {"a tag", "a download", "a release on a server"}
"""Calls that do not read their answer as JSON."""


@pytest.mark.parametrize("how", ["head", "body"])
@pytest.mark.parametrize("what", CALLS)
def test_a_call_ends_with_a_line(
    what: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    with trickling(how, size=100_000) as url:
        monkeypatch.setenv("HF_ENDPOINT", url.rstrip("/"))
        with pytest.raises(ArasError) as caught:
            CALLS[what](url, tmp_path)
    assert time.monotonic() - started < 30  # the whole answer would take more than half an hour
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2  # what went wrong, and the way out


@pytest.mark.parametrize("what", sorted(CALLS.keys() - UNREAD))
def test_json_that_is_nested_too_deeply_is_a_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "ANSWER_SECONDS", 30)
    with trickling(body=b"[" * 20_000, pause=0) as url:
        monkeypatch.setenv("HF_ENDPOINT", url.rstrip("/"))
        with pytest.raises(ArasError) as caught:
            CALLS[what](url, tmp_path)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("how", ["head", "body", "deaf"])
def test_a_caption_server_that_trickles_ends_the_run(how: str) -> None:
    with trickling(how) as url:
        running = Running(base_url=url.rstrip("/"), timeout=0.1, retries=1, concurrency=1)
        server = Server(Ask("tiny", "Describe it.", ("image",)), running)
        with pytest.raises(RunEnded, match="is the server running"):
            server.caption([request()])


def test_a_model_is_sought_in_the_cache_when_the_hub_trickles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "SECONDS", 0.1)
    with trickling("head") as url:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        assert not weights.hub_answers()


class TestHubSession:
    """What the library itself does with the session that it is given."""

    @pytest.fixture(autouse=True)
    def bounded(self) -> None:
        hub_session.bound()

    @pytest.mark.parametrize("how", ["head", "body", "deaf"])
    def test_fewer_bytes_than_the_least_end_in_an_error_that_is_tried_again(self, how: str) -> None:
        with trickling(how, size=100_000) as url, pytest.raises(NETWORK) as caught:
            get_session().get(url)
        assert is_transient(caught.value)

    def test_an_upload_that_nobody_reads_ends(self) -> None:
        with trickling("deaf") as url, pytest.raises(NETWORK) as caught:
            get_session().put(url, content=bytes(50 << 20))
        assert is_transient(caught.value)

    def test_a_call_has_a_total_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten bytes in each tenth of a second would be enough, for ever."""
        monkeypatch.setattr(budgets, "LEAST_BYTES", 1)
        with (
            trickling("body", size=100_000) as url,
            pytest.raises(NETWORK, match="no answer in time") as caught,
            hub_session.within(0.5),
        ):
            get_session().get(url)
        assert is_transient(caught.value)

    def test_bounds_outlive_the_session_that_the_library_closes(self) -> None:
        close_session()
        with trickling("body", size=100_000) as url, pytest.raises(NETWORK) as caught:
            get_session().get(url)
        assert is_transient(caught.value)

    def test_an_answer_that_comes_is_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(budgets, "ANSWER_SECONDS", 30)
        with trickling("body", body=b"twenty bytes of text") as url:
            for _ in range(2):  # the second request goes over the same session
                assert get_session().get(url).text == "twenty bytes of text"
