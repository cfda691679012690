"""An OpenAI-compatible server on loopback that can be told to misbehave, and remembers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = "Cropland covers most of the tile, with grassland along the north."


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong: ``status`` with ``headers``, a ``raw`` body instead of JSON, a
    ``text`` or ``finish`` of its own, ``hang`` until the server closes, or ``drop`` the line."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    raw: str | None = None
    text: Any = TEXT
    finish: str | None = "stop"
    hang: bool = False
    drop: bool = False


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text part of the user's message."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]


@dataclass
class OpenAIServer:
    url: str = ""
    log: list[Asked] = field(default_factory=list)
    fault_of: Callable[[Asked], Fault | None] = lambda asked: None
    """The fault of a request, None for a good answer; called with the lock held."""
    hold: Callable[[Asked], object] = lambda asked: None
    """Called before an answer without the lock, so that it may wait for other requests."""
    busiest: int = 0
    """Most requests that were under way at once."""
    wait_for: int = 0
    """Hold answers back until so many requests are under way (or the server closes)."""
    closing: threading.Event = field(default_factory=threading.Event)
    _busy: int = 0
    _full: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, asked: Asked) -> Fault:
        with self._lock:
            self.log.append(asked)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            if self._busy >= self.wait_for:
                self._full.set()
            fault = self.fault_of(asked) or Fault()
        self._full.wait(20)
        self.hold(asked)
        return fault

    def end(self) -> None:
        with self._lock:
            self._busy -= 1


def first(*faults: Fault) -> Callable[[Asked], Fault | None]:
    """The first requests go wrong so, one after the other."""
    left = list(faults)
    return lambda asked: left.pop(0) if left else None


def completion(text: Any = TEXT, finish: str | None = "stop") -> dict[str, Any]:
    """A chat completion as such servers send it."""
    return {
        "id": "one",
        "object": "chat.completion",
        "model": "tiny-2026-01-05",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 50, "completion_tokens": 12, "total_tokens": 62},
    }


@contextmanager
def openai_server() -> Iterator[OpenAIServer]:
    """A running `OpenAIServer` (its ``url`` ends in /v1); threads end with the context."""
    server = OpenAIServer()

    class Handler(_Handler):
        owner = server

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server._full.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: OpenAIServer

    def handle(self) -> None:
        with suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        fault = self.owner.begin(asked)
        try:
            self._answer(asked, fault)
        finally:
            self.owner.end()

    def _answer(self, asked: Asked, fault: Fault) -> None:
        if fault.hang:
            self.owner.closing.wait(60)
        if fault.hang or fault.drop:
            self.close_connection = True
            return
        if fault.raw is not None:
            data = fault.raw.encode()
        elif fault.status != 200:
            data = json.dumps({"error": {"message": f"fault {fault.status}"}}).encode()
        else:
            data = json.dumps(completion(fault.text, fault.finish)).encode()
        self.send_response(fault.status)
        for name, value in fault.headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
