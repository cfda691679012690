"""The imbalance experiment: which rows train a retriever in each arm, and how it is judged."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.experiments import experiment as shared
from builder.experiments.experiment import Arm, Loss, Outcome, TrainRows, Trial
from builder.experiments.statistics import Question
from builder.land.pictures import Pixels, decode_png
from builder.models import clip, retriever
from builder.models.clip import shrink
from builder.models.encoders import Encoder, transformers_model
from builder.models.retriever import Pairs
from builder.models.settings import RETRIEVER, RetrieverSettings
from builder.retrieval import gallery, metrics, protocol
from builder.retrieval.gallery import captions_by_stream
from builder.retrieval.ranks import PARTS, Array, Floats, Ints, Pair, Positives, Ranks, rank
from builder.retrieval.result import WAYS, Checks
from builder.retrieval.vectors import BATCH
from builder.scores.caption_scores import score_captions
from builder.scores.controls import shuffled
from builder.scores.leakage import without_digits

VERSION = 2
SEEDS = 3
RATIOS = (0.25, 0.5, 1.0, 3.0)
"""Synthetic rows per real row."""
GROUNDED = 0.5
"""Least grounding of a synthetic row's caption in the filtered arm."""
AGREES = 0.25
"""Quantile of the real rows' agreement between segmenter and mask that the filter asks for."""
FLOOR = "shuffled"
"""The arm that real rows must beat before arms are compared."""
ZERO_SHOT = "zero-shot"
"""The arm that is not trained at all."""
DEPTH = 10
JUDGED = ("S", "C")
"""Protocols whose ranks are kept, for contrasts."""

# "cpu" learns a scene of some hundred tiles in half a minute of one core; longer it only overfits.
PRESETS = {
    "small": RetrieverSettings(
        steps=60, batch=16, size=32, patch=8, width=64, layers=2, text_layers=1, projection=32,
        vocabulary=500,
    ),
    "cpu": RetrieverSettings(
        steps=150, size=64, patch=8, width=64, layers=3, text_layers=2, projection=64,
    ),
    "gpu": RETRIEVER["gpu"],
}  # fmt: skip


@dataclass(frozen=True)
class Rows(TrainRows):
    """Train rows that have a caption in one stream, and those captions."""

    texts: list[str]
    passes: npt.NDArray[np.bool_]
    """Synthetic rows that the filtered arm takes."""

    @property
    def dominant(self) -> Ints:
        """The commonest class of each real row."""
        return np.asarray(self.shares[self.real].argmax(1))


def load(release: Path, stream: str) -> Rows:
    """Train rows with a caption in ``stream``. Raises ArasError when either source lacks them."""
    table = shared.train_table(release, ("mask_agreement", "captions"))
    streams = captions_by_stream(table.column("captions"))
    if stream not in streams:
        raise ArasError(f"{release}: no caption stream {stream!r}; it has {', '.join(streams)}")
    keep = [i for i, text in enumerate(streams[stream]) if text is not None]
    table = table.take(keep)
    rows = shared.train_rows(table)
    texts = [str(streams[stream][i]) for i in keep]
    seen = agrees(table.column("mask_agreement").to_numpy(), rows.is_synthetic)
    passes = rows.is_synthetic & grounded(texts, rows.shares) & seen & ~rows.is_copy
    shared.require_both(release, rows, 2, f" have a caption in stream {stream!r}")
    return Rows(**vars(rows), texts=texts, passes=passes)


def grounded(texts: Sequence[str], shares: Floats) -> npt.NDArray[np.bool_]:
    """Which captions (n,) are grounded in the shares (n, 7) and give no percentage away."""
    scores = score_captions(list(texts), shares)
    grounding = np.nan_to_num(scores["grounding"].to_numpy(zero_copy_only=False), nan=0.0)
    leak = np.nan_to_num(scores["leak"].to_numpy(zero_copy_only=False), nan=0.0)
    return np.asarray((grounding >= GROUNDED) & (leak == 0))


def agrees(agreement: npt.ArrayLike, synthetic: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows' agreement of segmenter and mask is not below that of the worst real quarter.

    ``agreement`` is (n,) with NaN where unknown; unknown rows pass.
    """
    values = np.asarray(agreement, dtype=np.float64)
    real = values[~synthetic & ~np.isnan(values)]
    least = np.quantile(real, AGREES) if len(real) else -np.inf
    return np.asarray(np.isnan(values) | (values >= least))


@dataclass(frozen=True)
class Design:
    """The arms, the ratio that contrasts are made at, all ratios, and why arms are missing."""

    arms: dict[str, Arm]
    ratio: float
    ratios: list[float]
    missing: list[str]

    @property
    def even(self) -> str:
        """The class-balanced arm that others are compared with."""
        return f"balanced-{self.ratio:g}"

    @property
    def questions(self) -> list[Question]:
        even = self.even
        return [
            Question(even, "real", "does balanced synthesis help or hurt?"),
            Question(
                even, "oversampled", "does it beat repeating real rows to the same class shares?"
            ),
            Question(even, f"natural-{self.ratio:g}", "does balance matter, beyond more rows?"),
            Question("oversampled", "real", "what does balance alone do, with no synthetic row?"),
            Question("filtered", even, "does filtering the synthetic rows matter?"),
            Question("synthetic", "real", "can synthetic rows replace real ones?"),
            Question("real", FLOOR, "did the model learn from captions at all?"),
            Question("real", ZERO_SHOT, "what does training on the real rows add?"),
            Question("stripped", "real", "what do numbers in the captions change?"),
        ]


def design(rows: Rows, ratios: Sequence[float] = RATIOS, seed: int = 0) -> Design:
    """Every arm that the rows allow.

    Ratios that ask for more synthetic rows than there are, are left out; where none is left, all
    synthetic rows are one ratio. Contrasts are made at the ratio nearest to 1.
    """
    real, synthetic = rows.real, rows.synthetic
    missing = []
    allowed = [r for r in sorted(set(ratios)) if 2 <= round(r * len(real)) <= len(synthetic)]
    if too_many := sorted(set(ratios) - set(allowed)):
        missing.append(
            f"ratios {', '.join(f'{r:g}' for r in too_many)}: {len(synthetic):,} synthetic rows "
            f"beside {len(real):,} real ones do not allow them"
        )
    allowed = allowed or [round(len(synthetic) / len(real), 3)]
    main = min(allowed, key=lambda r: abs(np.log(r)))
    pools = {"real": ("real rows", real), "synthetic": ("synthetic rows only", synthetic)}
    for r in allowed:
        count = min(round(r * len(real)), len(synthetic))
        natural = np.concatenate([real, shared.alike(rows, synthetic, real, count, seed)])
        even = np.concatenate([real, shared.balanced(rows, synthetic, count, seed)])
        what = f"real + {count:,} synthetic"
        pools[f"natural-{r:g}"] = f"{what} with real class shares", natural
        pools[f"balanced-{r:g}"] = f"{what}, class-balanced", even
    even = pools[f"balanced-{main:g}"][1]
    pools["oversampled"] = (
        f"real rows repeated towards the class shares of balanced-{main:g}",
        shared.alike(rows, real, even, len(even), seed),
    )
    good = synthetic[rows.passes[synthetic]]
    if len(good) == len(synthetic):
        missing.append("filtered: the filter drops no synthetic row, so it would equal balanced")
    elif len(good) < 2:
        missing.append(f"filtered: the filter leaves {len(good)} synthetic rows")
    else:
        drawn = shared.balanced(rows, good, len(even) - len(real), seed)
        what = f"balanced-{main:g} from the {len(good):,} synthetic rows that pass the filter"
        pools["filtered"] = what, np.concatenate([real, drawn])
    arms = {name: Arm(*pool, rows.texts) for name, pool in pools.items()}
    mixed = list(rows.texts)
    given = shuffled([rows.ids[i] for i in real], [rows.texts[i] for i in real], seed=seed)
    for i, text in zip(real, given, strict=True):
        mixed[i] = text or rows.texts[i]
    arms[FLOOR] = Arm("real rows, captions of other real rows", real, mixed)
    plain = [without_digits(text) for text in rows.texts]
    if all(plain[i] == rows.texts[i] for i in real):
        missing.append("stripped: captions hold no numbers, so it would equal real")
    else:
        arms["stripped"] = Arm("real rows, numbers removed from captions", real, plain)
    return Design(arms, main, allowed, missing)


@dataclass(frozen=True)
class Test:
    """N real test tiles: ids, one caption each, class shares (N, K), blocks where known."""

    ids: list[str]
    captions: list[str]
    shares: Floats
    blocks: list[str] | None


@dataclass(frozen=True)
class Material:
    """Train rows, test tiles, and the pictures of both.

    ``facts`` is what a report says of the release or set; its ``content_sha256`` stands for all
    pictures in the keys of runs. ``tiles(split)`` of "train" and "test" gives batches of (rows of
    that split, (H, W, 3) uint8 each).
    """

    facts: dict[str, Any]
    rows: Rows
    test: Test
    tiles: Callable[[str], Iterable[tuple[Ints, list[Pixels]]]]
    checks: Checks | None = None
    """What was checked of test tiles of a release."""
    judged: str = "S"
    """Protocol that conclusions are drawn under: S, or C where captions name a class alone."""
    depth: int = DEPTH
    """K of the R@K by class."""


def release_material(
    release: Path, stream: str, min_km: float = gallery.MIN_KM, near: str = "refuse"
) -> Material:
    """The train rows and the real test tiles of a release that have a caption in ``stream``.

    Raises ArasError when either source is missing and for test tiles near train tiles.
    """
    rows = load(release, stream)
    test = gallery.load(release, min_km=min_km, near=near)
    test = test.take(np.flatnonzero([text is not None for text in test.streams[stream]]))
    if len(test) < 2:
        raise ArasError(f"{release}: fewer than 2 test tiles have a {stream} caption")
    ids_of = {"train": rows.ids, "test": test.ids}

    def tiles(split: str) -> Iterator[tuple[Ints, list[Pixels]]]:
        ids = ids_of[split]
        for where, data in gallery.pictures(release, ids, split):
            yield where, [decode_png(png, ids[i]) for png, i in zip(data, where, strict=True)]

    captions = [str(text) for text in test.streams[stream]]
    tested = Test(test.ids, captions, test.shares, test.blocks)
    return Material(test.facts.as_json(), rows, tested, tiles, test.facts.checks)


@dataclass(frozen=True)
class Experiment:
    """All that the figures depend on; picklable, and what an engine's worker opens."""

    source: Callable[[], Material]
    """Picklable, so that an engine's workers load the material themselves."""
    out: Path
    settings: RetrieverSettings
    ratios: tuple[float, ...] = RATIOS
    seeds: int = SEEDS
    zero_shot: str = ""
    """A model that is judged as it is: a transformers CLIP or SigLIP by folder or name."""

    def open(self) -> Callable[[Trial], Any]:
        return functools.partial(shared.run_trial, Bench(self))


@dataclass(frozen=True)
class Ranking:
    """Figures of a model by protocol, and its ranks under those of `JUDGED`."""

    figures: dict[str, Any]
    ranks: dict[str, Pair]

    @property
    def arrays(self) -> dict[tuple[str, str, str], Ints]:
        """Of (protocol, direction, part): the arrays of all ranks, (N,) each."""
        return {
            (name, way, part): getattr(ranks, part)
            for name, pair in self.ranks.items()
            for way, ranks in zip(WAYS, pair, strict=True)
            for part in PARTS
        }

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for (name, way, part), array in self.arrays.items():
            values.setdefault(name, {}).setdefault(way, {})[part] = array.tolist()
        return {"figures": self.figures, "ranks": values}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Ranking":
        def ranks(parts: Mapping[str, Any]) -> Ranks:
            return Ranks(*(np.array(parts[part]) for part in PARTS))

        pairs = {
            name: (ranks(ways["t2i"]), ranks(ways["i2t"])) for name, ways in values["ranks"].items()
        }
        return Ranking(values["figures"], pairs)


class Bench:
    """The material, the design and, once they are needed, the pictures."""

    name, floor = "imbalance", FLOOR
    floor_model = (
        "one trained on shuffled captions, so differences between arms say nothing about what "
        "captions and tiles teach"
    )
    empty = "no test tile is dominated by these classes"
    judgement = staticmethod(Ranking.from_json)

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.material = experiment.source()
        self.rows, self.test = self.material.rows, self.material.test
        self.tiles, self.checks = len(self.test.ids), self.material.checks
        self.design: Design = design(self.rows, experiment.ratios)
        self.arms = self.design.arms
        self.untrained = [ZERO_SHOT] if experiment.zero_shot else []

    def key(self, trial: Trial) -> str:
        inputs: dict[str, Any] = {
            "version": VERSION,
            "content": self.material.facts["content_sha256"],
            "test": [self.test.ids, self.test.captions],
        }
        if trial[0] == ZERO_SHOT:
            return digest_of({**inputs, "model": self._zero_shot.identity or self._zero_shot.name})
        arm = self.arms[trial[0]]
        return digest_of(
            {
                **inputs,
                "arm": [[self.rows.ids[i], arm.texts[i]] for i in arm.pool],
                "vocabulary": [self.rows.texts[i] for i in self.rows.real],
                "settings": clip.settings_as_json(self._settings(trial)),
            }
        )

    def judge(self, trial: Trial, folder: Path) -> Outcome[Ranking]:
        texts = [*self.test.captions, *map(without_digits, self.test.captions)]
        if trial[0] == ZERO_SHOT:
            return self._judge_untrained(texts)
        settings, arm = self._settings(trial), self.arms[trial[0]]
        # The vocabulary comes from real captions, so that all arms read text alike.
        real = [self.rows.texts[i] for i in self.rows.real]
        start = clip.start(settings, real)
        pairs = Pairs(self.rows.ids, self._pictures("train", start.size), arm.texts)
        losses, _ = retriever.train_pairs(folder, self.key(trial), pairs, settings, start, arm.pool)
        vectors = retriever.embed(start, self._pictures("test", start.size), texts)
        ranking, given = judge(*vectors, self.test), clip.settings_as_json(settings)
        return Outcome(ranking, given, Loss.of(losses))

    def _judge_untrained(self, texts: list[str]) -> Outcome[Ranking]:
        model = self._zero_shot
        rows: dict[int, Array] = {}
        for where, tiles in self.material.tiles("test"):
            rows.update(zip(where.tolist(), model.images(tiles), strict=True))
        images = np.stack([rows[i] for i in range(len(rows))])
        batches = (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))
        vectors = np.concatenate([model.texts(batch) for batch in batches])
        name = {"name": Path(model.name).name, **model.facts}
        return Outcome(judge(images, vectors, self.test), model=name)

    def _settings(self, trial: Trial) -> RetrieverSettings:
        return replace(self.experiment.settings, seed=trial[1])

    @cached_property
    def _zero_shot(self) -> Encoder:
        return transformers_model(self.experiment.zero_shot)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _pictures(self, split: str, size: int) -> Pixels:
        """All tiles of "train" or "test", (n, size, size, 3)."""
        ids = self.rows.ids if split == "train" else self.test.ids
        pictures = np.empty((len(ids), size, size, 3), np.uint8)
        for where, tiles in self.material.tiles(split):
            for i, tile in zip(where, tiles, strict=True):
                pictures[i] = shrink(tile, size)
        return pictures


def judge(images: Array, texts: Array, test: Test) -> Ranking:
    """Figures under S, D, C and L, and the ranks of S and C, of unit vectors.

    ``images`` is (N, d), ``texts`` (2N, d): the captions, then the captions without numbers.
    """
    owner = np.arange(len(images))
    texts, plain = texts[: len(images)], texts[len(images) :]
    positives = Positives.owned(owner)
    share = np.ascontiguousarray(test.shares, dtype=np.float32)
    pairs = {"S": rank(images, texts, positives), "L": rank(images, plain, positives)}
    pairs["D"] = protocol.merge(images, texts, owner, metrics.groups_of(test.captions))[0]
    scenes, _ = protocol.by_scene(images, texts, owner, share, protocol.Asked(owner, owner))
    pairs["C"] = (scenes[0].ranks, scenes[1].ranks)
    figures = {name: metrics.summary(*pair).as_json() for name, pair in pairs.items()}
    for way, scene in zip(WAYS, scenes, strict=True):
        figures["C"][way] |= {
            "mAP@R": 100 * float(scene.average_precision.mean()),
            "nDCG@10": 100 * float(scene.ndcg.mean()),
        }
    return Ranking(figures, {name: pairs[name] for name in JUDGED})
