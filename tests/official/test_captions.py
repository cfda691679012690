"""captions.csv is read as it is found; a line that is no record says why."""

import csv
import io
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.official.names import HEADER, STREAMS
from builder.official.streams import MOST_FIELD, Record, UnreadableLine, records

REAL = Path(__file__).parents[3] / "shared/data/aras400k_captions"
LINE = [
    "N36E032_000_001.png",
    "test",
    *["52", "0", "42", "0", "0", "0", "6"],
    *(f"text, {s}" for s in STREAMS),
]


def table(*lines: list[str] | tuple[str, ...], end: str = "\n") -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerows(lines)
    return out.getvalue().encode()


def read(data: bytes, group: str | None = None) -> list[Record | UnreadableLine]:
    return list(records(io.BytesIO(data), "captions.csv", group))


def test_a_line_becomes_a_record() -> None:
    assert read(table(HEADER, LINE)) == [
        Record(
            2,
            "test",
            "N36E032_000_001",
            (52, 0, 42, 0, 0, 0, 6),
            dict(zip(STREAMS, LINE[9:], strict=True)),
        )
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + table(HEADER, LINE),
        table(HEADER, LINE, end="\r\n"),
        table(HEADER, LINE).rstrip(b"\n"),
        table(HEADER, LINE) + b"\n\n",
    ],
    ids=["BOM", "CRLF", "no last line end", "blank lines"],
)
def test_byte_order_mark_and_line_ends_change_nothing(data: bytes) -> None:
    assert read(data) == read(table(HEADER, LINE))


def test_columns_are_found_by_name_in_any_order() -> None:
    order = list(reversed(range(len(HEADER))))
    shuffled = table([HEADER[i] for i in order], [LINE[i] for i in order])
    assert read(shuffled) == read(table(HEADER, LINE))


def test_a_repeated_header_is_told_and_its_order_holds_from_there_on() -> None:
    order = list(reversed(range(len(HEADER))))
    first, bad, second = read(
        table(HEADER, LINE, [HEADER[i] for i in order], [LINE[i] for i in order])
    )
    assert bad == UnreadableLine(3, "filename", "repeated header line")
    assert second == first._replace(line=4)


def test_lines_within_quotes_count_as_lines_of_the_file() -> None:
    broken = [*LINE[:-1], "one\ntwo"]
    first, second = read(table(HEADER, broken, LINE))
    assert (first.line, second.line) == (2, 4)
    assert first.texts[next(reversed(STREAMS))] == "one\ntwo"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({2: "52.5"}, "not a whole percentage: Tree = '52.5'"),
        ({2: "101"}, "not a whole percentage: Tree = '101'"),
        ({3: ""}, "not a whole percentage: Shrub = ''"),
        ({3: "nan"}, "not a whole percentage: Shrub = 'nan'"),
        ({1: "trian"}, "unknown split: 'trian', expected train, val, test or synth"),
        ({0: "../../x.png"}, "bad name: '../../x.png' cannot be an id"),
        ({0: ""}, "bad name: '' cannot be an id"),
    ],
)
def test_a_cell_that_cannot_be_right_is_named(change: dict[int, str], reason: str) -> None:
    line = [change.get(i, cell) for i, cell in enumerate(LINE)]
    bad, good = read(table(HEADER, line, LINE))
    assert bad == UnreadableLine(2, line[0], reason)
    assert isinstance(good, Record)


def test_percentages_written_as_whole_floats_are_whole() -> None:
    line = [*LINE[:2], *(f"{cell}.0" for cell in LINE[2:9]), *LINE[9:]]
    assert read(table(HEADER, line)) == read(table(HEADER, LINE))


def test_a_line_with_too_few_or_too_many_fields_is_told() -> None:
    few, many = read(table(HEADER, LINE[:-1], [*LINE, "more"]))
    assert few.reason == "wrong number of fields: 13, expected 14"
    assert many.reason == "wrong number of fields: 15, expected 14"


def test_bytes_that_are_not_utf_8_cost_their_line_only() -> None:
    data = table(HEADER, LINE, LINE).replace(b"text, hybrid", b"text\xff hybrid", 1)
    bad, good = read(data)
    assert (bad.line, bad.reason) == (2, "not UTF-8")
    assert isinstance(good, Record)


def test_an_unclosed_quote_swallows_a_bounded_part() -> None:
    lines = table(HEADER, *[LINE] * 2000)
    start = lines.index(b"\n") + 1
    data = lines[:start] + b'"' + lines[start:]
    lines_read = read(data)
    bad = [line for line in lines_read if isinstance(line, UnreadableLine)]
    assert bad
    assert all("not readable as CSV" in line.reason for line in bad)
    assert len(lines_read) - len(bad) > 2000 - 2 * MOST_FIELD // len(lines.splitlines()[1])


def test_a_quote_that_is_never_closed_before_the_end_is_told() -> None:
    lines_read = read(table(HEADER, LINE) + b'"open,')
    assert [type(line) for line in lines_read] == [Record, UnreadableLine]


def test_missing_streams_and_percentages_are_none() -> None:
    header = ("filename", "split", "text_qwen3-4b")
    (record,) = read(table(header, ("a.png", "val", "words")))
    assert record.percent is None
    assert record.texts == {"text_qwen3-4b": "words"}


def test_the_place_says_the_split_where_no_column_does() -> None:
    header = ("filename", *CLASSES)
    (record,) = read(table(header, ("a.png", *LINE[2:9])), "synth")
    assert record.group == "synth"
    with pytest.raises(ArasError, match="no column split"):
        read(table(header, ("a.png", *LINE[2:9])))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (table(LINE), "first line is not a header"),
        (table(("filename", "split")), "neither percentages nor captions"),
    ],
)
def test_a_table_without_a_usable_header_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ArasError, match=rf"captions\.csv: .*{message}"):
        read(data)


def test_validation_is_another_word_for_val() -> None:
    (record,) = read(table(HEADER, [LINE[0], "validation", *LINE[2:]]))
    assert record.group == "val"


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared caption rows are not there")
@pytest.mark.parametrize(("file", "rows", "group"), [("real", 13, "test"), ("synth", 11, "synth")])
def test_rows_as_they_were_published_are_read_whole(file: str, rows: int, group: str) -> None:
    records_read = read((REAL / f"{file}_captions_head.csv").read_bytes())
    assert [record.group for record in records_read] == [group] * rows
    for record in records_read:
        assert isinstance(record, Record)
        assert sum(record.percent or ()) == 100
        assert len(record.texts) == 5
        assert all(record.texts.values())
