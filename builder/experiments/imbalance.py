"""The imbalance experiment: a retriever per arm and seed, equal steps, real test tiles."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.files import digest_of, remove, write_json
from builder.experiments import imbalance_analysis
from builder.experiments.experiment import Bench as Trials
from builder.experiments.experiment import (
    TrainRows,
    Trial,
    alike,
    balanced,
    train_rows,
    train_table,
)
from builder.land.pictures import Pixels, decode_png
from builder.models import clip, retriever
from builder.models.compact_clip import PROFILES, Settings, shrink
from builder.models.encoders import Encoder, transformers_model
from builder.models.retriever import Pairs
from builder.retrieval import gallery, metrics, protocol
from builder.retrieval.gallery import captions_by_stream
from builder.retrieval.ranks import PARTS, Array, Floats, Ints, Pair, Positives, Ranks, rank
from builder.retrieval.result import libraries
from builder.retrieval.vectors import BATCH
from builder.scores.caption_scores import score_captions
from builder.scores.controls import shuffled
from builder.scores.leakage import without_digits

RATIOS = (0.25, 0.5, 1.0, 3.0)
"""Synthetic rows per real row."""
GROUNDED = 0.5
"""Least grounding of a synthetic row's caption in the filtered arm."""
AGREES = 0.25
"""Quantile of the real rows' agreement between segmenter and mask that the filter asks for."""


@dataclass(frozen=True)
class Rows(TrainRows):
    """Train rows that have a caption in one stream, and those captions."""

    texts: list[str]
    passes: npt.NDArray[np.bool_]
    """Synthetic rows that the filtered arm takes."""


@dataclass(frozen=True)
class Arm:
    """Rows that batches are drawn from (a row twice: twice as often), and their captions."""

    name: str
    what: str
    pool: Ints
    texts: list[str]
    """(n,) the caption of every row in this arm."""


@dataclass(frozen=True)
class Design:
    """The arms, the ratio that contrasts are made at, all ratios, and why arms are missing."""

    arms: list[Arm]
    ratio: float
    ratios: list[float]
    missing: list[str]

    def arm(self, name: str) -> Arm:
        return next(one for one in self.arms if one.name == name)


def load(release: Path, stream: str) -> Rows:
    """Train rows with a caption in ``stream``. Raises ArasError when either source lacks them."""
    table = train_table(release, ("mask_agreement", "captions"))
    streams = captions_by_stream(table.column("captions"))
    if stream not in streams:
        raise ArasError(f"{release}: no caption stream {stream!r}; it has {', '.join(streams)}")
    keep = [i for i, text in enumerate(streams[stream]) if text is not None]
    table = table.take(keep)
    found = train_rows(table)
    texts = [str(streams[stream][i]) for i in keep]
    seen = agrees(table.column("mask_agreement").to_numpy(), found.synthetic)
    passes = found.synthetic & told_well(texts, found.shares) & seen & ~found.copy
    rows = Rows(**vars(found), texts=texts, passes=passes)
    for what, there in (("real", rows.real), ("synthetic", rows.made)):
        if len(there) < 2:
            raise ArasError(
                f"{release}: {len(there)} {what} train rows have a caption in stream {stream!r}; "
                "the experiment compares real with synthetic rows and needs both"
            )
    return rows


def design(rows: Rows, ratios: Sequence[float] = RATIOS, seed: int = 0) -> Design:
    """Every arm that the rows allow.

    Ratios that ask for more synthetic rows than there are, are left out; where none is left, all
    synthetic rows are one ratio. Contrasts are made at the ratio nearest to 1.
    """
    real, made = rows.real, rows.made
    missing = []
    allowed = [r for r in sorted(set(ratios)) if 2 <= round(r * len(real)) <= len(made)]
    if too_many := sorted(set(ratios) - set(allowed)):
        missing.append(
            f"ratios {', '.join(f'{r:g}' for r in too_many)}: {len(made):,} synthetic rows beside "
            f"{len(real):,} real ones do not allow them"
        )
    allowed = allowed or [round(len(made) / len(real), 3)]
    main = min(allowed, key=lambda r: abs(np.log(r)))
    arms = [
        Arm("real", "real rows", real, rows.texts),
        Arm("synthetic", "synthetic rows only", made, rows.texts),
    ]
    for r in allowed:
        count = min(round(r * len(real)), len(made))
        some = np.concatenate([real, alike(rows, made, real, count, seed)])
        even = np.concatenate([real, balanced(rows, made, count, seed)])
        what = f"real + {count:,} synthetic"
        arms.append(Arm(f"natural-{r:g}", f"{what} with real class shares", some, rows.texts))
        arms.append(Arm(f"balanced-{r:g}", f"{what}, class-balanced", even, rows.texts))
    even = next(one.pool for one in arms if one.name == f"balanced-{main:g}")
    arms.append(
        Arm(
            "oversampled",
            f"real rows repeated towards the class shares of balanced-{main:g}",
            alike(rows, real, even, len(even), seed),
            rows.texts,
        )
    )
    good = made[rows.passes[made]]
    if len(good) == len(made):
        missing.append("filtered: the filter drops no synthetic row, so it would equal balanced")
    elif len(good) < 2:
        missing.append(f"filtered: the filter leaves {len(good)} synthetic rows")
    else:
        count = len(even) - len(real)
        pool = np.concatenate([real, balanced(rows, good, count, seed)])
        what = f"balanced-{main:g} from the {len(good):,} synthetic rows that pass the filter"
        arms.append(Arm("filtered", what, pool, rows.texts))
    mixed = list(rows.texts)
    given = shuffled([rows.ids[i] for i in real], [rows.texts[i] for i in real], seed=seed)
    for i, text in zip(real, given, strict=True):
        mixed[i] = text or rows.texts[i]
    arms.append(Arm("shuffled", "real rows, captions of other real rows", real, mixed))
    plain = [without_digits(text) for text in rows.texts]
    if all(plain[i] == rows.texts[i] for i in real):
        missing.append("stripped: captions hold no numbers, so it would equal real")
    else:
        arms.append(Arm("stripped", "real rows, numbers removed from captions", real, plain))
    return Design(arms, main, allowed, missing)


def told_well(texts: Sequence[str], shares: Floats) -> npt.NDArray[np.bool_]:
    """Which captions (n,) are grounded in the shares (n, 7) and give no percentage away."""
    scores = score_captions(list(texts), shares)
    grounding = np.nan_to_num(scores["grounding"].to_numpy(zero_copy_only=False), nan=0.0)
    leak = np.nan_to_num(scores["leak"].to_numpy(zero_copy_only=False), nan=0.0)
    return np.asarray((grounding >= GROUNDED) & (leak == 0))


def agrees(agreement: npt.ArrayLike, synthetic: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows' agreement of segmenter and mask is not below that of the worst real quarter.

    ``agreement`` is (n,) with NaN where unknown; unknown rows pass.
    """
    found = np.asarray(agreement, dtype=np.float64)
    real = found[~synthetic & ~np.isnan(found)]
    least = np.quantile(real, AGREES) if len(real) else -np.inf
    return np.asarray(np.isnan(found) | (found >= least))


def describe(rows: Rows, arm: Arm) -> dict[str, Any]:
    """What an arm holds: rows, distinct ones, synthetic ones, distinct captions, class shares."""
    shares = rows.shares[arm.pool].mean(0)
    return {
        "what": arm.what,
        "rows": len(arm.pool),
        "distinct": len(np.unique(arm.pool)),
        "synthetic": int(rows.synthetic[arm.pool].sum()),
        "captions": len({arm.texts[i] for i in arm.pool}),
        "class_shares": {n: round(float(s), 4) for n, s in zip(rows.classes, shares, strict=True)},
    }


@dataclass(frozen=True)
class Test:
    """N real test tiles: ids, one caption each, class shares (N, K), blocks where known."""

    ids: list[str]
    captions: list[str]
    shares: Floats
    blocks: list[str] | None


@dataclass(frozen=True)
class Material:
    """Train rows, test tiles, and the pictures of both at a side given in pixels.

    ``facts`` is what a report tells of the release or set; its ``content_sha256`` stands for all
    pictures in the keys of runs. ``pictures(size)`` gives (train, test), (n, size, size, 3) uint8,
    ``tiles()`` the test tiles at their full size: batches of (places in ``test``, (H, W, 3) each).
    """

    facts: dict[str, Any]
    rows: Rows
    test: Test
    pictures: Callable[[int], tuple[Pixels, Pixels]]
    tiles: Callable[[], Iterable[tuple[Ints, list[Pixels]]]]
    judged: str = "S"
    """Protocol that conclusions are drawn under: S, or C where captions name a class alone."""
    depth: int = imbalance_analysis.DEPTH
    """K of the R@K by class."""


class Source(Protocol):
    """Where material comes from; picklable, so that an engine's workers load it themselves."""

    def load(self) -> Material: ...


@dataclass(frozen=True)
class ReleaseSource:
    """The train rows and the real test tiles of a release that have a caption in ``stream``."""

    release: Path
    stream: str
    min_km: float = gallery.MIN_KM
    near: str = "refuse"

    def load(self) -> Material:
        """Raises ArasError when either source is missing and for test tiles near train tiles."""
        rows = load(self.release, self.stream)
        test = gallery.load(self.release, min_km=self.min_km, near=self.near)
        having = np.array([text is not None for text in test.streams[self.stream]])
        test = test.take(np.flatnonzero(having))
        if len(test) < 2:
            raise ArasError(f"{self.release}: fewer than 2 test tiles have a {self.stream} caption")
        captions = [str(text) for text in test.streams[self.stream]]
        return Material(
            test.facts.as_json(),
            rows,
            Test(test.ids, captions, test.shares, test.blocks),
            lambda size: (
                self._pixels(rows.ids, "train", size),
                self._pixels(test.ids, test.split, size),
            ),
            lambda: self._whole(test.ids, test.split),
        )

    def _whole(self, ids: list[str], split: str) -> Iterator[tuple[Ints, list[Pixels]]]:
        for where, data in gallery.pictures(self.release, ids, split):
            yield where, [decode_png(one, ids[i]) for one, i in zip(data, where, strict=True)]

    def _pixels(self, ids: list[str], split: str, size: int) -> npt.NDArray[np.uint8]:
        out = np.empty((len(ids), size, size, 3), np.uint8)
        for where, tiles in self._whole(ids, split):
            for i, tile in zip(where, tiles, strict=True):
                out[i] = shrink(tile, size)
        return out


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
        self.design: Design = design(self.rows, experiment.ratios)

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
                "settings": clip.settings_as_json(settings),
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
        return images, vectors, {"settings": clip.settings_as_json(settings), "loss": loss}

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
    figures = {name: metrics.summary(*pair).as_json() for name, pair in pairs.items()}
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
