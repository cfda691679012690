"""The augmentation experiment: a segmenter per arm and seed, equal steps, real test tiles."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.figures import BLUE, GREEN, GREY, ORANGE, PINK, Panel
from builder.core.files import atomic, digest_of, locked
from builder.experiments import report, statistics
from builder.experiments.experiment import Counts, Loss, Record, Trial
from builder.experiments.report import Plot, Report
from builder.experiments.rows import EVEN, Arm, TrainRows, balanced, drawn, train_rows, train_table
from builder.experiments.statistics import Analysis, Question, Statistic
from builder.land.classes import CLASSES
from builder.land.columns import KINDS
from builder.models import data, segmenter
from builder.models.data import Tiles
from builder.models.settings import SEGMENTER, SegmenterSettings
from builder.release.gaps import MIN_KM
from builder.release.rows import metadata
from builder.retrieval import gallery, intervals, metrics
from builder.retrieval.ranks import Floats, Ints
from builder.retrieval.result import Checks, Part

VERSION = 1
RATIO = 1.0
"""Synthetic rows per real row, where there are that many."""
FLOOR = "constant"
"""Every pixel called the commonest class: what real rows must beat before arms are compared."""
PRESETS = {
    "small": SegmenterSettings(steps=20, batch=4, crop=32, widths=(8, 16, 16, 32), decoder=16),
    **SEGMENTER,
}
QUESTIONS = [
    Question("balanced", "real", "do balanced synthetic tiles help?"),
    Question(
        "balanced", "oversampled", "do they beat repeating real tiles to the same class shares?"
    ),
    Question("balanced", "natural", "does balance matter, beyond more tiles?"),
    Question("natural", "real", "do synthetic tiles of natural shares help?"),
    Question("oversampled", "real", "does repeating rare real tiles help?"),
    Question("synthetic", "real", "can synthetic tiles replace real ones?"),
    Question("real", FLOOR, "did the model learn more than the commonest class?"),
]


def design(
    rows: TrainRows, balance: str = EVEN, ratio: float = RATIO, seed: int = 0
) -> dict[str, Arm]:
    """The arms; those that are compared have as many synthetic rows, of one generator.

    The natural and the balanced arm draw theirs from all synthetic rows by their composition:
    towards the class shares of the real rows, and towards ``balance`` of these.
    """
    real, synthetic = rows.real, rows.synthetic
    count = min(max(1, round(ratio * len(real))), len(synthetic))
    shares = rows.mean_shares(real)
    natural = balanced(rows, synthetic, count, seed, "natural", shares)
    mixed = np.concatenate([real, balanced(rows, synthetic, count, seed, balance, shares)])
    repeated = drawn(rows, real, len(mixed), rows.mean_shares(mixed), seed)
    what = f"real + {count:,} synthetic towards"
    return {
        "real": Arm("real rows", real),
        "oversampled": Arm("real rows repeated towards the class shares of arm balanced", repeated),
        "synthetic": Arm("the synthetic rows of arm natural alone", natural),
        "natural": Arm(f"{what} the class shares of real rows", np.concatenate([real, natural])),
        "balanced": Arm(f"{what} balance {balance}", mixed),
    }


class Judged(Record):
    """``counts`` (n, 3K) of a model: by test tile and class hits, then truth, then predictions."""

    counts: Counts


def count(truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> Ints:
    """`Judged.counts` of classes by pixel, (n, H, W) each."""
    hits = np.where(truth == predicted, truth, len(CLASSES))
    columns = [
        (classes.reshape(len(classes), -1) == k).sum(1)
        for classes in (hits, truth, predicted)
        for k in range(len(CLASSES))
    ]
    return np.stack(columns, axis=1).astype(np.int64)


class Bench:
    """The rows, the arms and, once they are needed, the decoded tiles, which ``out`` keeps."""

    name, floor, record = "augmentation", FLOOR, Judged
    floor_model = "one that calls every pixel the commonest class"
    empty = "no test tile has pixels of these classes"
    untrained: Sequence[str] = ()
    checks: Checks | None

    def __init__(
        self,
        release: Path,
        out: Path,
        settings: SegmenterSettings,
        balance: str = EVEN,
        ratio: float = RATIO,
        min_km: float = MIN_KM,
        near: str = "refuse",
    ) -> None:
        self.release, self.out, self.balance = release, out, balance
        self.rows = train_rows(release, train_table(release))
        self.arms = design(self.rows, balance, ratio)
        self.test = gallery.load(release, min_km=min_km, near=near)
        self.tiles, self.checks = len(self.test), self.test.facts.checks
        # Crops are no larger than the tiles.
        side = int(np.sqrt(self.test.counts[0].sum()))
        self.settings = replace(settings, crop=min(settings.crop, side))

    def inputs(self, trial: Trial) -> dict[str, Any]:
        return {
            "version": VERSION,
            "release": self.test.facts.content_sha256,
            "arm": [self.rows.ids[i] for i in self.arms[trial[0]].pool],
            "test": self.test.ids,
            "settings": asdict(replace(self.settings, seed=trial[1])),
        }

    def train(self, trial: Trial, key: str, folder: Path) -> Judged:
        settings = replace(self.settings, seed=trial[1])
        tiles = replace(self.train_tiles, pool=self.arms[trial[0]].pool)
        model, history, _ = segmenter.train_tiles(folder, key, tiles, settings)
        model.eval()
        counts = self._counts(lambda images: segmenter.look(model, images)[0])
        return Judged(settings=asdict(settings), loss=Loss.of(history.losses), counts=counts)

    def constant(self) -> Ints:
        """The counts of calling every pixel the commonest class of real train rows."""
        most = int(self.rows.mean_shares(self.rows.real).argmax())
        return self._counts(lambda images: np.full(images.shape[:3], most, np.uint8))

    @cached_property
    def train_tiles(self) -> Tiles:
        return self._tiles(self.rows.ids, "train")

    def _counts(
        self, predict: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]], size: int = 16
    ) -> Ints:
        """Of all test tiles, ``size`` at a time; ``predict`` maps (n, H, W, 3) to (n, H, W)."""
        tiles = self._tiles(self.test.ids, "test").pixels
        parts = [tiles[start : start + size] for start in range(0, len(tiles), size)]
        return np.concatenate([count(part[..., 3], predict(part[..., :3])) for part in parts])

    def _tiles(self, ids: Sequence[str], split: str) -> Tiles:
        """Rows decoded once into a file under ``out``, mapped from there."""
        folder, digest = self.out / "tiles", digest_of([self.test.facts.content_sha256, ids])
        path = folder / f"{split}-{digest[:16]}.npy"
        with locked(folder, lambda: None):
            if not path.exists():
                with atomic(path) as temporary:
                    data.decode(self._pictures(ids, split), len(ids), temporary)
        return Tiles(np.load(path, mmap_mode="r"), digest)

    def _pictures(self, ids: Sequence[str], split: str) -> Iterator[data.Picture]:
        columns = ("image", "mask")
        parts = (gallery.pictures(self.release, ids, split, column=column) for column in columns)
        for (where, images), (_, masks) in zip(*parts, strict=True):
            for i, image, mask in zip(where, images, masks, strict=True):
                yield i, ids[i], image, mask


_K = len(CLASSES)
POOLED = ("macro F1", "tail F1", "mean IoU", "accuracy")
FIGURES = (*POOLED, *(f"{figure} {name}" for figure in ("F1", "IoU") for name in CLASSES))


def scores(totals: Floats, tail: Sequence[int]) -> Floats:
    """Pixel counts (B, 21) → figures (B, 18) in per cent, as in `FIGURES`.

    F1 = 2TP/(2TP+FP+FN) and IoU = TP/(TP+FP+FN) over all pixels pooled; NaN for a class that the
    truth lacks. Macro means run over the classes that the truth has.
    """
    hit, truth, predicted = totals[:, :_K], totals[:, _K : 2 * _K], totals[:, 2 * _K :]
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(truth > 0, 100 * 2 * hit / (truth + predicted), np.nan)
        iou = np.where(truth > 0, 100 * hit / (truth + predicted - hit), np.nan)
        accuracy = 100 * hit.sum(1) / truth.sum(1)
    means = [statistics.mean_of_known(columns) for columns in (f1, f1[:, list(tail)], iou)]
    return np.concatenate([np.stack([*means, accuracy], axis=1), f1, iou], axis=1)


def analyse(
    counts: Mapping[str, Sequence[Ints]],
    blocks: Sequence[str] | None,
    train_shares: Floats,
) -> Analysis:
    """Figures with intervals by arm, and contrasts paired by seed and cluster.

    ``counts``: arm → `Judged.counts` of each seed (or one for all); ``blocks`` (n) names the
    spatial block of each tile, None for tiles as their own clusters. ``train_shares`` (7,) are
    those of real train pixels: the tail are the rarest classes that together hold at most a fifth.
    """
    tail = metrics.rarest(train_shares)
    statistic = Statistic(lambda totals: scores(totals, tail), FIGURES, ("macro F1", "tail F1"))
    analysis = statistics.analyse(counts, blocks, "tile", statistic, QUESTIONS, FLOOR)
    truth = next(iter(counts.values()))[0][:, _K : 2 * _K]
    cluster, clusters = intervals.codes(np.arange(len(truth)) if blocks is None else blocks)
    present = intervals.cluster_sums(truth, cluster, clusters)[:, :-1] > 0
    facts = {
        "tiles": len(truth),
        "tail": [CLASSES[k] for k in tail],
        "test_shares": _by_class(truth.sum(0) / truth.sum()),
        "test_clusters": dict(zip(CLASSES, present.sum(0).tolist(), strict=True)),
        "train_shares": _by_class(train_shares),
    }
    return analysis.model_copy(update=facts)


def _by_class(shares: Floats) -> dict[str, float]:
    return {name: round(float(share), 5) for name, share in zip(CLASSES, shares, strict=True)}


def conclusions(analysis: Analysis, bench: Bench) -> list[str]:
    """The answer first, then the classes that no arm gets right."""
    lines = report.conclude(analysis, bench, "balanced")
    trained = [scores for arm, scores in analysis.arms.items() if arm != FLOOR]
    if lost := [k for k in CLASSES if all(arm[f"F1 {k}"].value == 0 for arm in trained)]:
        lines.append(
            f"No arm finds {', '.join(lost)} at all: their F1 is 0 everywhere, and whether "
            "synthetic tiles help them is not known. Train longer or a larger model."
        )
    return lines


class Provenance(Part):
    """Who made the synthetic rows, and how far a segmenter agrees with masks, by kind of row."""

    generators: list[str]
    mask_agreement_real: float | None
    mask_agreement_synthetic: float | None

    @staticmethod
    def of(release: Path) -> "Provenance":
        columns = ("kind", "gen_model", "mask_agreement")
        table = pa.concat_tables([table for _, table in metadata(release, columns)])
        means = table.group_by("kind").aggregate([("mask_agreement", "mean")])
        kinds, agreement = means["kind"].to_pylist(), means["mask_agreement_mean"].to_pylist()
        known = dict(zip(kinds, agreement, strict=True))
        return Provenance(
            generators=sorted({name for name in table.column("gen_model").to_pylist() if name}),
            **{f"mask_agreement_{kind}": known.get(k) for k, kind in enumerate(KINDS)},
        )


def limits(analysis: Analysis, bench: Bench, origin: Provenance) -> list[str]:
    """What this run cannot show, whatever its figures are."""
    lines = [
        *report.common_limits(analysis, bench),
        "One segmenter architecture trained from scratch: pretrained or larger models may react "
        "otherwise, and absolute figures are no benchmark of segmentation.",
        f"Synthetic rows of {', '.join(origin.generators) or 'an unnamed generator'} only: a "
        "better or worse generator may help or hurt.",
        "Both mixtures draw from the same synthetic rows by composition: a generator's run for "
        "either alone would repeat fewer of them.",
        "All classes count alike in macro F1, and the rarest have few test pixels.",
    ]
    real, synthetic = origin.mask_agreement_real, origin.mask_agreement_synthetic
    if real is not None and synthetic is not None:
        lines.append(
            f"The release's segmenter agrees with the mask on {100 * real:.1f} % of the pixels of "
            f"real rows and {100 * synthetic:.1f} % of synthetic ones: far less on synthetic ones "
            "means that they do not show what their masks say."
        )
    if empty := [name for name, n in analysis.facts["test_clusters"].items() if not n]:
        lines.append(f"No test tile has {', '.join(empty)}: left out of every mean.")
    return lines


def report_of(bench: Bench, records: Mapping[str, Sequence[Judged]]) -> Report:
    """The report on all runs."""
    rows, release, settings = bench.rows, bench.test.facts, bench.settings
    counts = {arm: [run.counts for run in runs] for arm, runs in records.items()}
    counts[FLOOR] = [bench.constant()]
    analysis = analyse(counts, bench.test.blocks, rows.mean_shares(rows.real))
    facts, origin = analysis.facts, Provenance.of(bench.release)
    figures = {arm: scores.figures for arm, scores in analysis.arms.items()}
    f1, iou = (
        {arm: {name: figures[arm][f"{figure} {name}"] for name in CLASSES} for arm in records}
        for figure in ("F1", "IoU")
    )
    truth = {
        "test pixels, %": {k: f"{100 * x:.2f}" for k, x in facts["test_shares"].items()},
        f"{analysis.clusters.unit}s": {k: f"{n:,}" for k, n in facts["test_clusters"].items()},
    }
    colours = dict(zip(records, (GREY, GREEN, PINK, BLUE, ORANGE), strict=True))
    by_class = {name: {arm: f1[arm][name] for arm in records} for name in CLASSES}
    means = {"macro F1": BLUE, "tail F1": ORANGE}
    panels = [
        Panel("mean F1 over classes, %", figures, means),
        Panel("F1, %", by_class, colours),
    ]
    return Report(
        bench,
        records,
        {"analysis": analysis},
        title=f"Synthetic tiles as augmentation: {release.name} {release.version}",
        question="Do synthetic tiles help a segmenter on real ones?",
        training=(
            f"{settings.steps} steps of {settings.batch} crops of {settings.crop} pixels each"
        ),
        testing="",
        conclusions=conclusions(analysis, bench),
        limits=limits(analysis, bench, origin),
        release=release.as_json(),
        settings=asdict(settings),
        facts={"balance": bench.balance, "synthetic": origin.as_json()},
        about_figures=(
            f"Over the pixels of all test tiles pooled. Tail: {', '.join(facts['tail']) or 'none'} "
            "(the rarest classes of real train pixels that together hold at most a fifth). "
            f"{FLOOR}: every pixel called the commonest class."
        ),
        shown=POOLED,
        plots={"report.png": Plot("Macro F1 by arm, and F1 by class", panels, (11, 5.2))},
        tables=[
            report.class_table("F1 by class", truth, f1),
            report.class_table("IoU by class", truth, iou),
        ],
    )
