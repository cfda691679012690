"""Copies of train tiles stand side by side in the report, with the piece marked in both."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.engine import Engine
from builder.core.files import write_text
from builder.core.manifest import read_manifest, write_manifest
from builder.core.store import Store
from builder.land.columns import KINDS, SPLITS
from builder.land.pictures import encode_png, image_column
from builder.pipeline.project import Project
from builder.quality.copies import Copies, Frames
from builder.release.rows import metadata
from builder.report.copies import SHOWN, CopyFigures, copy_figures, stored_pictures
from builder.report.measure import Report, measure
from builder.report.page import render, uri
from builder.steps.plan import run
from tests.makers.browser import browser, look
from tests.makers.landlike import SIDE, landlike

PLANTED = 7


def ids_of(release: Path, kind: str) -> list[str]:
    """Train rows of a kind that a release holds."""
    ids = []
    for split, table in metadata(release, ("id", "kind")):
        kinds = [KINDS[number] for number in table.column("kind").to_pylist()]
        pairs = zip(table.column("id").to_pylist(), kinds, strict=True)
        ids += [id_ for id_, own in pairs if own == kind and split == "train"]
    return ids


@pytest.fixture(scope="module")
def planted(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Train tiles, and drawn tiles into which ever less of the left of them was planted."""
    release = project.releases / "0.1.0"
    store = Store(tmp_path_factory.mktemp("planted") / "work")
    sources, drawn = (ids_of(release, kind)[:PLANTED] for kind in KINDS)
    train = [landlike(seed) for seed in range(PLANTED)]
    tiles = [landlike(100 + seed) for seed in range(PLANTED)]
    for number, (tile, source) in enumerate(zip(tiles, train, strict=True)):
        for part, piece in zip(tile, source, strict=True):
            part[:, : SIDE - 4 * number] = piece[:, : SIDE - 4 * number]

    def write(stage: str, shard: str, ids: list[str], pairs: list, **more: pa.Array) -> None:
        pictures, masks = (
            image_column([encode_png(part) for part in parts], ids)
            for parts in zip(*pairs, strict=True)
        )
        table = pa.table({"id": pa.array(ids), "image": pictures, "mask": masks, **more})
        store.write(stage, shard, table, key="k")

    split = pa.array([SPLITS.index("train")] * PLANTED, pa.int64())
    write("tiles", "real-0", sources, train, split=split)
    near = {"nearest_real_id": pa.array(sources), "suspected": pa.array([False] * PLANTED)}
    write("layouts", "synthetic-a-00000", drawn, tiles, **near)
    for stage in (Frames(kind="real"), Frames(kind="synthetic"), Copies()):
        assert not run(stage, store, Engine()).failed
    return store


@pytest.fixture
def release(project: Project, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project.releases / "0.1.0", tmp_path / "0.1.0"))


@pytest.fixture(scope="module")
def report(project: Project) -> Report:
    return measure(project.releases / "0.1.0", None)


def leave_out(release: Path, copies: int) -> None:
    """Has the manifest say that copies were left out."""
    manifest = read_manifest(release)
    census = manifest.facts.census
    left_out = {**census.left_out, "synthetic": {**census.left_out["synthetic"], "copies": copies}}
    facts = manifest.facts.model_copy(
        update={"census": census.model_copy(update={"left_out": left_out})}
    )
    write_manifest(release, manifest.model_copy(update={"facts": facts}))


def keep(release: Path, copy: dict, store: Store) -> None:
    """Publishes a drawn copy and its train tile: pictures and `copied_from`."""
    pictures = {}
    for shard in ("real-0", "synthetic-a-00000"):
        rows = store.read(shard, ("id", "image")).to_pylist()
        pictures |= {row["id"]: row["image"] for row in rows}
    changes = {copy["id"]: {"copy": True, "copied_from": copy["copied_from"]}}
    for id_ in (copy["id"], copy["copied_from"]["id"]):
        changes.setdefault(id_, {})["image"] = pictures[id_]
    for path in sorted(release.rglob("*.parquet")):
        table = pq.read_table(path)
        if "id" not in table.column_names:
            continue
        rows = table.to_pylist()
        if not any(row["id"] in changes for row in rows):
            continue
        for row in rows:
            row.update({k: v for k, v in changes.get(row["id"], {}).items() if k in row})
        pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def edges(figure: str) -> list[list[float]]:
    """left, top, width and height of the marks of a figure, in percent."""
    styles = re.findall(r'<i style="([^"]*)"', figure)
    return [[float(value) for value in re.findall(r": ([\d.]+)%", style)] for style in styles]


def figures_in(text: str) -> list[str]:
    return re.findall(r'<figure class="copy">.*?</figure>', text, re.DOTALL)


def test_copies_left_out_are_shown_from_the_store_largest_share_first(
    release: Path, report: Report, planted: Store, tmp_path: Path
) -> None:
    leave_out(release, PLANTED)
    copies = copy_figures(release, planted)
    assert (copies.kept, copies.left_out, len(copies.shown)) == (0, PLANTED, SHOWN)
    shares = [copy.share for copy in copies.shown]
    assert shares == sorted(shares, reverse=True)
    text = render(release, report.model_copy(update={"copies": copies}), planted)
    assert f"<b>{PLANTED}</b> synthetic tiles repeat" in text
    assert f"{SHOWN} of {PLANTED} are shown" in text
    shown, pictures = figures_in(text), stored_pictures(planted, copies.ids)
    assert len(shown) == SHOWN
    for figure, copy in zip(shown, copies.shown, strict=True):
        assert f'alt="synthetic tile {copy.id}: a marked piece repeats a train tile"' in figure
        assert f'alt="train tile {copy.source}: the marked piece is repeated"' in figure
        assert all(uri(pictures[id_]) in figure for id_ in (copy.id, copy.source))
        own, source = edges(figure)
        assert own == pytest.approx(source, abs=3)  # planted where it was
        assert own[2] * own[3] / 1e4 == pytest.approx(copy.share, abs=0.04)
    alone = render(release, report.model_copy(update={"copies": copy_figures(release, None)}))
    assert figures_in(alone) == []
    assert "None can be shown" in alone
    if browser() is None:
        return
    write_text(tmp_path / "page.html", text)
    (tmp_path / "seen").mkdir()
    seen = look(tmp_path / "page.html", tmp_path / "seen")
    assert seen["scroll_width"] <= seen["width"] <= 360
    assert seen["broken"] == []


def test_a_copy_that_the_release_holds_is_shown_without_a_store(
    release: Path, report: Report, planted: Store
) -> None:
    copy = planted.read("synthetic-a-00000", ("id", "copied_from")).to_pylist()[6]
    keep(release, copy, planted)
    copies = copy_figures(release, None)
    assert copies.kept == 1
    (shown,) = copies.shown
    assert (shown.id, shown.source) == (copy["id"], copy["copied_from"]["id"])
    (figure,) = figures_in(render(release, report.model_copy(update={"copies": copies})))
    left, top, width, height = edges(figure)[0]
    assert (left, top) == pytest.approx((0, 0), abs=8)
    assert width == pytest.approx(100 * (SIDE - 24) / SIDE, abs=12)
    assert height == pytest.approx(100, abs=8)


def drop_column(release: Path, name: str) -> None:
    for path in sorted(release.rglob("*.parquet")):
        table = pq.read_table(path)
        if name in table.column_names:
            pq.write_table(table.drop_columns([name]), path)


def test_no_copies_are_said_plainly(release: Path, report: Report) -> None:
    nothing = report.model_copy(update={"copies": CopyFigures(kept=0)})
    assert "No copies: no synthetic tile repeats" in render(release, nothing)


def test_releases_without_the_columns_say_what_they_know(
    release: Path, report: Report, planted: Store
) -> None:
    keep(release, planted.read("synthetic-a-00000", ("id", "copied_from")).to_pylist()[0], planted)
    drop_column(release, "copied_from")
    older = copy_figures(release, None)
    assert (older.kept, older.shown) == (1, ())
    text = render(release, report.model_copy(update={"copies": older}))
    assert "the release does not say of which piece" in text
    drop_column(release, "copy")
    unknown = copy_figures(release, None)
    assert unknown.kept is None
    text = render(release, report.model_copy(update={"copies": unknown}))
    assert "does not say which tiles are copies" in text
