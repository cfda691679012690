"""Count the bytes that `aras get` moves for a part of a release, beside the usual ways.

Example: python scripts/bench_get.py --rows 1534

Packages a release of invented tiles of about 127 kB, one in fifteen of them mostly Water and spread
over all of it, serves it from this machine over HTTP with ranges, and takes parts of it:

    aras get            pictures by ranges, as config metadata says where they lie
    load_dataset        load_dataset("parquet", data_files=ADDRESSES, filters=…, streaming=True)
    pyarrow             pyarrow.dataset over fsspec's HTTP, with the same filter
    polars              scan_parquet(ADDRESSES).filter(…).collect()
    datafusion          read_parquet of local files, the filter pushed down to pages and rows

The last four read no metadata first. load_dataset and pyarrow need aiohttp, which is not among our
requirements, as polars and DataFusion are not; a way that is not installed is left out, and
    pip install --target WAYS aiohttp polars datafusion
    PYTHONPATH=WAYS python scripts/bench_get.py
brings it in. All bytes of bodies that the server sends count. `MB of them` are the bytes of the
chosen pictures; `question` is what answers it: the columns that it needs of every row, the
footers of config metadata and the manifest. `ratio` is what was moved beside the question, over the
pictures; `in all` is all that was moved, over the pictures.
"""

import argparse
import importlib.util
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 206
WATER = 6
POOL = 200
"""Different tiles."""


class Ranges(SimpleHTTPRequestHandler):
    """Files of a folder, whole or by range, with every byte counted."""

    protocol_version = "HTTP/1.1"
    sent = 0
    lock = threading.Lock()

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that has seen enough
            super().handle()

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        size = path.stat().st_size
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, size
        if match and match[1]:
            start, end = int(match[1]), min(size, int(match[2] or size) + 1)
        elif match:
            start = max(0, size - int(match[2]))
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size}"')
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "HEAD":
            return None
        with path.open("rb") as file:
            file.seek(start)
            self.wfile.write(file.read(end - start))
        with Ranges.lock:
            Ranges.sent += end - start
        return None

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def make_release(folder: Path, rows: int) -> Path:
    """A release of real tiles, one in fifteen mostly Water."""
    from builder.land.pictures import encode_png
    from builder.pipeline.stand_ins import make_project
    from builder.release.package import package

    rng = np.random.default_rng(0)
    tiles = []
    for number in range(POOL):
        image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        cells = rng.integers(0, 6, (SIDE // 4 + 1,) * 2).astype(np.uint8)
        mask = np.kron(cells, np.ones((4, 4), dtype=np.uint8))[:SIDE, :SIDE]
        mask[: SIDE - 40] = WATER if number % 15 == 7 else number % 6
        tiles.append((encode_png(image), encode_png(mask), np.bincount(mask.ravel(), minlength=7)))

    def draw(numbers: Any) -> Any:
        images, masks, counts = zip(*(tiles[n % POOL] for n in numbers), strict=True)
        return images, masks, np.array(counts)

    project = make_project(folder, rows, real=rows, shard_rows=128, draw=draw)
    return package(project.inputs()).release


def aras_get(address: str, out: Path, **request: Any) -> int:
    from builder.parts.get import get
    from builder.parts.opened import OpenRelease, Request
    from builder.parts.sources import open_source

    got = get(OpenRelease(open_source(address)), out, Request(**request))
    return got.pictures // 2


def load_dataset(addresses: list[str], cache: Path) -> int:
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(
        "parquet",
        data_files=addresses,
        filters=[("dominant", "==", WATER)],
        streaming=True,
        split="train",
        cache_dir=str(cache),
    )
    return sum(1 for _ in rows)


def pyarrow(addresses: list[str]) -> int:
    import fsspec
    import pyarrow.dataset as ds

    files = ds.dataset(addresses, filesystem=fsspec.filesystem("http"))
    return int(files.to_table(filter=ds.field("dominant") == WATER).num_rows)


def polars(addresses: list[str]) -> int:
    import polars as pl

    return int(pl.scan_parquet(addresses).filter(pl.col("dominant") == WATER).collect().height)


def datafusion(files: list[Path]) -> dict[str, int]:
    """DataFusion's own count over local files: its web reader takes no plain HTTP."""
    from datafusion import SessionConfig, SessionContext, col, lit

    config = SessionConfig().set("datafusion.execution.parquet.pushdown_filters", "true")
    context = SessionContext(config)
    counts = {"rows": 0, "bytes": 0}
    for path in files:
        frame = context.read_parquet(str(path)).filter(col("dominant") == lit(WATER))
        plan = frame.execution_plan()
        for part in range(plan.partition_count):
            batches = context.execute(plan, part)
            counts["rows"] += sum(batch.to_pyarrow().num_rows for batch in batches)
        read = (metrics.sum_by_name("bytes_scanned") for _, metrics in plan.collect_metrics())
        counts["bytes"] += sum(filter(None, read))
    return counts


def counted(way: Callable[[], int]) -> dict[str, int]:
    before = Ranges.sent
    rows = way()
    return {"rows": rows, "bytes": Ranges.sent - before}


def measure(rows: int, folder: Path) -> dict[str, Any]:
    from builder.core.manifest import read_manifest
    from builder.land.columns import SPLITS
    from builder.parts.opened import OpenRelease, Request
    from builder.parts.sources import open_source

    release = make_release(folder / "project", rows)
    manifest = read_manifest(release)
    files = [name for split in SPLITS for name in manifest.split_files("real", split)]
    with serving(release) as address:
        addresses = [f"{address}/{name}" for name in files]
        middle = OpenRelease(open_source(str(release))).query(limit=1).table(["longitude"])
        west = float(middle.column("longitude")[0].as_py())
        asked: dict[str, dict[str, Any]] = {
            "dominant = 'Water'": {"where": "dominant = 'Water'"},
            "a box": {"bbox": (west - 0.3, -90, west + 0.3, 90)},
            "dominant = 'Water', 10 rows": {"where": "dominant = 'Water'", "limit": 10},
            "1 row": {"limit": 1},
        }
        parts = {}
        for number, (name, request) in enumerate(asked.items()):
            opened = OpenRelease(open_source(address))
            question = counted(lambda o=opened, r=request: o.choose(Request(**r)) and 0)["bytes"]
            question += (release / "manifest.json").stat().st_size
            out = folder / f"part-{number}"
            found = counted(lambda o=out, r=request: aras_get(address, o, **r))
            pictures = picture_bytes(out)
            parts[name] = {
                **found,
                "picture_bytes": pictures,
                "question_bytes": question,
                "ratio": (found["bytes"] - question) / pictures,
                "in_all": found["bytes"] / pictures,
            }
        ways = {
            "load_dataset": partial(load_dataset, addresses, folder / "cache"),
            "pyarrow": partial(pyarrow, addresses),
            "polars": partial(polars, addresses),
        }
        others = {name: counted(way) for name, way in ways.items() if is_installed(name)}
        if is_installed("datafusion"):
            others["datafusion"] = datafusion([release / name for name in files])
    size = sum((release / name).stat().st_size for name in files)
    return {"rows": rows, "bytes": size, "parts": parts, "others": others}


def picture_bytes(release: Path) -> int:
    from builder.release.rows import metadata

    tables = [table for _, table in metadata(release, ["image_size", "mask_size"])]
    return sum(sum(column.to_pylist()) for table in tables for column in table.columns)


def is_installed(way: str) -> bool:
    needs = way if way in ("polars", "datafusion") else "aiohttp"
    return importlib.util.find_spec(needs) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1534)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report = measure(given.rows, Path(temporary))
    if given.json:
        print(json.dumps(report))
        return
    print(f"a release of {report['rows']:,} rows, {report['bytes'] / 1e6:.1f} MB of shards")
    head = ("rows", "MB of them", "question", "MB moved", "ratio", "in all")
    print(f"{'aras get':<30}" + "".join(f"{name:>11}" for name in head))
    for name, part in report["parts"].items():
        print(
            f"{name:<30}{part['rows']:>11,}{part['picture_bytes'] / 1e6:>11.2f}"
            f"{part['question_bytes'] / 1e6:>11.2f}{part['bytes'] / 1e6:>11.2f}"
            f"{part['ratio']:>11.2f}{part['in_all']:>11.2f}"
        )
    (water, *_) = report["parts"].values()
    if report["others"]:
        print("the first question, otherwise")
    for name, other in report["others"].items():
        print(
            f"{name:<30}{other['rows']:>11,}{'':>22}{other['bytes'] / 1e6:>11.2f}{'':>11}"
            f"{other['bytes'] / water['picture_bytes']:>11.2f}"
        )


if __name__ == "__main__":
    main()
