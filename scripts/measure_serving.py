"""Requests that a caption server has in flight while texts are written again, against the limit.

A loopback server answers each request after a time drawn for it, as long answers and short ones
differ; a third of first texts is cut and asked for again. Both ways ask the same rows: in rounds,
where every attempt waits for the slowest row of the last, and as `aras caption` does, where a row
is asked again as soon as it is judged. Prints the mean number of requests in flight over the limit.

    python scripts/measure_serving.py --rows 552 --concurrency 16
"""

import argparse
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bench_caption import tiles

from builder.captions.ask import Ask
from builder.captions.base import Answer, Running
from builder.captions.checked import Checked
from builder.captions.server import Server
from builder.core.seeds import generator
from builder.land.prompts import Request

TEXT = "Grassland covers most of the tile, with trees in the north."
ATTEMPTS = 3


@dataclass
class Meter:
    """Counts requests in flight: seconds × requests, by every change."""

    busy: int = 0
    most: int = 0
    area: float = 0.0
    last: float = field(default_factory=time.perf_counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, by: int) -> None:
        with self.lock:
            now = time.perf_counter()
            self.area += self.busy * (now - self.last)
            self.busy, self.last = self.busy + by, now
            self.most = max(self.most, self.busy)


def server(meter: Meter, mean: float) -> ThreadingHTTPServer:
    """A server whose answers take ``mean`` seconds on average, one in ten five times that."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            meter.change(1)
            draw = generator("serving", asked["seed"])
            time.sleep(mean * (5 if draw.random() < 0.1 else 0.55))
            finish = "length" if draw.random() < 1 / 3 else "stop"
            choice = {"message": {"content": TEXT}, "finish_reason": finish}
            data = json.dumps({"choices": [choice]}).encode()
            meter.change(-1)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


class Rounds:
    """The same backend without `follow`, so that attempts go in rounds."""

    def __init__(self, backend: Server) -> None:
        self.backend = backend
        self.model, self.revision, self.prompt = backend.model, backend.revision, backend.prompt

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        return self.backend.caption(requests)


def measure(rows: int, concurrency: int, mean: float, *, continuous: bool) -> dict[str, float]:
    """Requests asked, seconds, and the mean in flight over the limit."""
    meter = Meter()
    http = server(meter, mean)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        ask = Ask("bench", "Describe {{ percentages }}.", ("composition",), decoding="sample")
        backend = Server(ask, Running(base_url=url, concurrency=concurrency, timeout=60))
        checked = Checked(backend if continuous else Rounds(backend), attempts=ATTEMPTS)
        start = time.perf_counter()
        answers = checked.caption(tiles(rows, 0))
        seconds = time.perf_counter() - start
    finally:
        http.shutdown()
        http.server_close()
    return {
        "requests": sum(answer.counts["attempts"] for answer in answers),
        "seconds": round(seconds, 2),
        "most_in_flight": meter.most,
        "in_flight_over_limit": round(meter.area / seconds / concurrency, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=552)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--mean", type=float, default=0.2, help="seconds of an answer")
    options = parser.parse_args()
    sizes = (options.rows, options.concurrency, options.mean)
    report = {
        "limit": options.concurrency,
        "rows": options.rows,
        "in_rounds": measure(*sizes, continuous=False),
        "continuous": measure(*sizes, continuous=True),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
