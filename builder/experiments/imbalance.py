"""The imbalance experiment: a retriever per arm and seed, equal steps, real test tiles."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.figures import BLUE, GREEN, GREY, ORANGE, PINK
from builder.core.files import digest_of
from builder.experiments import experiment as shared
from builder.experiments import report, statistics
from builder.experiments.experiment import Arm, Loss, Outcome, Record, TrainRows, Trial
from builder.experiments.report import Findings, Panel, Plot, Report, Table
from builder.experiments.statistics import FEW, Analysis, Question, Statistic
from builder.land.classes import CLASSES
from builder.land.pictures import Pixels, decode_png
from builder.models import clip, retriever
from builder.models.compact_clip import shrink
from builder.models.encoders import Encoder, transformers_model
from builder.models.retriever import Pairs
from builder.models.settings import RETRIEVER, RetrieverSettings
from builder.retrieval import gallery, intervals, metrics, protocol
from builder.retrieval.gallery import captions_by_stream
from builder.retrieval.ranks import PARTS, Array, Floats, Ints, Pair, Positives, Ranks, rank
from builder.retrieval.result import Checks
from builder.retrieval.vectors import BATCH
from builder.scores.caption_scores import score_captions
from builder.scores.controls import shuffled
from builder.scores.leakage import source_leak, without_digits

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
MARGIN = 1.0
"""Loss of mR, in percentage points, below which an arm counts as not worse."""


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
    captioned = Rows(**vars(rows), texts=texts, passes=passes)
    for kind, members in (("real", captioned.real), ("synthetic", captioned.synthetic)):
        if len(members) < 2:
            raise ArasError(
                f"{release}: {len(members)} {kind} train rows have a caption in stream {stream!r}; "
                "the experiment compares real with synthetic rows and needs both"
            )
    return captioned


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

    arms: list[Arm]
    ratio: float
    ratios: list[float]
    missing: list[str]

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def questions(self) -> list[Question]:
        even, natural = f"balanced-{self.ratio:g}", f"natural-{self.ratio:g}"
        return [
            Question(ours, theirs, text)
            for ours, theirs, text in (
                (even, "real", "does balanced synthesis help or hurt?"),
                (even, "oversampled", "does it beat repeating real rows to the same class shares?"),
                (even, natural, "does balance matter, beyond more rows?"),
                ("oversampled", "real", "what does balance alone do, with no synthetic row?"),
                ("filtered", even, "does filtering the synthetic rows matter?"),
                ("synthetic", "real", "can synthetic rows replace real ones?"),
                ("real", FLOOR, "did the model learn from captions at all?"),
                ("real", ZERO_SHOT, "what does training on the real rows add?"),
                ("stripped", "real", "what do numbers in the captions change?"),
            )
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
    arms = [
        Arm("real", "real rows", real, rows.texts),
        Arm("synthetic", "synthetic rows only", synthetic, rows.texts),
    ]
    for r in allowed:
        count = min(round(r * len(real)), len(synthetic))
        natural = np.concatenate([real, shared.alike(rows, synthetic, real, count, seed)])
        even = np.concatenate([real, shared.balanced(rows, synthetic, count, seed)])
        what = f"real + {count:,} synthetic"
        arms.append(Arm(f"natural-{r:g}", f"{what} with real class shares", natural, rows.texts))
        arms.append(Arm(f"balanced-{r:g}", f"{what}, class-balanced", even, rows.texts))
    even = next(arm.pool for arm in arms if arm.name == f"balanced-{main:g}")
    arms.append(
        Arm(
            "oversampled",
            f"real rows repeated towards the class shares of balanced-{main:g}",
            shared.alike(rows, real, even, len(even), seed),
            rows.texts,
        )
    )
    good = synthetic[rows.passes[synthetic]]
    if len(good) == len(synthetic):
        missing.append("filtered: the filter drops no synthetic row, so it would equal balanced")
    elif len(good) < 2:
        missing.append(f"filtered: the filter leaves {len(good)} synthetic rows")
    else:
        count = len(even) - len(real)
        pool = np.concatenate([real, shared.balanced(rows, good, count, seed)])
        what = f"balanced-{main:g} from the {len(good):,} synthetic rows that pass the filter"
        arms.append(Arm("filtered", what, pool, rows.texts))
    mixed = list(rows.texts)
    given = shuffled([rows.ids[i] for i in real], [rows.texts[i] for i in real], seed=seed)
    for i, text in zip(real, given, strict=True):
        mixed[i] = text or rows.texts[i]
    arms.append(Arm(FLOOR, "real rows, captions of other real rows", real, mixed))
    plain = [without_digits(text) for text in rows.texts]
    if all(plain[i] == rows.texts[i] for i in real):
        missing.append("stripped: captions hold no numbers, so it would equal real")
    else:
        arms.append(Arm("stripped", "real rows, numbers removed from captions", real, plain))
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
    """Train rows, test tiles, and the pictures of both at a side given in pixels.

    ``facts`` is what a report says of the release or set; its ``content_sha256`` stands for all
    pictures in the keys of runs. ``pictures(size)`` gives (train, test), (n, size, size, 3) uint8,
    ``tiles()`` the test tiles at their full size: batches of (rows of ``test``, (H, W, 3) each).
    """

    facts: dict[str, Any]
    rows: Rows
    test: Test
    pictures: Callable[[int], tuple[Pixels, Pixels]]
    tiles: Callable[[], Iterable[tuple[Ints, list[Pixels]]]]
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

    def tiles(ids: list[str], split: str) -> Iterator[tuple[Ints, list[Pixels]]]:
        for where, data in gallery.pictures(release, ids, split):
            yield where, [decode_png(png, ids[i]) for png, i in zip(data, where, strict=True)]

    def pixels(ids: list[str], split: str, size: int) -> npt.NDArray[np.uint8]:
        out = np.empty((len(ids), size, size, 3), np.uint8)
        for where, batch in tiles(ids, split):
            for i, tile in zip(where, batch, strict=True):
                out[i] = shrink(tile, size)
        return out

    return Material(
        test.facts.as_json(),
        rows,
        Test(test.ids, [str(text) for text in test.streams[stream]], test.shares, test.blocks),
        lambda size: (pixels(rows.ids, "train", size), pixels(test.ids, test.split, size)),
        lambda: tiles(test.ids, test.split),
        test.facts.checks,
    )


VERSION = 2
SEEDS = 3
JUDGED = ("S", "C")
"""Protocols whose ranks are kept, for contrasts."""
WAYS = ("t2i", "i2t")

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

    def as_json(self) -> dict[str, Any]:
        return {
            "figures": self.figures,
            "ranks": {
                name: {
                    way: {part: getattr(ranks, part).tolist() for part in PARTS}
                    for way, ranks in zip(WAYS, pair, strict=True)
                }
                for name, pair in self.ranks.items()
            },
        }

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
    empty = "no test tile is dominated by these classes"
    judgement = staticmethod(Ranking.from_json)

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.material = experiment.source()
        self.rows, self.test = self.material.rows, self.material.test
        self.design: Design = design(self.rows, experiment.ratios)
        self.arms = self.design.arms
        self.untrained = [ZERO_SHOT] if experiment.zero_shot else []
        self.groups = Groups.of(self.rows.dominant, self.rows.classes, self.material.depth)

    def key(self, trial: Trial) -> str:
        inputs: dict[str, Any] = {
            "version": VERSION,
            "content": self.material.facts["content_sha256"],
            "test": [self.test.ids, self.test.captions],
        }
        if trial[0] == ZERO_SHOT:
            return digest_of({**inputs, "model": self._zero_shot.identity or self._zero_shot.name})
        arm = self.design.arm(trial[0])
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
        settings, arm = self._settings(trial), self.design.arm(trial[0])
        # The vocabulary comes from real captions, so that all arms read text alike.
        real = [self.rows.texts[i] for i in self.rows.real]
        start = clip.start(settings, real)
        train, test = self._pictures(start.size)
        pairs = Pairs(self.rows.ids, train, arm.texts)
        losses, _ = retriever.train_pairs(folder, self.key(trial), pairs, settings, start, arm.pool)
        ranking = judge(*retriever.embed(start, test, texts), self.test)
        return Outcome(ranking, settings=clip.settings_as_json(settings), loss=Loss.of(losses))

    def _judge_untrained(self, texts: list[str]) -> Outcome[Ranking]:
        model = self._zero_shot
        rows: dict[int, Array] = {}
        for where, tiles in self.material.tiles():
            rows.update(zip(where.tolist(), model.images(tiles), strict=True))
        images = np.stack([rows[i] for i in range(len(self.test.ids))])
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
    def _pictures(self, size: int) -> tuple[Any, Any]:
        """(train rows, test rows) as (n, size, size, 3) uint8."""
        return self.material.pictures(size)


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


RECALLS = tuple(f"{way} R@{k}" for way in WAYS for k in metrics.KS)
COMPARED = ("mR", "head", "tail")
"""Mean of the six recalls; head and tail are the mean of R@depth over their classes, both ways."""


@dataclass(frozen=True)
class Groups:
    """Class names, which of them are head and tail, and the K of their R@K."""

    names: tuple[str, ...]
    head: list[str]
    tail: list[str]
    depth: int = DEPTH

    @staticmethod
    def of(train_dominant: Ints, names: Sequence[str] = CLASSES, depth: int = DEPTH) -> "Groups":
        """By number of real train tiles: the tail are the rarest that together hold at most a
        fifth."""
        tail = metrics.tail(train_dominant, len(names))
        head = [k for k in np.unique(train_dominant) if k not in tail]
        return Groups(tuple(names), [names[k] for k in head], [names[k] for k in tail], depth)

    @property
    def statistic(self) -> Statistic:
        names = (*RECALLS, *COMPARED)
        return Statistic(lambda totals: figures(totals, self), names, ("mR", "tail"), self.names)


def sums(pair: Pair, dominant: Ints, cluster: Ints, clusters: int, groups: Groups) -> Floats:
    """(clusters, 6 + 2K + 2 + 2K): hits at 1, 5, 10 of both ways, hits at ``depth`` by dominant
    class, then the queries and the queries by class. One caption an image, (N,) queries a way."""
    member = np.eye(len(groups.names))[dominant]
    columns = [metrics.credit(ranks, k) for ranks in pair for k in metrics.KS]
    for ranks in pair:
        columns += list((member * metrics.credit(ranks, groups.depth)[:, None]).T)
    ones = np.ones(len(dominant))
    columns += [ones, ones, *member.T, *member.T]
    return intervals.cluster_sums(np.stack(columns, axis=1), cluster, clusters)[:, :-1]


def figures(totals: Floats, groups: Groups) -> Floats:
    """Totals (B, …) of `sums` → (B, 9 + K) in per cent: `RECALLS`, `COMPARED`, then R@depth of each
    class, mean of both ways. NaN for classes and groups without a query."""
    six, k = len(RECALLS), len(groups.names)
    queries, by_class = totals[:, six + 2 * k :][:, :2], totals[:, six + 2 * k + 2 :]
    recalls = 100 * totals[:, :six] / np.repeat(np.maximum(queries, 1), 3, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ways = 100 * totals[:, six : six + 2 * k] / by_class
    each = (ways[:, :k] + ways[:, k:]) / 2
    head, tail = (
        statistics.mean_of_known(each[:, [groups.names.index(name) for name in group]])
        for group in (groups.head, groups.tail)
    )
    means = np.stack([recalls.mean(1), head, tail], axis=1)
    return np.concatenate([recalls, means, each], axis=1)


def analyse(
    ranks: Mapping[str, Sequence[Pair]],
    dominant: Ints,
    blocks: npt.ArrayLike | None,
    groups: Groups,
    design: Design,
    protocol: str = "S",
    *,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> Findings:
    """Figures with intervals by arm, contrasts paired by seed and cluster, and arms by ratio.

    ``ranks``: arm → one pair of ranks per seed, the same seeds in every arm (an arm with a single
    pair stands for all seeds), of N test tiles with ``dominant`` (N,) classes in ``blocks``.
    Differences by class and by ratio have intervals and no tests: they describe, and prove nothing.
    """
    cluster, clusters = intervals.codes(np.arange(len(dominant)) if blocks is None else blocks)
    seeds = max(len(pairs) for pairs in ranks.values())
    parts = {
        arm: np.stack([sums(pair, dominant, cluster, clusters, groups) for pair in pairs])
        for arm, pairs in ranks.items()
    }
    parts = {a: np.repeat(p, seeds, 0) if len(p) == 1 else p for a, p in parts.items()}
    unit = "image" if blocks is None else "block"
    analysis = statistics.analyse(
        parts,
        groups.statistic,
        design.questions,
        FLOOR,
        unit,
        [f"{kind}-{ratio:g}" for kind in ("natural", "balanced") for ratio in design.ratios],
        resamples,
        seed,
    )
    facts = {
        "images": len(dominant),
        "ratio": design.ratio,
        "depth": groups.depth,
        "head": groups.head,
        "tail": groups.tail,
        "test_tiles": {n: int((dominant == k).sum()) for k, n in enumerate(groups.names)},
        "protocol": protocol,
        "chance": {"mR": chance(next(iter(ranks.values()))[0])},
    }
    return Findings(analysis, facts, f", protocol {protocol}")


def chance(pair: Pair) -> float:
    """Mean recall, per cent, of a random order with as many positives: a hit among the first k is
    missed with the probability that k draws are all negatives."""
    recalls = []
    for ranks in pair:
        gallery_size = len(ranks.above)
        for k in metrics.KS:
            drawn = np.arange(min(k, gallery_size))[:, None]
            missed = np.maximum(ranks.negatives[None] - drawn, 0) / (gallery_size - drawn)
            recalls.append(100 * float(1 - missed.prod(0).mean()))
    return float(np.mean(recalls))


def conclusions(analysis: Analysis, bench: Bench) -> list[str]:
    """The answer first: whether any may be drawn, then gain or loss, ratios and classes."""
    even, depth = f"balanced-{bench.design.ratio:g}", bench.groups.depth
    lines = report.conclude(
        analysis,
        even,
        bench.floor,
        bench.empty,
        "the model trained on real pairs cannot be distinguished from one trained on shuffled "
        "captions, so differences between arms say nothing about what captions and tiles teach",
    )
    contrast = analysis.contrast(even, "real")
    if lines[0].startswith(report.NO_CONCLUSION) or contrast is None:
        return lines
    if test := contrast.tests["mR"]:
        # The bootstrap interval of few seeds and blocks is too narrow for this.
        lines.append(
            f"Non-inferiority: {even} is {'' if test.low > -MARGIN else 'NOT shown to be '}within "
            f"{MARGIN:g} point of real in mR (it may be {test.low:+.2f}, by Student's t at 95 %)."
        )
    mixtures = [f"{mixture.ours} {report.points(mixture['mR'])}" for mixture in analysis.mixtures]
    lines.append(f"mR against real by ratio (intervals, no test): {'; '.join(mixtures)}.")
    for what, sign in (("gain", 1), ("loss", -1)):
        classes = [
            f"{name} {report.points(difference)}"
            for name, difference in contrast.differences.classes.items()
            if difference.interval and difference.interval.sign == sign
        ]
        lines.append(
            f"Classes with a {what} of R@{depth}, {even} against real (interval without 0, no "
            f"test): {'; '.join(classes) or 'none'}."
        )
    return lines


def limits(
    analysis: Analysis, bench: Bench, tiles: Mapping[str, int], leak: float | None
) -> list[str]:
    """What a run cannot show; ``tiles``: class → test tiles that it dominates."""
    rows, facts, tail = bench.rows, bench.material.facts, bench.groups.tail
    given = bench.experiment.settings.weights
    lines = [
        *report.common_limits(analysis, len(bench.test.ids), bench.material.checks),
        f"A dual encoder {'fine-tuned from given weights' if given else 'trained from scratch'}: "
        "other models may react otherwise, and absolute figures are no benchmark of retrieval.",
        f"{len(rows.synthetic):,} synthetic rows of one generator beside {len(rows.real):,} real "
        "rows: other generators and larger ratios are not covered.",
    ]
    if leak is None:
        lines.append("Too few captions to measure whether words give away the source.")
    else:
        lines.append(
            f"Words tell synthetic from real captions of like class shares with AUC {leak:.2f} "
            "(0.5 or less: not at all)" + ("; the stream leaks the source." if leak > 0.6 else ".")
        )
    counts = {name: tiles[name] for name in tail}
    if scarce := [f"{name} ({n})" for name, n in counts.items() if 0 < n < FEW]:
        lines.append(
            f"Few test tiles are dominated by {', '.join(scarce)}: the tail is the mean over "
            "classes, so it hangs on these, and their intervals are too narrow."
        )
    if empty := [name for name, n in counts.items() if not n]:
        lines.append(f"No test tile is dominated by {', '.join(empty)}: not measured.")
    if not tail:
        lines.append("No class is rare enough among train tiles to be a tail.")
    lines += facts.get("limits", ())
    return lines + [f"Not run — {reason}." for reason in bench.design.missing]


def plots(findings: Findings, groups: Groups) -> dict[str, Plot]:
    """Figures by arm, and differences from real by mixing ratio and by dominant class."""
    analysis, depth = findings.analysis, groups.depth
    arms = {arm: scores.figures for arm, scores in analysis.arms.items()}
    ratios = {mixture.ours: mixture.differences.figures for mixture in analysis.mixtures}
    against_real = {
        contrast.ours: contrast.differences.classes
        for contrast in analysis.contrasts
        if contrast.theirs == "real" and contrast.ours != "synthetic"
    }
    classes = {
        f"{name} (tail)" if name in groups.tail else name: {
            arm: by_class[name] for arm, by_class in against_real.items() if name in by_class
        }
        for name in (*groups.head, *groups.tail)
        if findings.facts["test_tiles"][name]
    }
    colours = dict(zip(against_real, (BLUE, GREEN, PINK), strict=False))
    by_arm = [
        Panel("mean recall, %", arms, {"mR": BLUE}, findings.facts["chance"]["mR"]),
        Panel(f"mean of R@{depth} over classes, %", arms, {"head": GREY, "tail": ORANGE}),
    ]
    by_ratio = [
        Panel("points from real", ratios, {name: colour}, differences=True)
        for name, colour in zip(COMPARED, (BLUE, GREY, ORANGE), strict=True)
    ]
    by_class = [Panel(f"R@{depth}, points from real", classes, colours, differences=True)]
    return {
        "arms.png": Plot("Mean recall by arm, head and tail", by_arm, (10, 1.6 + 0.42 * len(arms))),
        "ratios.png": Plot(
            "Difference from real by mixing ratio", by_ratio, (10, 1.6 + 0.42 * len(ratios))
        ),
        "classes.png": Plot(
            "Difference from real by class", by_class, (8, 1.4 + 0.45 * len(classes))
        ),
    }


PROTOCOLS = {
    "S": "S: own tile",
    "D": "D: equal captions merged",
    "C": "C: like composition",
    "L": "L: no numbers",
}


def report_of(bench: Bench, records: Sequence[Record[Ranking]]) -> Report:
    """The report on all runs; ranks.npz beside it holds arm/seed/protocol/direction/part, so that
    all figures can be computed again without a training."""
    rows, test, design, groups = bench.rows, bench.test, bench.design, bench.groups
    facts, settings = bench.material.facts, bench.experiment.settings
    runs, count = shared.by_arm(bench, records), len(set(test.captions))
    rankings = {arm: [run.outcome.judgement for run in runs[arm]] for arm in runs}
    main, other = sorted(JUDGED, key=lambda name: name != bench.material.judged)
    findings = {
        key: analyse(
            {arm: [ranking.ranks[name] for ranking in rankings[arm]] for arm in rankings},
            test.shares.argmax(1),
            test.blocks,
            groups,
            design,
            name,
        )
        for key, name in (("analysis", main), ("other_protocol", other))
    }
    analysis, about = findings["analysis"].analysis, findings["analysis"].facts
    # Rows of like class shares: captions name classes, and balance itself is no leak.
    like = np.unique(design.arm(f"natural-{design.ratio:g}").pool)
    leak = source_leak([rows.texts[i] for i in like], rows.is_synthetic[like]).auc
    recalls = {
        arm: {
            name: float(np.mean([ranking.figures[name]["mR"] for ranking in rankings[arm]]))
            for name in PROTOCOLS
        }
        for arm in rankings
    }
    tiles = {
        "train tiles": {n: int((rows.dominant == k).sum()) for k, n in enumerate(rows.classes)},
        "test tiles": about["test_tiles"],
    }
    measured = [name for name in (*groups.head, *groups.tail) if tiles["test tiles"][name]]
    return Report(
        bench,
        runs,
        findings,
        title=f"Class imbalance and retrieval: {facts['name']} {facts['version']}",
        opening=(
            "Does class-balanced synthesis help or hurt image–text retrieval on real tiles? "
            f"{len(runs)} arms × {analysis.seeds} seeds, {settings.steps} steps of "
            f"{settings.batch} pairs each, {settings.size}-pixel inputs, caption stream "
            f"`{settings.stream}` in all arms; {len(rows.real):,} real and "
            f"{len(rows.synthetic):,} synthetic train rows; {len(test.ids):,} real test "
            f"tiles{report.checked(bench.material.checks)}, {count:,} distinct captions. Protocol "
            f"{main}, chance mR {about['chance']['mR']:.2f}."
        ),
        conclusions=conclusions(analysis, bench),
        limits=limits(analysis, bench, tiles["test tiles"], leak),
        release=facts,
        settings=clip.settings_as_json(settings),
        facts={
            "train_tiles": tiles["train tiles"],
            "missing_arms": design.missing,
            "numbers_in_captions": sum(
                without_digits(rows.texts[i]) != rows.texts[i] for i in rows.real
            ),
            "distinct_test_captions": count,
            "source_leak_auc": leak,
            "protocols_mR": recalls,
        },
        about_figures=(
            f"Protocol {main}. Head: {', '.join(groups.head) or 'none'}; tail: "
            f"{', '.join(groups.tail) or 'none'} (by dominant class of real train tiles, mean "
            f"over classes of R@{groups.depth}, both directions)."
        ),
        shown=COMPARED,
        plots=plots(findings["analysis"], groups),
        tables=[
            Table(
                "mR by protocol",
                ["arm", *PROTOCOLS.values()],
                [[arm, *(f"{value:.2f}" for value in recalls[arm].values())] for arm in recalls],
            ),
            Table(
                "By mixing ratio, against real",
                ["arm", *COMPARED],
                [
                    [mixture.ours, *(report.difference_cell(mixture[name]) for name in COMPARED)]
                    for mixture in analysis.mixtures
                ],
            ),
            report.class_table(
                f"By class: R@{groups.depth}, both directions",
                {key: {n: f"{tiles[key][n]:,}" for n in measured} for key in tiles},
                {arm: scores.classes for arm, scores in analysis.arms.items()},
            ),
        ],
        notes=[
            f"Filter: grounding of the caption at least {GROUNDED:g}, no percentage of the tile in "
            "it, no copy of a train tile, and the segmenter agrees with the mask on no fewer "
            f"pixels than in the worst {100 * AGREES:.0f} % of real tiles."
        ],
        arrays={
            f"{run.arm}/{run.seed}/{name}/{way}/{part}": getattr(ranks, part).astype(np.int32)
            for run in records
            for name, pair in run.outcome.judgement.ranks.items()
            for way, ranks in zip(WAYS, pair, strict=True)
            for part in PARTS
        },
    )
