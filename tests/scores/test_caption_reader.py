"""Reading caption files: every format, every shape of captions, and complaints that help."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.errors import ArasError
from builder.landcover import CLASSES
from builder.scores.caption_reader import Reader

HEADER = ["filename", "split", *CLASSES]
ROWS = [
    ["a.png", "test", 3, 0, 86, 3, 1, 6, 1],
    ["b.png", "synth", 0, 0, 46, 3, 0, 51, 0],
    ["c.png", "train", "", "", "", "", "", "", ""],
]


def write_csv(path, header, rows, encoding="utf-8"):
    lines = [",".join(str(cell) for cell in row) for row in [header, *rows]]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def read(path, *text, size=100):
    reader = Reader(path, text)
    return reader, list(reader.batches(size))


def test_the_published_csv_has_five_streams_and_percentages(tmp_path):
    streams = ["hybrid_gemma3-4b", "hybrid_qwen3-vl-8b", "text_qwen3-4b", "vision_gemma3-4b",
               "vision_qwen3-vl-8b"]  # fmt: skip
    rows = [[*row, *(f"{row[0]} {s}" for s in streams)] for row in ROWS]
    reader, (batch,) = read(write_csv(tmp_path / "captions.csv", [*HEADER, *streams], rows))
    assert list(batch.texts) == streams
    assert batch.texts["text_qwen3-4b"][1] == "b.png text_qwen3-4b"
    assert reader.scale == "percent"
    assert batch.shares[0].tolist() == [0.03, 0, 0.86, 0.03, 0.01, 0.06, 0.01]
    assert np.isnan(batch.shares[2]).all()
    assert batch.synthetic == [False, True, False]
    assert batch.ids == ["a.png", "b.png", "c.png"]


def test_one_column_can_be_named(tmp_path):
    file = write_csv(tmp_path / "x.csv", ["note", "text"], [["one", "two"]])
    assert list(read(file)[1][0].texts) == ["text"]
    assert list(read(file, "note")[1][0].texts) == ["note"]


def test_batches_hold_the_rows_in_order(tmp_path):
    file = write_csv(tmp_path / "x.csv", ["text"], [[f"caption {i}"] for i in range(10)])
    _, batches = read(file, size=4)
    assert [batch.first for batch in batches] == [0, 4, 8]
    assert [t for b in batches for t in b.texts["text"]] == [f"caption {i}" for i in range(10)]


def test_error_texts_and_repeated_headers_are_left_out_and_counted(tmp_path):
    rows = [["one"], ["ERROR: Failed to generate caption"], ["text"], ["two"], ['" "']]
    reader, (batch,) = read(write_csv(tmp_path / "x.csv", ["text"], rows))
    assert batch.texts["text"] == ["one", None, "two", None]
    assert (reader.failed, reader.repeated_headers) == (1, 1)


def test_nuls_quotes_byte_order_marks_and_tabs(tmp_path):
    file = tmp_path / "x.tsv"
    file.write_bytes(b'\xef\xbb\xbfid\ttext\n1\t"a, ""b""\nc"\n2\td\x00e\n')
    _, (batch,) = read(file)
    assert batch.texts["text"] == ['a, "b"\nc', "d e"]
    assert batch.ids == ["1", "2"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_captions_of_a_release_are_a_list_of_streams(tmp_path, suffix):
    captions = [{"stream": "grounded", "text": "A forest.", "error": None},
                {"stream": "vision", "text": None, "error": "timeout"}]  # fmt: skip
    pixels = dict.fromkeys(CLASSES, 0) | {"Tree": 3, "Water": 1}
    row = {"id": "real/a", "kind": 1, "pixels": pixels, "captions": captions}
    file = tmp_path / f"train{suffix}"
    if suffix == ".jsonl":
        file.write_text(json.dumps(row) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), file)
    reader, (batch,) = read(file)
    assert batch.texts == {"grounded": ["A forest."], "vision": [None]}
    assert batch.shares[0][[0, 6]].tolist() == [0.75, 0.25]
    assert reader.scale == "pixels"
    assert batch.synthetic == [True]


def test_plain_lists_of_captions_are_numbered_streams(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"captions": ["one", "two"]}\n')
    assert read(file)[1][0].texts == {"captions[0]": ["one"], "captions[1]": ["two"]}


def test_fractions_are_told_from_per_cent(tmp_path):
    rows = [["x", 0.25, 0, 0.75, 0, 0, 0, 0]]
    reader, (batch,) = read(write_csv(tmp_path / "x.csv", ["text", *CLASSES], rows))
    assert reader.scale == "fractions"
    assert batch.shares[0][:3].tolist() == [0.25, 0, 0.75]


BAD = {
    "sum.csv": (b"text,Tree,Shrub,Grass,Crop,Built-up,Barren,Water\nx,50,0,40,0,0,0,0\n",
                "line 2: the class columns sum to 90, not 100"),
    "mixed.csv": (b"text,Tree,Shrub,Grass,Crop,Built-up,Barren,Water\nx,1,0,0,0,0,0,0\n"
                  b"x,0,100,0,0,0,0,0\n", "line 3: the class columns sum to 100, not 1"),
    "word.csv": (b"text,Tree,Shrub,Grass,Crop,Built-up,Barren,Water\nx,50,0,y,0,0,0,0\n",
                 "line 2, column Grass: 'y' is not a number"),
    "blank.csv": (b"text,Tree,Shrub,Grass,Crop,Built-up,Barren,Water\nx,50,0,,0,0,0,50\n",
                  "line 2: no value for Grass"),
    "bytes.csv": (b"text\nfine\nf\xe9ne\n", r"line 3, byte 2 is not UTF-8 \(0xe9\)"),
    "fields.csv": (b"id,text\n1,a, b\n", "line 2 ends a row of 3 fields, the header has 2"),
    "classes.csv": (b"text,Tree,Grass\nx,1,2\n", "not Shrub, Crop, Built-up, Barren, Water"),
    "names.csv": (b"a,b\n1,2\n", "no caption column found among a, b; name it with --text"),
    "empty.csv": (b"text\n", "holds no rows"),
    "nothing.csv": (b"", "holds no rows"),
    "notes.txt": (b"text\nx\n", "cannot tell its format from the suffix '.txt'"),
    "broken.jsonl": (b'{"text": "x"}\n{text\n', "line 2 is no JSON"),
    "list.jsonl": (b'["x"]\n', "line 1 holds list, not an object"),
    "number.jsonl": (b'{"text": 5}\n', "line 1, column text: 5 is no text"),
    "surrogate.jsonl": (b'{"text": "x \\ud800"}\n', "line 1, column text: character 3"),
    "broken.parquet": (b"PAR1", "cannot be read as Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_names_the_file_the_place_and_the_way_out(tmp_path, name):
    content, complaint = BAD[name]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ArasError, match=complaint) as error:
        read(file)
    assert str(file) in str(error.value)


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(ArasError, match="no such file"):
        read(tmp_path / "x.csv")
    file = write_csv(tmp_path / "x.csv", ["text"], [["a"]])
    with pytest.raises(ArasError, match="no column 'caption'; its columns are text"):
        read(file, "caption")
