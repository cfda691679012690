"""A step that trains a model: what the recipe asks of it, and whether it is there."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from builder.core.errors import ArasError
from builder.core.files import locked
from builder.core.progress import say
from builder.core.store import Store
from builder.models import data
from builder.models.freshness import identity, is_fresh
from builder.models.record import Record, Trained
from builder.models.settings import ModelSettings, as_json


class Trainer(Protocol):
    """A module that trains a model by settings of its own."""

    @property
    def SHARED(self) -> bool:
        """Whether processes that were launched together train it together."""

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
class TrainingSummary:
    """What a run of a training did: a `Report`."""

    stage: str
    trained: Trained
    seconds: float

    def lines(self) -> list[str]:
        if not self.trained.fresh:
            return [f"{self.stage}: already trained, nothing to do"]
        record = self.trained.record
        text = f"{self.stage}: {record.stopped}"
        if record.final_loss is not None:
            last = "" if record.last_loss is None else f"last loss {record.last_loss:.4f}, "
            text = (
                f"{self.stage}: {record.steps} steps, {last}mean of the last 20 "
                f"{record.final_loss:.4f}"
            )
        if test := record.test:
            text += f"; test macro F1 {test.macro_f1}, mIoU {test.mean_iou}"
        return [f"{text} ({self.seconds:.1f} s)"]

    @property
    def is_idle(self) -> bool:
        return not self.trained.fresh

    def as_json(self) -> dict[str, Any]:
        record = self.trained.record.as_json()
        keep = ("steps", "last_loss", "final_loss", "stopped", "best", "weights_sha256", "test")
        facts = {"made": self.trained.fresh, **{key: record[key] for key in keep if key in record}}
        seconds = round(self.seconds, 2)
        return {"kind": "training", "stage": self.stage, **facts, "seconds": seconds}


@dataclass(frozen=True)
class Training:
    """A model to train, one of `TRAINERS`."""

    model: str
    folder: Path
    settings: ModelSettings

    @property
    def name(self) -> str:
        return f"train-{self.model}"

    @property
    def _trainer(self) -> Trainer:
        return TRAINERS[self.model]()

    def stale(self, store: Store) -> bool:
        return not is_fresh(store, self.folder, self.settings)

    def refuse_other_tiles(self, store: Store) -> None:
        """Raises ArasError when the model that is there was trained on other tiles, as one is that
        was brought here from another dataset."""
        record = Record.read(self.folder)
        if record and record.data and record.data != data.digest(store, "train"):
            raise ArasError(
                f"{self.folder} was trained on other tiles than those here, and what it draws "
                f"would not be like them. Run `aras train {self.model}`, which trains one on these"
            )

    def refuse_other(self) -> None:
        """Raises ArasError when the model that is there was trained with other settings.

        A later stage would use it as well, and say nothing. One that is not there is for others
        to miss.
        """
        if (record := Record.read(self.folder)) is None:
            return
        trained = record.settings
        asked = {name: as_json(self.settings)[name] for name in identity(self.settings)}
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

    def run(self, store: Store) -> TrainingSummary:
        """Train, or resume, or see that it is done.

        One process trains, or those of one `accelerate launch`; another process in the same
        directory waits and then sees that it is done.
        """
        started = time.monotonic()
        waiting = lambda: say(f"{self.name}: waiting for another process")  # noqa: E731
        with contextlib.nullcontext() if self._follows() else locked(self.folder, waiting):
            trained = self._trainer.train(store, self.folder, self.settings)
        if store.mirror and not self._follows():
            store.mirror.keep_model(self.folder)
        return TrainingSummary(self.name, trained, time.monotonic() - started)


def _assigned(settings: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in settings.items())
