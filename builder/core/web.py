"""The network: one retry policy, one session maker, safe addresses, and no secret in a message."""

import contextlib
import datetime
import email.utils
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from builder import __version__
from builder.core import budgets
from builder.core.errors import ArasError

T = TypeVar("T")

TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses that a later attempt may cure: proxies and hosts have their own beyond 504."""
THROTTLED = frozenset({429, 503})
"""Statuses of a request that was turned away before anything was done."""
LONGEST_WAIT = 120.0


def status_of(error: BaseException) -> int | None:
    """HTTP status carried by an error of requests, huggingface_hub (httpx) or of aras; or None."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def is_transient(error: BaseException) -> bool:
    """True for what a later attempt may cure: dropped connections, time-outs, 429 and 5xx."""
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT
    # clients built on httpx are recognised by name: it is not a dependency of aras.
    names = {kind.__name__ for kind in type(error).__mro__}
    network = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    chunked = requests.exceptions.ChunkedEncodingError
    return isinstance(error, (*network, chunked)) or "TransportError" in names


def retry_after(error: BaseException) -> float | None:
    """Seconds that a throttling answer asks for, from Retry-After or the Hub's RateLimit; None
    where it asks for nothing that can be read."""
    if status_of(error) not in THROTTLED:  # Zenodo sends Retry-After: 3600 with every answer
        return None
    headers: Any = getattr(getattr(error, "response", None), "headers", {})
    value = headers.get("Retry-After")
    if value is None:
        spent = re.search(r"\br=0;t=(\d+)", headers.get("RateLimit", ""))  # "api";r=0;t=55
        return float(spent[1]) if spent else None
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", value):
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:  # the oldest form names no zone: it is UTC
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None  # neither seconds nor a date: wait as for any other failure


def in_words(wait: float) -> str:
    """A wait in seconds, for messages: "at once", "in 0.5 s", "in 12 s"."""
    if wait < 0.05:
        return "at once"
    return f"in {wait:.1f} s" if wait < 10 else f"in {wait:.0f} s"


def retrying(
    call: Callable[[], T],
    *,
    attempts: int = 6,
    base: float = 0.5,
    retry_if: Callable[[BaseException], bool] = is_transient,
    on_retry: Callable[[BaseException, float], None] | None = None,
) -> T:
    """Call until it succeeds, at most ``attempts`` times; the last error is raised unchanged.

    Waits grow exponentially from ``base`` seconds with jitter, or as long as a 429/503 asks for
    (capped at two minutes). ``on_retry(error, wait)`` is called before each wait.
    """
    backoff = tenacity.wait_exponential_jitter(initial=base, max=30, jitter=base)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = retry_after(error) if error else None
        return min(asked, LONGEST_WAIT) if asked is not None else backoff(state)

    def report(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if on_retry and error is not None and state.next_action:
            on_retry(error, state.next_action.sleep)

    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(retry_if),
        before_sleep=report,
        reraise=True,
    )
    return policy(call)


TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""


def new_session(jobs: int = 1, seconds: float | None = None) -> requests.Session:
    """A session for ``jobs`` threads; proxies, netrc and CA bundles come from the environment.

    An answer that is not streamed has at most `budgets.ANSWER_BYTES`, its body arrives within
    ``seconds`` (`budgets.ANSWER_SECONDS`) and its head within twice the time-out of its request,
    however slowly bytes drip.
    Raises requests.ReadTimeout, or RequestException for a larger one.
    """
    session = requests.Session()
    # Range and Content-Length count bytes as stored, so the body must not be compressed.
    session.headers.update({"User-Agent": f"aras/{__version__}", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(pool_maxsize=jobs))

    def hold(answer: requests.Response, **how: Any) -> None:
        if not how.get("stream") or answer.is_redirect:
            # requests has no public way to read a body within bounds
            answer._content = read_body(answer, seconds)

    session.hooks["response"].append(hold)
    return session


def chunks(answer: requests.Response, size: int, seconds: float | None = None) -> Iterator[bytes]:
    """A streamed body in pieces of ``size`` bytes; requests.ReadTimeout when the next one is not
    there within twice ``seconds`` (`budgets.ANSWER_SECONDS`)."""
    seconds = seconds or budgets.ANSWER_SECONDS
    pieces, ended, stalled = [0, -1], threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            if pieces[0] == pieces[1]:
                stalled.set()
                with contextlib.suppress(OSError, RuntimeError, ValueError):  # closed already
                    answer.raw.shutdown()
                return
            pieces[1] = pieces[0]

    threading.Thread(target=watch, daemon=True).start()
    try:
        for piece in answer.iter_content(size):
            pieces[0] += 1
            yield piece
    except (requests.RequestException, OSError):
        if not stalled.is_set():
            raise
    finally:
        ended.set()
    if stalled.is_set():
        raise requests.ReadTimeout(f"fewer than {size:,} bytes within {seconds:g} s")


def read_body(
    answer: requests.Response,
    seconds: float | None = None,
    most: int = budgets.ANSWER_BYTES,
) -> bytes:
    """The body of a streamed answer, within ``seconds`` (`budgets.ANSWER_SECONDS`) or
    requests.ReadTimeout.

    Raises requests.RequestException for more than ``most`` bytes.
    """
    held = bytearray()
    with _within(seconds or budgets.ANSWER_SECONDS, answer.raw.shutdown):
        for piece in answer.iter_content(1 << 16):
            held += piece
            if len(held) > most:
                answer.close()
                raise requests.RequestException(f"the server answers with more than {most:,} bytes")
    return bytes(held)


@contextlib.contextmanager
def _within(seconds: float, end: Callable[[], object]) -> Iterator[None]:
    """Call ``end``, which makes reading fail, after ``seconds``; then requests.ReadTimeout."""
    over = threading.Event()

    def stop() -> None:
        over.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it is closed already
            end()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        raise requests.ReadTimeout(f"no whole answer within {seconds:g} s")


class _TimedHead:
    """A connection that waits for the head of an answer at most twice its time-out."""

    def getresponse(self) -> Any:
        connection: Any = self
        if connection.sock is None or not isinstance(connection.timeout, (int, float)):
            return super().getresponse()  # type: ignore[misc]
        try:
            with _within(
                2 * connection.timeout, lambda: connection.sock.shutdown(socket.SHUT_RDWR)
            ):
                return super().getresponse()  # type: ignore[misc]
        except requests.ReadTimeout as error:
            raise TimeoutError(str(error)) from error  # as urllib3 knows it


class _Plain(_TimedHead, HTTPConnection):
    pass


class _Encrypted(_TimedHead, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = _Encrypted


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}


def is_secure(url: str) -> bool:
    """Whether ``url`` is https, or http to this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(str(parts.hostname)))
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def secure(url: str) -> str:
    """``url`` without a trailing slash; ArasError unless `is_secure`: nothing is read from it."""
    if not is_secure(url):
        raise ArasError(
            f"{url!r} is not a safe address; expected https://HOST (http is for this machine only)"
        )
    return url.rstrip("/")


def checked_address(url: str, option: str) -> str:
    """``url`` without a trailing slash; ArasError unless a token may be sent to it.

    It must be `secure` and hold no password, query or fragment. ``option`` names it in messages,
    which repeat nothing but the host where a secret may be in it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        raise ArasError(f"{option}: must not hold a user or password; the token says who you are")
    if parts.query or parts.fragment:
        raise ArasError(f"{option} {host}: must not hold '?' or '#'; expected https://HOST")
    if parts.scheme not in ("http", "https") or not host:
        raise ArasError(f"{option} {url}: is not a web address; expected https://HOST")
    if not is_secure(url):
        raise ArasError(
            f"{option} {url}: plain http would send the token unencrypted; use https:// "
            "(http is for a server on this machine only)"
        )
    return url.rstrip("/")


_SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{6,}|(?i:(?<=bearer )\S+)"
    r"|(?i:(?<=signature=)|(?<=token=)|(?<=credential=))[^&\s\"']+"
)
"""A token of the Hub, a bearer token, and the secret parts of a signed address."""


def redact(text: str, token: str | None = None) -> str:
    """``text`` without ``token``, plain or quoted for an address, nor anything like `_SECRETS`."""
    if token:
        text = text.replace(token, "[redacted]").replace(quote(token), "[redacted]")
    return _SECRETS.sub("[redacted]", text)


def unreachable(url: str, error: BaseException) -> ArasError:
    """What to say when no server answers at ``url``: the cause and the ways out."""
    return ArasError(
        f"cannot reach {url}: {reason(error)}; check the network, the proxy settings (HTTPS_PROXY) "
        "and --base-url"
    )


def reason(error: BaseException) -> str:
    """A network or file error in a few words: the status, or the innermost cause."""
    response = getattr(error, "response", None)
    if isinstance(response, requests.Response):
        return f"the server answers {response.status_code} {response.reason}".rstrip()
    for _ in range(10):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    # urllib3 puts its connection object in front of the words that matter.
    return re.sub(r"^<?[\w.]+\(.*?\)>?: ", "", str(text))
