"""Compare page layouts of picture columns: CPU time to write and read, and what a version re-sends.

Example: python scripts/bench_pages.py --rows 2000

Writes the same rows (incompressible pictures of 110 to 144 kB, masks of up to 8 kB, a caption)
with each layout, and once more with one row in a hundred left out; then uploads both with
hf_xet's own pipeline to a local store, as the Hub's client would, and prints how much the second
upload added. Layouts: a page of `one picture` is ours (builder/core/arrow.py), `16 pictures` and
`one page` per row group are larger ones, `chunks 32-96 KiB` is content-defined chunking sized so
that every picture is a page, `chunks default` is content-defined chunking as it comes.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import ROW_GROUP, options
from builder.land.columns import IMAGE

PLAIN: dict[str, Any] = {"write_batch_size": None, "data_page_size": None}
LAYOUTS: dict[str, dict[str, Any]] = {
    "one picture": {},
    "16 pictures": {"write_batch_size": 16, "data_page_size": 1 << 20},
    "one page": PLAIN,
    "chunks 32-96 KiB": PLAIN
    | {"use_content_defined_chunking": {"min_chunk_size": 32 << 10, "max_chunk_size": 96 << 10}},
    "chunks default": PLAIN | {"use_content_defined_chunking": True},
}


def rows(n: int) -> pa.Table:
    rng = np.random.default_rng(0)

    def pictures(low: int, high: int) -> pa.Array:
        sizes = rng.integers(low, high, n)
        return pa.array([{"bytes": rng.bytes(int(s)), "path": "0.png"} for s in sizes], IMAGE)

    columns = {
        "id": pa.array([f"real/{i:06d}" for i in range(n)]),
        "image": pictures(110_000, 144_000),
        "mask": pictures(500, 8_000),
        "caption": pa.array([f"Caption {i}: {'some words about land. ' * 5}" for i in range(n)]),
    }
    return pa.table(columns)


def write(table: pa.Table, path: Path, extra: dict[str, Any]) -> float:
    """CPU seconds to write a table in our row groups."""
    start = time.process_time()
    with pq.ParquetWriter(path, table.schema, **{**options(table.schema), **extra}) as writer:
        for first in range(0, table.num_rows, ROW_GROUP):
            writer.write_table(table.slice(first, ROW_GROUP), row_group_size=ROW_GROUP)
    return time.process_time() - start


def read(path: Path) -> float:
    """CPU seconds to read all rows, a row group at a time."""
    start = time.process_time()
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group)
    return time.process_time() - start


def sent(path: Path, store: Path) -> int:
    """Bytes that uploading a file to a local Xet store takes."""
    import hf_xet

    commit = hf_xet.XetSession().new_upload_commit(endpoint=f"local://{store}")
    commit.start_upload_file(str(path))
    report = commit.wait_to_finish()
    return int(report.dedup_metrics.total_bytes_uploaded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3, help="Runs of each; the best counts")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    table = rows(given.rows)
    keep = np.ones(given.rows, dtype=bool)
    keep[np.random.default_rng(1).choice(given.rows, given.rows // 100, replace=False)] = False
    fewer = table.filter(pa.array(keep))
    measured = []
    if not given.json:
        print(f"{'layout':<20}{'written':>9}{'read':>8}{'MB':>8}{'re-sent':>10}    (MB per CPU s)")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder
        for name, extra in LAYOUTS.items():
            store, first, second = (Path(folder) / name / part for part in ("store", "a", "b"))
            store.mkdir(parents=True)
            cpu = min(write(table, first, extra) for _ in range(given.repeats))
            write(fewer, second, extra)
            sent(first, store)
            share = sent(second, store) / second.stat().st_size
            mb = first.stat().st_size / 1e6
            rates = {"written_mb_per_cpu_second": mb / cpu}
            rates["read_mb_per_cpu_second"] = mb / min(read(first) for _ in range(given.repeats))
            measured.append({"layout": name, **rates, "mb": mb, "resent": share})
            if not given.json:
                fast, back = rates.values()
                print(f"{name:<20}{fast:>9,.0f}{back:>8,.0f}{mb:>8,.0f}{100 * share:>8.2f} %")
    if given.json:
        print(json.dumps({"rows": given.rows, "layouts": measured}))


if __name__ == "__main__":
    main()
