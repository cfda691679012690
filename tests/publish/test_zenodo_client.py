"""Calls to Zenodo, and that the loopback one speaks to zenodo-client as it comes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pystow.config_api
import pytest
import zenodo_client

from builder.publish.release import File
from builder.publish.zenodo_client import Client, TokenRefused
from tests.loopback.zenodo import LoopbackZenodo
from tests.makers.zenodo_release import METADATA

TOKEN = "a-secret-Token-6f1c"


@pytest.fixture
def zenodo() -> Iterator[LoopbackZenodo]:
    with LoopbackZenodo(TOKEN) as server:
        yield server


@pytest.fixture(autouse=True)
def nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("ZENODO_API_TOKEN", "ZENODO_SANDBOX_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYSTOW_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PYSTOW_CONFIG_HOME", str(tmp_path / "config"))
    pystow.config_api._get_cfp.cache_clear()
    yield
    pystow.config_api._get_cfp.cache_clear()


def client(zenodo: LoopbackZenodo) -> Client:
    return Client(zenodo.url, token=TOKEN, first_wait=0.001)


def file_of(name: str, content: bytes) -> File:
    md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    return File(name, len(content), sha256, md5, content)


@pytest.mark.parametrize(
    ("production", "variable"), [(True, "ZENODO_API_TOKEN"), (False, "ZENODO_SANDBOX_API_TOKEN")]
)
def test_the_token_of_the_right_server_is_used(
    zenodo: LoopbackZenodo, production: bool, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TokenRefused, match=f"set {variable}"):
        Client(zenodo.url, production=production)
    monkeypatch.setenv(variable, f"{TOKEN}\n")
    Client(zenodo.url, production=production).find("x")
    assert zenodo.log[-1].status == 200


def test_the_token_of_zenodo_clients_own_file_is_used(
    zenodo: LoopbackZenodo, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/zenodo.ini").write_text(f"[zenodo:sandbox]\napi_token = {TOKEN}\n")
    Client(zenodo.url).find("x")
    assert zenodo.log[-1].status == 200


@pytest.mark.parametrize("token", ["", "  ", "two words", "tok\nen", "tøken"])
def test_what_cannot_be_a_token_is_refused_unshown(zenodo: LoopbackZenodo, token: str) -> None:
    with pytest.raises(TokenRefused, match="does not hold a token") as caught:
        Client(zenodo.url, token=token)
    assert not token.strip() or token not in str(caught.value)


def test_nothing_inherited_can_put_the_token_into_an_address(zenodo: LoopbackZenodo) -> None:
    api = client(zenodo)
    draft = api.create({"title": "x"})
    with pytest.raises(Exception, match="403"):
        api.update(draft, [])
    assert api.discard is not None
    assert not any("access_token" in request.target for request in zenodo.log)
    assert TOKEN not in repr(vars(api))


def test_inherited_actions_go_through_our_header(zenodo: LoopbackZenodo) -> None:
    api = client(zenodo)
    draft = api.create(METADATA)
    bucket = api.deposition(draft).bucket
    api.put_file(draft, bucket, file_of("a.txt", b"a"), lambda count: None)
    assert api.publish(draft, sleep=False)["submitted"]
    assert zenodo.log[-1].target == f"/api/deposit/depositions/{draft}/actions/publish"


def test_a_file_name_is_quoted(zenodo: LoopbackZenodo) -> None:
    api = client(zenodo)
    draft = api.create({"title": "x"})
    bucket = api.deposition(draft).bucket
    name = "100% of #1 é?.png"
    api.put_file(draft, bucket, file_of(name, b"png"), lambda count: None)
    assert api.files(draft)[name].holds(file_of(name, b"png"))


def test_a_bucket_on_another_host_gets_no_token(zenodo: LoopbackZenodo) -> None:
    api = client(zenodo)
    draft = api.create({"title": "x"})
    with LoopbackZenodo("other") as other:
        bucket = f"{other.url}/api/files/bucket-{draft}"
        api.put_file(draft, bucket, file_of("a", b"a"), lambda count: None)
        assert other.log == []
    assert "a" in api.files(draft)


def test_the_doi_is_the_reserved_one_not_the_one_shown_before(zenodo: LoopbackZenodo) -> None:
    api = client(zenodo)
    draft = api.create({"title": "x"})
    shown = zenodo.shown(zenodo.deposits[int(draft)])["metadata"]["prereserve_doi"]["doi"]
    assert api.deposition(draft).doi == ""
    assert api.reserve_doi(draft) == api.reserve_doi(draft) == f"10.5072/zenodo.{draft}"
    assert shown != api.reserve_doi(draft)
    assert zenodo.counted("POST", "pids/doi") == 1


def test_the_next_versions_draft_is_one_however_often_it_is_asked_for(
    zenodo: LoopbackZenodo,
) -> None:
    api = client(zenodo)
    old = zenodo.new(METADATA)
    old.files["a"] = ("file-1", b"a")
    zenodo.publish(old)
    draft = api.draft_of_next_version(str(old.id))
    assert api.draft_of_next_version(str(old.id)) == draft
    assert api.files(draft) == {}
    assert api.import_files(draft)
    assert not api.import_files(draft), "Zenodo imports into an empty draft only"
    assert api.files(draft)["a"].md5 == hashlib.md5(b"a").hexdigest()


def test_the_loopback_serves_zenodo_client_as_it_comes(
    zenodo: LoopbackZenodo, tmp_path: Path
) -> None:
    stock = zenodo_client.Zenodo(access_token=TOKEN, sandbox=True)
    stock.base, stock.api_base = zenodo.url, f"{zenodo.url}/api"
    stock.depositions_base = f"{stock.api_base}/deposit/depositions"
    path = tmp_path / "shard.parquet"
    path.write_bytes(b"PAR1 not really")
    first = stock.create({"metadata": {**METADATA, "version": "1"}}, [path]).json()
    assert first["submitted"]
    assert stock.download(first["id"], "shard.parquet").read_bytes() == path.read_bytes()
    assert stock.get_latest_record(first["id"]) == str(first["id"])
    # Why aras sends the token in a header: here it stands in every address.
    assert any(TOKEN in request.target for request in zenodo.log)
