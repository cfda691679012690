"""What a worker says that it wrote, compared with what this process can read."""

import time
from dataclasses import dataclass

from builder.core.errors import WorkFailed
from builder.core.folder import HOST
from builder.core.store import CorruptShard, Store

PATIENCE = 5.0
"""Seconds that a run waits in all for files which workers of other hosts say that they wrote: a
network file system may show a file a little later."""

_LOOK = 0.2
"""Seconds between two looks at such a file."""


@dataclass(frozen=True)
class Written:
    """What a worker says that it wrote of a shard, and where."""

    rows: int
    key: str
    digest: str
    place: str
    """Where the stage's shards are, as the worker names it."""
    host: str = HOST


@dataclass
class Witness:
    """Reads the footer of each shard that workers wrote, through the store of this process."""

    store: Store
    stage: str
    patience: float = PATIENCE

    def check(self, shard: str, written: Written) -> None:
        """Raises WorkFailed unless this process finds the shard as its worker wrote it."""
        while doubt := self._doubt(shard, written):
            if written.host == HOST or self.patience <= 0:
                raise WorkFailed(doubt)
            self.patience -= _LOOK
            time.sleep(_LOOK)
            self.store.refresh(self.stage)

    def _doubt(self, shard: str, written: Written) -> str:
        """Why the shard is not what ``written`` says, in words; empty where it is."""
        here, there = self.store.place(self.stage), written.place
        try:
            footer = self.store.look(self.stage, shard)
        except CorruptShard as error:
            return f"what its worker wrote to {there} cannot be read ({error.why}); check the disk"
        if footer is None:
            return (
                f"its worker wrote it to {there}, and it is not in {here}; all workers need the "
                "same folder, on a file system that they share"
            )
        if (footer.key, footer.digest) != (written.key, written.digest):
            return (
                f"{here} holds another file than its worker wrote to {there}: they are on two "
                "disks, or another run writes to the same folder"
            )
        return ""
