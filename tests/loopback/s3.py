"""A real S3 server (moto's) on loopback, with faults between it and its clients."""

import contextlib
import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "tiles"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "secret-that-nobody-may-see",
    "AWS_REGION": "us-east-1",
}

Fault = Callable[["Request"], Iterable[bytes] | None]
"""What is done instead of answering; None to answer as usual."""


@dataclass
class Request:
    """A request to the server, and the means to answer it."""

    environ: dict[str, Any]
    start: Callable[..., Any]
    app: Callable[..., Iterable[bytes]]

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        return str(self.environ["PATH_INFO"]).removeprefix(f"/{BUCKET}").lstrip("/")

    @property
    def is_list(self) -> bool:
        return "list-type" in str(self.environ["QUERY_STRING"])

    def answer(self) -> list[bytes]:
        return list(self.app(self.environ, self.start))

    def refuse(self, status: str, code: str) -> list[bytes]:
        text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.start(status, [("Content-Length", str(len(text)))])
        return [text]

    def drop(self) -> list[bytes]:
        """Close the connection without an answer."""
        with contextlib.suppress(OSError):
            self.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError


@dataclass
class S3:
    """The address of a running server; ``faults`` are asked in turn before it answers."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(method or LIST, path) of every request since the last `forget`."""

    @property
    def environment(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint, "AWS_ALLOW_HTTP": "true"}

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.requests)

    def empty(self) -> None:
        """As it was at the start."""
        self.faults.clear()
        self.clear_objects()
        self.requests.clear()

    def clear_objects(self) -> None:
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(request).read()
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request).read()


def once(matches: Callable[[Request], bool], fault: Fault, times: int = 1) -> Fault:
    """``fault`` for the first ``times`` requests that match."""
    left = [times]

    def first(request: Request) -> Iterable[bytes] | None:
        if left[0] and matches(request):
            left[0] -= 1
            return fault(request)
        return None

    return first


def is_put(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith(".parquet")


def lost_answer(request: Request) -> Iterable[bytes]:
    """The work is done, and nobody hears of it."""
    request.app(request.environ, lambda *_: lambda _: None)
    return request.drop()


def unavailable(request: Request) -> Iterable[bytes]:
    return request.refuse("503 Slow Down", "SlowDown")


def dropped(request: Request) -> Iterable[bytes]:
    return request.drop()


def late(seconds: float) -> Fault:
    def fault(request: Request) -> None:
        time.sleep(seconds)

    return fault


def expired(request: Request) -> Iterable[bytes]:
    return request.refuse("400 Bad Request", "ExpiredToken")


def forbidden(request: Request) -> Iterable[bytes]:
    return request.refuse("403 Forbidden", "AccessDenied")


def skewed(request: Request) -> Iterable[bytes]:
    """What a machine hears whose clock is wrong."""
    return request.refuse("403 Forbidden", "RequestTimeTooSkewed")


def after(number: int, matches: Callable[[Request], bool], fault: Fault) -> Fault:
    """``fault`` for whatever is asked once ``number`` requests have matched."""
    left = [number]

    def later(request: Request) -> Iterable[bytes] | None:
        if left[0] <= 0:
            return fault(request)
        left[0] -= matches(request)
        return None

    return later


@contextlib.contextmanager
def serving() -> Iterator[S3]:
    """A server in this process, with one empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print every request
    inner = DomainDispatcherApplication(create_backend_app)
    running = S3("")

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ, start, inner)
        method = "LIST" if request.is_list else request.method
        running.requests.append((method, request.path))
        for fault in list(running.faults):
            answer = fault(request)
            if answer is not None:
                return answer
        return inner(environ, start)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.log = lambda *_, **__: None  # type: ignore[method-assign]
    running.endpoint = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        running.empty()
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
