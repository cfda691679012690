"""Reading caption files: every format, every shape of captions, and complaints that help."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.land.caption_tables import Reader
from builder.land.classes import CLASSES

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
    scores = [{"stream": caption["stream"], "grounding": 1.0} for caption in captions]
    row = {"id": "real/a", "kind": 1, "pixels": pixels, "captions": captions,
           "caption_scores": scores}  # fmt: skip
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


def json_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


WATER = dict.fromkeys(CLASSES, 0) | {"Water": 100}


def test_rows_of_json_need_not_agree_in_their_keys(tmp_path):
    file = json_lines(
        tmp_path / "x.jsonl", {"note": "x"}, {"text": "a lake"} | WATER, {"text": "b"}
    )
    _, (batch,) = read(file)
    assert batch.texts == {"text": [None, "a lake", "b"]}
    assert batch.shares[1].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert np.isnan(batch.shares[[0, 2]]).all()


def test_a_key_that_comes_too_late_to_be_read_is_refused(tmp_path):
    file = json_lines(tmp_path / "x.jsonl", *[{"text": "a"}] * 3, {"text": "b"} | WATER)
    with pytest.raises(ArasError, match="line 4 has 'Tree', which no earlier batch has"):
        read(file, size=2)
    file = json_lines(tmp_path / "y.jsonl", {"text": "a", "pixels": None}, {"text": "b", "note": 1},
                      {"text": "c", "pixels": WATER})  # fmt: skip
    assert read(file, size=1)[1][2].shares.tolist() == [[0, 0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda name: name.replace("-", "_"),
                                    lambda name: name.lower().replace("-", " ")])  # fmt: skip
def test_class_columns_are_known_in_any_case(tmp_path, change):
    header = ["text", *map(change, CLASSES)]
    file = write_csv(tmp_path / "x.csv", header, [["x", 0, 0, 0, 0, 0.75, 0.25, 0]])
    assert read(file)[1][0].shares[0].tolist() == [0, 0, 0, 0, 0.75, 0.25, 0]
    pixels = {change(name): int(name == "Built-up") for name in CLASSES}
    file = json_lines(tmp_path / "x.jsonl", {"text": "x", "pixels": pixels})
    assert read(file)[1][0].shares[0].tolist() == [0, 0, 0, 0, 1, 0, 0]


def test_a_column_that_happens_to_be_called_like_a_class_is_no_composition(tmp_path):
    file = write_csv(tmp_path / "x.csv", ["text", "water"], [["x", "yes"]])
    assert read(file)[1][0].shares is None


def test_nuls_are_spaces_in_every_format(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"text\na\x00b c\n")
    of_csv = read(tmp_path / "x.csv")[1][0].texts
    assert read(json_lines(tmp_path / "x.jsonl", {"text": "a\0b c"}))[1][0].texts == of_csv
    pq.write_table(pa.table({"text": ["a\0b c"]}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet")[1][0].texts == of_csv


def test_what_is_no_caption_is_told_as_the_caption_stage_tells_it(tmp_path):
    texts = ["A forest.", "404 not found", "I cannot see the image.", "<think>so</think>A forest.",
             "null", "Error-prone terrain with forest."]  # fmt: skip
    reader, (batch,) = read(json_lines(tmp_path / "x.jsonl", *({"text": text} for text in texts)))
    assert batch.texts["text"] == [texts[0], None, None, texts[0], None, texts[5]]
    assert (reader.failed, reader.cut) == (3, {("text", "thinking_cut"): 1})


def test_the_tile_of_a_caption_is_its_image_not_its_own_number(tmp_path):
    file = json_lines(tmp_path / "x.jsonl", {"id": 7, "image_id": 3, "caption": "a"},
                      {"id": 8, "caption": "b"})  # fmt: skip
    assert read(file)[1][0].ids == ["3", None]


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
    "names.csv": (b"a,b\n1,2\n", "none of the columns a, b is known to hold captions"),
    "empty.csv": (b"text\n", "holds no rows"),
    "nothing.csv": (b"", "holds no rows"),
    "quote.csv": (b'id,text\n1,"a\n2,b\n3,c\n', "row that begins at line 2 is not CSV"),
    "quotes.csv": (b'id,text\n1,ok\n2,"a\n3,"b"\n4,"c"\n', "row that begins at line 3 is not CSV"),
    "alike.csv": (b"text,tree,TREE,Shrub,Grass,Crop,Built-up,Barren,Water\nx,0,0,0,0,0,0,0,1\n",
                  "columns tree and TREE both mean Tree; rename one"),
    "notes.txt": (b"text\nx\n", "cannot tell its format from the suffix '.txt'"),
    "broken.jsonl": (b'{"text": "x"}\n{text\n', "line 2 is not JSON"),
    "list.jsonl": (b'["x"]\n', "line 1 holds list, not an object"),
    "number.jsonl": (b'{"text": 5}\n', "line 1, column text: 5 is not a text"),
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
