"""The HTTP under the calls to Zenodo: token in a header, one retry policy, streamed bodies."""

from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from builder.errors import ArasError, CorruptFile, WorkFailed
from builder.publish.address import checked_address
from builder.retry import in_words, is_transient, retrying, status_of

TIMEOUT = (30, 600)
"""Seconds to connect, and to wait for an answer (Zenodo hashes a whole file before it answers)."""

Say = Callable[[str], None]
Tick = Callable[[int], None]
Again = Callable[[BaseException], bool]
T = TypeVar("T")


class ZenodoError(WorkFailed):
    """A call that failed for good; ``status`` is None when no answer came."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def ambiguous(self) -> bool:
        """True when the server may have done what it was asked, all the same."""
        return self.status is None or self.status == 408 or self.status >= 500


class TokenRefused(ArasError):
    """No token, or one that Zenodo does not accept for this."""


class Http:
    """Requests to one server: the token is sent in a header and redacted from every message.

    ``variable`` names where the token came from, for messages; ``base`` is the first wait between
    attempts in seconds; ``say`` is told of every retry.
    """

    def __init__(self, url: str, token: str, variable: str, agent: str, say: Say, base: float):
        self.url, self.variable, self.say, self.base = url, variable, say, base
        self._auth = _Bearer(token)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = agent

    def call(self, method: str, address: str, again: Again = is_transient, **options: Any) -> Any:
        """The JSON answer to a request, retried while ``again`` says so.

        Raises TokenRefused for 401 and 403, ZenodoError for every other failure.
        """
        what = f"{method} {urlsplit(address).path}"
        return self.retried(lambda: self.send(method, address, **options), what, again)

    def retried(self, call: Callable[[], T], what: str, again: Again = is_transient) -> T:
        """The result of ``call``, retried, with failures told as `call` tells them."""

        hide = self._auth.redact

        def tell(error: BaseException, wait: float) -> None:
            self.say(hide(f"{what}: {_words(error)}; again {in_words(wait)}"))

        try:
            return retrying(call, base=self.base, retry_if=again, on_retry=tell)
        except requests.RequestException as error:
            status, said = status_of(error), _words(error)
        if status in (401, 403):
            raise TokenRefused(
                hide(f"{self.url} refused the token ({what}: {said}): {self.variable} must hold ")
                + "a token of the record's owner, with the scopes deposit:write and deposit:actions"
            )
        raise ZenodoError(hide(f"{self.url}: {what}: {said}"), status)

    def send(self, method: str, address: str, **options: Any) -> Any:
        """One attempt; raises requests' own errors."""
        # A redirected POST would turn into a GET; only reading may follow.
        response = self._session.request(
            method,
            address,
            auth=self._auth,
            timeout=TIMEOUT,
            allow_redirects=method == "GET",
            **options,
        )
        if not 200 <= response.status_code < 300:
            raise requests.HTTPError(response=response)
        if response.status_code == 204 or not response.content:
            return {}
        try:
            return response.json()
        except ValueError as error:
            raise requests.ConnectionError("the answer is not JSON") from error


class _Bearer(AuthBase):
    """The token as a header; given as ``auth`` so that a .netrc cannot take its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def redact(self, text: str) -> str:
        return text.replace(self._token, "[token]").replace(quote(self._token), "[token]")


class Body:
    """A stream of known length that tells of each piece sent."""

    def __init__(self, stream: IO[bytes], length: int, tick: Tick) -> None:
        self._stream, self._length, self._tick = stream, length, tick
        self.sent = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(1 << 20):
            yield piece

    def read(self, size: int = -1) -> bytes:
        left = self._length - self.sent
        piece = self._stream.read(left if size < 0 else min(size, left))
        if left and size and not piece:
            raise CorruptFile(
                f"{self._stream.name}: ends after {self.sent} of {self._length} bytes; "
                "it changed while it was sent"
            )
        self.sent += len(piece)
        self._tick(len(piece))
        return piece


def checked_url(url: str, *, production: bool) -> str:
    """A server's base URL without trailing slash or /api, or ArasError.

    Refused beyond what every address must be: zenodo.org and its sandbox when the token that would
    be sent is the other's.
    """
    base = checked_address(url, "--url").removesuffix("/api")
    host = urlsplit(base).hostname
    if host == "zenodo.org" and not production:
        raise ArasError(f"{base} is where publishing is for good: add --production")
    if host == "sandbox.zenodo.org" and production:
        raise ArasError(f"{base} is the sandbox: leave out --production")
    return base


def throttled(error: BaseException) -> bool:
    """True for the one refusal that says for sure that nothing was done."""
    return status_of(error) == 429


def _words(error: BaseException) -> str:
    """What went wrong, in the server's words where it has some."""
    response = getattr(error, "response", None)
    if response is None:
        return f"{type(error).__name__}: {error}"
    return f"{response.status_code} {_said(response)}"


def _said(response: requests.Response) -> str:
    try:
        body = response.json()
        faults = [
            f"{fault.get('field')}: {' '.join(fault.get('messages') or [fault.get('message', '')])}"
            for fault in body.get("errors") or []
        ]
        return " ".join([str(body.get("message", response.reason)), *faults])[:500]
    except (ValueError, AttributeError, TypeError):
        return str(response.reason)  # a gateway's HTML
