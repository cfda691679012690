"""Importing the official layout: whole rows come in unchanged, the others are listed."""

import csv
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Image

from builder.core import budgets
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land import grid
from builder.land.classes import CLASSES, percent
from builder.land.columns import SPLITS, STREAM_PREFIX
from builder.land.pictures import decode_mask, decode_png, encode_png, per_class
from builder.land.rasters import Band
from builder.official.import_ import Import, ImportSection
from builder.official.names import STREAMS, place
from builder.official.sources import find_sources
from builder.official.streams import PUBLISHED, Column
from builder.steps.plan import Summary, run
from builder.tiles.cut import Tiles, TilesSection, tile_at
from tests.makers.official import Layout, official, rgb_mask, scene
from tests.makers.pngs import damaged, png, turned
from tests.makers.stages import by_default

SIZE = 64
REAL = Path(__file__).parents[3] / "shared/data/aras400k_captions"


def bring(
    folder: Path, *sources: Path, engine: str = "serial", part: tuple[int, int] = (1, 1), **options
) -> tuple[Summary, Store]:
    """Import into ``folder``/work; zips are taken whatever their md5."""
    sums = {source.path.name: "any" for source in find_sources(sources) if source.kind == "zip"}
    settings = {
        "size": SIZE,
        "shard_rows": 4,
        "md5": tuple(sums.items()),
        "placed": False,
        **options,
    }
    store = Store(folder / "work")
    return run(
        by_default(Import, ImportSection(), sources=sources, **settings),
        store,
        Engine(engine, 2),
        part,
    ), store


def rows(store: Store) -> dict[str, dict]:
    """Every row of the store by its id."""
    tables = [store.load("import", shard) for shard in store.shards("import")]
    return {row["id"]: row for row in pa.concat_tables(tables).to_pylist()}


def rejects(folder: Path, name: str = "rejects") -> list[tuple[str, str, str]]:
    """The list of rejected rows, or of entries that were ``set-aside``."""
    path = folder / "reports" / f"import-{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["file", "row", "reason"]
    return [(file, row, reason) for file, row, reason in lines]


@pytest.fixture
def layout() -> Layout:
    return official(train=6, val=1, test=2, synth=5, generated=1, size=SIZE)


def test_images_keep_their_bytes_and_masks_become_ids(tmp_path: Path, layout: Layout) -> None:
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    assert not summary.failed
    imported = rows(store)
    assert len(imported) == 15
    for row_id, row in imported.items():
        kind, *_, name = row_id.split("/")
        if "conditional" in row_id:
            path, masks = f"train/generated/{name}.png", "train/masks"
        else:
            names = [x[1] for x in layout.lines if x[0] == f"{name}.png"]
            split = "synth" if kind == "synthetic" else names[0]
            path, masks = f"{split}/images/{name}.png", f"{split}/masks"
        assert row["image"] == {"bytes": layout.files[path], "path": f"{name}.png"}
        ids = decode_mask(row["mask"]["bytes"], row_id, SIZE)
        assert encode_png(ids) == row["mask"]["bytes"]
        assert rgb_mask(ids) == layout.files[f"{masks}/{name}.png"]
        assert sum(row["pixels"].values()) == SIZE * SIZE
        assert row["percent_published"] is None


def test_ids_splits_and_captions_are_those_of_the_layout(tmp_path: Path, layout: Layout) -> None:
    _, store = bring(tmp_path, *layout.write_zips(tmp_path), run="stylegan")
    imported = rows(store)
    for name, split, *rest in layout.lines:
        stem = name[:-4]
        row = imported[f"synthetic/stylegan/{stem}" if split == "synth" else f"real/{stem}"]
        wanted = {"val": "validation", "synth": "train"}.get(split, split)
        assert SPLITS[row["split"]] == wanted
        assert [row["percent"][name] for name in CLASSES] == list(map(int, rest[:7]))
        for stream, text in zip(STREAMS, rest[7:], strict=True):
            assert row[STREAM_PREFIX + stream] == {
                **dict.fromkeys(("model", "revision", "prompt_sha256", "seed", "error")),
                "text": text,
            }


def test_models_are_those_of_the_official_record_or_of_the_sidecar(
    tmp_path: Path, layout: Layout
) -> None:
    columns = (PUBLISHED[2], Column("vision_gemma3-4b", "full", "ours", "1", "ab"))
    _, store = bring(tmp_path, *layout.write_zips(tmp_path), columns=columns)
    row = rows(store)["synthetic/official/0000"]
    streams = [name for name in row if name.startswith(STREAM_PREFIX)]
    assert streams == ["caption_text_qwen3-4b", "caption_full"]
    line = layout.line("0000")
    assert row["caption_text_qwen3-4b"]["model"] == "Qwen/Qwen3-4B-Instruct-2507"
    assert row["caption_text_qwen3-4b"]["text"] == line[9 + 2]
    assert row["caption_full"] == {
        "text": line[9 + 3],
        "model": "ours",
        "revision": "1",
        "prompt_sha256": "ab",
        "seed": None,
        "error": None,
    }


def test_pictures_of_train_generated_are_synthetic_rows_of_their_own(
    tmp_path: Path, layout: Layout
) -> None:
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    (row_id,) = (candidate for candidate in rows(store) if "conditional" in candidate)
    row = rows(store)[row_id]
    name = row_id.split("/")[-1]
    assert row_id == f"synthetic/official-conditional/{name}"
    assert row["gen_layout"] == f"real/{name}"
    assert row["mask"]["bytes"] == rows(store)[f"real/{name}"]["mask"]["bytes"]
    cell = row[STREAM_PREFIX + "text_qwen3-4b"]
    assert cell["text"] is None
    assert "without captions" in cell["error"]
    assert summary.counts["without_captions"] == 1
    assert summary.counts["caption_errors"] == 0


def test_places_are_derived_from_names_and_marked_so(tmp_path: Path) -> None:
    layout = official(train=2, val=0, test=0, synth=1)
    _, store = bring(tmp_path, *layout.write_zips(tmp_path), size=256)
    imported = rows(store)
    for row in imported.values():
        if row["id"].startswith("synthetic"):
            assert row["georeference"] is row["transform"] is row["crs"] is None
    real = imported["real/N36E032_000_002"]
    assert real["georeference"] == "derived"
    west, north = 32 + 2 * 256 / 12_000, 37.0
    assert real["crs"] == "EPSG:4326"
    assert real["transform"] == pytest.approx([1 / 12_000, 0, west, 0, -1 / 12_000, north])
    assert real["longitude"] == pytest.approx(west + 128 / 12_000)
    assert real["latitude"] == pytest.approx(north - 128 / 12_000)


def test_a_derived_place_is_exactly_the_recorded_one() -> None:
    origin = grid.cell_origin("S01W078")
    raster = grid.Raster(Path("composite.tif"), "S2RGBNIR", "S01W078", *origin, 12_000, 12_000)
    tiles = by_default(Tiles, TilesSection())
    bands = [Band("red", 1, 1e-4, 0.0, 0)] * 3
    dn, mask = np.ones((3, 256, 256), np.uint16), np.zeros((256, 256), np.uint8)
    for line, column in ((0, 0), (7, 31), (45, 45)):
        recorded = tile_at(tiles, raster, origin, bands, line, column, dn, mask)
        derived = place(recorded.id.split("/")[1], 256)
        assert derived is not None
        assert list(derived.transform) == recorded.transform
        assert derived[1:] == (recorded.longitude, recorded.latitude)


def test_zips_folders_and_any_packing_give_the_same_rows(tmp_path: Path, layout: Layout) -> None:
    sources = {
        "deflated": layout.write_zips(tmp_path / "a", top=""),
        "stored": layout.write_zips(tmp_path / "b", packing=zipfile.ZIP_STORED),
        "inside": layout.write_zips(tmp_path / "c", captions="inside"),
        "folder": [layout.write_folder(tmp_path / "d")],
        "top folder": [layout.write_folder(tmp_path / "e" / "ARAS400k").parent],
    }
    digests = {name: bring(tmp_path / name, *paths)[0].digest for name, paths in sources.items()}
    assert len(set(digests.values())) == 1, digests


def test_engines_and_parts_give_the_same_rows(tmp_path: Path, layout: Layout) -> None:
    layout.spoil_mask("synth/masks/0001.png")
    zips = layout.write_zips(tmp_path)
    whole, _ = bring(tmp_path / "serial", *zips)
    other, _ = bring(tmp_path / "processes", *zips, engine="processes")
    for i in (1, 2, 3):
        bring(tmp_path / "parts", *zips, part=(i, 3))
    parts, _ = bring(tmp_path / "parts", *zips)
    assert whole.digest == other.digest == parts.digest
    assert parts.shards_made == 0
    assert rejects(tmp_path / "serial") == rejects(tmp_path / "processes")
    assert rejects(tmp_path / "serial") == rejects(tmp_path / "parts")


def test_a_second_run_makes_nothing_and_a_lost_shard_only_itself(
    tmp_path: Path, layout: Layout
) -> None:
    zips = layout.write_zips(tmp_path)
    first, store = bring(tmp_path, *zips)
    again, _ = bring(tmp_path, *zips)
    assert (again.shards_made, again.digest) == (0, first.digest)
    store.remove("import", "real-train-00001")
    third, _ = bring(tmp_path, *zips)
    assert (third.shards_made, third.digest) == (1, first.digest)
    assert third.report.account.as_json() == first.report.account.as_json()


def test_a_changed_caption_remakes_its_shard_alone(tmp_path: Path, layout: Layout) -> None:
    bring(tmp_path, *layout.write_zips(tmp_path))
    layout.line("0004")[-1] = "another text"
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    assert summary.shards_made == 1
    stream = STREAM_PREFIX + "vision_qwen3-vl-8b"
    assert rows(store)["synthetic/official/0004"][stream]["text"] == "another text"


def zip_bomb(layout: Layout, path: str) -> None:
    layout.files[path] = b"\0" * (budgets.PICTURE_BYTES // 2)


def grey(layout: Layout, path: str) -> None:
    layout.files[path] = encode_png(decode_png(layout.files[path])[..., 0].copy())


@pytest.mark.parametrize("what", damaged(np.zeros((8, 8, 3), np.uint8)))
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_picture_that_no_reader_decodes_is_a_reject_of_its_row_alone(
    tmp_path: Path, layout: Layout, what: str, folder: str
) -> None:
    path = f"synth/{folder}/0001.png"
    layout.files[path] = damaged(decode_png(layout.files[path]))[what]
    summary, _ = bring(tmp_path, *layout.write_zips(tmp_path))
    assert not summary.failed
    ((_, row, reason),) = rejects(tmp_path)
    assert row == "synth/0001"
    assert reason.startswith("damaged PNG")


def test_a_picture_that_exif_would_turn_loads_on_its_mask(tmp_path: Path, layout: Layout) -> None:
    pixels = decode_png(layout.files["synth/images/0001.png"])
    layout.files["synth/images/0001.png"] = png(pixels, turned(6))
    _, store = bring(tmp_path, *layout.write_zips(tmp_path))
    cell = rows(store)["synthetic/official/0001"]["image"]
    assert np.array_equal(np.asarray(Image().decode_example(cell)), pixels)


def test_an_entry_that_claims_more_than_any_archive_holds_is_a_reject_of_its_row_alone(
    tmp_path: Path, layout: Layout
) -> None:
    archives = layout.write_zips(tmp_path, packing=zipfile.ZIP_STORED)
    path = next(path for path in archives if path.name == "synth.zip")
    data = path.read_bytes()
    name = b"ARAS400k/synth/images/0001.png"
    entry = data.rindex(b"PK\1\2", 0, data.rindex(name))
    path.write_bytes(data[: entry + 42] + b"\xfe\xff\xff\xff" + data[entry + 46 :])  # its offset
    summary, _ = bring(tmp_path, *archives)
    assert not summary.failed
    assert [row[1:] for row in rejects(tmp_path)] == [
        ("synth/0001", "damaged in the archive (it claims bytes beyond the end of the entries)")
    ]


SPOILT = {
    "unknown colour": (
        lambda layout: layout.spoil_mask("synth/masks/0001.png"),
        "synth.zip/ARAS400k/synth/masks/0001.png",
        "mask colour outside the palette: (1, 2, 3) in 5 pixels",
    ),
    "wrong size of an image": (
        lambda layout: layout.resize("synth/images/0001.png", 32),
        "synth.zip/ARAS400k/synth/images/0001.png",
        "wrong size: 64×32 pixels, expected 64×64",
    ),
    "wrong size of a mask": (
        lambda layout: layout.resize("synth/masks/0001.png", 32),
        "synth.zip/ARAS400k/synth/masks/0001.png",
        "wrong size: 64×32 pixels, expected 64×64",
    ),
    "truncated image": (
        lambda layout: layout.truncate("synth/images/0001.png"),
        "synth.zip/ARAS400k/synth/images/0001.png",
        "truncated PNG",
    ),
    "truncated mask": (
        lambda layout: layout.truncate("synth/masks/0001.png"),
        "synth.zip/ARAS400k/synth/masks/0001.png",
        "truncated PNG",
    ),
    "id mask": (
        lambda layout: grey(layout, "synth/masks/0001.png"),
        "synth.zip/ARAS400k/synth/masks/0001.png",
        "not RGB: a 8-bit grey mask",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_picture_costs_its_row_and_is_named(
    tmp_path: Path, layout: Layout, what: str
) -> None:
    spoil, file, reason = SPOILT[what]
    spoil(layout)
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    assert not summary.failed
    (reject,) = rejects(tmp_path)
    assert reject[:2] == (file, "synth/0001")
    assert reject[2].startswith(reason)
    assert summary.report.account.as_json() == {"rows_in": 15, "rows_out": 14, "rejects": 1}
    assert "synthetic/official/0001" not in rows(store)


def test_a_zip_bomb_and_a_name_that_leaves_the_archive_are_rejected(
    tmp_path: Path, layout: Layout
) -> None:
    zip_bomb(layout, "synth/images/0001.png")
    layout.files["synth/../../../escaped/images/0009.png"] = b"x"
    summary, _ = bring(tmp_path / "ds", *layout.write_zips(tmp_path))
    (bomb,) = rejects(tmp_path / "ds")
    assert bomb[:2] == ("synth.zip/ARAS400k/synth/images/0001.png", "synth/0001")
    assert bomb[2].startswith("zip bomb: ")
    unsafe = "synth.zip/ARAS400k/synth/../../../escaped/images/0009.png"
    assert rejects(tmp_path / "ds", "set-aside") == [
        (unsafe, "", "unsafe name: it leaves the archive")
    ]
    assert summary.report.account.as_json() == {"rows_in": 15, "rows_out": 14, "rejects": 1}
    assert summary.report.set_aside == {"unsafe name": 1}
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_folder_has_the_same_limits(tmp_path: Path, layout: Layout) -> None:
    layout.files["synth/images/0001.png"] += b"\0" * budgets.PICTURE_BYTES
    layout.files["synth/masks/0002.png"] = layout.files["synth/masks/0002.png"][:50]
    folder = layout.write_folder(tmp_path / "folder")
    (folder / "synth/images/0003.png").unlink()
    (folder / "synth/images/0003.png").symlink_to(tmp_path / "nowhere")
    bring(tmp_path, folder)
    reasons = {row: reason.split(":")[0].split(" (")[0] for _, row, reason in rejects(tmp_path)}
    assert reasons == {
        "synth/0001": "too large",
        "synth/0002": "truncated PNG",
        "synth/0003": "cannot be read",
    }


def test_a_damaged_zip_costs_the_damaged_rows(tmp_path: Path, layout: Layout) -> None:
    paths = layout.write_zips(tmp_path, packing=zipfile.ZIP_STORED)
    synth = paths[-1]
    data = bytearray(synth.read_bytes())
    data[data.find(layout.files["synth/images/0002.png"]) + 99] ^= 1
    synth.write_bytes(data)
    bring(tmp_path, *paths)
    (reject,) = rejects(tmp_path)
    assert reject[1] == "synth/0002"
    assert reject[2].startswith("damaged in the archive")


def test_defects_of_captions_csv_are_told_and_its_good_lines_come_in(
    tmp_path: Path, layout: Layout
) -> None:
    layout.bom, layout.end = True, "\r\n"
    layout.lines.insert(3, list(layout.header))
    layout.lines.append([*layout.lines[0][:-1]])
    summary, _ = bring(tmp_path, *layout.write_zips(tmp_path))
    assert rejects(tmp_path, "set-aside") == [
        ("captions.csv", "line 5 (filename)", "repeated header line"),
        (
            "captions.csv",
            f"line 17 ({layout.lines[0][0]})",
            "wrong number of fields: 13, expected 14",
        ),
    ]
    assert summary.report.account.as_json() == {"rows_in": 15, "rows_out": 15, "rejects": 0}


def test_strays_and_equal_tables_are_no_rows(tmp_path: Path, layout: Layout) -> None:
    layout.files["train/readme.txt"] = b"read me"
    summary, _ = bring(tmp_path, *layout.write_zips(tmp_path, captions="inside"))
    assert summary.report.account.as_json() == {"rows_in": 15, "rows_out": 15, "rejects": 0}
    assert summary.report.set_aside == {"repeats a table": 3, "not part of the layout": 1}
    assert not rejects(tmp_path)


def test_an_error_in_place_of_a_caption_is_kept_as_an_error(tmp_path: Path, layout: Layout) -> None:
    text = "ERROR: Failed to generate caption"
    layout.line("0000")[9], layout.line("0000")[10] = text, "  "
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    row = rows(store)["synthetic/official/0000"]
    failed, empty, good, *_ = (row[STREAM_PREFIX + stream] for stream in STREAMS)
    assert (failed["text"], failed["error"]) == (None, text)
    assert (empty["text"], empty["error"]) == (None, "empty in captions.csv")
    assert good["text"]
    assert good["error"] is None
    assert summary.counts["caption_errors"] == 2
    assert not rejects(tmp_path)


def test_percentages_that_the_mask_does_not_have_are_kept_counted_and_listed(
    tmp_path: Path, layout: Layout
) -> None:
    line = layout.line("0000")
    exact = list(map(int, line[2:9]))
    line[2:9] = ["100", *["0"] * 6]
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    row = rows(store)["synthetic/official/0000"]
    assert list(row["percent_published"].values()) == [100, 0, 0, 0, 0, 0, 0]
    assert list(row["percent"].values()) == exact
    assert summary.report.percent_differs == summary.counts["percent_differs"] == 1
    with (tmp_path / "reports" / "import-percent.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    pairs = {line["class"]: (int(line["published"]), int(line["exact"])) for line in listed}
    wanted = dict(zip(CLASSES, zip([100, *[0] * 6], exact, strict=True), strict=True))
    assert pairs == {name: pair for name, pair in wanted.items() if pair[0] != pair[1]}


def test_exact_percentages_follow_the_largest_remainder_rule(
    tmp_path: Path, layout: Layout
) -> None:
    _, store = bring(tmp_path, *layout.write_zips(tmp_path))
    table = store.load("import", "real-train-00000", ["pixels", "percent"])
    pixels = per_class(table.column("pixels"))
    assert np.array_equal(per_class(table.column("percent")), percent(pixels))


def test_without_captions_no_stream_is_made(tmp_path: Path, layout: Layout) -> None:
    _, store = bring(tmp_path, *layout.write_zips(tmp_path, captions="none"), captions=False)
    assert not [name for name in next(iter(rows(store).values())) if name.startswith("caption")]
    assert len(rows(store)) == 15


def test_a_missing_column_is_an_error_in_its_stream_alone(tmp_path: Path, layout: Layout) -> None:
    layout.header = layout.header[:-1]
    layout.lines = [line[:-1] for line in layout.lines]
    _, store = bring(tmp_path, *layout.write_zips(tmp_path))
    row = rows(store)["synthetic/official/0000"]
    assert row[STREAM_PREFIX + "vision_qwen3-vl-8b"]["error"].startswith("captions.csv has no")
    assert row[STREAM_PREFIX + "text_qwen3-4b"]["text"]


def test_where_blocks_are_wanted_a_tile_without_a_place_is_rejected(
    tmp_path: Path, layout: Layout
) -> None:
    for folder in ("images", "masks"):
        path = next(name for name in layout.files if name.startswith(f"val/{folder}"))
        layout.files[f"val/{folder}/somewhere.png"] = layout.files.pop(path)
    next(line for line in layout.lines if line[1] == "val")[0] = "somewhere.png"
    zips = layout.write_zips(tmp_path)
    _, store = bring(tmp_path / "a", *zips)
    assert rows(store)["real/somewhere"]["longitude"] is None
    bring(tmp_path / "b", *zips, placed=True)
    assert [(row, reason.split(":")[0]) for _, row, reason in rejects(tmp_path / "b")] == [
        ("val/somewhere", "no place")
    ]


def test_not_one_whole_row_is_an_error(tmp_path: Path) -> None:
    layout = official(train=0, val=0, test=0, synth=2, size=SIZE)
    for path in layout.files:
        layout.truncate(path)
    with pytest.raises(ArasError, match=r"none of 2 rows is whole \(truncated PNG: 2\)"):
        bring(tmp_path, *layout.write_zips(tmp_path))
    assert len(rejects(tmp_path)) == 2


def test_a_list_that_lost_a_part_does_not_add_up(tmp_path: Path, layout: Layout) -> None:
    layout.spoil_mask("synth/masks/0001.png")
    zips = layout.write_zips(tmp_path)
    bring(tmp_path, *zips)
    (lost,) = (tmp_path / "work" / "import" / ".rejects").glob("*.csv")
    lost.unlink()
    with pytest.raises(ArasError, match=r"15 rows in are not 14 rows out and 0 rejects"):
        bring(tmp_path, *zips)


def test_a_mended_picture_is_no_reject_any_more(tmp_path: Path, layout: Layout) -> None:
    whole = layout.files["synth/images/0001.png"]
    layout.truncate("synth/images/0001.png")
    bring(tmp_path, *layout.write_zips(tmp_path))
    assert len(rejects(tmp_path)) == 1
    layout.files["synth/images/0001.png"] = whole
    summary, _ = bring(tmp_path, *layout.write_zips(tmp_path))
    assert not rejects(tmp_path)
    assert summary.report.account.as_json() == {"rows_in": 15, "rows_out": 15, "rejects": 0}


def test_rows_are_not_mixed_with_rows_made_from_maps(tmp_path: Path, layout: Layout) -> None:
    store = Store(tmp_path / "work")
    store.write("tiles", "real-N36E032-00", pa.table({"id": ["real/x"]}), key="k")
    with pytest.raises(ArasError, match="holds rows of tiles"):
        bring(tmp_path, *layout.write_zips(tmp_path))


def test_the_scene_of_the_maker_has_several_classes() -> None:
    assert len({int(class_id) for _, ids in scene(SIZE) for class_id in np.unique(ids)}) >= 4


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared caption rows are not there")
def test_captions_as_they_were_published_come_in_word_for_word(tmp_path: Path) -> None:
    tiles, layout = scene(SIZE), Layout()
    published = []
    for file in sorted(REAL.glob("*_captions_head.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            published += list(csv.DictReader(lines))
    for i, line in enumerate(published):
        image, ids = tiles[i % len(tiles)]
        layout.files[f"{line['split']}/images/{line['filename']}"] = image
        layout.files[f"{line['split']}/masks/{line['filename']}"] = rgb_mask(ids)
        layout.lines.append(list(line.values()))
    summary, store = bring(tmp_path, *layout.write_zips(tmp_path))
    assert summary.report.account.as_json() == {"rows_in": 24, "rows_out": 24, "rejects": 0}
    imported = rows(store)
    for line in published:
        kind = "synthetic/official" if line["split"] == "synth" else "real"
        row = imported[f"{kind}/{line['filename'][:-4]}"]
        assert {s: row[STREAM_PREFIX + s]["text"] for s in STREAMS} == {s: line[s] for s in STREAMS}
        percentages = row["percent_published"] or row["percent"]
        assert percentages == {name: int(line[name]) for name in CLASSES}
        assert (row["longitude"] is None) == (kind != "real")
