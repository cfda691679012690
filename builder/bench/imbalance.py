"""The imbalance experiment: a retriever per arm and seed, equal steps, real test tiles."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from builder.bench import arms, metrics, protocol
from builder.bench.arms import RATIOS, Design
from builder.bench.encoders import BATCH, Encoder, transformers_model
from builder.bench.material import Source, Test
from builder.bench.ranks import Array, Pair, Positives, Ranks, rank
from builder.bench.retrieval import PARTS, libraries
from builder.bench.trials import Bench as Trials
from builder.bench.trials import Trial
from builder.engine import Engine
from builder.files import digest_of, remove, write_json
from builder.models import clip, retriever
from builder.models.compact_clip import PROFILES, Settings
from builder.models.retriever import Pairs
from builder.scores.leakage import without_digits

VERSION = 2
SEEDS = 3
ZERO_SHOT = "zero-shot"
"""The arm that is not trained at all."""

JUDGED = ("S", "C")
"""Protocols whose ranks are kept, for contrasts."""
WAYS = ("t2i", "i2t")

# "cpu" learns a scene of some hundred tiles in half a minute of one core; longer it only overfits.
PRESETS = {
    "small": Settings(
        steps=60, batch=16, size=32, patch=8, width=64, layers=2, text_layers=1, projection=32,
        vocabulary=500,
    ),
    "cpu": Settings(
        steps=150, size=64, patch=8, width=64, layers=3, text_layers=2, projection=64,
    ),
    "gpu": PROFILES["gpu"],
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """All that the figures depend on; picklable, and what an engine's worker opens."""

    source: Source
    out: Path
    settings: Settings
    ratios: tuple[float, ...] = RATIOS
    seeds: int = SEEDS
    zero_shot: str = ""
    """A model that is judged as it is: a transformers CLIP or SigLIP by folder or name."""

    def open(self) -> Callable[[Trial], dict[str, Any]]:
        return Bench(self).run


class Bench(Trials[Experiment]):
    """The material, the design and, once they are needed, the pictures."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.material = experiment.source.load()
        self.rows, self.test = self.material.rows, self.material.test
        self.design: Design = arms.design(self.rows, experiment.ratios)

    @property
    def arms(self) -> list[str]:
        return [arm.name for arm in self.design.arms]

    @property
    def trials(self) -> list[Trial]:
        return ([(ZERO_SHOT, 0)] if self.experiment.zero_shot else []) + super().trials

    def key(self, trial: Trial) -> str:
        told: dict[str, Any] = {
            "version": VERSION,
            "content": self.material.facts["content_sha256"],
            "test": [self.test.ids, self.test.captions],
        }
        if trial[0] == ZERO_SHOT:
            return digest_of({**told, "model": self._zero_shot.identity or self._zero_shot.name})
        arm = self.design.arm(trial[0])
        settings = self._settings(trial)
        return digest_of(
            {
                **told,
                "arm": [[self.rows.ids[i], arm.texts[i]] for i in arm.pool],
                "vocabulary": [self.rows.texts[i] for i in self.rows.real],
                "settings": clip.told(settings),
            }
        )

    def run(self, trial: Trial) -> dict[str, Any]:
        if found := self.record(trial):
            return found
        started, spent = time.monotonic(), time.process_time()
        texts = [*self.test.captions, *map(without_digits, self.test.captions)]
        made = self._untrained if trial[0] == ZERO_SHOT else self._trained
        images, vectors, facts = made(trial, texts)
        n = len(self.test.captions)
        record = {
            "kind": "imbalance-run",
            "key": self.key(trial),
            "arm": trial[0],
            "seed": trial[1],
            **facts,
            **judge(images, vectors[:n], vectors[n:], self.test),
            "libraries": libraries(),
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(time.process_time() - spent, 1),
        }
        write_json(self.path(trial), record)
        remove(self.path(trial).with_suffix(""))
        return record

    def _trained(self, trial: Trial, texts: list[str]) -> tuple[Array, Array, dict[str, Any]]:
        settings, arm = self._settings(trial), self.design.arm(trial[0])
        # The vocabulary comes from real captions, so that all arms read text alike.
        real = [self.rows.texts[i] for i in self.rows.real]
        start = clip.start(settings, real)
        train, test = self._pictures(start.size)
        pairs = Pairs(self.rows.ids, train, arm.texts)
        folder = self.path(trial).with_suffix("")
        losses, _ = retriever.train_pairs(folder, self.key(trial), pairs, settings, start, arm.pool)
        images, vectors = retriever.embed(start, test, texts)
        loss = {"first": losses[0], "last": float(np.mean(losses[-10:]))}
        return images, vectors, {"settings": clip.told(settings), "loss": loss}

    def _untrained(self, trial: Trial, texts: list[str]) -> tuple[Array, Array, dict[str, Any]]:
        model = self._zero_shot
        found: dict[int, Array] = {}
        for where, tiles in self.material.tiles():
            found.update(zip(where.tolist(), model.images(tiles), strict=True))
        images = np.stack([found[i] for i in range(len(self.test.ids))])
        batches = (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))
        vectors = np.concatenate([model.texts(one) for one in batches])
        return images, vectors, {"model": {"name": Path(model.name).name, **model.facts}}

    def _settings(self, trial: Trial) -> Settings:
        return replace(self.experiment.settings, seed=trial[1])

    @cached_property
    def _zero_shot(self) -> Encoder:
        return transformers_model(self.experiment.zero_shot)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _pictures(self, size: int) -> tuple[Any, Any]:
        """(train rows, test rows) as (n, size, size, 3) uint8."""
        return self.material.pictures(size)


def judge(images: Array, texts: Array, plain: Array, test: Test) -> dict[str, Any]:
    """Figures under S, D, C and L, and the ranks of S and C, of vectors (N, d) each.

    ``plain`` are the vectors of the captions without numbers.
    """
    owner = np.arange(len(images))
    positives = Positives.owned(owner)
    share = np.ascontiguousarray(test.shares, dtype=np.float32)
    pairs = {"S": rank(images, texts, positives), "L": rank(images, plain, positives)}
    pairs["D"] = protocol.merge(images, texts, owner, metrics.groups_of(test.captions))[0]
    scenes, _ = protocol.by_scene(images, texts, owner, share, protocol.Asked(owner, owner))
    pairs["C"] = (scenes[0].ranks, scenes[1].ranks)
    figures = {name: metrics.summary(*pair) for name, pair in pairs.items()}
    for way, one in zip(WAYS, scenes, strict=True):
        figures["C"][way] |= {
            "mAP@R": 100 * float(one.average_precision.mean()),
            "nDCG@10": 100 * float(one.ndcg.mean()),
        }
    return {"figures": figures, "ranks": {name: _plain(pairs[name]) for name in JUDGED}}


def _plain(pair: Pair) -> dict[str, Any]:
    return {
        way: {part: getattr(one, part).tolist() for part in PARTS}
        for way, one in zip(WAYS, pair, strict=True)
    }


def ranks_of(record: dict[str, Any], name: str = "S") -> Pair:
    """(text→image, image→text) ranks of a record under protocol S or C, one caption an image."""
    t2i, i2t = (
        Ranks(*(np.array(record["ranks"][name][way][part]) for part in PARTS)) for way in WAYS
    )
    return t2i, i2t


def run(experiment: Experiment, engine: Engine) -> tuple[Bench, list[dict[str, Any]]]:
    """Run every trial that has no record yet; the bench and all records: see `Bench.run_all`."""
    bench = Bench(experiment)
    return bench, bench.run_all(engine, "imbalance")
