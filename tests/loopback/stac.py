"""A STAC API on loopback: pages of items, tokens and files, with the faults of `FileServer`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Item = dict[str, Any]


class StacServer:
    """Answers POST /search with ``items`` that meet its body, ``page`` at a time, and
    GET /token/COLLECTION; the first answers are ``statuses`` where there are any."""

    def __init__(self) -> None:
        self.url = ""
        self.items: list[Item] = []
        self.page = 2
        self.statuses: list[int] = []
        self.answer: bytes | None = None
        self.next_host = ""
        self.asked: list[dict[str, Any]] = []
        self.lock = Lock()

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        cloud = body["query"]["eo:cloud_cover"]["lte"]
        items = [
            item
            for item in self.items
            if item["collection"] in body["collections"]
            and item["properties"]["eo:cloud_cover"] <= cloud
            and body["datetime"][:10]
            <= item["properties"]["datetime"][:10]
            <= body["datetime"].split("/")[1][:10]
        ]
        start = int(body.get("token", 0))
        links = []
        if start + self.page < len(items):
            more = {"token": str(start + self.page)}
            href = f"{self.next_host or self.url}/search"
            links = [{"rel": "next", "method": "POST", "href": href, "body": more, "merge": True}]
        return {"type": "FeatureCollection", "features": items[start:][: self.page], "links": links}


@contextmanager
def stac_server(items: Sequence[Item] = ()) -> Iterator[StacServer]:
    """A running `StacServer`; its thread ends with the context."""
    server = StacServer()
    server.items = list(items)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.asked.append(body)
            self._answer(json.dumps(server.search(body)).encode())

        def do_GET(self) -> None:
            self._answer(json.dumps({"token": f"sig={self.path.split('/')[-1]}"}).encode())

        def _answer(self, body: bytes) -> None:
            with server.lock:
                status = server.statuses.pop(0) if server.statuses else 200
            self.send_response(status)
            body = b"trouble" if status != 200 else (server.answer or body)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Tests read ``asked``; the console stays quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
