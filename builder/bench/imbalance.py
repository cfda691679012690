"""The imbalance experiment: a retriever per arm and seed, equal steps, real test tiles."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from builder.bench import arms, gallery, metrics, protocol
from builder.bench.arms import RATIOS, Design, Rows
from builder.bench.protocol import About
from builder.bench.ranks import Positives, Ranks, rank
from builder.bench.retrieval import libraries
from builder.bench.trials import Bench as Trials
from builder.bench.trials import Trial
from builder.engine import Engine
from builder.errors import ArasError
from builder.files import digest_of, remove, write_json
from builder.models import retriever
from builder.models.retriever import Pairs, Settings
from builder.pictures import decode_png
from builder.scores.leakage import without_digits

VERSION = 1
SEEDS = 3

PRESETS = {
    "small": Settings(
        steps=60, batch=16, size=32, patch=8, width=64, layers=2, text_layers=1, projection=32,
        vocabulary=500,
    ),
    **retriever.PROFILES,
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """All that the figures depend on; picklable, and what an engine's worker opens."""

    release: Path
    out: Path
    settings: Settings
    ratios: tuple[float, ...] = RATIOS
    seeds: int = SEEDS
    min_km: float = gallery.MIN_KM
    near: str = "refuse"

    def open(self) -> Callable[[Trial], dict[str, Any]]:
        return Bench(self).run


class Bench(Trials[Experiment]):
    """The rows, the design and, once they are needed, the pictures."""

    def __init__(self, experiment: Experiment) -> None:
        stream = experiment.settings.stream
        super().__init__(experiment)
        self.rows: Rows = arms.load(experiment.release, stream)
        self.design: Design = arms.design(self.rows, experiment.ratios)
        test = gallery.load(experiment.release, min_km=experiment.min_km, near=experiment.near)
        having = np.array([text is not None for text in test.streams[stream]])
        self.test = test.take(np.flatnonzero(having))
        if len(self.test) < 2:
            raise ArasError(
                f"{experiment.release}: fewer than 2 test tiles have a {stream} caption"
            )
        self.captions = [str(text) for text in self.test.streams[stream]]
        self._pixels: tuple[Any, Any] | None = None

    @property
    def arms(self) -> list[str]:
        return [arm.name for arm in self.design.arms]

    def key(self, trial: Trial) -> str:
        arm = self.design.arm(trial[0])
        return digest_of(
            {
                "version": VERSION,
                "release": self.test.facts["content_sha256"],
                "arm": [[self.rows.ids[i], arm.texts[i]] for i in arm.pool],
                "vocabulary": [self.rows.texts[i] for i in self.rows.real],
                "test": [self.test.ids, self.captions],
                "settings": asdict(self._settings(trial)),
            }
        )

    def run(self, trial: Trial) -> dict[str, Any]:
        if found := self.record(trial):
            return found
        started = time.monotonic()
        settings, arm = self._settings(trial), self.design.arm(trial[0])
        # The vocabulary comes from real captions, so that all arms read text alike.
        tokenizer = retriever.tokenizer_of([self.rows.texts[i] for i in self.rows.real], settings)
        train, test = self._pictures()
        pairs = Pairs(self.rows.ids, train, arm.texts)
        folder = self.path(trial).with_suffix("")
        key = self.key(trial)
        model, losses, _ = retriever.train_pairs(folder, key, pairs, settings, tokenizer, arm.pool)
        plain = [without_digits(text) for text in self.captions]
        images, texts = retriever.embed(model, tokenizer, test, [*self.captions, *plain], settings)
        n = len(self.captions)
        record = {
            "kind": "imbalance-run",
            "key": key,
            "arm": arm.name,
            "seed": trial[1],
            "settings": asdict(settings),
            "loss": {"first": losses[0], "last": float(np.mean(losses[-10:]))},
            **self._judge(images, texts[:n], texts[n:]),
            "libraries": libraries(),
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(self.path(trial), record)
        remove(folder)
        return record

    def _judge(self, images: Any, texts: Any, plain: Any) -> dict[str, Any]:
        owner = np.arange(len(images))
        positives = Positives.owned(owner)
        pair = rank(images, texts, positives)
        about = About(captions=self.captions, compositions=self.test.shares)
        found = protocol.evaluate(images, texts, owner, about, ranks=pair, resamples=1)
        figures = {name: found[name] for name in ("S", "D", "C")}
        for one in figures.values():
            del one["intervals"]  # those of one training say nothing about the arm
        figures["L"] = metrics.summary(*rank(images, plain, positives))
        ranks = {
            way: {"above": one.above.tolist(), "level": one.level.tolist()}
            for way, one in zip(("t2i", "i2t"), pair, strict=True)
        }
        return {"figures": figures, "ranks": ranks}

    def _settings(self, trial: Trial) -> Settings:
        return replace(self.experiment.settings, seed=trial[1])

    def _pictures(self) -> tuple[Any, Any]:
        """(train rows, test rows) as (n, size, size, 3) uint8."""
        if self._pixels is None:
            size = self.experiment.settings.size
            made = []
            for ids, split in ((self.rows.ids, "train"), (self.test.ids, "test")):
                out = np.empty((len(ids), size, size, 3), np.uint8)
                for where, data in gallery.pictures(self.experiment.release, ids, split):
                    for i, one in zip(where, data, strict=True):
                        out[i] = retriever.shrink(decode_png(one, ids[i]), size)
                made.append(out)
            self._pixels = (made[0], made[1])
        return self._pixels


def ranks_of(record: dict[str, Any]) -> tuple[Ranks, Ranks]:
    """(text→image, image→text) ranks of a record, one caption an image."""
    pair = []
    for way in ("t2i", "i2t"):
        above, level = (np.array(record["ranks"][way][part]) for part in ("above", "level"))
        pair.append(Ranks(above, level, np.full(len(above), len(above) - 1)))
    return pair[0], pair[1]


def run(experiment: Experiment, engine: Engine) -> tuple[Bench, list[dict[str, Any]]]:
    """Run every trial that has no record yet; the bench and all records: see `Bench.run_all`."""
    bench = Bench(experiment)
    return bench, bench.run_all(engine, "imbalance")
