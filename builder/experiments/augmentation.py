"""The augmentation experiment: a segmenter per arm and seed, equal steps, real test tiles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of, locked, remove, write_json
from builder.experiments.experiment import (
    EVEN,
    TrainRows,
    Trial,
    alike,
    balanced,
    train_rows,
    train_table,
)
from builder.experiments.experiment import Bench as Trials
from builder.land.classes import CLASSES
from builder.land.pictures import decode_mask, decode_png
from builder.models import segmenter
from builder.models.data import Tiles
from builder.models.segmenter import Settings
from builder.retrieval import gallery
from builder.retrieval.ranks import Floats, Ints
from builder.retrieval.result import libraries

VERSION = 1
SEEDS = 3
RATIO = 1.0
"""Synthetic rows per real row, where there are that many."""
PRESETS = {
    "small": Settings(steps=20, batch=4, crop=32, widths=(8, 16, 16, 32), decoder=16),
    **segmenter.PROFILES,
}


@dataclass(frozen=True)
class Experiment:
    """All that the figures depend on; picklable, and what an engine's worker opens."""

    release: Path
    out: Path
    settings: Settings
    balance: str = EVEN
    ratio: float = RATIO
    seeds: int = SEEDS
    min_km: float = gallery.MIN_KM
    near: str = "refuse"

    def open(self) -> Callable[[Trial], dict[str, Any]]:
        return Bench(self).run


@dataclass(frozen=True)
class Arm:
    """Train rows that crops are drawn from; a row that stands twice is drawn twice as often."""

    name: str
    what: str
    pool: Ints


def load(release: Path) -> TrainRows:
    """The train rows. Raises ArasError when either source lacks them."""
    rows = train_rows(train_table(release))
    for what, there in (("real", rows.real), ("synthetic", rows.made)):
        if not len(there):
            raise ArasError(
                f"{release}: has no {what} train rows; the experiment compares real with "
                "synthetic rows and needs both"
            )
    return rows


def design(rows: TrainRows, balance: str = EVEN, ratio: float = RATIO, seed: int = 0) -> list[Arm]:
    """The arms; those that are compared have as many synthetic rows, of one generator.

    The natural and the balanced arm draw theirs from all synthetic rows by their composition:
    towards the class shares of the real rows, and towards ``balance`` of these.
    """
    real, made = rows.real, rows.made
    count = min(max(1, round(ratio * len(real))), len(made))
    natural = rows.shares[real].mean(0)
    plain = balanced(rows, made, count, seed, "natural", natural)
    even = balanced(rows, made, count, seed, balance, natural)
    mixed = np.concatenate([real, even])
    return [
        Arm("real", "real rows", real),
        Arm(
            "oversampled",
            "real rows repeated towards the class shares of arm balanced",
            alike(rows, real, mixed, len(mixed), seed),
        ),
        Arm("synthetic", "the synthetic rows of arm natural alone", plain),
        Arm(
            "natural",
            f"real + {count:,} synthetic towards the class shares of real rows",
            np.concatenate([real, plain]),
        ),
        Arm("balanced", f"real + {count:,} synthetic towards balance {balance}", mixed),
    ]


class Bench(Trials[Experiment]):
    """The rows, the arms and, once they are needed, the decoded tiles."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.rows = load(experiment.release)
        self.design = design(self.rows, experiment.balance, experiment.ratio)
        self.test = gallery.load(experiment.release, min_km=experiment.min_km, near=experiment.near)

    @property
    def arms(self) -> list[str]:
        return [arm.name for arm in self.design]

    def arm(self, name: str) -> Arm:
        return next(one for one in self.design if one.name == name)

    def key(self, trial: Trial) -> str:
        return digest_of(
            {
                "version": VERSION,
                "release": self.test.facts.content_sha256,
                "arm": [self.rows.ids[i] for i in self.arm(trial[0]).pool],
                "test": self.test.ids,
                "settings": asdict(self._settings(trial)),
            }
        )

    def run(self, trial: Trial) -> dict[str, Any]:
        if found := self.record(trial):
            return found
        started = time.monotonic()
        settings, key = self._settings(trial), self.key(trial)
        tiles = replace(self.train_tiles, pool=self.arm(trial[0]).pool)
        folder = self.path(trial).with_suffix("")
        model, history, _ = segmenter.train_tiles(folder, key, tiles, settings)
        losses = history.losses
        counted = np.concatenate(
            [
                counts(part[..., 3], segmenter.look(model.eval(), part[..., :3])[0])
                for part in self._test_parts()
            ]
        )
        record = {
            "kind": "augmentation-run",
            "key": key,
            "arm": trial[0],
            "seed": trial[1],
            "settings": asdict(settings),
            "loss": {"first": losses[0], "last": float(np.mean(losses[-10:]))},
            "counts": counted.tolist(),
            "libraries": libraries(),
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(self.path(trial), record)
        remove(folder)
        return record

    def constant(self) -> Floats:
        """The counts (n, 21) of calling every pixel the commonest class of real train rows."""
        most = int(self.rows.shares[self.rows.real].mean(0).argmax())
        return np.concatenate(
            [
                counts(part[..., 3], np.full(part.shape[:3], most, np.uint8))
                for part in self._test_parts()
            ]
        ).astype(np.float64)

    @cached_property
    def train_tiles(self) -> Tiles:
        return self._tiles(self.rows.ids, "train")

    def _test_parts(self, size: int = 16) -> list[npt.NDArray[np.uint8]]:
        pixels = self._tiles(self.test.ids, "test").pixels
        return [pixels[start : start + size] for start in range(0, len(pixels), size)]

    def _settings(self, trial: Trial) -> Settings:
        settings, side = self.experiment.settings, int(np.sqrt(self.test.pixels[0].sum()))
        return replace(settings, crop=min(settings.crop, side), seed=trial[1])

    def _tiles(self, ids: Sequence[str], split: str) -> Tiles:
        """Rows decoded once into a file under ``out``, mapped from there."""
        release, folder = self.experiment.release, self.experiment.out / "tiles"
        digest = digest_of([self.test.facts.content_sha256, ids])
        path = folder / f"{split}-{digest[:16]}.npy"
        with locked(folder, lambda: None):
            if not path.exists():
                with atomic(path) as temporary:
                    decode(release, ids, split, temporary)
        return Tiles(np.load(path, mmap_mode="r"), digest)


def decode(release: Path, ids: Sequence[str], split: str, path: Path) -> None:
    """Write rows of a release to ``path``: (n, H, W, 4) uint8, RGB and class id.

    Raises ArasError when tiles differ in size or the release does not hold them.
    """
    out: Any = None
    for column in ("image", "mask"):
        for where, data in gallery.pictures(release, ids, split, column=column):
            for i, one in zip(where, data, strict=True):
                found = (decode_png if column == "image" else decode_mask)(one, ids[i])
                if out is None:
                    out = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                        f"{path}", "w+", np.uint8, (len(ids), *found.shape[:2], 4)
                    )
                if found.shape[:2] != out.shape[1:3]:
                    raise ArasError(
                        f"{ids[i]}: its {column} is {found.shape[:2]}, others {out.shape[1:3]}"
                    )
                if column == "image":
                    out[i, ..., :3] = found
                else:
                    out[i, ..., 3] = found
    out.flush()


def counts(truth: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8]) -> Ints:
    """Pixels per tile and class: (n, H, W) twice → (n, 21), hits, then truth, then found."""
    kinds = len(CLASSES)
    columns = []
    for one in (np.where(truth == found, truth, kinds), truth, found):
        flat = one.reshape(len(one), -1)
        columns += [(flat == k).sum(1) for k in range(kinds)]
    return np.stack(columns, axis=1).astype(np.int64)


def run(experiment: Experiment, engine: Engine) -> tuple[Bench, list[dict[str, Any]]]:
    """Run every trial that has no record yet; the bench and all records: see `Bench.run_all`."""
    bench = Bench(experiment)
    return bench, bench.run_all(engine, "augmentation")
