"""How long planning a rerun takes when there is nothing to do: the target is 2 s for 1,000 shards.

    python scripts/bench_plan.py [--shards 1000]

Writes the shard files of tiles, split and five caption streams with their scores, one row each
and with the keys that they should have, then plans those stages in a fresh process, with the
files in the page cache.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from builder.captions.template import STYLES
from builder.plan import plan
from builder.schema import arrow_type
from builder.stage import Stage
from builder.stages.caption import Caption
from builder.stages.score import Score
from builder.stages.split import Split
from builder.stages.tiles import Tiles
from builder.store import Store

STAGES: list[Stage] = [
    Split(),
    *(Caption(stream=style, style=style) for style in STYLES),
    *(Score(stream=style) for style in STYLES),
]


def row(stage: Stage) -> pa.Table:
    return pa.table({name: pa.nulls(1, arrow_type(name)) for name in stage.adds})


def fill(store: Store, shards: int) -> None:
    for i in range(shards):
        store.write("tiles", f"real-N36E{i // 16:03d}-{i % 16:02d}", row(Tiles()), key="")
    for stage in STAGES:
        for task in plan(stage, store).tasks:
            store.write(stage.name, task.unit.shard, row(stage), key=task.key)


def measure(store: Store) -> None:
    started, total = clocks(), 0
    for stage in STAGES:
        before = clocks()
        todo = plan(stage, store)
        assert not todo.stale, f"{stage.name}: {len(todo.stale)} shards are stale"
        total += len(todo.tasks)
        tell(stage.name, len(todo.tasks), before)
    tell("together", total, started)


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def tell(name: str, shards: int, since: tuple[float, float]) -> None:
    wall, cpu = (now - then for now, then in zip(clocks(), since, strict=True))
    print(f"{name:<20} {shards:>6} shards {wall:7.3f} s, {cpu:7.3f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plan:
        measure(Store(given.plan))
        return
    with tempfile.TemporaryDirectory() as folder:
        fill(Store(Path(folder)), given.shards)
        subprocess.run([sys.executable, __file__, "--plan", folder], check=True)


if __name__ == "__main__":
    main()
