"""``python -m tests.makers.bucket_run DIR URL SHARDS WORKERS``: the toy stages on a bucket, to be
killed."""

import sys
from pathlib import Path

from builder.core.bucket import StoreSection
from builder.core.engine import Engine
from builder.core.store import Store
from builder.steps.plan import run
from builder.steps.stage import Stage
from tests.makers.toy import Caption, Halves, Source


def chain(shards: int) -> tuple[Stage, ...]:
    return (Source(shards=shards), Halves(), Caption())


def main() -> None:
    folder, url, shards, workers = sys.argv[1:]
    store = Store.of_recipe(Path(folder) / "work", StoreSection(url=url))
    engine = Engine("processes", int(workers)) if int(workers) > 1 else Engine()
    for stage in chain(int(shards)):
        if failed := run(stage, store, engine).failed:
            sys.exit(str(failed))


if __name__ == "__main__":
    main()
