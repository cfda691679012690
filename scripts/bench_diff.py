"""Time `aras diff` on metadata of true size, and check that it reports exactly the changes.

Example: python scripts/bench_diff.py

Writes config metadata of two releases (400,240 rows with all columns and five captions each), the
second with rows removed, added and moved, other captions, other pictures and one column less, in
another order of rows; then compares them in a process of its own.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measure import peak_mb

from builder.core.files import write_json
from builder.land.columns import CAPTION_SCORES, CAPTIONS, METADATA_NAMES, arrow_schema, arrow_type
from builder.land.pictures import composition_columns
from builder.release.writer import SplitWriter

ROWS = 400_240
REAL_SHARE = 100_240 / ROWS
STREAMS = ("dominant", "composition", "layout", "full", "absence")
STEP = 4096


@dataclass(frozen=True)
class Edits:
    """Rows of each kind of change; the first rows are removed, the next get other captions, the
    next other pictures."""

    removed: int = 1_000
    recaptioned: int = 2_000
    redrawn: int = 250
    moved: int = 500
    added: int = 1_500

    def scaled(self, factor: float) -> "Edits":
        """As many in proportion, at least one of each."""
        counts = {name: max(1, round(n * factor)) for name, n in asdict(self).items()}
        return Edits(**counts)


def rows(numbers: np.ndarray, first_synthetic: int, edits: Edits | None) -> pa.Table:
    """Metadata rows of the given numbers, with the captions and pictures that ``edits`` change."""
    redrawn = recaptioned = np.zeros(len(numbers), dtype=bool)
    if edits:
        last = edits.removed + edits.recaptioned
        recaptioned = (numbers >= edits.removed) & (numbers < last)
        redrawn = (numbers >= last) & (numbers < last + edits.redrawn)
    n = len(numbers)
    columns: dict[str, Any] = {name: pa.nulls(n, arrow_type(name)) for name in METADATA_NAMES}
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 10_000, (1000, 7))[numbers % 1000]
    columns |= composition_columns(counts)
    real = numbers < first_synthetic
    kinds = np.where(real, "real", "synthetic")
    columns["id"] = pa.array([f"{k}/{i:08d}" for k, i in zip(kinds, numbers, strict=True)])
    columns["kind"] = pa.array((~real).astype(np.int64))
    columns["split"] = pa.array(np.zeros(n, dtype=np.int64))
    columns["longitude"] = pa.array(26 + numbers / 3e4, mask=~real)
    columns["gen_seed"] = pa.array((numbers * 2**40).astype(str), mask=real)
    columns["mask_agreement"] = pa.array((numbers % 997 / 997).astype(np.float32))
    for name, drawn_again in (("image", redrawn), ("mask", np.zeros(n, dtype=bool))):
        digests = [
            hashlib.sha256(f"{name}{i}{again}".encode()).hexdigest()
            for i, again in zip(numbers, drawn_again, strict=True)
        ]
        columns[f"{name}_sha256"] = pa.array(digests)
    columns["captions"] = captions(numbers, recaptioned)
    columns["caption_scores"] = scores(numbers)
    return pa.table([columns[name] for name in METADATA_NAMES], arrow_schema(METADATA_NAMES))


def captions(numbers: np.ndarray, again: np.ndarray) -> pa.Array:
    every = np.repeat(numbers, len(STREAMS))
    ends = ["" if reworded else "." for reworded in np.repeat(again, len(STREAMS))]
    words = "grassland along the northern edge, a few trees and some bare ground in the east"
    texts = [f"Tile {i} shows {words}{end}" for i, end in zip(every, ends, strict=True)]
    values = {
        "stream": list(STREAMS) * len(numbers),
        "text": texts,
        "model": ["a-model"] * len(every),
        "revision": ["0" * 40] * len(every),
        "prompt_sha256": ["f" * 64] * len(every),
        "seed": (every * 2**30).astype(str),
        "error": [None] * len(every),
    }
    return per_stream(values, CAPTIONS)


def scores(numbers: np.ndarray) -> pa.Array:
    every = np.repeat(numbers, len(STREAMS))
    values: dict[str, Any] = {"stream": list(STREAMS) * len(numbers)}
    for field in CAPTION_SCORES.value_type:
        if field.name not in values:
            is_list = pa.types.is_list(field.type)
            values[field.name] = [["Grass", "Tree"]] * len(every) if is_list else every % 101
    return per_stream(values, CAPTION_SCORES)


def per_stream(values: dict[str, Any], kind: pa.DataType) -> pa.Array:
    """One list of structs per row, an item per stream."""
    arrays = [pa.array(values[field.name]).cast(field.type) for field in kind.value_type]
    items = pa.StructArray.from_arrays(arrays, fields=list(kind.value_type))
    offsets = pa.array(np.arange(0, len(items) + 1, len(STREAMS), dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, items)


def write_release(folder: Path, total: int, edits: Edits | None = None) -> None:
    """Config metadata and a manifest of ``total`` rows; with ``edits`` the later version."""
    numbers = np.arange(total)
    parts = {"train": numbers[numbers % 10 < 9], "test": numbers[numbers % 10 == 9]}
    if edits:
        train, added = parts["train"], np.arange(total, total + edits.added)
        parts["train"] = np.append(train[: -edits.moved], added)[::-1]
        parts["test"] = np.append(parts["test"], train[-edits.moved :])
    names = [name for name in METADATA_NAMES if not (edits and name == "source")]
    configs: dict[str, Any] = {}
    for split, chosen in parts.items():
        if edits:
            chosen = chosen[chosen >= edits.removed]
        writer = SplitWriter(folder / "metadata", split, arrow_schema(names), 512e6)
        for start in range(0, len(chosen), STEP):
            table = rows(chosen[start : start + STEP], round(total * REAL_SHARE), edits)
            writer.add(table.select(names))
        files = [path.relative_to(folder).as_posix() for path in writer.close()]
        configs[split] = {"rows": len(chosen), "files": files}
    version = "0.2.0" if edits else "0.1.0"
    manifest = {"format": 1, "name": "bench", "version": version, "date": "2026-01-31"}
    manifest |= {"content_sha256": "0" * 64, "configs": {"metadata": configs}}
    write_json(folder / "manifest.json", {**manifest, "files": [], "facts": {}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--compare", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compare:
        print(json.dumps(measure(*given.compare)))
        return
    edits = Edits().scaled(given.rows / ROWS)
    with tempfile.TemporaryDirectory() as temporary:
        old, new = Path(temporary) / "old", Path(temporary) / "new"
        write_release(old, given.rows)
        write_release(new, given.rows, edits)
        size = sum(path.stat().st_size for path in Path(temporary).rglob("*.parquet")) / 1e6
        ended = subprocess.run(
            [sys.executable, __file__, "--compare", str(old), str(new)],
            capture_output=True,
            text=True,
            check=True,
        )
    report = {"rows": given.rows, "mb_of_both": round(size), **json.loads(ended.stdout)}
    if given.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{name:<16}{value}" for name, value in report.items()))
    expected = {
        "removed": edits.removed,
        "added": edits.added,
        "moved": edits.moved,
        "changed": {"captions": edits.recaptioned, "image": edits.redrawn},
        "columns_removed": ["source"],
        "step": "major",
    }
    if wrong := {name: report[name] for name, value in expected.items() if report[name] != value}:
        sys.exit(f"reported {wrong}, expected {expected}")


def measure(old: Path, new: Path) -> dict[str, Any]:
    """Compare; counts, seconds, CPU seconds and peak memory of this process."""
    from builder.release.diff import compare

    wall, cpu = time.perf_counter(), time.process_time()
    changes = compare(old, new)
    return {
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(peak_mb()),
        "added": sum(changes.added.values()),
        "removed": sum(changes.removed.values()),
        "moved": sum(changes.moved.values()),
        "changed": changes.changed,
        "columns_removed": list(changes.columns_removed),
        "step": changes.step,
    }


if __name__ == "__main__":
    main()
