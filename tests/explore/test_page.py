"""The page in a browser, as a person uses it."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from builder.land.columns import SPLITS
from tests.makers.page import Page, page_at

LOADED = "return document.querySelectorAll('.frame img.image.there').length"


def rows_of(release: Path) -> list[dict[str, Any]]:
    files = [path for split in SPLITS for path in sorted(release.glob(f"metadata/{split}*"))]
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def test_tiles_are_shown_with_few_ranges_and_a_click_opens_their_page(page, release) -> None:
    page.open()
    rows = len(rows_of(release))
    assert f"{rows} tiles" in page.text
    page.until(f"return ({LOADED.removeprefix('return ')}) >= 12")
    shards = [path for path, asked, _ in page.asked if path.startswith("/release/") and asked]
    assert 0 < len(shards) <= 4, "neighbours are read together"
    page.click(".tile")
    page.until("return document.querySelectorAll('.stack img').length == 2")
    page.until(
        "return [...document.querySelectorAll('.stack img')].every((i) => i.naturalWidth == 64)"
    )
    assert "Composition of the mask" in page.text
    assert not page.errors


def test_the_address_holds_the_whole_state(page, release) -> None:
    page.open("#split=test&sort=-grounding&mix=100&size=96&n.grounding=0.1..1")
    expected = [
        row["id"] for row in rows_of(release)
        if row["split"] == 2
    ]  # fmt: skip
    assert 0 < page.js("return window.aras.rows.length") <= len(expected)
    values = page.js(
        "return [...window.aras.rows].map((r) => window.aras.release.numberNow('grounding')[r])"
    )
    assert values == sorted(values, reverse=True)
    page.until("return document.querySelectorAll('.frame img.mask.there').length > 0")
    page.choose("{split: ['train'], sort: ''}")
    assert "split=train" in page.js("return location.hash")
    page.driver.back()
    page.until("return window.aras.state.split[0] == 'test' && window.aras.rows.length < 90")


def test_filters_choose_what_the_rows_say(page, release) -> None:
    rows = rows_of(release)
    page.open("#kind=synthetic")
    assert page.js("return window.aras.rows.length") == sum(row["kind"] == 1 for row in rows)
    page.choose("{kind: [], n: {'share/Tree': [50, 100]}}")
    trees = [i for i, row in enumerate(rows) if row["percent"]["Tree"] >= 50]
    assert len(trees) == page.js("return window.aras.rows.length") > 0
    page.choose("{n: {}, q: 'tile water'}")
    texts = [" ".join(c["text"] for c in row["captions"]).lower() for row in rows]
    page.until("return window.aras.state.q && window.aras.key_.includes('water')")
    said = [i for i, text in enumerate(texts) if "water" in text and "tile" in text]
    assert page.js("return [...window.aras.rows]") == said != []


def test_a_histogram_is_brushed_and_typed(page) -> None:
    page.open()
    page.js("document.querySelectorAll('#panel details').forEach((d) => { d.open = true; })")
    low, *_ = page.driver.find_elements("css selector", "[aria-label='Tree, at least']")
    low.send_keys("30\n")
    page.until(
        "return window.aras.state.n['share/Tree']?.[0] === 30 && window.aras.key_.includes('Tree')"
    )
    values = page.js(
        "return [...window.aras.rows].map((r) => window.aras.release.numberNow('share/Tree')[r])"
    )
    assert min(values) >= 30
    from selenium.webdriver import ActionChains

    drawing = page.driver.find_element("css selector", ".histogram[aria-label='Water'] svg")
    drag = ActionChains(page.driver, duration=20).move_to_element_with_offset(drawing, -60, 0)
    drag.click_and_hold().move_by_offset(90, 0).release().perform()
    page.until("return window.aras.state.n['share/Water']?.length === 2")


def test_the_keyboard_reaches_everything_in_the_grid(page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open()
    page.until(LOADED)
    page.js("document.querySelector('.tile').focus()")
    page.type(Keys.ARROW_RIGHT + Keys.ARROW_DOWN)
    columns = page.js("return window.aras.grid.columns")
    assert page.js("return window.aras.grid.focus") == 1 + columns
    page.type(Keys.ENTER)
    page.until("return document.querySelector('.tile-page h2')")
    page.type(Keys.ESCAPE)
    page.until("return document.querySelector('.grid')")
    page.type("m")
    page.until("return window.aras.state.mix === 100")
    page.type("?")
    page.until("return document.querySelector('dialog[open]')")
    page.type(Keys.ESCAPE)
    page.until("return !document.querySelector('dialog[open]')")
    page.type("/")
    assert page.js("return document.activeElement.id") == "search"


def test_captions_are_shown_with_their_claims_and_their_text_stays_text(page, release) -> None:
    row = rows_of(release)[0]
    page.open(f"#tile={row['id']}")
    page.until("return document.querySelectorAll('.caption').length > 0")
    shown = page.js(
        "return [...document.querySelectorAll('.caption .text')].map((p) => p.textContent)"
    )
    assert shown == [caption["text"] for caption in row["captions"]]
    assert page.js("return document.querySelectorAll('.caption mark').length") > 0


@pytest.mark.parametrize("state", ["", "#tile={id}", "#kind=synthetic&mix=50"])
def test_nothing_is_cut_on_a_phone_and_axe_finds_nothing_serious(page, release, state) -> None:
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core is not installed").Axe
    page.open(state.format(id=rows_of(release)[0]["id"]), wide=360, high=740)
    page.until("return document.querySelector('.tile, .caption')")
    assert page.js("return document.documentElement.scrollWidth") <= 360
    for wide in (360, 1280):
        page.open(state.format(id=rows_of(release)[0]["id"]), wide=wide)
        page.until("return document.querySelector('.tile, .caption')")
        found = axe().run(page.driver)["violations"]
        grave = [v for v in found if v["impact"] in ("serious", "critical")]
        assert not grave, json.dumps([(v["id"], v["nodes"][0]["html"]) for v in grave], indent=1)


def test_troubles_are_one_clear_sentence(driver, site, release, tmp_path) -> None:
    import shutil

    from tests.loopback.files import Fault, file_server

    bare = tmp_path / "bare"
    shutil.copytree(site, bare)
    (bare / "data/explore.json").unlink()
    with page_at(driver, {"/": bare}) as page:
        assert "index of this page is missing" in page.open().trouble
    cut = tmp_path / "cut"
    shutil.copytree(release, cut)
    for shard in cut.glob("real/*.parquet"):
        shard.write_bytes(shard.read_bytes()[:50])
    with page_at(driver, {"/": site, "/release/": cut}) as page:
        page.open()
        page.until("return !document.getElementById('trouble').hidden")
        assert "cut short" in page.trouble
    with file_server() as server:
        types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
        for base, folder in (("", site), ("/release", release)):
            for path in (path for path in folder.rglob("*") if path.is_file()):
                name = f"{base}/{path.relative_to(folder).as_posix()}"
                server.put(
                    name,
                    path.read_bytes(),
                    content_type=types.get(path.suffix, "application/octet-stream"),
                )
                if base:
                    server.fault(name, always=Fault(ignore_range=True))
        page = Page(driver, f"{server.url}/index.html")
        page.open()
        page.until("return !document.getElementById('trouble').hidden")
        assert "sends whole files, not ranges" in page.trouble
