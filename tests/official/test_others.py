"""Captions of any file come in with their pictures, under one reader, and none is lost unsaid."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.land.columns import STREAM_PREFIX
from builder.official.others import columns_of
from builder.official.streams import UNKNOWN
from tests.makers.official import Layout, official
from tests.official.test_import import bring, rejects, rows

LAYOUT = official(train=2, val=0, test=1, synth=1, size=64)
NAMES = [line[0] for line in LAYOUT.lines]
TEXTS = {
    name: [f"A field, number {i}, of {name}.", f"Çay {i} grows."] for i, name in enumerate(NAMES)
}
FLAT = [(name, text) for name, texts in TEXTS.items() for text in texts]


def table(rows_: list[tuple[str, ...]], header: tuple[str, ...], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([header, *rows_])
    return out.getvalue()


def several_rows(path: Path) -> Path:
    path = path / "results.csv"
    path.write_text(table(FLAT, ("image", "caption")), encoding="utf-8")
    return path


def semicolons(path: Path) -> Path:
    path = path / "captions.csv"  # the layout's name, and nothing else of it
    path.write_text(table(FLAT, ("filename", "caption"), ";"), encoding="utf-8")
    return path


def packed(path: Path) -> Path:
    path = path / "captions.tsv.gz"
    path.write_bytes(gzip.compress(table(FLAT, ("image_id", "caption"), "\t").encode("utf-16")))
    return path


def cells(path: Path) -> Path:
    path = path / "captions.CSV"
    lines = [(name[:-4], repr(texts)) for name, texts in TEXTS.items()]
    path.write_text(table(lines, ("image_id", "caption")), encoding="utf-8")
    return path


def json_lines(path: Path) -> Path:
    path = path / "captions.jsonl"
    lines = (json.dumps({"file_name": n, "captions": t}) for n, t in TEXTS.items())
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def karpathy(path: Path) -> Path:
    path = path / "dataset_tiles.json"
    images = [
        {
            "filename": name,
            "split": "restval",
            "sentences": [{"raw": t, "tokens": []} for t in texts],
        }
        for name, texts in TEXTS.items()
    ]
    path.write_text(json.dumps({"images": images, "dataset": "tiles"}), encoding="utf-8")
    return path


def coco(path: Path) -> Path:
    path = path / "captions_val2014.json"
    numbers = {name: i for i, name in enumerate(NAMES, 7)}
    images = [{"id": i, "file_name": f"val2014/{name}"} for name, i in numbers.items()]
    notes = [{"image_id": numbers[n], "id": i, "caption": t} for i, (n, t) in enumerate(FLAT)]
    path.write_text(json.dumps({"images": images, "annotations": notes}), encoding="utf-8")
    return path


def parquet(path: Path) -> Path:
    path = path / "captions.parquet"
    pictures = [{"bytes": b"not read", "path": name} for name in NAMES]
    columns = {"image": pictures, "file_name": NAMES, "captions": [*TEXTS.values()]}
    pq.write_table(pa.table(columns), path)
    return path


def datasets_folder(path: Path) -> Path:
    path = path / "saved"
    columns = {"file_name": NAMES, "captions": [*TEXTS.values()]}
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)})
    saved.save_to_disk(path)
    return path


def webdataset(path: Path) -> Path:
    path = path / "shard-000000.tar"
    with tarfile.open(path, "w") as archive:
        for name, texts in TEXTS.items():
            for suffix, data in (("png", b"not read"), ("json", json.dumps(texts).encode())):
                member = tarfile.TarInfo(f"{name[:-4]}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


KINDS: list[Callable[[Path], Path]] = [
    several_rows, semicolons, packed, cells, json_lines, karpathy, coco, parquet, datasets_folder,
    webdataset,
]  # fmt: skip


def imported(tmp_path: Path, *tables: Path, layout: Layout = LAYOUT, text: tuple[str, ...] = ()):
    """(summary, store) of an import of pictures and of files of captions."""
    folder = layout.write_folder(tmp_path / "pictures", captions=False)
    sources = [folder, *tables]
    columns = columns_of(sources, {}, text, tmp_path / "columns.json")
    return bring(tmp_path, *sources, columns=columns, text=text)


def captions(row: dict) -> dict[str, str | None]:
    prefix = len(STREAM_PREFIX)
    return {k[prefix:]: v["text"] for k, v in row.items() if k.startswith(STREAM_PREFIX)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_file_gives_the_same_captions(
    tmp_path: Path, kind: Callable[[Path], Path]
) -> None:
    summary, store = imported(tmp_path, kind(tmp_path))
    assert not summary.failed
    own = {id_.rpartition("/")[2] + ".png": captions(row) for id_, row in rows(store).items()}
    assert {name: list(texts.values()) for name, texts in own.items()} == TEXTS
    streams = list(own[NAMES[0]])
    assert [stream.rpartition("_")[2] for stream in streams] == ["1", "2"]
    assert not rejects(tmp_path)
    assert not rejects(tmp_path, "set-aside")


def test_the_report_says_column_number_and_three_captions(tmp_path: Path) -> None:
    summary, _ = imported(tmp_path, karpathy(tmp_path))
    (file,) = summary.report.as_json()["caption_files"]
    assert file["file"] == "dataset_tiles.json"
    assert list(file["text_columns"]) == ["sentences"]
    assert (file["images"], file["captions_per_image"]) == (4, {"min": 2, "mean": 2.0, "max": 2})
    assert list(file["examples"]) == [text for _, text in FLAT][:3]
    lines = "\n".join(summary.report.lines())
    assert "dataset_tiles.json: 4 images, 2 captions each, from sentences" in lines
    assert f"“{FLAT[2][1]}”" in lines


def test_the_report_says_the_same_of_the_layout(tmp_path: Path) -> None:
    summary, _ = bring(tmp_path, LAYOUT.write_folder(tmp_path / "folder"))
    (file,) = summary.report.as_json()["caption_files"]
    assert file["captions_per_image"] == {"min": 5, "mean": 5.0, "max": 5}
    assert list(file["text_columns"])[2] == "text_qwen3-4b"
    assert len(file["examples"]) == 3


def test_fewer_captions_leave_the_last_streams_without_a_text(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(table([*FLAT, (NAMES[0], "A third."), (NAMES[1], "")], ("image", "caption")))
    _, store = imported(tmp_path, path)
    by_name = {id_.rpartition("/")[2] + ".png": row for id_, row in rows(store).items()}
    assert captions(by_name[NAMES[0]])["caption_3"] == "A third."
    assert by_name[NAMES[1]][f"{STREAM_PREFIX}caption_3"]["text"] is None
    assert "no caption of this stream" in by_name[NAMES[1]][f"{STREAM_PREFIX}caption_3"]["error"]


def test_files_of_several_kinds_and_captions_csv_add_up(tmp_path: Path) -> None:
    (tmp_path / "official").mkdir()
    official_table = tmp_path / "official" / "captions.csv"
    official_table.write_bytes(LAYOUT.captions)
    folder = LAYOUT.write_folder(tmp_path / "pictures", captions=False)
    first, second = several_rows(tmp_path), tmp_path / "more.jsonl"
    second.write_text(json.dumps({"image": NAMES[3], "note": "It is a picture of cropland."}))
    sources = [folder, official_table, first, second]
    columns = columns_of(sources, {}, (), tmp_path / "columns.json")
    assert [c.stream for c in columns[:5]] == [c.stream for c in UNKNOWN]
    assert [c.stream for c in columns[5:]] == ["caption_1", "caption_2", "note"]
    summary, store = bring(tmp_path, *sources, columns=columns)
    row = next(row for id_, row in rows(store).items() if id_.startswith("synthetic"))
    assert captions(row)["note"] == "It is a picture of cropland."
    assert captions(row)["text_qwen3-4b"] == LAYOUT.line(NAMES[3][:-4])[11]
    assert len(summary.report.caption_files) == 3


def test_what_is_no_caption_of_a_picture_is_listed_or_counted(tmp_path: Path) -> None:
    layout = official(train=2, val=0, test=0, synth=2, size=64)
    layout.rename("train", "N36E032_000_000", "0000")
    path = tmp_path / "c.csv"
    lines = [
        ("0000.png", "train", "Of the train tile."),
        ("0000.png", "", "Of which?"),
        ("elsewhere.png", "", "Of none."),
        ("N36E032_000_002.png", "val", "The folder decides."),
        ("0001.png", "", "['A list that was", ),
        ("0001.png", "", "Of a synthetic tile."),
        ("", "", "Of no image."),
    ]  # fmt: skip
    path.write_text(table(lines, ("filename", "split", "caption")) + "a,b\n")
    summary, store = imported(tmp_path, path, layout=layout)
    texts = {id_: captions(row)["caption_1"] for id_, row in rows(store).items()}
    assert texts == {
        "real/0000": "Of the train tile.",
        "real/N36E032_000_002": "The folder decides.",
        "synthetic/official/0001": "Of a synthetic tile.",
    }
    aside = {row: reason for _, row, reason in rejects(tmp_path, "set-aside")}
    assert "several splits have this name: " in aside["line 3 (0000)"]
    assert "a list that begins and does not end" in aside["line 6"]
    assert aside["line 8"] == "names no picture"
    assert "ends a row of 2 fields" in aside["line 9"]
    assert summary.report.captions_unmatched == 1
    assert rejects(tmp_path) == [("pictures/synth/images/0000.png", "synth/0000", "no caption")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("note,words\nx,A field of wheat.\n", "no column names the picture"),
        (
            "image,caption\nairport_1.jpg,A field of wheat.\n",
            "'airport_1', those of the pictures like '0000'",
        ),
        ("image,a,b\nx.png,A field here.,A tree there.\n", "a and b all hold sentences.*--text"),
        ("image,caption\n", "holds no rows"),
    ],
)
def test_a_file_without_a_caption_of_any_picture_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(ArasError, match=message):
        imported(tmp_path, path)


def test_the_columns_to_read_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    lines = [(name, "A field here.", "A tree there.") for name in NAMES]
    path.write_text(table(lines, ("image", "a", "Long Text")))
    _, store = imported(tmp_path, path, text=("Long Text",))
    assert {tuple(captions(row).items()) for row in rows(store).values()} == {
        (("long-text", "A tree there."),)
    }


def test_a_changed_file_is_read_again_and_a_lost_one_keeps_its_streams(tmp_path: Path) -> None:
    path, cache = several_rows(tmp_path), tmp_path / "columns.json"
    assert len(columns_of([path], {}, (), cache)) == 2
    path.write_text(table([*FLAT, (NAMES[0], "A third.")], ("image", "caption")))
    assert len(columns_of([path], {}, (), cache)) == 3
    path.unlink()
    assert len(columns_of([path], {}, (), cache)) == 3
