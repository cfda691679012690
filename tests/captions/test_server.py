import base64
import dataclasses
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.captions.ask import Ask
from builder.captions.base import Answer, Running
from builder.captions.checked import Checked
from builder.captions.server import Server, body, read_answer
from builder.core.errors import ArasError, RunEnded, WorkFailed
from tests.loopback.openai import TEXT, Asked, Fault, OpenAIServer, completion, first, openai_server
from tests.makers.caption_requests import request, requests

ASK = Ask("tiny", "Land cover: {{ percentages }}. Describe it.", ("image", "composition"))
KEY = "sk-very-secret-0123"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


def backend(server: OpenAIServer, ask: Ask = ASK, **running: Any) -> Server:
    return Server(ask, Running(base_url=server.url, **{"timeout": 20.0, "retries": 2, **running}))


def test_every_row_is_asked_once_and_answered_in_order(server: OpenAIServer) -> None:
    server.fault_of = lambda asked: Fault(text=f"About {asked.prompt}"[:60])
    rows = requests(6)
    answers = backend(server).caption(rows)
    assert len(server.log) == 6
    assert {request.path for request in server.log} == {"/v1/chat/completions"}
    for row, answer in zip(rows, answers, strict=True):
        said = body(ASK, row)["messages"][0]["content"][1]["text"]
        assert answer.text == f"About {said}"[:60]
        assert answer.revision == "tiny-2026-01-05"
        assert answer.counts == {"prompt_tokens": 50, "new_tokens": 12}


def test_the_request_carries_prompt_image_and_decoding(server: OpenAIServer) -> None:
    ask = dataclasses.replace(
        ASK, system="Be brief.", decoding="sample", temperature=0.7, top_p=0.8, top_k=20,
        extra='{"repetition_penalty":1.1}',
    )  # fmt: skip
    row = request(seed=2**40 + 5)
    backend(server, ask).caption([row])
    sent = server.log[0].body
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    url = sent["messages"][1]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == row.image
    settings = {name: value for name, value in sent.items() if name != "messages"}
    assert settings == {
        "model": "tiny", "max_tokens": 100, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
        "seed": 5, "repetition_penalty": 1.1,
    }  # fmt: skip


def test_text_streams_send_a_plain_string_and_own_decoding_no_temperature() -> None:
    ask = Ask("tiny", "{{ composition }}", ("composition",), decoding="model")
    sent = body(dataclasses.replace(ask, extra='{"max_completion_tokens":300}'), request(seed=4))
    assert isinstance(sent["messages"][0]["content"], str)
    assert set(sent) == {"model", "messages", "seed", "max_completion_tokens"}
    assert body(dataclasses.replace(ask, decoding="greedy"), request())["temperature"] == 0


def test_at_most_so_many_requests_are_under_way(server: OpenAIServer) -> None:
    server.wait_for = 3
    answers = backend(server, concurrency=3).caption(requests(9))
    assert server.busiest == 3
    assert all(answer.text == TEXT for answer in answers)


def test_a_row_is_asked_again_while_others_are_under_way(server: OpenAIServer) -> None:
    rows = requests(2)
    client = backend(server, concurrency=2)
    poor, slow = (body(client.ask, row)["messages"] for row in rows)
    third, waited = threading.Event(), []

    def fault_of(asked: Asked) -> Fault | None:
        if asked.body["messages"] != poor:
            return None
        attempts = sum(sent.body["messages"] == poor for sent in server.log)
        if attempts == 3:
            third.set()
            return None
        return Fault(finish="length")

    def hold(asked: Asked) -> None:
        if asked.body["messages"] == slow:
            waited.append(third.wait(20))

    server.fault_of, server.hold = fault_of, hold
    answers = Checked(client, attempts=3).caption(rows)
    assert waited == [True]  # in rounds the slow row would have waited for nothing
    assert [answer.text for answer in answers] == [TEXT, TEXT]
    assert [answer.counts["attempts"] for answer in answers] == [3, 1]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers=(("Retry-After", "0"),)),
        Fault(status=503, headers=(("Retry-After", "0"),)),
        Fault(status=500),
        Fault(status=507),
        Fault(status=529),
        Fault(status=598),
        Fault(drop=True),
        Fault(raw='{"error": {"message": "overloaded", "type": "overloaded_error"}}'),
        Fault(raw='{"error": {"message": "busy", "code": 502}}'),
        Fault(raw='{"error": "internal error"}'),
        Fault(raw='{"choices": [{"error": {"code": 503}, "finish_reason": "error"}]}'),
        Fault(
            status=429,
            raw='{"error": {"message": "You exceeded your current quota for this "}}',
            headers=(("Retry-After", "0"),),
        ),
    ],
)
def test_passing_faults_are_tried_again(server: OpenAIServer, fault: Fault) -> None:
    server.fault_of = first(fault)
    assert backend(server).caption([request()])[0].text == TEXT
    assert len(server.log) == 2


def test_a_slow_answer_times_out_and_is_asked_again(server: OpenAIServer) -> None:
    server.fault_of = first(Fault(hang=True))
    assert backend(server, timeout=0.3).caption([request()])[0].text == TEXT
    assert len(server.log) == 2


def test_a_fault_that_lasts_is_the_error_of_its_row_alone(server: OpenAIServer) -> None:
    rows = requests(4)
    bad = body(ASK, rows[2])["messages"][0]["content"][1]["text"]
    throttled = Fault(status=429, headers=(("Retry-After", "0"),))
    server.fault_of = lambda asked: throttled if asked.prompt == bad else None
    answers = backend(server).caption(rows)
    assert [answer.text for answer in answers] == [TEXT, TEXT, None, TEXT]
    assert "429 Too Many Requests (fault 429)" in (answers[2].error or "")
    assert not answers[2].flawed
    assert sum(asked.prompt == bad for asked in server.log) == 3


@pytest.mark.parametrize(
    ("fault", "words", "flawed"),
    [
        (Fault(raw="<html>busy</html>"), "is not JSON: <html>busy</html>", False),
        (Fault(raw='{"hello": 1}'), "is not a chat completion", False),
        (Fault(raw='{"choices": []}'), "is not a chat completion", False),
        (Fault(raw="null"), "is not a chat completion", False),
        (Fault(raw="[" * 100_000), "is not JSON: [[[", False),
        (Fault(raw='{"nonsense \\ud800": 1}'), 'is not a chat completion: {"nonsense ?"', False),
        (Fault(text="A forest \ud800 here"), "undecodable characters", True),
        (Fault(finish="\ud800"), "finish_reason = '?'", True),
        (Fault(status=400, raw="[" * 100_000), "400 Bad Request ([[[", False),
        (Fault(text=""), "empty text", True),
        (Fault(text=None), "empty text", True),
        (Fault(text=["Fields."]), "is not a text", True),
        (Fault(text="Fields and", finish="length"), "cut at max_new_tokens = 100", True),
        (Fault(finish="content_filter"), "finish_reason = 'content_filter'", True),
        (Fault(finish=None), "finish_reason = None", True),
        (Fault(text="Error: the model failed"), "error message", True),
        (Fault(status=400), "400 Bad Request (fault 400)", False),
        (Fault(status=307, headers=(("Location", "http://elsewhere/"),)), "redirects", False),
    ],
)
def test_nonsense_is_an_error_of_its_row_and_never_a_caption(
    server: OpenAIServer, fault: Fault, words: str, flawed: bool
) -> None:
    rows = requests(2)
    bad = body(ASK, rows[0])["messages"][0]["content"][1]["text"]
    server.fault_of = lambda asked: fault if asked.prompt == bad else None
    answers = backend(server).caption(rows)
    assert answers[0].text is None
    assert words in (answers[0].error or "")
    assert answers[0].flawed is flawed
    assert answers[1].text == TEXT


def test_tokens_of_a_flawed_answer_are_counted_too() -> None:
    answer = read_answer(completion("", "stop"), 100)
    assert (answer.text, answer.counts) == (None, {"prompt_tokens": 50, "new_tokens": 12})


@pytest.mark.parametrize("count", [-1, 10**30, True, 1.5, "50", None, [1]])
def test_a_count_of_tokens_that_cannot_be_is_not_counted(count: Any) -> None:
    reply = completion() | {"usage": {"prompt_tokens": count, "completion_tokens": 12}}
    assert read_answer(reply, 100) == Answer(
        TEXT, revision="tiny-2026-01-05", counts={"new_tokens": 12}
    )


def test_the_name_of_a_model_is_kept_as_valid_text() -> None:
    assert read_answer(completion() | {"model": "tiny \ud800"}, 100).revision == "tiny ?"


def test_thinking_is_cut_off_an_answer() -> None:
    assert read_answer(completion(f"<think>well, well</think>\n{TEXT}"), 100).text == TEXT


@pytest.mark.parametrize("status", [401, 402, 403, 404, 413])
def test_a_server_that_refuses_everything_is_not_asked_for_every_row(
    server: OpenAIServer, status: int
) -> None:
    server.fault_of = lambda asked: Fault(status=status)
    with pytest.raises(WorkFailed, match=rf"{status} .*\(fault {status}\); "):
        backend(server, concurrency=1).caption(requests(20))
    assert len(server.log) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"message": "slow down", "code": "insufficient_quota"}),
        (429, {"message": "slow down", "type": "insufficient_quota"}),
        (429, {"message": "You exceeded your current quota, please check your plan."}),
        (200, {"message": "Insufficient credits", "code": 402}),
        (403, {"message": "Your account has not enough balance"}),
        (200, {"message": "no", "type": "authentication_error"}),
    ],
)
def test_a_spent_quota_ends_the_asking_at_once(
    server: OpenAIServer, status: int, error: dict[str, Any]
) -> None:
    server.fault_of = lambda asked: Fault(status=status, raw=json.dumps({"error": error}))
    client = backend(server, concurrency=1)
    for _ in range(2):  # nor is the next shard asked
        with pytest.raises(RunEnded, match=re.escape(error["message"])):
            client.caption(requests(20))
    assert len(server.log) == 1


def test_an_invalid_request_inside_an_answer_is_the_error_of_its_row(server: OpenAIServer) -> None:
    error = {"message": "prompt too long", "type": "invalid_request_error"}
    server.fault_of = first(Fault(raw=json.dumps({"error": error})))
    answers = backend(server, concurrency=1).caption(requests(2))
    assert [answer.text for answer in answers] == [None, TEXT]
    assert "400 inside a 200 answer (prompt too long)" in (answers[0].error or "")


def test_no_server_is_said_so_after_the_retries() -> None:
    with openai_server() as gone:
        url = gone.url
    client = Server(ASK, Running(base_url=url, retries=0, concurrency=1))
    with pytest.raises(WorkFailed, match=r"refused; is the server running\?"):
        client.caption(requests(3))


def test_a_server_that_never_answers_is_given_up(server: OpenAIServer) -> None:
    server.fault_of = lambda asked: Fault(hang=True)
    with pytest.raises(WorkFailed, match="timed out"):
        backend(server, timeout=0.2, retries=0, concurrency=2).caption(requests(20))
    assert len(server.log) <= 4


def test_rows_answered_before_the_server_went_are_kept(server: OpenAIServer) -> None:
    answered: list[int] = []

    def refuse_after_two(asked: object) -> Fault | None:
        answered.append(1)
        return Fault(status=401) if len(answered) > 2 else None

    server.fault_of = refuse_after_two
    answers = backend(server, concurrency=1).caption(requests(5))
    assert [answer.text for answer in answers] == [TEXT, TEXT, None, None, None]
    assert "not asked" in (answers[4].error or "")
    assert len(server.log) == 3


def test_the_key_comes_from_the_environment_and_is_never_told(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_KEY", KEY)
    client = backend(server, api_key_env="TINY_KEY")
    assert client.caption([request()])[0].text == TEXT
    assert server.log[0].headers["authorization"] == f"Bearer {KEY}"
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})
    server.fault_of = lambda asked: Fault(status=401, raw=error)
    with pytest.raises(WorkFailed) as caught:
        client.caption([request()])
    assert KEY not in str(caught.value)
    assert "Incorrect API key provided: [redacted]" in str(caught.value)
    assert "$TINY_KEY" in str(caught.value)


def test_netrc_does_not_replace_the_key(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("TINY_KEY", KEY)
    backend(server, api_key_env="TINY_KEY").caption([request()])
    assert server.log[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_missing_key_or_one_that_would_go_in_clear_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TINY_KEY", raising=False)
    with pytest.raises(ArasError, match="TINY_KEY is not set"):
        Server(ASK, Running(base_url="https://example.org/v1", api_key_env="TINY_KEY"))
    monkeypatch.setenv("TINY_KEY", KEY)
    with pytest.raises(ArasError, match="in clear text") as caught:
        Server(ASK, Running(base_url="http://example.org/v1", api_key_env="TINY_KEY"))
    assert KEY not in str(caught.value)
    Server(ASK, Running(base_url="http://example.org/v1"))


def test_a_row_without_an_image_fails_alone(server: OpenAIServer) -> None:
    rows = requests(2)
    bare = dataclasses.replace(rows[0], image=None)
    answers = backend(server).caption([bare, rows[1]])
    assert "has no image" in (answers[0].error or "")
    assert answers[1].text == TEXT
