"""Shard files in a folder: on this machine, or on a disk that several machines share."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from builder.core.files import atomic, read_json, remove, sweep, write_json

HOST = socket.gethostname()

INDEX = ".footers"
"""Folder under work/ with what the footers of each stage said when its files were last opened."""


class Folder:
    """``root/<stage>/<shard>.parquet``; the file system is the only state.

    The modification time of a file is set to a whole second that its footer repeats. A file whose
    time differs was touched by someone else, and is not trusted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stages: tuple[int, list[str]] = (-1, [])

    def __reduce__(self) -> tuple[Any, ...]:
        return (Folder, (self.root,))

    def __str__(self) -> str:
        return f"{HOST}:{self.root}"

    def path(self, stage: str, shard: str) -> Path:
        return self.root / stage / f"{shard}.parquet"

    def stages(self) -> list[str]:
        """Listed again only when a folder came or went."""
        try:
            changed = self.root.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if self._stages[0] != changed:
            with os.scandir(self.root) as entries:
                names = sorted(
                    entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."
                )
            self._stages = (changed, names)
        return self._stages[1]

    def shards(self, stage: str) -> list[str]:
        return sorted(path.stem for path in (self.root / stage).glob("[!.]*.parquet"))

    def identity(self, stage: str, shard: str) -> list[Any]:
        # No Path: planning asks for tens of thousands.
        return _identity(os.stat(f"{self.root}/{stage}/{shard}.parquet"))

    def look(self, stage: str, shard: str) -> None:
        """Nothing to do: a file system is looked at every time."""

    def refresh(self, stage: str) -> None:
        """A client of a network file system trusts what it remembers of a folder until it changes
        something there itself."""
        with contextlib.suppress(OSError):
            tempfile.NamedTemporaryFile(dir=self.root / stage, prefix=".", suffix=".tmp").close()

    def open(self, stage: str, shard: str) -> BinaryIO:
        return open(f"{self.root}/{stage}/{shard}.parquet", "rb")

    def source(self, stage: str, shard: str) -> Path:
        return self.path(stage, shard)

    def identity_of(self, file: BinaryIO) -> list[Any]:
        return _identity(os.fstat(file.fileno()))

    def was_touched(self, file: BinaryIO, written: int) -> bool:
        return os.fstat(file.fileno()).st_mtime_ns != written * 10**9

    def trust(self, file: BinaryIO, written: int) -> None:
        with contextlib.suppress(OSError):  # of a read-only copy: it costs speed alone
            _stamp(file.fileno(), written)

    def distrust(self, stage: str, shard: str) -> None:
        _stamp(self.path(stage, shard), 0)

    def write(self, stage: str, shard: str, write: Callable[[Path], None], written: int) -> None:
        with atomic(self.path(stage, shard)) as temporary:
            write(temporary)
            _stamp(temporary, written)

    def remove(self, stage: str, shard: str) -> None:
        remove(self.path(stage, shard))

    def sweep(self, stage: str) -> int:
        return sweep(self.root / stage)

    def read_index(self, stage: str) -> Any:
        return read_json(self.root / INDEX / f"{stage}.json")

    def write_index(self, stage: str, index: dict[str, Any]) -> None:
        write_json(self.root / INDEX / f"{stage}.json", index, indent=None)


def _stamp(file: Path | int, seconds: int) -> None:
    os.utime(file, ns=(seconds * 10**9, seconds * 10**9))


def _identity(stat: os.stat_result) -> list[int]:
    """A file that was replaced or touched since differs in the time of its last change at least."""
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
