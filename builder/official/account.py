"""The account of an import: the lists of what was rejected and which percentages differ."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.files import atomic
from builder.official.index import Index
from builder.store import Store

REJECTS = ".rejects"
"""Folder beside the shards: what each of them could not bring in."""


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_rejects(store: Store, index: Index, path: Path) -> Counter[str]:
    """Gather the rows that the listing and the shards rejected; returns how many per reason."""
    return _write_reasons(path, itertools.chain(index.rejects(), _of_shards(store)))


def write_set_aside(index: Index, path: Path) -> Counter[str]:
    """List the entries that are no row; returns how many for each reason."""
    return _write_reasons(path, index.set_aside())


def _write_reasons(path: Path, listed: Iterable[Sequence[str]]) -> Counter[str]:
    reasons: Counter[str] = Counter()

    def rows() -> Iterator[Sequence[str]]:
        yield ("file", "row", "reason")
        for one in listed:
            reasons[re.split(r": | \(", one[2])[0]] += 1
            yield one

    write_csv(path, rows())
    return reasons


def _of_shards(store: Store) -> Iterator[Sequence[str]]:
    for shard in store.shards("import"):
        path = store.root / "import" / REJECTS / f"{shard}.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                yield from csv.reader(file)


def write_percent(store: Store, path: Path) -> int:
    """List the percentages that are not those of the mask; returns in how many rows."""
    differs = 0

    def rows() -> Iterator[Sequence[Any]]:
        nonlocal differs
        yield ("id", "class", "published", "exact")
        for shard in store.shards("import"):
            footer = store.footer("import", shard)
            if footer is None or not footer.counts.get("percent_differs"):
                continue
            table = store.load("import", shard, ["id", "percent_published", "percent"])
            for row in table.to_pylist():
                if published := row["percent_published"]:
                    differs += 1
                    for name, value in published.items():
                        if value != row["percent"][name]:
                            yield (row["id"], name, value, row["percent"][name])

    write_csv(path, rows())
    return differs
