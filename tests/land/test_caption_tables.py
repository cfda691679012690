"""Reading caption files: every format, every shape of captions, and complaints that help."""

import contextlib
import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.errors import ArasError
from builder.land.caption_tables import Reader
from builder.land.classes import CLASSES
from tests.makers.fuzz import tries

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


def test_a_list_of_captions_is_several_captions_of_one_image(tmp_path):
    file = json_lines(tmp_path / "x.jsonl", {"id": "a", "captions": ["one", "", "two"]},
                      {"id": "b", "captions": ["three"]}, {"id": "c", "captions": []})  # fmt: skip
    reader, (batch,) = read(file)
    assert batch.texts == {"captions": ["one", "", "two", "three", None]}
    assert batch.ids == ["a", "a", "a", "b", "c"]
    assert reader.per_image == {"a": 3, "b": 1, "c": 1}


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
    assert (reader.failed, reader.cut) == (2, {("text", "thinking_cut"): 1})


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
    "bytes.csv": (b"text\nfine\nf\x81ne\n", "byte 0x81 is neither UTF-8 nor CP1252"),
    "fields.csv": (b"id,text\n1,a, b\n", "line 2 ends a row of 3 fields, the header has 2"),
    "classes.csv": (b"text,Tree,Grass\nx,1,2\n", "not Shrub, Crop, Built-up, Barren, Water"),
    "names.csv": (b"a,b\n1,2\n", "of the columns a, b none holds captions; name"),
    "empty.csv": (b"text\n", "holds no rows"),
    "nothing.csv": (b"", "holds no rows"),
    "quote.csv": (b'id,text\n1,"a\n2,b\n3,c\n', "row that begins at line 2 is not CSV"),
    "quotes.csv": (b'id,text\n1,ok\n2,"a\n3,"b"\n4,"c"\n', "row that begins at line 3 is not CSV"),
    "alike.csv": (b"text,tree,TREE,Shrub,Grass,Crop,Built-up,Barren,Water\nx,0,0,0,0,0,0,0,1\n",
                  "columns tree and TREE both mean Tree; rename one"),
    "notes.txt": (b"text\nx\n", "cannot tell its format from the suffix '.txt'"),
    "broken.jsonl": (b'{"text": "x"}\n{text\n', "line 2 is not JSON"),
    "list.jsonl": (b'["x"]\n', "line 1 holds list, not an object"),
    "number.jsonl": (b'{"text": 5}\n', "of the columns text none holds captions"),
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


FIRST, SECOND = "A dense forest, by a river.", 'A "bare" hill; it\'s dry.'


def texts_of(path, *text):
    """The captions of every stream, one list."""
    _, batches = read(path, *text)
    return [text for batch in batches for texts in batch.texts.values() for text in texts]


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".csv.gz", ".tsv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_in_any_dialect_is_read(tmp_path, suffix, delimiter, end):
    file = tmp_path / f"x{suffix}"
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end)
    writer.writerows([["id", "caption"], ["1", FIRST], ["2", SECOND]])
    data = stream.getvalue().encode()
    file.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    assert texts_of(file) == [FIRST, SECOND]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_a_table_in_any_encoding_is_read_and_said_where_it_was_guessed(tmp_path, encoding):
    file = tmp_path / "x.csv"
    caption = "Une forêt près d’une rivière."
    file.write_bytes(f"id,caption\n1,{caption}\n".encode(encoding))
    reader, (batch,) = read(file)
    assert batch.texts["caption"] == [caption]
    guessed = [note for note in reader.notes if "it is not UTF-8" in note]
    assert bool(guessed) == ("utf-8" not in encoding)


def test_quotes_that_stand_for_themselves_in_a_tab_separated_file_are_kept(tmp_path):
    file = tmp_path / "x.tsv"
    file.write_text('caption\turl\n"a" forest by a river\tu\n"a hill\tv\n')
    assert texts_of(file) == ['"a" forest by a river', '"a hill']


def test_quotes_escaped_by_a_backslash_are_read(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text('id,caption\n1,"a \\"dense\\" forest, by a river"\n')
    assert texts_of(file) == ['a "dense" forest, by a river']


def test_a_table_without_header_has_numbered_columns(tmp_path):
    file = tmp_path / "x.tsv"
    file.write_text("a.jpg#0\tA forest by a river .\na.jpg#1\tTrees and some water .\n")
    reader, (batch,) = read(file)
    assert batch.texts["2"] == ["A forest by a river .", "Trees and some water ."]
    assert "no header line: columns are called 1, 2, …" in reader.notes


LISTS = {
    "python": repr([FIRST, SECOND]),
    "json": json.dumps([FIRST, SECOND]),
    "tuple": repr((FIRST, SECOND)),
    "numpy": str(np.array([FIRST, SECOND])),
    "numpy repr": repr(np.array([FIRST, SECOND])),
    "objects": repr(np.array([FIRST, SECOND], dtype=object)),
    "R": f"c({json.dumps(FIRST)}, {json.dumps(SECOND)})",
    "with a gap": repr([FIRST, None, SECOND]),
    "escapes": json.dumps([FIRST, SECOND]).replace("A", "\\u0041"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_captions_that_was_written_as_text_is_a_list(tmp_path, kind):
    file = tmp_path / "x.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["filename", "sentence"], ["a.tif", LISTS[kind]]])
    assert [text for text in texts_of(file) if text is not None] == [FIRST, SECOND]


@pytest.mark.parametrize("empty", ["[]", "()", "[ ]", "array([], dtype=object)"])
def test_an_empty_list_that_was_written_as_text_is_a_missing_caption(tmp_path, empty):
    rows = [["a.tif", repr([FIRST])], ["b.tif", empty]]
    with (tmp_path / "x.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["filename", "sentence"], *rows])
    reader, (batch,) = read(tmp_path / "x.csv")
    assert (batch.ids, batch.texts) == (["a.tif", "b.tif"], {"sentence": [FIRST, None]})
    assert reader.per_image == {"a.tif": 1, "b.tif": 1}


@pytest.mark.parametrize("text", ["[A forest] by a river", "['old'] forest here", "(a) a forest"])
def test_a_caption_that_begins_with_a_bracket_is_no_list(tmp_path, text):
    assert texts_of(json_lines(tmp_path / "x.jsonl", {"caption": text})) == [text]


def test_a_list_that_was_shortened_when_it_was_written_is_refused(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("caption\n\"['a forest' 'a hill' ... 'a lake']\"\n")
    with pytest.raises(ArasError, match="line 2, column caption: holds a list that was shortened"):
        read(file)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.string()),
        pa.list_(pa.string(), 2),
        pa.list_(pa.binary()),
    ],
)
def test_lists_of_any_arrow_type_are_read(tmp_path, kind):
    captions = pa.array([[FIRST, SECOND], [SECOND, FIRST]], pa.list_(pa.string())).cast(kind)
    pq.write_table(pa.table({"id": ["a", "b"], "captions": captions}), tmp_path / "x.parquet")
    assert texts_of(tmp_path / "x.parquet") == [FIRST, SECOND, SECOND, FIRST]


MISSING = [
    *("", " ", "\xa0", "NA", "N/A", "nan", "NaN", "<NA>", "None", "NULL", "null", "-", "--", "?"),
    *("#N/A", "#NAME?", "#VALUE!", "#REF!", "#DIV/0!"),
]


def test_missing_values_of_any_tool_are_missing(tmp_path):
    file = write_csv(
        tmp_path / "x.csv", ["id", "caption"], [[1, "A forest."]] + [[2, m] for m in MISSING]
    )
    assert texts_of(file) == ["A forest.", *[None] * len(MISSING)]
    lines = tmp_path / "x.jsonl"
    lines.write_text('{"caption": "A forest."}\n{"caption": NaN}\n{"caption": null}\n{}\n')
    assert texts_of(lines) == ["A forest.", None, None, None]


@pytest.mark.parametrize(
    ("header", "row", "stream"),
    [
        ("image,caption_number,caption,id", "a.jpg,0,A forest by a river,7", "caption"),
        ("caption,category,caption_length", "A forest by a river,3,5", "caption"),
        ("caption_id,caption_text", "a#0,A forest by a river", "caption_text"),
        ("caption_score,sentence", "0.5,A forest by a river", "sentence"),
        ("text,caption_a,caption_b", "note,A forest by a river,A hill by a lake", "caption_a"),
        ("file,note", "a.jpg,A forest by a river", "note"),
        ("text,raw", "12,A forest by a river", "raw"),
    ],
)
def test_the_text_column_is_chosen_by_its_content_and_never_numbers(tmp_path, header, row, stream):
    (tmp_path / "x.csv").write_text(f"{header}\n{row}\n")
    assert next(iter(read(tmp_path / "x.csv")[1][0].texts)) == stream


def test_two_columns_of_sentences_are_not_chosen_between(tmp_path):
    (tmp_path / "x.csv").write_text("first,second\nA forest here,A hill there\n")
    with pytest.raises(ArasError, match="first and second all hold sentences; name the caption"):
        read(tmp_path / "x.csv")


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("caption,caption\na forest,a hill\n")
    with pytest.raises(ArasError, match="several columns called 'caption'; give each its own name"):
        read(tmp_path / "x.csv")


KARPATHY = {
    "dataset": "x",
    "images": [
        {"filename": "a.tif", "split": "test", "sentences": [{"raw": FIRST, "tokens": ["a"]}]},
        {"filename": "b.tif", "split": "test", "sentences": [{"raw": SECOND}, {"raw": FIRST}]},
    ],
}
COCO = {
    "images": [{"id": 1, "file_name": "a.tif"}, {"id": 2, "file_name": "b.tif"}],
    "annotations": [
        {"id": 10, "image_id": 1, "caption": FIRST},
        {"id": 11, "image_id": 2, "caption": SECOND},
        {"id": 12, "image_id": 2, "caption": FIRST},
    ],
}
ROWS_OF_JSON = [{"filename": "a.tif", "caption": FIRST}, {"filename": "b.tif", "caption": SECOND},
                {"filename": "b.tif", "caption": FIRST}]  # fmt: skip
BY_IMAGE = {"a.tif": [FIRST], "b.tif": [SECOND, FIRST]}
FRAME = {
    "filename": {"0": "a.tif", "1": "b.tif", "2": "b.tif"},
    "caption": {"0": FIRST, "1": SECOND, "2": FIRST},
}


@pytest.mark.parametrize("document", [KARPATHY, COCO, ROWS_OF_JSON, BY_IMAGE, FRAME])
def test_json_of_every_usual_kind_is_read(tmp_path, document):
    (tmp_path / "x.json").write_text(json.dumps(document, indent=1))
    reader, (batch,) = read(tmp_path / "x.json")
    (texts,) = batch.texts.values()
    assert list(zip(batch.ids, texts, strict=True)) == [
        ("a.tif", FIRST), ("b.tif", SECOND), ("b.tif", FIRST)]  # fmt: skip
    assert reader.per_image == {"a.tif": 1, "b.tif": 2}


def test_binary_texts_and_missing_columns_of_parquet_are_read(tmp_path):
    pq.write_table(pa.table({"caption": pa.array([b"A forest."])}), tmp_path / "b.parquet")
    assert texts_of(tmp_path / "b.parquet") == ["A forest."]
    pq.write_table(pa.table({"caption": pa.array([b"\xff\xfe"])}), tmp_path / "c.parquet")
    with pytest.raises(ArasError, match="row 1, column caption: is binary and not UTF-8"):
        read(tmp_path / "c.parquet")
    pq.write_table(pa.table({"captions": [[b"A forest.", b"\xff"]]}), tmp_path / "l.parquet")
    with pytest.raises(ArasError, match="row 1, column captions: is binary and not UTF-8"):
        read(tmp_path / "l.parquet")
    empty = pa.array([float("nan")])
    table = pa.table({"caption_a": ["A forest."], "caption_b": empty})
    pq.write_table(table, tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet")[1][0].texts == {
        "caption_a": ["A forest."],
        "caption_b": [None],
    }


def test_a_folder_that_datasets_saved_is_read(tmp_path):
    rows = [{"image_id": "a", "caption": FIRST}, {"image_id": "b", "caption": SECOND}]
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "x")
    assert texts_of(tmp_path / "x") == [FIRST, SECOND]


def test_webdataset_shards_are_read(tmp_path):
    for number, caption in enumerate((FIRST, SECOND)):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for suffix, data in (
                (".png", b"png"),
                (".txt", caption.encode()),
                (".json", b'{"x": 1}'),
            ):
                member = tarfile.TarInfo(f"tile{number}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    reader, (batch,) = read(tmp_path)
    assert batch.texts["caption"] == [FIRST, SECOND]
    assert batch.ids == ["tile0", "tile1"]
    assert "2 .tar files" in reader.notes


@tries(150)
@given(
    st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".csv.gz", ".tar"])
)
def test_any_bytes_are_read_or_refused(tmp_path, data, suffix):
    file = tmp_path / f"x{suffix}"
    file.write_bytes(b"id,caption\n1," + data if suffix == ".csv" else data)
    with contextlib.suppress(ArasError):
        read(file)


@tries(150)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_lists_in_cells_lose_no_caption(tmp_path, rows):
    rows = [["A plain caption.", *row] for row in rows]
    for kind, written in (("python", repr), ("json", json.dumps)):
        file = tmp_path / f"{kind}.csv"
        with file.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(
                [["id", "captions"], *([i, written(r)] for i, r in enumerate(rows))]
            )
        assert len(texts_of(file)) == sum(map(len, rows))


def cut_list(path: Path) -> Path:
    return write_csv(path / "a.csv", ["image", "captions"], [["a", "['A forest.' "], ["b", "c"]])


def cut_tar(path: Path) -> Path:
    with tarfile.open(path / "whole.tar", "w") as archive:
        for name in ("a.txt", "b.txt"):
            member = tarfile.TarInfo(name)
            member.size = 9
            archive.addfile(member, io.BytesIO(b"A forest."))
    (path / "a.tar").write_bytes((path / "whole.tar").read_bytes()[:1500])
    return path / "a.tar"


def bomb(path: Path) -> Path:
    """2,000 captions of 1 MB, of which the file holds one."""
    long = pa.DictionaryArray.from_arrays(
        pa.array([0] * 2000, pa.int32()), pa.array(["x y " * (1 << 18)])
    )
    how = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    pq.write_table(pa.table({"caption": long}), path / "a.parquet", **how)
    return path / "a.parquet"


def many_digits(path: Path) -> Path:
    (path / "a.jsonl").write_text('{"image": ' + "9" * 5000 + ', "caption": "A lake."}\n')
    return path / "a.jsonl"


@pytest.mark.parametrize(
    ("maker", "why"),
    [
        (cut_list, "line 2, column captions: a list that begins and does not end"),
        (cut_tar, "is cut short"),
        (bomb, r"row group 0 repeats a text of 1,048,576 bytes in column caption until"),
        (many_digits, "a number of too many digits"),
    ],
)
def test_what_would_lose_rows_or_memory_is_refused(tmp_path, maker, why):
    with pytest.raises(ArasError, match=why):
        read(maker(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("excel.csv", "sep=;\nimage;caption\na;A forest.\nb;A lake.\n"),
        ("without_header.csv", "a,A forest.\nb,A lake.\n"),
        ("lines.json", '{"image":"a","caption":"A forest."}\n{"image":"b","caption":"A lake."}\n'),
    ],
)
def test_every_line_of_a_table_is_a_row(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    _, (batch,) = read(tmp_path / name)
    assert [*batch.texts.values()] == [["A forest.", "A lake."]]


def test_an_annotation_of_an_image_that_is_not_listed_counts_as_an_image_of_its_own(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}]
    annotations = [{"image_id": n, "caption": f"A lake, {n}."} for n in (1, 1, 9)]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    reader, _ = read(path)
    assert sorted(reader.per_image.values()) == [1, 2]


def test_an_empty_object_among_sentences_is_a_missing_caption(tmp_path):
    images = [{"filename": "a.png", "sentences": [{"raw": "A forest."}, {"raw": None}, {}]}]
    path = tmp_path / "k.json"
    path.write_text(json.dumps({"images": images}))
    _, (batch,) = read(path)
    assert [*batch.texts.values()] == [["A forest.", None, None]]
