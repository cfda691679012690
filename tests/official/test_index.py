"""The index joins the parts of every row, and lists whatever is not whole."""

import os
import sqlite3
import zipfile
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.official import index as indexes
from builder.official.index import Index, IndexRequest, ensure
from builder.official.sources import find_sources
from tests.makers.official import Layout, official, percentages

SIZE = 64


def make_index(path: Path, *sources: Path, captions: bool = True, shard_rows: int = 4) -> Index:
    zips = {source.path.name: "any" for source in find_sources(sources) if source.kind == "zip"}
    wanted = IndexRequest(tuple(find_sources(sources)), zips, captions, shard_rows)
    return ensure(path / "index.sqlite", wanted)


def names(index: Index) -> list[str]:
    shards = [name for name, *_ in index.shards()]
    return [f"{line.group}/{line.name}" for shard in shards for line in index.lines(shard)]


def accounted(index: Index) -> dict[str, int]:
    """The counts, once everything adds up."""
    counts = index.fact("counts")
    assert counts["candidates"] == counts["whole"] + counts["not_whole"]
    assert len(list(index.rejects())) == counts["not_whole"]
    assert len(list(index.set_aside())) == counts["set_aside"]
    assert len(names(index)) == counts["whole"]
    return counts


@pytest.fixture
def layout() -> Layout:
    return official(train=6, val=1, test=2, synth=5, generated=2, size=SIZE)


def test_rows_come_by_split_and_name_in_shards_of_the_wanted_size(
    tmp_path: Path, layout: Layout
) -> None:
    index = make_index(tmp_path, *layout.write_zips(tmp_path))
    assert [(name, rows) for name, rows, _ in index.shards()] == [
        ("real-train-00000", 4),
        ("real-train-00001", 2),
        ("real-val-00000", 1),
        ("real-test-00000", 2),
        ("synthetic-synth-00000", 4),
        ("synthetic-synth-00001", 1),
        ("synthetic-generated-00000", 2),
    ]
    assert names(index)[:6] == sorted(f"train/{x[0][:-4]}" for x in layout.lines if x[1] == "train")
    assert accounted(index)["set_aside"] == 0


def test_a_row_that_lacks_a_part_says_which(tmp_path: Path, layout: Layout) -> None:
    images = [path for path in layout.files if path.startswith("train/images")]
    masks = [path for path in layout.files if path.startswith("test/masks")]
    del layout.files[images[0]], layout.files[masks[0]]
    (line,) = (line for line in layout.lines if line[1] == "val")
    layout.lines.remove(line)
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    stem = Path(line[0]).stem
    assert set(index.rejects()) == {
        (
            f"folder/{images[0].replace('images', 'masks')}",
            f"train/{Path(images[0]).stem}",
            "no image",
        ),
        (f"folder/{masks[0].replace('masks', 'images')}", f"test/{Path(masks[0]).stem}", "no mask"),
        (f"folder/val/images/{stem}.png", f"val/{stem}", "no caption"),
    }
    assert accounted(index)["whole"] == 16 - 3


def test_a_caption_line_without_pictures_is_a_row_that_is_not_whole(
    tmp_path: Path, layout: Layout
) -> None:
    layout.lines.append(["N36E032_040_040.png", *layout.lines[0][1:]])
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    reject = ("folder/captions.csv", "train/N36E032_040_040", "no image, no mask")
    assert list(index.rejects()) == [reject]
    accounted(index)


def test_captions_of_splits_that_were_not_given_are_counted_not_rejected(
    tmp_path: Path, layout: Layout
) -> None:
    _train, _val, test, _synth = layout.write_zips(tmp_path)
    counts = accounted(make_index(tmp_path, test))
    assert (counts["whole"], counts["captions_elsewhere"]) == (2, 12)


def test_the_same_picture_or_line_twice_is_one_row_and_an_entry_set_aside(
    tmp_path: Path, layout: Layout
) -> None:
    layout.lines.append(layout.lines[0])
    first, *_ = layout.write_zips(tmp_path)
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / "train.zip"
    again.write_bytes(first.read_bytes())
    wanted = IndexRequest(tuple(find_sources([first, again])), {"train.zip": "any"}, True, 4)
    index = ensure(tmp_path / "index.sqlite", wanted)
    reasons = [reason.split(":")[0] for *_, reason in index.set_aside()]
    # Six images and masks, two of train/generated, and the line.
    assert sorted(reasons) == sorted(
        [*["repeats an image"] * 8, *["repeats a mask"] * 6, "repeats a caption"]
    )
    line = (
        "captions.csv",
        f"line {len(layout.lines) + 1} ({layout.lines[0][0]})",
        "repeats a caption: captions.csv line 2",
    )
    assert line in list(index.set_aside())
    assert accounted(index)["whole"] == 8
    assert not list(index.rejects())


def test_pictures_of_one_name_that_differ_cost_the_row(tmp_path: Path, layout: Layout) -> None:
    first, *_ = layout.write_zips(tmp_path)
    other = official(train=1, val=0, test=0, synth=0, size=SIZE)
    (path,) = (path for path in other.files if "/images/" in path)
    other.files[path] = layout.files["synth/images/0003.png"]
    second = other.write_zips(tmp_path / "other", captions="none")[0]
    second = second.rename(second.with_name("more.zip"))
    wanted = IndexRequest(tuple(find_sources([first, second])), {"train.zip": "any"}, True, 4)
    index = ensure(tmp_path / "index.sqlite", wanted)
    row, own, others = (
        f"train/{Path(path).stem}",
        *(f"{a}.zip/ARAS400k/" for a in ("train", "more")),
    )
    reason = f"images that differ: {own}{path}, {others}{path}"
    assert list(index.rejects()) == [(own + path, row, reason)]
    mask = path.replace("images", "masks")
    repeated = (others + mask, row, f"repeats a mask: {own}{mask}")
    assert list(index.set_aside()) == [repeated]
    assert row not in names(index)
    accounted(index)


def test_caption_lines_of_one_name_that_differ_cost_the_row(tmp_path: Path, layout: Layout) -> None:
    layout.lines.append([*layout.lines[0][:-1], "another text"])
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    last = len(layout.lines) + 1
    reason = f"captions that differ: folder/captions.csv line 2, folder/captions.csv line {last}"
    row = f"train/{layout.lines[0][0][:-4]}"
    assert list(index.rejects()) == [("folder/captions.csv", row, reason)]
    assert accounted(index)["set_aside"] == 0


def test_contradicting_percentages_cost_the_row_and_equal_ones_do_not(
    tmp_path: Path, layout: Layout
) -> None:
    first, second, *_ = (line for line in layout.lines if line[1] == "train")
    changed = list(first)
    changed[2:9] = ["100", *["0"] * 6]
    table = Layout(lines=[*layout.lines, changed, second])
    layout.files["class_percentages/train.csv"] = percentages(table, "train")
    index = make_index(
        tmp_path, layout.write_folder(tmp_path / "folder", captions=False), captions=False
    )
    file = "folder/class_percentages/train.csv"
    reason = f"percentages that differ: {file} line 2, {file} line 8"
    assert list(index.rejects()) == [(file, f"train/{first[0][:-4]}", reason)]
    repeated = (file, f"line 9 ({second[0]})", f"repeats percentages: {file} line 3")
    assert list(index.set_aside()) == [repeated]
    accounted(index)


def test_percentages_of_a_name_without_pictures_are_a_reject(
    tmp_path: Path, layout: Layout
) -> None:
    (line,) = (line for line in layout.lines if line[1] == "val")
    orphan = Layout(lines=[line, ["N36E032_040_040.png", *line[1:]]])
    layout.files["class_percentages/val.csv"] = percentages(orphan, "val")
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    file = "folder/class_percentages/val.csv"
    reject = (file, "val/N36E032_040_040", "no image, no mask, no caption")
    assert list(index.rejects()) == [reject]
    accounted(index)


def test_percentages_of_splits_that_were_not_given_are_counted(
    tmp_path: Path, layout: Layout
) -> None:
    (tmp_path / "class_percentages").mkdir()
    for split in ("train", "test"):
        table = percentages(layout, split)
        (tmp_path / "class_percentages" / f"{split}.csv").write_bytes(table)
    _train, _val, test, _synth = layout.write_zips(tmp_path)
    counts = accounted(make_index(tmp_path, test))
    assert (counts["whole"], counts["percentages_elsewhere"], counts["not_whole"]) == (2, 6, 0)


def test_where_both_tables_have_percentages_captions_csv_is_taken_and_it_is_told(
    tmp_path: Path, layout: Layout
) -> None:
    line = next(line for line in layout.lines if line[1] == "train")
    own, line[2:9] = line[2:9], ["100", *["0"] * 6]
    layout.files["class_percentages/train.csv"] = percentages(layout, "train")
    line[2:9] = own
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    name = line[0][:-4]
    entry = (
        "folder/class_percentages/train.csv",
        f"line 2 ({name}.png)",
        "captions.csv has other percentages: folder/captions.csv line 2 is taken",
    )
    assert list(index.set_aside()) == [entry]
    (row,) = (line for line in index.lines("real-train-00000") if line.name == name)
    assert row.percent == tuple(map(int, own))
    assert accounted(index)["whole"] == 16


def test_one_captions_csv_in_every_zip_is_read_once(tmp_path: Path, layout: Layout) -> None:
    index = make_index(tmp_path, *layout.write_zips(tmp_path, captions="inside"))
    assert list(index.set_aside()) == [
        (
            f"{name}.zip/ARAS400k/captions.csv",
            "",
            "repeats a table: train.zip/ARAS400k/captions.csv",
        )
        for name in ("val", "test", "synth")
    ]
    assert not list(index.rejects())
    assert accounted(index)["whole"] == 16


def test_a_name_may_stand_in_every_split(tmp_path: Path) -> None:
    full, layout = official(train=1, val=0, test=0, synth=0, size=SIZE), Layout()
    name, _, *rest = full.lines[0]
    for split in ("train", "test", "synth"):
        layout.lines.append([name, split, *rest])
        for path, data in full.files.items():
            layout.files[path.replace("train", split)] = data
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    assert accounted(index) | {"whole": 3, "set_aside": 0} == index.fact("counts")


def test_without_captions_pictures_are_whole(tmp_path: Path, layout: Layout) -> None:
    zips = layout.write_zips(tmp_path, captions="none")
    with pytest.raises(ArasError, match=r"no captions\.csv .* captions = false"):
        make_index(tmp_path, *zips)
    index = make_index(tmp_path, *zips, captions=False)
    assert accounted(index)["whole"] == 16
    assert index.lines("real-val-00000")[0].texts is None


def test_percentages_of_their_own_table_stand_in_where_captions_csv_has_none(
    tmp_path: Path, layout: Layout
) -> None:
    layout.files["class_percentages/test.csv"] = percentages(layout, "test")
    folder = layout.write_folder(tmp_path / "folder", captions=False)
    index = make_index(tmp_path, folder, captions=False)
    (line, *_) = index.lines("real-test-00000")
    assert line.percent == tuple(map(int, layout.line(line.name)[2:9]))
    assert index.lines("real-val-00000")[0].percent is None


def test_sources_without_the_layout_say_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ArasError, match=r"no \{train.*photo\.jpg: not part of the layout"):
        make_index(tmp_path, tmp_path / "folder")


def test_a_zip_whose_captions_are_damaged_is_refused_by_name(
    tmp_path: Path, layout: Layout
) -> None:
    zips = layout.write_zips(tmp_path, captions="inside", packing=zipfile.ZIP_STORED)
    data = bytearray(zips[0].read_bytes())
    place = data.rfind(b"seen by")
    data[place] ^= 1
    zips[0].write_bytes(data)
    with pytest.raises(ArasError, match=r"captions\.csv: damaged in the archive.*fetch train\.zip"):
        make_index(tmp_path, *zips)


def test_an_index_is_made_once_and_again_when_a_source_changes(
    tmp_path: Path, layout: Layout
) -> None:
    folder = layout.write_folder(tmp_path / "folder")
    make_index(tmp_path, folder).close()
    before = os.stat(tmp_path / "index.sqlite").st_ino
    make_index(tmp_path, folder).close()
    assert os.stat(tmp_path / "index.sqlite").st_ino == before
    layout.lines[0][-1] = "changed"
    layout.write_folder(folder)
    index = make_index(tmp_path, folder)
    assert os.stat(tmp_path / "index.sqlite").st_ino != before
    assert "changed" in (index.lines("real-train-00000")[0].texts or {}).values()


@pytest.mark.parametrize("spoilt", [b"", b"not a database at all, but long enough" * 9])
def test_a_damaged_index_is_made_again(tmp_path: Path, layout: Layout, spoilt: bytes) -> None:
    folder = layout.write_folder(tmp_path / "folder")
    (tmp_path / "index.sqlite").write_bytes(spoilt)
    assert accounted(make_index(tmp_path, folder))["whole"] == 16


def test_a_listing_that_fails_leaves_no_index(tmp_path: Path, layout: Layout) -> None:
    layout.table = b"no header\n"
    folder = layout.write_folder(tmp_path / "folder")
    with pytest.raises(ArasError):
        make_index(tmp_path, folder)
    assert not list(tmp_path.glob("*index.sqlite*"))


def test_only_the_shards_of_changed_rows_get_another_digest(tmp_path: Path, layout: Layout) -> None:
    folder = layout.write_zips(tmp_path)[0].parent
    before = {name: digest for name, _, digest in make_index(tmp_path, folder).shards()}
    layout.line("0004")[-1] = "changed"
    layout.write_zips(tmp_path)
    after = {name: digest for name, _, digest in make_index(tmp_path, folder).shards()}
    assert [name for name in after if after[name] != before[name]] == ["synthetic-synth-00001"]


def test_the_plan_of_a_query_uses_the_keys(tmp_path: Path, layout: Layout) -> None:
    index = make_index(tmp_path, layout.write_folder(tmp_path / "folder"))
    base = sqlite3.connect(index.path)
    steps = base.execute("EXPLAIN QUERY PLAN " + indexes._PARTS, ("real-train-00000",)).fetchall()
    base.close()
    assert not [row for row in steps if row[3].startswith("SCAN")]
