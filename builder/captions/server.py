"""Chat completions of any OpenAI-compatible server (vLLM, Ollama, a hosted API), and its client."""

import base64
import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests as http
from urllib3.exceptions import NewConnectionError

from builder.captions.ask import Ask
from builder.captions.base import Answer, Running, answer_of
from builder.core.errors import ArasError, RunEnded
from builder.core.web import (
    is_secure,
    is_transient,
    new_session,
    reason,
    redact,
    retrying,
    status_of,
)
from builder.land import prompts
from builder.land.prompts import Request

_FATAL = {401, 402, 403, 404, 413}
"""Answers that every other row would get as well: a wrong key, model or address, no credit, or a
request larger than the server takes."""
_STATUS = (
    (402, r"insufficient_quota|insufficient_credits|billing|payment|credit_balance|quota_exceeded"),
    (401, r"invalid_api_key|authentication|unauthorized"),
    (403, r"permission|forbidden"),
    (429, r"rate_?limit|too_?many|resource_exhausted|throttl"),
    (503, r"overloaded|unavailable|capacity"),
    (504, r"time_?out|deadline"),
    (404, r"model_not_found|not_found"),
    (
        400,
        r"invalid_?request|invalid_argument|context_length|bad_request|content_policy|moderation",
    ),
)
"""What codes and types of errors in an answer mean, the first that fits."""
_SPENT = re.compile(
    r"(exceeded|insufficient|out of|no remaining|not enough|run out of)\b.{0,40}"
    r"\b(quota|credits?|balance|funds)\b|payment required",
    re.IGNORECASE,
)


WHOLE = ("stop", "eos", "eos_token", "end_turn")
"""Finish reasons of an answer that ended by itself."""

_SEEDS = 1 << 31

MAX_TOKENS = 10_000_000
"""More tokens than an answer costs: a usage beyond it, or below 0, is nonsense and not counted."""


def body(ask: Ask, request: Request) -> dict[str, Any]:
    """The chat completion request of a tile. Raises ArasError when the tile lacks what the
    stream sees."""
    text = prompts.render(ask.prompt, ask.sees, request)
    content: Any = text
    if "image" in ask.sees:
        if request.image is None:
            raise ArasError(f"{request.id}: has no image, which this stream sees")
        data = base64.b64encode(request.image).decode("ascii")
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
            {"type": "text", "text": text},
        ]
    messages = [{"role": "user", "content": content}]
    if ask.system:
        messages.insert(0, {"role": "system", "content": ask.system})
    payload: dict[str, Any] = {"model": ask.model, "messages": messages}
    extra = json.loads(ask.extra)
    if "max_completion_tokens" not in extra:  # the newer name of the same limit
        payload["max_tokens"] = ask.max_new_tokens
    if ask.decoding == "greedy":
        payload["temperature"] = 0
    if ask.decoding == "sample":
        payload |= {"temperature": ask.temperature, "top_p": ask.top_p}
        if ask.top_k:
            payload["top_k"] = ask.top_k
    if ask.decoding != "greedy":
        payload["seed"] = request.seed % _SEEDS
    return {**payload, **extra}


def read_answer(completion: Any, limit: int) -> Answer:
    """A server's chat completion as an answer; any other answer is an error of that row.

    ``limit`` is the asked max_new_tokens, for the message of a cut text.
    """
    try:
        choice = completion["choices"][0]
        text, finish = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError):
        return Answer(None, f"the server's answer is not a chat completion: {short(completion)}")
    used = completion.get("usage")
    used = used if isinstance(used, dict) else {}
    counts = {
        name: used[key]
        for name, key in (("prompt_tokens", "prompt_tokens"), ("new_tokens", "completion_tokens"))
        if type(used.get(key)) is int and 0 <= used[key] <= MAX_TOKENS
    }
    if finish == "length":
        why = f"cut at max_new_tokens = {limit}, before an end token"
    elif finish not in WHOLE:
        why = f"the server ended the text with finish_reason = {(finish and short(finish))!r}"
    elif text is not None and not isinstance(text, str):
        why = f"the server's answer is not a text: {short(text)}"
    else:
        name = completion.get("model")
        return answer_of(
            text or "", counts, revision=short(name) if isinstance(name, str) else None
        )
    return Answer(None, why, flawed=True, counts=counts)


class Server:
    """Asks a chat completion per row, always ``concurrency`` at a time.

    Dropped connections, time-outs, 429, 5xx and errors inside an answer are tried again with
    growing waits; what still fails is the error of its row. When the server is gone, refuses the
    key, the model or the size of a request, or the quota is spent, the rows not yet asked are not
    asked, and no later ones either: the run ends.
    """

    def __init__(self, ask: Ask, running: Running) -> None:
        self.ask, self.running = ask, running
        self.model = ask.model
        self.revision = ask.revision
        self.url = f"{running.base_url}/chat/completions"
        self._key = _key(running)
        self._session = new_session(running.concurrency, running.timeout)
        self._over = ""

    @property
    def prompt(self) -> str:
        return self.ask.instructions

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request; see `follow`."""
        return self.follow(requests, lambda i, answer: None)

    def follow(
        self, requests: Sequence[Request], after: Callable[[int, Answer], Request | None]
    ) -> list[Answer]:
        """One answer per request, the last; ``after`` is called with each answer as it comes, on
        the thread that asked, and names the request to send next in its place. So ``concurrency``
        requests are under way until there are fewer rows left.

        Raises RunEnded when no row was answered because the server is not there, or refuses
        everything, saying what it said.
        """
        if self._over:
            raise RunEnded(self._over)
        closed, alive = threading.Event(), threading.Event()
        answers: list[Answer | None] = [None] * len(requests)
        with ThreadPoolExecutor(self.running.concurrency) as pool:
            asked = [
                pool.submit(self._row, i, request, after, closed, alive)
                for i, request in enumerate(requests)
            ]
            try:
                for i, future in enumerate(asked):
                    answers[i] = future.result()
            except BaseException:
                closed.set()
                raise
        whole = [answer for answer in answers if answer is not None]
        if closed.is_set():
            self._over = next((answer.error for answer in whole if answer.error), None) or ""
            if not any(answer.text or answer.flawed for answer in whole):
                raise RunEnded(self._over)
        return whole

    def _row(
        self,
        i: int,
        request: Request,
        after: Callable[[int, Answer], Request | None],
        closed: threading.Event,
        alive: threading.Event,
    ) -> Answer:
        """The last answer of a row."""
        while True:
            answer = self._ask(request, closed, alive)
            following = after(i, answer)
            if following is None:
                return answer
            request = following

    def _ask(self, request: Request, closed: threading.Event, alive: threading.Event) -> Answer:
        if closed.is_set():
            return Answer(None, f"not asked: {self.running.base_url} no longer answers")
        try:
            payload = body(self.ask, request)
            completion = retrying(
                lambda: self._post(payload, closed),
                attempts=self.running.retries + 1,
                retry_if=lambda error: is_transient(error) and not _is_spent(error),
            )
        except ArasError as error:
            return Answer(None, str(error))
        except (http.RequestException, OSError) as error:
            hung = isinstance(error, http.Timeout) and not alive.is_set()
            if status_of(error) in _FATAL or _is_spent(error) or _unreachable(error) or hung:
                closed.set()
            return Answer(None, self._words(error))
        return read_answer(completion, self.ask.max_new_tokens)

    def _post(self, payload: dict[str, Any], closed: threading.Event) -> Any:
        """The decoded answer. Raises what requests raises, and ArasError for what is not JSON."""
        if closed.is_set():
            raise ArasError(f"not asked again: {self.running.base_url} no longer answers")
        answer = self._session.post(
            self.url,
            json=payload,
            timeout=(min(10.0, self.running.timeout), self.running.timeout),
            auth=self._authorise,
            allow_redirects=False,
        )
        if answer.is_redirect:
            raise ArasError(f"{self.url} redirects elsewhere; give that address as base_url")
        answer.raise_for_status()
        try:
            value = answer.json()
        except (ValueError, RecursionError) as error:
            raise ArasError(f"the server's answer is not JSON: {short(answer.text)}") from error
        if inside := _error_inside(value):
            answer.status_code, answer.reason = _status_of(inside), "inside a 200 answer"
            raise http.HTTPError(response=answer)
        return value

    def _authorise(self, request: http.PreparedRequest) -> http.PreparedRequest:
        # As an auth object, so that an entry in ~/.netrc does not replace it.
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _words(self, error: BaseException) -> str:
        """A failure in words that never hold the key, with the server's own and the way out."""
        text = f"{self.url}: {reason(error)}"
        response = getattr(error, "response", None)
        if response is not None:
            text += f" ({_server_words(response)})"
        if status_of(error) in (401, 403):
            key = self.running.api_key_env
            text += (
                f"; is the key in ${key} right?"
                if key
                else "; name the variable with the key: api_key_env = …"
            )
        if status_of(error) == 402 or _is_spent(error):
            text += "; add credit there, then run the same command again"
        if status_of(error) == 413:
            text += "; the request is too large for this server: use smaller tiles or another one"
        if status_of(error) == 404:
            text += f"; base_url usually ends in /v1, and the server must know {self.model}"
        if response is None:
            text += "; is the server running?"
        return redact(text, self._key)


def _key(running: Running) -> str:
    """The API key from the environment. Raises ArasError when it is unset or would go in clear."""
    name = running.api_key_env
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ArasError(
            f"the environment variable {name} is not set; put the server's API key there "
            f"(export {name}=…)"
        )
    if not is_secure(running.base_url):
        raise ArasError(
            f"base_url = {running.base_url!r} would send the key in clear text; use https, or "
            "leave api_key_env out for a server that needs no key"
        )
    return key


def _error_inside(value: Any) -> Any:
    """The error in an answer that calls itself a success: at its top, or in its choice."""
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return value.get("error") or (first.get("error") if isinstance(first, dict) else None)


def _status_of(inside: Any) -> int:
    """The HTTP status that an error inside an answer stands for; 500 where it does not say."""
    said = inside if isinstance(inside, dict) else {"message": inside}
    values = [said.get(name) for name in ("code", "status", "status_code", "http_status", "type")]
    for value in values:
        if str(value).isascii() and str(value).isdigit() and 400 <= int(str(value)[:4]) <= 599:
            return int(str(value))
    return _status_in_words(said) or 500


def _status_in_words(said: dict[str, Any]) -> int | None:
    words = " ".join(str(said.get(name)) for name in ("code", "status", "type")).lower()
    return next((status for status, pattern in _STATUS if re.search(pattern, words)), None)


def _is_spent(error: BaseException) -> bool:
    """Whether an answer says that a quota or credit is used up, which no waiting cures."""
    response = getattr(error, "response", None)
    if not isinstance(response, http.Response) or status_of(error) not in (402, 403, 429):
        return False
    try:
        inside = _error_inside(response.json())
    except (ValueError, RecursionError):
        inside = response.text[:2000]
    if isinstance(inside, dict) and _status_in_words(inside) == 402:
        return True
    asks_to_wait = "Retry-After" in response.headers
    return not asks_to_wait and bool(_SPENT.search(_server_words(response)))


def _unreachable(error: BaseException) -> bool:
    """True when no connection could be made, unlike a break within an answer."""
    cause = error.args[0] if error.args else None
    return isinstance(error, http.ConnectTimeout) or isinstance(
        getattr(cause, "reason", None), NewConnectionError
    )


def _server_words(response: http.Response) -> str:
    """The message inside an error answer, or the beginning of whatever it is."""
    try:
        message = response.json()
        inner = message.get("error", message)
        text = inner["message"] if isinstance(inner, dict) else inner
    except (ValueError, KeyError, AttributeError, RecursionError):
        text = response.text
    return short(text)


def short(value: Any) -> str:
    """At most 200 characters of what a server said, whatever it is, as valid Unicode."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "something nested too deeply"
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    return text if len(text) <= 200 else f"{text[:199]}…"
