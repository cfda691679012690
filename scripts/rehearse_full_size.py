"""Rehearse a release of true size: every row of it, with pictures of a few hundred bytes.

Example: python scripts/rehearse_full_size.py --check
         python scripts/rehearse_full_size.py --rows 20000 --folder REHEARSAL

Fills the store of a project with stand-in rows (a quarter of them real, on the true grid; the
others synthetic; five captions each) and then runs what `aras package` runs: the store's own
verification, the writers, pictures, card, Croissant file, manifest and checksums; with --check
also all of `aras check`, with --read what reads all rows: `aras report`, `aras score captions` on
a file of all captions, and what `aras bench` loads. Only the rows are invented; their number and
all else are real. Each step runs in a process of its own, as its command does, and prints a line
with its seconds, CPU seconds and peak memory; --json prints one object.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from measure import peak_mb

import builder.cli  # noqa: F401 - the settings that `aras` runs with
from builder.pipeline.project import Project
from builder.pipeline.stand_ins import REAL_SHARE, ROWS, STREAMS, make_project


def apart(step: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """The result of a step, run in a process of its own as a command is, with what it took."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        figures = process.submit(_measured, step, *given).result()
    line = "{step:<10}{seconds:>8} s {cpu_seconds:>8} CPU s, peak {peak_mb} MB".format(**figures)
    print(line, file=sys.stderr)
    return figures


def _measured(step: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = step(*given)
    return {
        "step": step.__name__,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(peak_mb()),
        **result,
    }


def fill(folder: Path, rows: int, shard_rows: int) -> dict[str, Any]:
    make_project(folder, rows, shard_rows=shard_rows)
    return {}


def package(folder: Path) -> dict[str, Any]:
    """What `aras package` runs, without asking whether every step is up to date."""
    from builder.release.package import package as write

    return write(Project(folder).inputs()).as_json()


def check(release: Path) -> dict[str, Any]:
    from builder.release.check import violations

    return {"violations": violations(release)}


def report(folder: Path, release: Path) -> dict[str, Any]:
    """What `aras report` measures and draws."""
    from builder.report.measure import measure
    from builder.report.page import render

    page = render(release, measure(release, Project(folder).store))
    return {"page_mb": round(len(page) / 1e6, 1)}


def score(folder: Path, release: Path) -> dict[str, Any]:
    """What `aras score captions` runs, on a CSV of all captions of the release."""
    import csv

    from builder.land.classes import CLASSES
    from builder.land.pictures import per_class
    from builder.release.rows import metadata
    from builder.scores.file_scores import score_file

    path = folder / "captions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", *CLASSES, *STREAMS])
        for _, table in metadata(release, ("id", "pixels", "captions")):
            shares = per_class(table.column("pixels")).astype(float)
            shares *= 100 / shares.sum(axis=1, keepdims=True)
            for id_, percent, cells in zip(
                table.column("id").to_pylist(),
                shares,
                table.column("captions").to_pylist(),
                strict=True,
            ):
                lines.writerow([id_, *percent.round(4), *(cell["text"] for cell in cells)])
    summary = score_file(path, text=STREAMS, out=folder / "scores.parquet")
    path.unlink()
    return {"scored": summary.streams["all"].scored}


def bench(release: Path) -> dict[str, Any]:
    """The rows that `aras bench` asks about, read from among all."""
    from builder.core.manifest import read_manifest
    from builder.retrieval.gallery import load

    split = "test" if "test" in read_manifest(release).configs["metadata"] else "train"
    gallery = load(release, split, near="keep", synthetic="keep")
    return {"rows": len(gallery), "texts": len(gallery.texts(STREAMS).ids)}


def count(release: Path) -> dict[str, Any]:
    """Captions with a text in the data files, read back."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from builder.core.manifest import read_manifest

    total = 0
    for config in ("real", "synthetic"):
        for part in read_manifest(release).configs[config].values():
            for name in part.files:
                for batch in pq.ParquetFile(release / name).iter_batches(columns=["captions"]):
                    cells = batch.column("captions").flatten()
                    total += len(cells) - pc.struct_field(cells, "text").null_count
    return {"captions": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--shard-rows", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="Keep the project there; a filled one is used")
    parser.add_argument("--check", action="store_true", help="Run all of `aras check` as well")
    parser.add_argument("--read", action="store_true", help="Also report, scores and benchmark")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    steps = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "dataset.toml").exists():
            steps.append(apart(fill, folder, options.rows, options.shard_rows))
        steps.append(packaged := apart(package, folder))
        release = Path(packaged["release"])
        steps.append(counted := apart(count, release))
        rows = {config: sum(parts.values()) for config, parts in packaged["rows"].items()}
        expected = {"real": round(options.rows * REAL_SHARE), "metadata": options.rows}
        expected["synthetic"] = options.rows - expected["real"]
        captions = counted["captions"]
        counts = {"rows": rows, "captions": captions}
        if {name: rows[name] for name in expected} != expected or captions != 5 * options.rows:
            sys.exit(f"wrong counts: {rows}, {captions} captions")
        if options.check:
            steps.append(checked := apart(check, release))
            if violations := checked["violations"]:
                sys.exit("\n".join(violations[:20]))
        if options.read:
            steps.append(apart(report, folder, release))
            steps.append(apart(score, folder, release))
            steps.append(apart(bench, release))
    if options.json:
        print(json.dumps(counts | {"files": packaged["files"], "steps": steps}))
    else:
        print(f"{rows}, {captions:,} captions, {packaged['files']} files")


if __name__ == "__main__":
    main()
