"""The imbalance experiment: which rows train a retriever in each arm, and how it is judged."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import PlainSerializer, PlainValidator

from builder.core.errors import ArasError
from builder.experiments.experiment import Loss, Record, Trial
from builder.experiments.rows import Arm, Flags, TrainRows, balanced, drawn, train_rows, train_table
from builder.experiments.statistics import Factor, Question
from builder.land.pictures import Pixels, decode_png
from builder.models import clip, retriever
from builder.models.clip import shrink
from builder.models.encoders import Encoder, transformers_model
from builder.models.freshness import retriever_identity
from builder.models.retriever import Pairs
from builder.models.settings import RETRIEVER, RetrieverSettings
from builder.release.gaps import MIN_KM
from builder.retrieval import gallery, metrics, protocol
from builder.retrieval.gallery import captions_by_stream
from builder.retrieval.ranks import Array, Floats, Ints, Pair, Positives, Ranks, rank
from builder.retrieval.result import WAYS, Checks, Part, ReleaseFacts
from builder.retrieval.vectors import BATCH
from builder.scores.caption_scores import score_captions
from builder.scores.controls import shuffled
from builder.scores.leakage import without_digits
from builder.scores.references import FEWEST, Reference, representatives
from builder.scores.relevance import groups_of

VERSION = 2
RATIOS = (0.25, 0.5, 1.0, 3.0)
"""Synthetic rows per real row."""
DISCRIMINATES = 0.7
"""Least discrimination of a synthetic row's caption, among synthetic rows, in the filtered arm."""
ACCURATE = 0.5
"""Least accuracy of such a caption: one that is false of its tile and more so elsewhere fails."""
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


def load(release: Path, stream: str) -> TrainRows:
    """Train rows with a caption in ``stream``. Raises ArasError when either source lacks them."""
    table = train_table(release, ("copy", "mask_agreement", "captions"))
    streams = captions_by_stream(table.column("captions"))
    if stream not in streams:
        raise ArasError(f"{release}: no caption stream {stream!r}; it has {', '.join(streams)}")
    keep = [i for i, text in enumerate(streams[stream]) if text is not None]
    table, texts = table.take(keep), [str(streams[stream][i]) for i in keep]
    rows = train_rows(release, table, 2, f" have a caption in stream {stream!r}")
    seen = agrees(table.column("mask_agreement").to_numpy(), rows.is_synthetic)
    original = np.array([not copy for copy in table.column("copy").to_pylist()])
    fits = grounded(texts, rows.shares, synthetic_reference(rows))
    passes = rows.is_synthetic & fits & seen & original
    return replace(rows, texts=texts, passes=passes)


def synthetic_reference(rows: TrainRows) -> Reference | None:
    """The synthetic tiles among ``rows``, which their captions are to tell apart; None for few."""
    shares = rows.shares[rows.is_synthetic]
    if len(shares) < FEWEST:
        return None
    at = representatives(range(len(shares)), shares)
    return Reference("synthetic train rows", shares[at])


def grounded(texts: Sequence[str], shares: Floats, reference: Reference | None = None) -> Flags:
    """Which captions (n,) tell tiles of the shares (n, 7) from the reference tiles, by default the
    built-in ones, are true of them, and give no percentage away."""
    scores = score_captions(list(texts), shares, reference=reference)
    rank, accuracy, leak = (
        np.nan_to_num(scores[name].to_numpy(zero_copy_only=False), nan=0.0)
        for name in ("discrimination", "accuracy", "leak")
    )
    return np.asarray((rank >= DISCRIMINATES) & (accuracy >= ACCURATE) & (leak == 0))


def agrees(agreement: npt.ArrayLike, synthetic: Flags) -> Flags:
    """Which rows' agreement of segmenter and mask is not below that of the worst real quarter.

    ``agreement`` is (n,) with NaN where unknown; unknown rows pass.
    """
    values = np.asarray(agreement, dtype=np.float64)
    real = values[~synthetic & ~np.isnan(values)]
    least = np.quantile(real, AGREES) if len(real) else -np.inf
    return np.asarray(np.isnan(values) | (values >= least))


@dataclass(frozen=True)
class Design:
    """The arms, the ratio that contrasts are made at, and why arms are missing."""

    arms: dict[str, Arm]
    ratio: float
    missing: list[str] = field(default_factory=list)

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


def design(rows: TrainRows, ratios: Sequence[float] = RATIOS, seed: int = 0) -> Design:
    """Every arm that the rows allow.

    Ratios that ask for more synthetic rows than there are, are left out; where none is left, all
    synthetic rows are one ratio. Contrasts are made at the ratio nearest to 1.
    """
    real, synthetic, texts = rows.real, rows.synthetic, rows.texts
    missing = []
    allowed = [r for r in sorted(set(ratios)) if 2 <= round(r * len(real)) <= len(synthetic)]
    if too_many := sorted(set(ratios) - set(allowed)):
        missing.append(
            f"ratios {', '.join(f'{r:g}' for r in too_many)}: {len(synthetic):,} synthetic rows "
            f"beside {len(real):,} real ones do not allow them"
        )
    allowed = allowed or [round(len(synthetic) / len(real), 3)]
    main = min(allowed, key=lambda r: abs(np.log(r)))
    arms = {
        "real": Arm("real rows", real, texts),
        "synthetic": Arm("synthetic rows only", synthetic, texts),
    }
    for r in allowed:
        count = min(round(r * len(real)), len(synthetic))
        natural = drawn(rows, synthetic, count, rows.mean_shares(real), seed)
        for kind, some, what in (
            ("natural", natural, " with real class shares"),
            ("balanced", balanced(rows, synthetic, count, seed), ", class-balanced"),
        ):
            what = f"real + {count:,} synthetic{what}"
            factors: dict[str, Factor] = {"kind": kind, "ratio": r}
            arms[f"{kind}-{r:g}"] = Arm(what, np.concatenate([real, some]), texts, factors)
    even = arms[f"balanced-{main:g}"].pool
    what = f"real rows repeated towards the class shares of balanced-{main:g}"
    repeated = drawn(rows, real, len(even), rows.mean_shares(even), seed)
    arms["oversampled"] = Arm(what, repeated, texts)
    good = synthetic if rows.passes is None else synthetic[rows.passes[synthetic]]
    if len(good) == len(synthetic):
        missing.append("filtered: the filter drops no synthetic row, so it would equal balanced")
    elif len(good) < 2:
        missing.append(f"filtered: the filter leaves {len(good)} synthetic rows")
    else:
        some = balanced(rows, good, len(even) - len(real), seed)
        what = f"balanced-{main:g} from the {len(good):,} synthetic rows that pass the filter"
        arms["filtered"] = Arm(what, np.concatenate([real, some]), texts)
    mixed, plain = list(texts), [without_digits(text) for text in texts]
    given = shuffled([rows.ids[i] for i in real], [texts[i] for i in real], seed=seed)
    for i, text in zip(real, given, strict=True):
        mixed[i] = text or texts[i]
    arms[FLOOR] = Arm("real rows, captions of other real rows", real, mixed)
    if all(plain[i] == texts[i] for i in real):
        missing.append("stripped: captions hold no numbers, so it would equal real")
    else:
        arms["stripped"] = Arm("real rows, numbers removed from captions", real, plain)
    return Design(arms, main, missing)


@dataclass(frozen=True)
class Test:
    """N real test tiles: ids, one caption each, class shares (N, K), blocks where known."""

    ids: list[str]
    captions: list[str]
    shares: Floats
    blocks: list[str] | None


class SetFacts(Part):
    """What a report says of a set that is no release; whatever else it is given is kept too."""

    name: str
    version: str
    content_sha256: str


@dataclass(frozen=True)
class Material:
    """Train rows, test tiles, and the pictures of both.

    In the keys of runs ``content_sha256`` of ``facts`` stands for all pictures. ``tiles(split)`` of
    "train" and "test" gives batches of (rows of that split, (H, W, 3) uint8 each).
    """

    facts: ReleaseFacts | SetFacts
    rows: TrainRows
    test: Test
    tiles: Callable[[str], Iterable[tuple[Ints, list[Pixels]]]]
    checks: Checks | None = None
    """What was checked of test tiles of a release."""
    judged: str = "S"
    """Protocol that conclusions are drawn under: S, or C where captions name a class alone."""
    depth: int = DEPTH
    """K of the R@K by class."""
    limits: Sequence[str] = ()
    """What cannot be concluded from a set, whatever the figures are."""


def release_material(
    release: Path, stream: str, min_km: float = MIN_KM, near: str = "refuse"
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
    return Material(test.facts, rows, tested, tiles, test.facts.checks)


def _read(ways: Any) -> Pair:
    if isinstance(ways, tuple):
        return ways
    t2i, i2t = (Ranks(**{k: np.array(v) for k, v in ways[way].items()}) for way in WAYS)
    return t2i, i2t


def _written(pair: Pair) -> dict[str, dict[str, list[int]]]:
    return {
        way: {part: values.tolist() for part, values in ranks.parts.items()}
        for way, ranks in zip(WAYS, pair, strict=True)
    }


class Judged(Record):
    """Figures of a model by protocol, and its ranks under those of `JUDGED`."""

    figures: dict[str, Any]
    ranks: dict[str, Annotated[Pair, PlainValidator(_read), PlainSerializer(_written)]]


class Bench:
    """The material, the design and, once they are needed, the pictures.

    ``zero_shot`` is a model that is judged as it is: a transformers CLIP or SigLIP by folder or
    name.
    """

    name, floor, record = "imbalance", FLOOR, Judged
    floor_model = (
        "one trained on shuffled captions, so differences between arms say nothing about what "
        "captions and tiles teach"
    )
    empty = "no test tile is dominated by these classes"

    def __init__(
        self,
        source: Callable[[], Material],
        settings: RetrieverSettings,
        ratios: Sequence[float] = RATIOS,
        zero_shot: str = "",
    ) -> None:
        self.material, self.settings, self.zero_shot = source(), settings, zero_shot
        self.rows, self.test = self.material.rows, self.material.test
        self.tiles, self.checks = len(self.test.ids), self.material.checks
        self.design = design(self.rows, ratios)
        self.arms = self.design.arms
        self.untrained: Sequence[str] = [ZERO_SHOT] if zero_shot else []

    def inputs(self, trial: Trial) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "version": VERSION,
            "content": self.material.facts.content_sha256,
            "test": [self.test.ids, self.test.captions],
        }
        if trial[0] == ZERO_SHOT:
            return inputs | {"model": self._untrained.identity or self._untrained.name}
        arm = self.arms[trial[0]]
        return inputs | {
            "arm": [[self.rows.ids[i], arm.texts[i]] for i in arm.pool],
            "vocabulary": [self.rows.texts[i] for i in self.rows.real],
            "settings": retriever_identity(replace(self.settings, seed=trial[1])),
        }

    def train(self, trial: Trial, key: str, folder: Path) -> Judged:
        texts = [*self.test.captions, *map(without_digits, self.test.captions)]
        if trial[0] == ZERO_SHOT:
            return self._judge_untrained(texts)
        settings, arm = replace(self.settings, seed=trial[1]), self.arms[trial[0]]
        # The vocabulary comes from real captions, so that all arms read text alike.
        start = clip.start(settings, [self.rows.texts[i] for i in self.rows.real])
        pairs = Pairs(self.rows.ids, self._pictures("train", start.size), arm.texts)
        losses, _ = retriever.train_pairs(folder, key, pairs, settings, start, arm.pool)
        vectors = retriever.embed(start, self._pictures("test", start.size), texts)
        return judge(*vectors, self.test).plus(
            settings=retriever_identity(settings), loss=Loss.of(losses)
        )

    def _judge_untrained(self, texts: list[str]) -> Judged:
        model = self._untrained
        rows: dict[int, Array] = {}
        for where, tiles in self.material.tiles("test"):
            rows.update(zip(where.tolist(), model.images(tiles), strict=True))
        images = np.stack([rows[i] for i in range(len(rows))])
        batches = (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))
        vectors = np.concatenate([model.texts(batch) for batch in batches])
        name = {"name": Path(model.name).name, **model.facts}
        return judge(images, vectors, self.test).plus(model=name)

    @cached_property
    def _untrained(self) -> Encoder:
        return transformers_model(self.zero_shot)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _pictures(self, split: str, size: int) -> Pixels:
        """All tiles of "train" or "test", (n, size, size, 3)."""
        ids = self.rows.ids if split == "train" else self.test.ids
        pictures = np.empty((len(ids), size, size, 3), np.uint8)
        for where, tiles in self.material.tiles(split):
            for i, tile in zip(where, tiles, strict=True):
                pictures[i] = shrink(tile, size)
        return pictures


def judge(images: Array, texts: Array, test: Test) -> Judged:
    """Figures under S, D, C and L, and the ranks of S and C, of unit vectors.

    ``images`` is (N, d), ``texts`` (2N, d): the captions, then the captions without numbers.
    """
    owner = np.arange(len(images))
    texts, plain = texts[: len(images)], texts[len(images) :]
    positives = Positives.owned(owner)
    share = np.ascontiguousarray(test.shares, dtype=np.float32)
    pairs = {"S": rank(images, texts, positives), "L": rank(images, plain, positives)}
    pairs["D"] = protocol.merge(images, texts, owner, groups_of(test.captions))[0]
    scenes, _ = protocol.by_scene(images, texts, owner, share, protocol.Asked(owner, owner))
    pairs["C"] = (scenes[0].ranks, scenes[1].ranks)
    figures = {name: metrics.summary(*pair).as_json() for name, pair in pairs.items()}
    for way, scene in zip(WAYS, scenes, strict=True):
        figures["C"][way] |= {
            "mAP@R": 100 * float(scene.average_precision.mean()),
            "nDCG@10": 100 * float(scene.ndcg.mean()),
        }
    return Judged(figures=figures, ranks={name: pairs[name] for name in JUDGED})
