"""A worker that squares numbers, and goes wrong on demand."""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.store import CorruptShard, Store
from tests.makers.toy import hang, hang_once


@dataclass(frozen=True)
class Squares:
    """Squares numbers; the other tasks are texts that say what goes wrong."""

    folder: Path = Path()
    opens: bool = True

    def open(self) -> Callable[[Any], Any]:
        if not self.opens:
            raise ArasError("the model is missing")
        with (self.folder / "opened").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return self.work

    def work(self, task: Any) -> Any:
        if task == "die":
            os._exit(7)
        if task == "die once":
            with contextlib.suppress(FileExistsError):
                (self.folder / "died").mkdir()
                os._exit(7)
            return "survived"
        if task == "hang":
            hang(f"{os.getpid()}", Store(self.folder / "work"))
        if task == "hang once":
            hang_once(task, Store(self.folder / "work"))
            return "survived"
        if task == "corrupt":
            raise CorruptShard("tiles", "real-0", "told to")
        if task == "odd":
            raise Unpicklable(threading.Lock())
        if task in ("give", "take"):  # each ends only when another process has the other one
            (self.folder / "meeting").open("w" if task == "give" else "r").close()
        if task in ("gpu", "give", "take"):
            return os.environ.get("CUDA_VISIBLE_DEVICES")
        return task**2


class Unpicklable(Exception):
    """Like the errors of some libraries: it carries what cannot leave the process."""
