"""How long planning a rerun takes when there is nothing to do: the target is 2 s for 1,000 shards.

    python scripts/bench_plan.py [--shards 1000] [--bucket]

Writes the shard files of every stage that the default recipe runs on real tiles without a model
(tiles, quality, split, duplicates, five caption streams, their scores and repeats), one row each
and with the keys that they should have, then plans those stages in two fresh processes, with the
files in the page cache: one opens every file, the other finds what the first one kept of their
footers, as a rerun does. With ``--bucket`` the shards are in a bucket on loopback (moto's server),
and the requests are counted: at most 20 lists and 5 s are wanted of a rerun over 18,000 objects.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from builder.captions.stage import Caption
from builder.captions.template import STYLES, Style
from builder.core.bucket import StoreSection
from builder.core.store import Store
from builder.land.columns import arrow_type
from builder.quality.duplicates import Duplicates, DuplicatesSection
from builder.quality.pixels import Quality
from builder.scores.near_duplicates import Repeats
from builder.scores.stage import Score
from builder.steps.plan import plan
from builder.steps.stage import Stage
from builder.tiles.cut import Tiles
from builder.tiles.split import Split

LIMITS = DuplicatesSection().model_dump()
STAGES: list[Stage] = [
    Quality(kind="real"),
    Split(shares=(0.8, 0.1, 0.1), block=0.25, buffer_km=1, size=0.02, seed=0, **LIMITS),
    Duplicates(**LIMITS),
    *(Caption(stream=style, ask=Style(style)) for style in STYLES),
    *(Score(stream=style) for style in STYLES),
    *(Repeats(stream=style) for style in STYLES),
]


def row(stage: Stage | type[Stage]) -> pa.Table:
    return pa.table({name: pa.nulls(1, arrow_type(name)) for name in stage.adds})


def fill(store: Store, shards: int) -> None:
    for i in range(shards):
        store.write("tiles", f"real-N36E{i // 16:03d}-{i % 16:02d}", row(Tiles), key="")
    for stage in STAGES:
        for task in plan(stage, store).tasks:
            store.write(stage.name, task.unit.shard, row(stage), key=task.key)


def measure(store: Store, title: str) -> None:
    print(title, flush=True)
    started, total = clocks(), 0
    for stage in STAGES:
        before = clocks()
        todo = plan(stage, store)
        assert not todo.stale, f"{stage.name}: {len(todo.stale)} shards are stale"
        total += len(todo.tasks)
        tell(stage.name, len(todo.tasks), before)
    tell("together", total, started)
    for name in store.stages():
        store.remember(name, store.shards(name))


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def tell(name: str, shards: int, since: tuple[float, float]) -> None:
    wall, cpu = (now - then for now, then in zip(clocks(), since, strict=True))
    print(f"{name:<20} {shards:>6} shards {wall:7.3f} s, {cpu:7.3f} s of CPU", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--bucket", action="store_true")
    parser.add_argument("--plan", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plan:
        folder, url, title = given.plan
        measure(Store.of_recipe(Path(folder) / "work", StoreSection(url=url)), title)
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url, requests = "", None
        if given.bucket:
            url, requests = stack.enter_context(bucket())
        fill(Store.of_recipe(Path(folder) / "work", StoreSection(url=url)), given.shards)
        for title in ("every file opened", "rerun"):
            if requests is not None:
                requests.clear()
            command = [sys.executable, __file__, "--plan", folder, url, title]
            subprocess.run(command, check=True)
            if requests is not None:
                print("requests:", dict(Counter(method for method, _ in requests)), flush=True)


@contextlib.contextmanager
def bucket() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The URL of an empty bucket, and the requests that its server hears."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.loopback import s3

    with s3.serving() as server:
        os.environ.update(server.environment)
        yield f"s3://{s3.BUCKET}/bench", server.requests


if __name__ == "__main__":
    main()
