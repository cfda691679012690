"""The HTTP under Zenodo: where the token may go, and what is told when a call fails."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from builder.core.errors import ArasError, CorruptFile
from builder.publish.zenodo_client import Body, Http, TokenRefused, ZenodoError, checked_url
from tests.loopback.zenodo import Fault, LoopbackZenodo

TOKEN = "a-secret/Token+6f1c"


@pytest.fixture
def zenodo() -> Iterator[LoopbackZenodo]:
    with LoopbackZenodo(TOKEN) as server:
        yield server


def http(zenodo: LoopbackZenodo, said: list[str] | None = None, token: str = TOKEN) -> Http:
    heard = [] if said is None else said
    return Http(zenodo.url, token, "ZENODO_SANDBOX_API_TOKEN", heard.append, 0.001)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://sandbox.zenodo.org/", "https://sandbox.zenodo.org"),
        ("https://rdm.example.org/api/", "https://rdm.example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
    ],
)
def test_https_and_loopback_are_taken(url: str, base: str) -> None:
    assert checked_url(url, production=False) == base


@pytest.mark.parametrize(
    ("url", "production", "said"),
    [
        ("http://zenodo.example.org", False, "plain http"),
        ("http://127.0.0.1.example.org", False, "plain http"),
        ("http://10.0.0.1", True, "plain http"),
        ("ftp://zenodo.example.org", False, "expected https"),
        ("zenodo.example.org", False, "expected https"),
        ("https://zenodo.example.org?access_token=x", False, "must not hold"),
        ("https://zenodo.org", False, "add --production"),
        ("https://sandbox.zenodo.org", True, "leave out --production"),
    ],
)
def test_other_addresses_are_refused(url: str, production: bool, said: str) -> None:
    with pytest.raises(ArasError, match=said):
        checked_url(url, production=production)


def test_the_token_is_in_a_header_and_never_in_the_address(zenodo: LoopbackZenodo) -> None:
    http(zenodo).call("GET", f"{zenodo.url}/api/deposit/depositions")
    assert [request.target for request in zenodo.log] == ["/api/deposit/depositions"]


def test_a_netrc_does_not_take_the_tokens_place(
    zenodo: LoopbackZenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    http(zenodo).call("GET", f"{zenodo.url}/api/deposit/depositions")
    assert zenodo.log[-1].status == 200


def test_a_refused_token_is_named_by_its_variable_only(zenodo: LoopbackZenodo) -> None:
    with pytest.raises(TokenRefused) as caught:
        http(zenodo, token="wrong-Token").call("GET", f"{zenodo.url}/api/deposit/depositions")
    assert "ZENODO_SANDBOX_API_TOKEN" in str(caught.value)
    assert "deposit:write" in str(caught.value)
    assert "wrong-Token" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert len(zenodo.log) == 1, "a refusal is not tried again"


@pytest.mark.parametrize("written", [TOKEN, requests.utils.quote(TOKEN)])
def test_a_token_that_the_server_repeats_is_blotted_out(
    zenodo: LoopbackZenodo, written: str
) -> None:
    said: list[str] = []
    # The server names the address that it does not know.
    with pytest.raises(ZenodoError) as caught:
        http(zenodo, said).call("GET", f"{zenodo.url}/api/echo/{written}")
    assert "[redacted]" in str(caught.value)
    assert written not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "reason"), [("502", "502 Bad Gateway"), ("429", "429 6 per 1 minute")]
)
def test_a_retry_is_announced_and_waits_for_throttling_answers_only(
    zenodo: LoopbackZenodo, status: str, reason: str
) -> None:
    # The loopback's 502 says Retry-After: 3600, as Zenodo's good answers do; its 429 says 0.
    said: list[str] = []
    zenodo.faults = [Fault("GET", "depositions", status)]
    http(zenodo, said).call("GET", f"{zenodo.url}/api/deposit/depositions")
    assert said == [f"GET /api/deposit/depositions: {reason}; again at once"]


def test_an_unreachable_server_is_told_with_its_address(zenodo: LoopbackZenodo) -> None:
    with pytest.raises(ZenodoError, match="ConnectionError") as caught:
        http(zenodo).call("GET", "http://127.0.0.1:9/api", again=lambda error: False)
    assert caught.value.ambiguous


def test_a_concepts_address_leads_to_its_latest_version(zenodo: LoopbackZenodo) -> None:
    deposit = zenodo.new({"title": "x"})
    deposit.submitted, deposit.doi = True, "10.5072/zenodo.1"
    assert (
        http(zenodo).call("GET", f"{zenodo.url}/api/records/{deposit.concept}")["id"] == deposit.id
    )


def test_a_body_never_exceeds_the_length_it_announced() -> None:
    sent: list[int] = []
    body = Body(io.BytesIO(b"0123456789"), 8, sent.append)
    assert len(body) == 8
    assert b"".join(iter(lambda: body.read(3), b"")) == b"01234567"
    assert sum(sent) == body.sent == 8


def test_a_file_that_shrinks_while_it_is_sent_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(b"short")
    with path.open("rb") as stream, pytest.raises(CorruptFile, match="shard: ends after 5 of 9"):
        list(Body(stream, 9, lambda count: None))
