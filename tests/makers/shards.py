"""What tests see of shard files, and do to them."""

import os
import pickle
from pathlib import Path

import pyarrow.parquet as pq

from builder.core.store import Store


def digests(store: Store) -> dict[str, str]:
    """Content digest of every shard file, by its place."""
    fresh: Store = pickle.loads(pickle.dumps(store))  # as another process sees it
    return {
        f"{stage}/{shard}": footer.digest
        for stage in fresh.stages()
        for shard in fresh.shards(stage)
        if (footer := fresh.footer(stage, shard))
    }


def marks(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every shard file in a folder, finished or not: equal ones were not written
    again."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*.parquet*"))
    }


def damage(store: Store, name: str, how: str) -> None:
    """Do to a shard file what ``how`` says: truncated, flipped, or 'flipped, time kept'."""
    path = store.root / name
    stamp = path.stat().st_mtime_ns
    body = bytearray(path.read_bytes())
    if how == "truncated":
        body = body[: len(body) // 2]
    else:
        column = pq.read_metadata(path).row_group(0).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
        body[start + column.total_compressed_size - 1] ^= 1  # the last value
    path.write_bytes(body)
    if how == "flipped, time kept":
        os.utime(path, ns=(stamp, stamp))
