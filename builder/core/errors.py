"""The errors that end a command: each names the place and the way out."""

import re
from collections.abc import Sequence
from typing import Any


class ArasError(Exception):
    """Bad input, recipe or environment; the message says what, where and what to do (exit 2)."""

    exit_code = 2


class WorkFailed(ArasError):
    """Work was attempted and part of it failed; what succeeded is kept (exit 1)."""

    exit_code = 1


class RunEnded(WorkFailed):
    """No later work would fare better: a refused key, a spent quota. What was made is kept."""


class ShortOfMemory(WorkFailed):
    """This machine has too little memory for the work; no file is to blame."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"not enough memory ({why.splitlines()[0] if why else 'nothing more is known'}); use "
            "fewer --workers, or a machine with more"
        )
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return (ShortOfMemory, (self.why,))


_MEMORY = re.compile(
    r"out of memory|(cannot|unable to|failed to) allocate|bad_alloc|launch worker thread"
    r"|can't start new thread",
    re.IGNORECASE,
)
"""How libraries say, in errors of any kind, that memory or a thread was refused."""

_CLAIM = 1 << 32
"""Bytes asked for at once that only a damaged file claims to need: no page of Parquet has them."""


def blame_memory(error: BaseException) -> None:
    """Raise MemoryError where ``error`` is a library's way to say that memory is short.

    For a reader that would otherwise blame the file: Arrow, Pillow and GDAL raise errors of their
    own kinds for a damaged file and for memory that they do not get.
    """
    asked = re.search(r"of size (\d+)", str(error))
    if asked and int(asked[1]) >= _CLAIM:
        return
    if isinstance(error, MemoryError):
        raise error
    if _MEMORY.search(str(error)):
        raise MemoryError(str(error)) from error


class NotMade(ArasError):
    """Columns that no stage has written yet."""

    def __init__(self, shard: str, columns: Sequence[str]) -> None:
        super().__init__(
            f"shard {shard} has no column {', '.join(columns)} yet: run the stage that makes it "
            "first (`aras status` shows what is missing, `aras build` runs everything)"
        )
        self.shard, self.columns = shard, tuple(columns)

    def __reduce__(self) -> tuple[Any, ...]:
        return (NotMade, (self.shard, self.columns))


class CorruptFile(ArasError):
    """A file whose bytes are not those that were written."""
