"""What may heal is tried again; a token goes to safe addresses only and into no message."""

import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from builder.core.errors import ArasError
from builder.core.web import (
    LONGEST_WAIT,
    checked_address,
    chunks,
    in_words,
    is_transient,
    new_session,
    read_body,
    redact,
    retry_after,
    retrying,
    secure,
)
from tests.loopback.trickle import trickling


def answer(status: int, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError(f"status {status}", response=response)


class TransportError(Exception):
    """Named as httpx names the base of its network errors."""


class ReadTimeout(TransportError):
    pass


def failing(*errors: BaseException) -> tuple[Callable[[], int], list[int]]:
    """A call that raises each of the errors once, then returns how often it was called."""
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return len(calls)

    return call, calls


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        *((answer(status), True) for status in (408, 425, 429, *range(500, 600))),
        *((answer(status), False) for status in (400, 401, 402, 403, 404, 409, 410, 412, 413, 416)),
        (requests.ConnectionError("refused"), True),
        (requests.ReadTimeout("slow"), True),
        (requests.exceptions.ChunkedEncodingError("cut"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ReadTimeout(), True),
        (requests.exceptions.InvalidURL("x"), False),
        (ValueError("a bug"), False),
        (OSError(28, "No space left on device"), False),
    ],
    ids=lambda error: repr(error)[:40],
)
def test_only_what_may_heal_is_transient(error: BaseException, heals: bool) -> None:
    assert is_transient(error) is heals


def test_a_call_that_heals_returns_and_tells_of_every_wait() -> None:
    errors = [answer(503), ConnectionResetError("dropped")]
    call, calls = failing(*errors)
    waits: list[tuple[BaseException, float]] = []
    assert retrying(call, base=0.001, on_retry=lambda *retry: waits.append(retry)) == 3
    assert [error for error, _ in waits] == errors
    assert len(calls) == 3
    assert all(0 < wait < 0.01 for _, wait in waits)


def test_the_last_error_is_raised_as_it_is() -> None:
    errors = [answer(500), answer(502), answer(504), answer(503)]
    call, calls = failing(*errors)
    with pytest.raises(requests.HTTPError) as raised:
        retrying(call, attempts=3, base=0.001)
    assert raised.value is errors[2]
    assert len(calls) == 3


@pytest.mark.parametrize("error", [answer(404), ValueError("a bug"), KeyboardInterrupt()])
def test_what_will_not_heal_is_raised_at_once(error: BaseException) -> None:
    call, calls = failing(error)
    with pytest.raises(type(error)):
        retrying(call, base=0.001)
    assert len(calls) == 1


def test_the_caller_may_know_better_what_heals() -> None:
    call, _calls = failing(ValueError(), ValueError())
    assert retrying(call, base=0.001, retry_if=lambda e: isinstance(e, ValueError)) == 3


def test_a_throttling_answer_says_how_long_to_wait() -> None:
    call, _ = failing(answer(429, Retry_After="0"), answer(503, Retry_After="0"))
    waits: list[float] = []
    retrying(call, base=30, on_retry=lambda _, wait: waits.append(wait))
    assert waits == [0.0, 0.0]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "+5",
        "1e3",
        "inf",
        "nan",
        "²",
        "٣",
        "5, 5",
        "0x10",
        "9" * 400,
        "Mon, 99 Xxx",
    ],
)
def test_a_wait_that_is_nonsense_is_not_asked_for(value: str) -> None:
    assert retry_after(answer(429, Retry_After=value)) is None


def test_the_wait_asked_for_is_read_in_every_form() -> None:
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    past = email.utils.formatdate(time.time() - 100, usegmt=True)
    assert retry_after(answer(429, Retry_After=" 7 ")) == 7.0
    assert retry_after(answer(503, Retry_After="0.5")) == 0.5
    moment = time.gmtime(time.time() + 100)
    for form in ("%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"):  # the two obsolete ones
        assert 90 < (retry_after(answer(503, Retry_After=time.strftime(form, moment))) or 0) <= 100
    assert 90 < (retry_after(answer(503, Retry_After=soon)) or 0) <= 100
    assert retry_after(answer(503, Retry_After=past)) == 0.0
    assert retry_after(answer(429, RateLimit='"api";r=0;t=55')) == 55.0


@pytest.mark.parametrize(
    "error",
    [
        answer(429),
        answer(429, Retry_After="soon"),
        answer(429, RateLimit='"api";r=12;t=55'),
        answer(500, Retry_After="7"),  # a server may send it with anything
        ConnectionResetError(),
    ],
    ids=["no header", "no number", "quota left", "no throttling", "no answer"],
)
def test_without_a_wait_asked_for_the_backoff_decides(error: Any) -> None:
    assert retry_after(error) is None


def test_no_server_makes_us_wait_longer_than_two_minutes() -> None:
    waits: list[float] = []

    class Enough(Exception):
        pass

    def stop(_: BaseException, wait: float) -> None:
        waits.append(wait)
        raise Enough

    with pytest.raises(Enough):
        retrying(failing(answer(429, Retry_After="86400"))[0], on_retry=stop)
    assert waits == [LONGEST_WAIT]


@pytest.mark.parametrize(
    ("wait", "text"),
    [(0.0, "at once"), (0.04, "at once"), (0.5, "in 0.5 s"), (9.94, "in 9.9 s"), (120, "in 120 s")],
)
def test_a_wait_is_told_as_a_person_would(wait: float, text: str) -> None:
    assert in_words(wait) == text


@pytest.mark.parametrize(
    "address",
    ["https://huggingface.co", "http://127.0.0.1:80/", "http://[::1]:9", "http://localhost"],
)
def test_https_anywhere_and_http_on_this_machine_are_safe(address: str) -> None:
    assert checked_address(address, "--endpoint") == secure(address) == address.rstrip("/")


@pytest.mark.parametrize(
    "address",
    ["http://mirror.example", "http://localhost.evil.example", "ftp://127.0.0.1", "mirror", ""],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ArasError, match="https://"):
        secure(address)
    with pytest.raises(ArasError, match=r"--url .*https://"):
        checked_address(address, "--url")


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ArasError) as caught:
        checked_address("https://me:secret@hub.example.org", "--endpoint")
    assert "secret" not in str(caught.value)


def test_a_secret_in_the_query_is_refused_and_not_repeated() -> None:
    with pytest.raises(ArasError, match=r"--url hub\.example\.org: must not hold") as caught:
        checked_address("https://hub.example.org/?token=secret", "--url")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Invalid token hf_abcdefGHIJK0123",
        "Authorization: Bearer abcdefGHIJK0123",
        "PUT https://s3/x?X-Amz-Credential=abcdefGHIJK0123&part=1",
        "PUT https://s3/x?X-Amz-Signature=abcdefGHIJK0123",
        "GET https://hub/x?token=abcdefGHIJK0123&y=1",
        "the token is s3lf+hosted abcdefGHIJK0123",
        "GET https://hub/s3lf%2Bhosted%20abcdefGHIJK0123?x=1",
    ],
)
def test_secrets_are_cut_out_of_any_text(text: str) -> None:
    clean = redact(text, "s3lf+hosted abcdefGHIJK0123")
    assert "abcdefGHIJK0123" not in clean
    assert "[redacted]" in clean


def test_what_is_not_a_secret_stays() -> None:
    text = "HTTP 404: https://hub/datasets/org/hf_a/resolve/main/x.parquet?download=true"
    assert redact(text, "hf_token0123") == redact(text) == text


@pytest.mark.parametrize("how", ["head", "body", "deaf", "tls"])
def test_an_answer_that_drips_ends_in_time(how: str) -> None:
    with trickling(how) as url, pytest.raises(requests.ReadTimeout):
        new_session(seconds=0.2).get(url, timeout=0.2)


def test_a_server_that_reads_no_upload_ends_in_time() -> None:
    with trickling("deaf") as url, pytest.raises(requests.ConnectionError, match="timed out"):
        new_session().put(url, data=bytes(50 << 20), timeout=0.2)


def test_a_download_that_drips_ends_in_time() -> None:
    with (
        trickling() as url,
        new_session().get(url, stream=True) as answer,
        pytest.raises(requests.ReadTimeout, match="fewer than 500 bytes within"),
    ):
        list(chunks(answer, 500, seconds=0.2))


def test_an_answer_beyond_the_budget_is_not_held() -> None:
    with (
        trickling(size=20) as url,
        new_session().get(url, stream=True) as answer,
        pytest.raises(requests.RequestException, match="more than 10 bytes"),
    ):
        read_body(answer, most=10)


def test_an_answer_within_the_budget_is_whole() -> None:
    with trickling(size=20) as url:
        answer = new_session().get(url, timeout=5)
    assert answer.content == bytes(20)
    assert answer.ok
