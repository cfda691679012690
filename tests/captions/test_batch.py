import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from builder.captions import batch
from builder.captions.ask import Ask
from builder.captions.base import Answer
from builder.captions.server import body
from builder.core.errors import ArasError
from tests.loopback.openai import TEXT, completion
from tests.makers.caption_requests import requests

ASK = Ask("tiny", "Land cover: {{ percentages }}.", ("composition",))


def written(folder: Path, n: int = 5) -> list[dict[str, Any]]:
    files, count = batch.write_requests(folder, "hosted", ASK, requests(n))
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert count == len(lines)
    return lines


def result(line: dict[str, Any], answer_body: Any = None, status: int = 200) -> str:
    response = {"status_code": status, "request_id": "r", "body": answer_body or completion()}
    entry = {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}
    return json.dumps(entry) + "\n"


def test_requests_are_lines_of_the_batch_format(tmp_path: Path) -> None:
    rows = requests(5)
    lines = written(tmp_path)
    assert [line["custom_id"].partition(":")[2] for line in lines] == [row.id for row in rows]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert [answers["body"] for answers in lines] == [body(ASK, row) for row in rows]
    assert [path.name for path in tmp_path.iterdir()] == ["hosted-00001.jsonl"]


def test_files_stay_within_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REQUESTS", 2)
    assert len(written(tmp_path / "count")) == 5
    sizes = [len(p.read_text().splitlines()) for p in sorted((tmp_path / "count").iterdir())]
    assert sizes == [2, 2, 1]
    monkeypatch.setattr(batch, "MAX_BYTES", 10)
    assert len(written(tmp_path / "size")) == 5
    assert len(list((tmp_path / "size").iterdir())) == 5


def test_nothing_to_ask_writes_no_file(tmp_path: Path) -> None:
    assert batch.write_requests(tmp_path / "out", "hosted", ASK, []) == ([], 0)
    assert not (tmp_path / "out").exists()


def test_results_answer_rows_in_any_order_and_missing_ones_say_so(tmp_path: Path) -> None:
    lines = written(tmp_path)
    path = tmp_path / "results.jsonl"
    path.write_text(
        result(lines[3], completion("Fields.", "length"))
        + "\n"
        + result(lines[2], {"error": {"message": "too large"}}, status=400)
        + json.dumps({"custom_id": lines[1]["custom_id"], "response": None, "error": "expired"})
        + "\n"
        + result(lines[0])
    )
    answer = batch.Results(ASK, [path]).caption(requests(5))
    assert answer[0] == Answer(
        TEXT, revision="tiny-2026-01-05", counts={"prompt_tokens": 50, "new_tokens": 12}
    )
    errors = [answer.error or "" for answer in answer]
    assert "expired" in errors[1]
    assert "400" in errors[2]
    assert "too large" in errors[2]
    assert "cut at" in errors[3]
    assert "hold no answer" in errors[4]
    assert all(failed.text is None for failed in answer[1:])


def test_nonsense_in_a_result_is_an_error_of_its_row(tmp_path: Path) -> None:
    lines = written(tmp_path)
    path = tmp_path / "results.jsonl"
    path.write_text(
        result(lines[0], completion("A forest \ud800 here"))
        + result(lines[1], {"error": "\ud800"}, status=400)
        + result(lines[2])
    )
    first, second, third = batch.Results(ASK, [path]).caption(requests(3))
    assert (first.text, first.flawed) == (None, True)
    assert "undecodable characters" in str(first.error)
    assert str(second.error).encode()
    assert third.text == TEXT


def test_results_of_another_prompt_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(map(result, written(tmp_path))))
    other = dataclasses.replace(ASK, prompt="Composition: {{ percentages }}.")
    with pytest.raises(
        ArasError, match="none of the 5 results answers the stream's current requests"
    ):
        batch.Results(other, [path])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"custom_id": "x:1", "method": "POST", "body": {}}\n', "line 1: is not a result"),
        ("\n[1]\n", "line 2: is not a result"),
        ("{broken\n", "line 1: is not JSON"),
        ("[" * 100_000, "line 1: is not JSON"),
        ("9" * 5_000, "line 1: is not JSON"),
        ("\ufeff", "is not JSON"),
    ],
)
def test_a_file_that_holds_no_results_is_named_with_its_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(ArasError, match=rf"results\.jsonl, line \d+: is|{words}") as caught:
        batch.Results(ASK, [path])
    assert words in str(caught.value)


def test_a_folder_of_results_is_read_whole_and_an_empty_one_refused(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match=r"neither a result file nor a folder with \.jsonl"):
        batch.result_files(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "note.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in batch.result_files(tmp_path)] == ["a.jsonl", "b.jsonl"]
    assert batch.result_files(tmp_path / "a.jsonl") == (tmp_path / "a.jsonl",)
