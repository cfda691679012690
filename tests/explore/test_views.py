"""The other views: map, retrieval, versions, review, and what is taken along."""

import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.files import read_json, write_json
from builder.core.manifest import describe_files
from builder.explore.review import read_files, read_review
from builder.explore.writer import open_page_source, write_site
from builder.land.columns import arrow_schema, names_of
from builder.parts.get import get
from builder.parts.opened import OpenRelease, Request
from builder.parts.sources import open_source
from builder.tiles import subsets
from tests.explore.test_page import rows_of
from tests.makers.page import page_at


def test_footprints_are_drawn_and_an_area_chosen_on_the_map_chooses_tiles(page, release) -> None:
    rows = [row for row in rows_of(release) if row["longitude"] is not None]
    page.open("#view=map")
    page.until("return window.aras.views.map.at && true")
    assert f"{len(rows)} tiles with a place" in page.text
    colours = page.js(
        "const c = document.querySelector('canvas'), seen = new Set();"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "for (let i = 0; i < d.length; i += 4) seen.add(`${d[i]},${d[i+1]},${d[i+2]}`);"
        "return seen.size"
    )
    assert colours > 4, "land, and a colour per split"
    from selenium.webdriver import ActionChains

    page.click("button", "Choose an area")
    canvas = page.driver.find_element("css selector", "canvas")
    drag = ActionChains(page.driver, duration=20).move_to_element_with_offset(canvas, -250, -180)
    drag.click_and_hold().move_by_offset(250, 180).release().perform()
    west, south, east, north = page.until("return window.aras.state.box")
    inside = [
        i
        for i, row in enumerate(rows_of(release))
        if row["longitude"] is not None
        and west <= np.float32(row["longitude"]) <= east
        and south <= np.float32(row["latitude"]) <= north
    ]
    page.until("return window.aras.key_.includes(String(window.aras.state.box[0]))")
    assert page.js("return [...window.aras.rows]") == inside != []
    page.click("button", "See in the grid")
    page.until("return document.querySelector('.tile')")


@pytest.mark.parametrize("wide", [360, 1280])
@pytest.mark.parametrize("view", ["map", "versions", "review"])
def test_every_view_fits_and_axe_finds_nothing_serious(page, view, wide) -> None:
    axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core is not installed").Axe
    page.open(f"#view={view}", wide=wide, high=740)
    assert page.js("return document.documentElement.scrollWidth") <= wide
    found = axe().run(page.driver)["violations"]
    grave = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not grave, json.dumps([(v["id"], v["nodes"][0]["html"]) for v in grave], indent=1)
    assert not page.errors


STATES = [
    {"kind": ["synthetic"]},
    {"split": ["test"], "dominant": ["Tree", "Grass"]},
    {"n": {"grounding": [0.5, 0.97], "share/Tree": [10, 90]}},
    {"n": {"grounding/full": [0.2, 0.99]}, "q": "tile wat"},
    {"flags": ["duplicate", "near duplicate", "copy"]},
]


@pytest.mark.parametrize("change", STATES, ids=lambda change: "+".join(change))
def test_the_command_chooses_the_rows_that_are_shown(page, release, change) -> None:
    page.open()
    page.choose(json.dumps(change))
    script = (
        "import('/js/take.js').then((m) => done(m.command(window.aras.release, window.aras.state)))"
    )
    line = page.driver.execute_async_script(f"const done = arguments[0]; {script}")
    words = shlex.split(line)
    options = dict(zip(words[4::2], words[5::2], strict=True))
    request = Request(
        where=options.get("--where", ""),
        splits=tuple(v for n, v in itertools.pairwise(words) if n == "--split"),
        configs=tuple(v for n, v in itertools.pairwise(words) if n == "--config"),
    )
    opened = OpenRelease(open_source(str(release)))
    chosen = [len(part.rows) for part in opened.choose(request)]
    assert sum(chosen) == page.js("return window.aras.rows.length")


def test_a_subset_file_has_the_digest_that_named_subsets_have(page, release, tmp_path) -> None:
    page.open("#split=test")
    call = "m.subset(window.aras.release, window.aras.rows)"
    script = f"import('/js/take.js').then((m) => {call}).then(done)"
    made = page.driver.execute_async_script(f"const done = arguments[0]; {script}")
    (tmp_path / "s.csv").write_text(made["text"])
    chosen = subsets.read(tmp_path / "s.csv")
    assert chosen == {row["id"]: "test" for row in rows_of(release) if row["split"] == 2}
    assert made["digest"] == subsets.digest(chosen.items())
    page.click("#tools button", "Take along")
    assert page.until("return document.querySelector('dialog[open] code').textContent").startswith(
        "aras get"
    )


def test_marks_made_by_key_are_read_by_the_command(page, release, tmp_path) -> None:
    page.open("#view=review")
    page.js("localStorage.clear()")
    page.open("#view=review")
    page.until("return document.querySelector('.review-card .mark')")
    page.js(
        "const reader = document.getElementById('reader'); reader.value = 'Ada';"
        "reader.dispatchEvent(new Event('input'))"
    )
    page.js("document.getElementById('view').focus()")
    for i, letter in enumerate("rrwu"):
        page.type(letter)
        page.until("return window.aras.views.review.at === arguments[0]", i + 1)
        page.until(
            "const line = document.querySelector('.review-card .muted');"
            "return line.textContent.startsWith(arguments[0])",
            f"{i + 2} of",
        )
    path = tmp_path / "ada.json"
    path.write_text(page.js("return window.aras.marks.file()"))
    review = read_review(open_page_source(str(release)), read_files([path]))
    (precision,) = review.of_stream.values()
    assert (precision.right, precision.n, precision.unsure, review.stale) == (2, 3, 1, 0)
    page.open("#view=review")
    assert page.js("return window.aras.marks.size") == 4, "kept over a reload"


def with_vectors(release: Path, out: Path) -> dict[str, np.ndarray]:
    """A copy of a release with hostile words in a caption and vectors: images at random, captions
    near theirs."""
    import shutil

    shutil.copytree(release, out)
    rng = np.random.default_rng(0)
    vectors: dict[str, Any] = {}
    lines = []
    for row in rows_of(out):
        if row["split"] != 2:
            continue
        image = rng.normal(size=16)
        vectors[row["id"]] = image / np.linalg.norm(image)
        lines.append({"id": row["id"], "owner": None, "stream": None, "vector": vectors[row["id"]]})
        near = image + 0.8 * rng.normal(size=16)
        name = f"{row['id']}#full"
        vectors[name] = near / np.linalg.norm(near)
        lines.append({"id": name, "owner": row["id"], "stream": "full", "vector": vectors[name]})
    (out / "embeddings").mkdir()
    name = "embeddings/test-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(lines, arrow_schema(names_of("embeddings"))), out / name)
    manifest = read_json(out / "manifest.json")
    manifest["configs"]["embeddings"] = {"test": {"rows": len(lines), "files": [name]}}
    manifest["files"] += [file.as_json() for file in describe_files(out, [name])]
    write_json(out / "manifest.json", manifest)
    return vectors


def test_retrieval_in_the_browser_gives_the_ranks_of_the_vectors(driver, release, tmp_path) -> None:
    vectors = with_vectors(release, tmp_path / "release")
    write_site(open_page_source(str(tmp_path / "release")), tmp_path / "page", base="release/")
    images = {name: v for name, v in vectors.items() if "#" not in name}
    ranks = {}
    for name, vector in vectors.items():
        if "#" in name:
            products = {other: float(v @ vector) for other, v in images.items()}
            own = products[name.partition("#")[0]]
            ranks[name] = 1 + sum(p > own for p in products.values())
    worst = max(ranks, key=lambda name: ranks[name])
    with page_at(driver, {"/": tmp_path / "page", "/release/": tmp_path / "release"}) as page:
        from urllib.parse import quote

        page.open(f"#view=retrieval&stream=full&query={quote(worst)}")
        page.until("return document.querySelector('.result h3')")
        assert f"Its own image is at rank {ranks[worst]} of {len(images)}" in page.text
        nearest = page.until("return document.querySelector('.tiles .plain')?.title || null")
        assert nearest == max(images, key=lambda name: float(images[name] @ vectors[worst]))
        page.click("button", "Hits and misses")
        shown = page.until("return document.querySelector('[data-recall=\"1\"]')?.textContent")
        hits = 100 * np.mean([rank == 1 for rank in ranks.values()])
        assert shown.strip() == f"R@1 {hits:.1f} %"
        assert page.js("return document.documentElement.scrollWidth") <= 1280


def test_two_versions_are_shown_as_pictures(driver, release, tmp_path) -> None:
    part = tmp_path / "old"
    get(OpenRelease(open_source(str(release))), part, Request(splits=("train", "test")))
    site = tmp_path / "page"
    old = open_page_source(str(part))
    opened = open_page_source(str(release))
    write_site(opened, site, base="release/", old=old, base_old="release-old/")
    places = {"/": site, "/release/": release, "/release-old/": part}
    added = sum(row["split"] == 1 for row in rows_of(release))
    with page_at(driver, places) as page:
        page.open("#view=versions")
        assert f"{added} added, 0 removed, 0 changed" in page.text
        page.until(
            "return [...document.querySelectorAll('.change img')].some((i) => i.naturalWidth)"
        )
    write_site(old, site, base="release-old/", old=opened, base_old="release/")
    with page_at(driver, places) as page:
        page.open("#view=versions&change=removed")
        page.until(
            "return [...document.querySelectorAll('.change img')].some((i) => i.naturalWidth)"
        )
        assert page.js("return document.querySelectorAll('.change').length") == added
