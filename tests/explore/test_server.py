"""The server of the page on loopback, and the commands that write and serve it."""

import json
import shutil
import threading
from html import unescape
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests
from click.testing import CliRunner

from builder.cli import cli
from builder.core.files import read_json, write_json
from builder.explore.cache import cached
from builder.explore.details import Clusters, Details
from builder.explore.server import serving
from builder.explore.writer import open_page_source, policy, write_site
from builder.land.columns import DERIVED
from tests.loopback.files import file_server
from tests.makers.page import page_at


def test_files_are_served_whole_and_by_range_and_nothing_beside_them(tmp_path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page/index.html").write_text("<p>page</p>")
    (tmp_path / "page/out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "release").mkdir()
    (tmp_path / "release/a.bin").write_bytes(bytes(range(100)))
    folders = {"/": tmp_path / "page", "/release/": tmp_path / "release"}
    with serving(folders) as (address, server):
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

        def get(path: str, **headers: str) -> requests.Response:
            request = requests.Request("GET", address, headers=headers).prepare()
            request.url = address + path  # as it is, dots and all
            with requests.Session() as session:
                return session.send(request)

        assert get("").text == "<p>page</p>"
        part = get("release/a.bin", Range="bytes=10-19")
        assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
        assert part.headers["Content-Range"] == "bytes 10-19/100"
        assert get("release/a.bin", Range="bytes=100-").status_code == 416
        for path in ("../secret", "release/../../secret", "%2e%2e/secret", "out", "no", "release/"):
            assert get(path).status_code == 404, path
        assert get("", Host="elsewhere.example").status_code == 421
        server.shutdown()


def test_the_policy_allows_own_scripts_and_the_source_alone() -> None:
    parts = dict(part.split(" ", 1) for part in policy(["release/"]).split("; "))
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert parts["default-src"] == "'none'"
    hub = policy(["https://huggingface.co/datasets/a/b/resolve/1/"])
    assert "https://*.hf.co" in hub
    assert "unsafe" not in hub


def test_a_page_written_beside_the_shards_reaches_them(release, tmp_path) -> None:
    shutil.copytree(release, tmp_path / "0.1.0")
    done = CliRunner().invoke(
        cli, ["-C", str(tmp_path), "explore", "0.1.0", "--out", "0.1.0/explore", "--json"]
    )
    assert done.exit_code == 0, done.output
    out = tmp_path / "0.1.0/explore"
    assert json.loads(done.output)["rows"] == read_json(out / "data/explore.json")["rows"]
    assert read_json(out / "data/explore.json")["base"] == "../"
    for name in ("js/main.js", "style.css", "coast.json", "LICENSES.txt"):
        assert (out / name).is_file(), name
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    done = CliRunner().invoke(cli, ["-C", str(tmp_path), "explore", "0.1.0", "--out", "mine"])
    assert done.exit_code == 2
    assert "not a page of aras explore; not changed" in done.output


def test_a_source_must_hold_the_same_release(release, tmp_path) -> None:
    with file_server() as server:
        for path in (path for path in release.rglob("*") if path.is_file()):
            server.put(f"/r/{path.relative_to(release).as_posix()}", path.read_bytes())
        arguments = ["explore", str(release), "--out", str(tmp_path / "page"), "--source"]
        done = CliRunner().invoke(cli, [*arguments, f"{server.url}/r"])
        assert done.exit_code == 0, done.output
        assert read_json(tmp_path / "page/data/explore.json")["base"] == f"{server.url}/r/"
        assert server.url in unescape((tmp_path / "page/index.html").read_text())
        manifest = read_json(release / "manifest.json")
        other = json.dumps({**manifest, "content_sha256": "0" * 64}).encode()
        server.put("/r/manifest.json", other)
        done = CliRunner().invoke(cli, [*arguments, f"{server.url}/r"])
        assert done.exit_code == 2
        assert "holds another release" in done.output


def test_a_served_page_is_written_once(release, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = open_page_source(str(release))
    first, folders = cached(opened, None, None, "release/0.1.0")
    again, _ = cached(opened, None, None, "release/0.1.0")
    assert (first.is_new, again.is_new) == (True, False)
    assert first.folder == again.folder == folders["/"]
    assert folders["/release/"] == release
    assert read_json(first.folder / "data/explore.json")["address"] == "release/0.1.0"


HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>window.broken=1</script>"


@pytest.fixture(scope="module")
def hostile(release, tmp_path_factory) -> Path:
    """A release whose ids, captions and title hold markup."""
    out = tmp_path_factory.mktemp("hostile") / "release"
    shutil.copytree(release, out)
    manifest = read_json(out / "manifest.json")
    manifest["title"] = HOSTILE
    for part in manifest["configs"]["metadata"].values():
        path = out / part["files"][0]
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            row["id"] = f"{row['id']} {HOSTILE}"
            for caption in row["captions"]:
                caption["text"] = f"{HOSTILE} {caption['text']} {HOSTILE}"
        pq.write_table(type(table).from_pylist(rows, table.schema), path)
        for file in manifest["files"]:
            if file["path"] == part["files"][0]:
                file["bytes"] = path.stat().st_size
    write_json(out / "manifest.json", manifest)
    return out


def test_texts_of_others_never_become_markup(driver, hostile, tmp_path) -> None:
    write_site(open_page_source(str(hostile)), tmp_path / "page", base="release/")
    with page_at(driver, {"/": tmp_path / "page", "/release/": hostile}) as page:
        for view in ("tiles", "map", "review"):
            page.open(f"#view={view}")
            page.until("return document.querySelector('.tile, canvas, .review-card .text')")
            assert HOSTILE in page.js("return document.title")
        page.open()
        page.click(".tile")
        page.until("return document.querySelector('.caption')")
        text = page.js("return document.querySelector('.caption .text').textContent")
        assert text.count(HOSTILE) == 2
        page.click("#tools button", "Take along")
        page.until("return document.querySelector('dialog[open]')")
        assert page.js("return document.querySelectorAll('[onerror], body script').length") == 0
        assert not page.js("return window.broken")
        assert not page.errors


def test_a_tile_says_when_it_was_taken_where_its_row_says_it(release) -> None:
    part = read_json(release / "manifest.json")["configs"]["metadata"]["test"]
    rows = pq.read_table(release / part["files"][0]).slice(0, 1)
    details = Details({}, Clusters())
    assert details.of(0, rows)[0]["facts"]["taken"] == "2021"
    for older in ("end_datetime", "start_datetime"):
        rows = rows.drop_columns([older])
        assert "taken" not in details.of(0, rows)[0]["facts"]


def test_a_release_without_places_is_shown_without_pictures(driver, release, tmp_path) -> None:
    older = tmp_path / "older"
    shutil.copytree(release, older)
    manifest = read_json(older / "manifest.json")
    for part in manifest["configs"]["metadata"].values():
        path = older / part["files"][0]
        pq.write_table(pq.read_table(path).drop_columns(list(DERIVED)), path)
        for file in manifest["files"]:
            if file["path"] == part["files"][0]:
                file["bytes"] = path.stat().st_size
    write_json(older / "manifest.json", manifest)
    write_site(open_page_source(str(older)), tmp_path / "page", base="release/")
    with page_at(driver, {"/": tmp_path / "page", "/release/": older}) as page:
        page.open()
        assert "made by an older aras and does not say where its pictures lie" in page.trouble
        page.until("return document.querySelector('.tile.broken')")
        page.click(".tile")
        page.until("return document.querySelector('.caption mark')")
