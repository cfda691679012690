"""A step that trains a model: what the recipe asks of it, and whether it is there."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from builder.core.errors import ArasError
from builder.core.files import locked
from builder.core.progress import console
from builder.core.store import Store
from builder.models.record import Record, Trained


class Trainer(Protocol):
    """A module that trains one model by settings of its own."""

    @property
    def PROFILES(self) -> Mapping[str, Any]: ...

    @property
    def SHARED(self) -> bool:
        """Whether processes that were launched together train it together."""

    def is_fresh(self, store: Store, folder: Path, settings: Any) -> bool: ...

    def train(self, store: Store, folder: Path, settings: Any) -> Trained: ...


def _segmenter() -> Trainer:
    from builder.models import segmenter

    return segmenter


def _autoencoder() -> Trainer:
    from builder.models import autoencoder

    return autoencoder


def _generator() -> Trainer:
    from builder.models import generator

    return generator


def _retriever() -> Trainer:
    from builder.models import retriever

    return retriever


TRAINERS: dict[str, Callable[[], Trainer]] = {
    "segmenter": _segmenter,
    "autoencoder": _autoencoder,
    "generator": _generator,
    "retriever": _retriever,
}
"""Model → its trainer, imported when it is asked for, because each of them imports torch."""


@dataclass(frozen=True)
class Training:
    """A model to train, one of `TRAINERS`."""

    model: str
    folder: Path
    overrides: dict[str, Any]
    profile: str
    tile: int
    """Side of the tiles in pixels, the largest crop that can be trained on."""

    @property
    def name(self) -> str:
        return f"train-{self.model}"

    @property
    def _trainer(self) -> Trainer:
        return TRAINERS[self.model]()

    def settings(self) -> Any:
        """The profile with those of the recipe's own values in place that it has."""
        settings = own(self._trainer.PROFILES[self.profile], self.overrides)
        if not hasattr(settings, "crop"):
            return settings
        return dataclasses.replace(settings, crop=min(settings.crop, self.tile))

    def stale(self, store: Store) -> bool:
        return not self._trainer.is_fresh(store, self.folder, self.settings())

    def refuse_other(self) -> None:
        """Raises ArasError when the model that is there was trained with other settings.

        A later stage would use it as well, and say nothing. One that is not there is for others
        to miss.
        """
        from builder.models import training

        if (record := Record.read(self.folder)) is None:
            return
        trained = record.settings
        asked = json.loads(json.dumps(training.identity(self.settings())))  # as in a record
        other = [name for name in asked if name in trained and trained[name] != asked[name]]
        if other:
            trained, asked = ({name: values[name] for name in other} for values in (trained, asked))
            raise ArasError(
                f"{self.folder} is stale: it was trained with {_assigned(trained)}, and the recipe "
                f"says {_assigned(asked)}. Run `aras train {self.model}`, or write in "
                f"[{self.model}] what it was trained with"
            )

    def _follows(self) -> bool:
        """Whether another of the processes that were launched together holds the lock."""
        from builder.models import team

        return bool(team.rank()) and self._trainer.SHARED

    def run(self, store: Store) -> dict[str, Any]:
        """Train, or resume, or find it done; returns the summary.

        One process trains, or those of one `accelerate launch`; another process in the same
        directory waits and then finds it done.
        """
        started = time.monotonic()
        waiting = lambda: console.print(f"{self.name}: waiting for another process")  # noqa: E731
        with contextlib.nullcontext() if self._follows() else locked(self.folder, waiting):
            trained = self._trainer.train(store, self.folder, self.settings())
        keep = ("steps", "final_loss", "stopped", "best", "weights_sha256", "test")
        record = trained.record.as_json()
        facts = {"made": trained.fresh, **{name: record[name] for name in keep if name in record}}
        seconds = round(time.monotonic() - started, 2)
        return {"kind": "training", "stage": self.name, **facts, "seconds": seconds}


def own(profile: Any, values: dict[str, Any]) -> Any:
    """A model's profile with those of the recipe's own ``values`` in place that it has."""
    known = {part.name for part in dataclasses.fields(profile)}
    return dataclasses.replace(profile, **{k: v for k, v in values.items() if k in known})


def _assigned(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in settings.items())
