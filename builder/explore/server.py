"""The page on loopback: its folder and the release's files, whole or by range."""

import re
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
CHUNK = 1 << 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    folders: Mapping[str, Path]
    hosts: frozenset[str]
    seen: Callable[[str, str | None, int], None]

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # a tab that was closed
            super().handle()

    def do_GET(self) -> None:
        if self.headers.get("Host", "") not in self.hosts:  # another site's name for this machine
            return self._refuse(421)
        path = self._file(unquote(urlsplit(self.path).path))
        if path is None:
            return self._refuse(404)
        size = path.stat().st_size
        asked = self.headers.get("Range")
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        start, end = (int(match[1]), min(size, int(match[2] or size) + 1)) if match else (0, size)
        if match and start >= size:
            return self._refuse(416, [("Content-Range", f"bytes */{size}")])
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(end - start))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.seen(self.path, asked, end - start)
        if self.command == "HEAD":
            return None
        with path.open("rb") as file:
            file.seek(start)
            left = end - start
            while left and (data := file.read(min(left, CHUNK))):
                self.wfile.write(data)
                left -= len(data)
        return None

    do_HEAD = do_GET

    def _file(self, path: str) -> Path | None:
        """The file that an address names, if it lies in one of the folders."""
        for prefix, folder in self.folders.items():
            if not path.startswith(prefix):
                continue
            target = folder / (path.removeprefix(prefix) or "index.html")
            inside = target.resolve().is_relative_to(folder.resolve())
            return target if inside and target.is_file() else None
        return None

    def _refuse(self, status: int, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        for name, value in headers or []:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.seen(self.path, None, 0)

    def log_message(self, *_: Any) -> None:
        """Quiet: a page asks for hundreds of ranges."""


@contextmanager
def serving(
    folders: Mapping[str, Path],
    port: int = 0,
    seen: Callable[[str, str | None, int], None] = lambda path, asked, sent: None,
) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """A server of ``folders`` (address prefix → folder, the longest first) on loopback.

    Yields its address. ``seen`` hears of each answer: path, range, bytes. Only names of this
    machine are answered, so that another site's script cannot read the release by a name of its
    own that leads here.
    """
    served = staticmethod(seen)
    prefixes = dict(sorted(folders.items(), key=lambda item: -len(item[0])))
    handler = type("Handler", (_Handler,), {"folders": prefixes, "seen": served})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    number = server.server_address[1]
    handler.hosts = frozenset(f"{name}:{number}" for name in ("127.0.0.1", "localhost"))  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{number}/", server
    finally:
        server.server_close()


def serve(
    folders: Mapping[str, Path], *, port: int, opens: bool, say: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C, and open the page in the browser of this machine with ``opens``."""
    with serving(folders, port) as (address, server):
        say(f"explore: {address} (Ctrl-C ends it)")
        if opens:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.serve_forever()
