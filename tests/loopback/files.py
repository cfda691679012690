"""A file server on loopback that can be told to misbehave, and remembers what it was asked."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stored:
    body: bytes
    etag: str | None
    last_modified: str | None
    content_type: str


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong.

    ``status`` (with ``headers``) instead of the file; ``drop_after`` bytes of the body the
    connection is cut; ``stall_after`` bytes nothing more comes until the client goes away or the
    server closes; ``claim`` is a false Content-Length; ``flip`` is the place of a wrong byte;
    ``ignore_range`` sends the whole file with 200; ``shift`` sends a 206 from so many bytes
    further on; ``ignore_if_range`` continues a file that has changed; ``chunked`` announces no
    length; ``redirect`` sends elsewhere.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    drop_after: int | None = None
    stall_after: int | None = None
    claim: int | None = None
    flip: int | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    shift: int = 0
    chunked: bool = False
    redirect: str | None = None


@dataclass
class Asked:
    """One request and what was sent in answer (``sent``: bytes of the body)."""

    method: str
    path: str
    headers: dict[str, str]
    moment: float
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class FileServer:
    url: str = ""
    log: list[Asked] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    busiest: int = 0
    _files: dict[str, Stored] = field(default_factory=dict)
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _always: dict[str, Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _busy: int = 0

    def put(
        self,
        path: str,
        body: bytes,
        *,
        etag: str | None = '"one"',
        last_modified: str | None = "Mon, 05 Jan 2026 10:00:00 GMT",
        content_type: str = "application/octet-stream",
    ) -> None:
        self._files[path] = Stored(body, etag, last_modified, content_type)

    def fault(self, path: str, *faults: Fault, always: Fault | None = None) -> None:
        """The next GETs of ``path`` go wrong so, one after the other; then ``always``, if given."""
        self._faults.setdefault(path, []).extend(faults)
        if always is not None:
            self._always[path] = always

    def gets(self, path: str) -> list[Asked]:
        return [asked for asked in self.log if asked.method == "GET" and asked.path == path]

    def next_fault(self, path: str) -> Fault:
        with self._lock:
            queue = self._faults.get(path)
            return queue.pop(0) if queue else self._always.get(path, Fault())

    def lasting(self, asked: Asked) -> Fault:
        """What goes wrong with a HEAD: only a length that is never announced."""
        return Fault(chunked=self._always.get(asked.path, Fault()).chunked)

    @contextmanager
    def serving(self, asked: Asked) -> Iterator[None]:
        with self._lock:
            self.log.append(asked)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A running `FileServer`; its thread and connections end with the context."""
    server = FileServer()

    class Handler(_Handler):
        files = server

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def handle(self) -> None:
        # A client that was killed resets its connection: that is what some tests are about.
        with suppress(ConnectionResetError):
            super().handle()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, time.monotonic())
        with self.files.serving(asked):
            try:
                fault = self.files.next_fault(self.path) if with_body else self.files.lasting(asked)
                self._serve(asked, fault)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    def _serve(self, asked: Asked, fault: Fault) -> None:
        stored = self.files._files.get(self.path)
        if fault.redirect:
            return self._status(asked, 302, (("Location", fault.redirect),))
        if fault.status or stored is None:
            return self._status(asked, fault.status or 404, fault.headers)
        body, start, end = stored.body, 0, len(stored.body)
        asked.status = 200
        if asked.range and not fault.ignore_range and self._same(asked, stored, fault):
            first, _, last = asked.range.removeprefix("bytes=").partition("-")
            start = int(first) + fault.shift
            end = min(len(body), int(last) + 1 + fault.shift) if last else len(body)
            if start >= len(body):
                return self._status(asked, 416, (("Content-Range", f"bytes */{len(body)}"),))
            asked.status = 206
        if fault.flip is not None:
            body = body[: fault.flip] + bytes([body[fault.flip] ^ 0xFF]) + body[fault.flip + 1 :]
        rest = body[start:end]
        self.send_response(asked.status)
        for name, value in (("ETag", stored.etag), ("Last-Modified", stored.last_modified)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Type", stored.content_type)
        if asked.status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        length = len(rest) if fault.claim is None else fault.claim
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if asked.method == "HEAD":
            return
        limit = min(x for x in (fault.drop_after, fault.stall_after, len(rest)) if x is not None)
        sent = rest[: min(limit, length)]
        asked.sent = len(sent)  # first: who has read the last byte may look at once
        try:
            if fault.chunked:
                self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n0\r\n\r\n")
            else:
                self.wfile.write(sent)
        except OSError:
            asked.sent = 0
            raise
        if fault.stall_after is not None:
            self.files.stalled.set()
            self.files.closing.wait(60)
        if len(sent) < length or limit < len(rest):
            self.close_connection = True

    def _same(self, asked: Asked, stored: Stored, fault: Fault) -> bool:
        condition = asked.headers.get("if-range")
        known = condition in (None, stored.etag, stored.last_modified)
        return known or fault.ignore_if_range

    def _status(self, asked: Asked, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        asked.status = status
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        body = b"" if asked.method == "HEAD" else b"<html>trouble</html>"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Tests read ``log``; the console stays quiet."""
