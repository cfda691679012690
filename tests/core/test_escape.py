"""Text of others is shown by Markdown, spreadsheets, terminals and LaTeX, never interpreted."""

import csv
import io
import json
import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from builder.core.errors import ArasError
from builder.core.escape import csv_cell, latex, markdown, one_line, terminal
from builder.core.files import write_csv

MARKUP = [
    "# no heading",
    "a | b",
    "`code` ``more``",
    "[text](https://example.org)",
    "![picture](https://example.org/x.png)",
    "<script>alert(1)</script>",
    "<!-- hidden",
    "**bold** _slanted_ ~~gone~~",
    "- item",
    "1. item",
    "12) item",
    "---",
    "===",
    "> quote",
    "&lt;b&gt; & co",
    "back\\slash \\` twice",
    "$x^2$",
    "two\nlines\r\nand\ta tab",
    "land_cover of name_",
    "\x1b[31mred\x1b[0m \u202egnp.exe",
]
RENDER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(page: str) -> str:
    return unescape(page)


@pytest.mark.parametrize("text", MARKUP)
def test_markdown_shows_the_text_as_it_is(text: str) -> None:
    page = RENDER.render(markdown(text))
    assert shown(page) == f"<p>{one_line(text)}</p>\n"
    cell = RENDER.render(f"| a | b |\n|---|---|\n| {markdown(text)} | end |\n")
    assert f"<td>{one_line(text)}</td>\n<td>end</td>" in shown(cell)
    assert shown(RENDER.render(f"# {markdown(text)}\n")) == f"<h1>{one_line(text)}</h1>\n"


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_no_text_is_markup_in_a_cell(text: str) -> None:
    page = RENDER.render(f"| a | b |\n|---|---|\n| {markdown(text)} | end |\n")
    tags = re.findall(r"<(\w+)", page)
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\n=1"])
def test_a_cell_of_a_csv_is_never_a_formula(text: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["name", text], [-1, -0.5, "-0.5", "+1e-3", "a=b", None]])
    rows = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text(), newline="")))
    assert rows[0] == ["name", f"'{text}"]
    assert rows[1] == ["-1", "-0.5", "-0.5", "+1e-3", "a=b", ""]
    assert csv_cell(text) == f"'{text}"


def test_a_terminal_shows_what_it_would_act_on() -> None:
    hostile = "a\x1b]0;title\x07\x9b2J\u202eb\r\x00"
    assert terminal(hostile) == "a\\u001b]0;title\\u0007\\u009b2J\\u202eb\\u000d\\u0000"
    assert terminal("two\nlines\tand Çağlar → –") == "two\nlines\tand Çağlar → –"
    assert json.loads(terminal(json.dumps({"k": hostile}, ensure_ascii=False))) == {"k": hostile}


def test_an_error_reaches_the_terminal_without_escape_sequences() -> None:
    from builder.cli import Failure

    assert "\x1b" not in Failure(ArasError("file \x1b[2Jx.parquet: missing")).message


def test_what_latex_would_interpret_is_escaped() -> None:
    assert latex("Vision & Language: 100 % of land_cover #1, $5") == (
        r"Vision \& Language: 100 \% of land\_cover \#1, \$5"
    )
    assert latex("a\\b ~ {c}^d\n e") == (
        r"a\textbackslash{}b \textasciitilde{} \{c\}\textasciicircum{}d e"
    )
