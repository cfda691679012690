"""The errors that end a command: each names the place and the way out."""

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
