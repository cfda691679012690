"""The report of a whole release, and what a phone sees of its page."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builder.core.files import write_text
from builder.land.classes import CLASSES
from builder.land.pictures import encode_png
from builder.pipeline.project import Project
from builder.report.measure import Report, SpaceDistances, measure
from builder.report.page import render, shown, uri
from builder.report.streams import SCORES
from tests.makers.browser import browser, look

needs_browser = pytest.mark.skipif(
    browser() is None, reason="no Chromium here (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def report(project: Project) -> Report:
    return measure(project.releases / "0.1.0", project.store)


@pytest.fixture(scope="module")
def page(project: Project, report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "0.1.0.html"
    write_text(path, render(project.releases / "0.1.0", report))
    return path


def test_every_stream_and_measure_is_in_the_figures(report: Report) -> None:
    assert list(report.streams) == ["dominant", "composition", "layout", "full", "absence"]
    assert report.leakage_features == "segmenter's encoder"
    for stream in report.streams.values():
        assert stream.means["real"]["grounding"] is not None
        assert stream.means["real"].keys() == set(SCORES)
        assert stream.as_json()["structural_leakage"]["r2_image"] is not None
    assert {"realism", "sharpness", "mask_agreement", "cloudiness"} <= set(report.images)
    assert report.left_out["real"]["set_aside"] > 0
    assert report.duplicates["duplicates"].spans == {}
    assert json.dumps(report.as_json())


def test_without_the_store_only_what_needs_it_is_missing(project: Project, report: Report) -> None:
    alone = measure(project.releases / "0.1.0", None)
    assert alone.distances == []
    assert alone.leakage_features is None
    for stream in alone.streams.values():
        assert stream.as_json()["structural_leakage"]["r2_image"] is None
    assert alone.images == report.images
    assert render(project.releases / "0.1.0", alone)


def test_the_page_is_the_same_bytes_again(project: Project, report: Report) -> None:
    release = project.releases / "0.1.0"
    assert render(release, report) == render(release, report)


def test_a_heavy_tile_is_compressed_and_a_light_one_is_left_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    heavy, light = encode_png(noise), encode_png(noise[:64, :64])
    assert shown(light) == uri(light)
    assert len(shown(heavy)) < len(uri(heavy)) / 6
    with Image.open(io.BytesIO(base64.b64decode(shown(heavy).partition(",")[2]))) as image:
        assert (image.format, image.size) == ("WEBP", (320, 320))


def test_the_page_is_light_and_each_figure_says_what_it_shows(page: Path) -> None:
    assert page.stat().st_size < 3e6
    alternatives = re.findall(r"<img[^>]*>", page.read_text(encoding="utf-8"))
    assert alternatives
    assert all(re.search(r'alt="[^"]{5,}"', image) for image in alternatives)


def test_contradictions_and_intervals_are_on_the_page(project: Project, report: Report) -> None:
    figures = {"frechet": 1.5, "frechet_interval": [1.25, 1.75], "frechet_at_infinity": [1.4, 0.01],
           "frechet_all": 1.5, "kid_x1000": [3.0, 2.0, 4.0], "precision": 0.5, "recall": 0.5,
           "density": 0.5, "coverage": 0.5}  # fmt: skip
    space = {"name": "dino", "distance": "Fréchet distance", "images": {}, "compared": 40}
    claims = {"real": [("Water, but “lake <b>”", 3)], "synthetic": []}
    full = report.streams["full"].model_copy(update={"contradictions": claims})
    distances = SpaceDistances.model_validate({**space, "train": figures, "synthetic": figures})
    changed = {"streams": {**report.streams, "full": full}, "distances": [distances]}
    text = render(project.releases / "0.1.0", report.model_copy(update=changed))
    assert "<b>full</b>, real: Water, but “lake &lt;b&gt;” (3)." in text
    assert "1.500 (1.250 to 1.750)" in text
    assert "95 % intervals" in text


@needs_browser
def test_a_phone_shows_the_page_without_overflow_broken_images_or_errors(
    page: Path, report: Report, tmp_path: Path
) -> None:
    seen = look(page, tmp_path)
    assert seen["scroll_width"] <= seen["width"] <= 360
    assert seen["broken"] == []
    assert seen["console"] == []
    shown = len(report.examples.ids)
    assert seen["images"] >= 2 * shown > 0  # each tile with its mask, and the plots
    said = ("Tiny: tiles for tests", "Left out", "composition", "fabricated", "Contradictions")
    for text in (*said, "Lowest discrimination of each stream", *CLASSES):
        assert text in seen["text"]


@needs_browser
def test_the_look_finds_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><div style="width:700px">wide</div>'
        '<img alt="gone" src="gone.png"><script>console.error("oh no"); nothing();</script>'
    )
    (tmp_path / "seen").mkdir()
    seen = look(page, tmp_path / "seen")
    assert seen["scroll_width"] > 690
    assert seen["broken"] == ["gone"]
    assert seen["console"][0] == "oh no"
    assert "nothing is not defined" in seen["console"][1]


def test_the_command_writes_page_and_figures(project: Project, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "builder", "-C", str(project.directory), "report"]
    command += ["release/0.1.0", "--out", str(tmp_path / "r.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "r.json").read_text())["kind"] == "report"
