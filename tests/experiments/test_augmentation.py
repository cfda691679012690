"""The augmentation experiment: its arms, how a segmenter is judged, and its answers."""

import re
from dataclasses import replace

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.experiments.augmentation import (
    FIGURES,
    Bench,
    analyse,
    conclusions,
    count,
    design,
    report_of,
    scores,
)
from builder.experiments.rows import train_rows, train_table
from builder.land.classes import CLASSES
from builder.land.pictures import decode_mask, decode_png
from builder.models import segmenter
from builder.retrieval.gallery import pictures
from tests.makers.bench_release import SIZE, bench_release
from tests.makers.experiments import TINY_SEGMENTER, experiment_on

SHARES = np.array([0.5, 0.3, 0.1, 0.05, 0.05, 0, 0])
TILES = 24


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def rows(release):
    return train_rows(release, train_table(release))


@pytest.fixture(scope="module")
def done(release, tmp_path_factory):
    experiment = experiment_on("augmentation", release, tmp_path_factory.mktemp("out"))
    return experiment.bench, experiment.run_all(Engine("serial"))


def test_arms_that_are_compared_have_as_many_rows(rows):
    arms = design(rows, ratio=0.25)
    sizes = {name: len(arm.pool) for name, arm in arms.items()}
    assert sizes == {"real": 24, "oversampled": 30, "synthetic": 6, "natural": 30, "balanced": 30}
    synthetic = {name: int(rows.is_synthetic[arm.pool].sum()) for name, arm in arms.items()}
    assert synthetic == {
        "real": 0, "oversampled": 0, "synthetic": 6, "natural": 6, "balanced": 6
    }  # fmt: skip
    assert len(design(rows, ratio=9)["natural"].pool) == 24 + 12


def test_balanced_rows_are_more_even_and_natural_ones_like_real(rows):
    def spread(name):
        return np.std(rows.shares[arms[name].pool].mean(0))

    arms = design(rows)
    assert spread("balanced") < spread("real")
    real = rows.shares[rows.real].mean(0)
    drawn = [arms[name].pool for name in ("natural", "balanced")]
    plain, even = (rows.shares[pool[rows.is_synthetic[pool]]].mean(0) for pool in drawn)
    assert np.abs(plain - real).sum() < np.abs(even - real).sum()
    oversampled, mixed = (
        rows.shares[arms[name].pool].mean(0) for name in ("oversampled", "balanced")
    )
    assert np.abs(oversampled - mixed).sum() < np.abs(real - mixed).sum()


def test_the_balance_is_the_recipes_and_relative_to_real_rows(rows):
    arms = {balance: design(rows, balance) for balance in ("natural", "tempered:0.5", "Water=0.5")}
    spread = [np.std(rows.shares[planned["balanced"].pool].mean(0)) for planned in arms.values()]
    assert spread[1] < spread[0]
    water = CLASSES.index("Water")
    pools = [planned["balanced"].pool for planned in arms.values()]
    assert rows.shares[pools[2]].mean(0)[water] > rows.shares[pools[0]].mean(0)[water]
    np.testing.assert_array_equal(pools[0], arms["natural"]["natural"].pool)
    with pytest.raises(ArasError, match="balance target 'even' is unknown"):
        design(rows, "even")


def test_both_sources_are_needed(tmp_path):
    bare = bench_release(tmp_path, synthetic=0)
    with pytest.raises(ArasError, match="0 synthetic train rows"):
        train_rows(bare, train_table(bare))


def test_counts_are_hits_truth_and_predictions_of_every_tile():
    truth = np.array([[[0, 0], [1, 2]], [[3, 3], [3, 3]]], np.uint8)
    predicted = np.array([[[0, 1], [1, 1]], [[3, 3], [3, 6]]], np.uint8)
    hit, real, seen = np.split(count(truth, predicted), 3, axis=1)
    assert hit.tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 0, 0]]
    assert real.tolist() == [[2, 1, 1, 0, 0, 0, 0], [0, 0, 0, 4, 0, 0, 0]]
    assert seen.tolist() == [[1, 3, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 0, 1]]


def test_decoded_tiles_are_those_of_the_release(done, release):
    bench, _ = done
    pixels = bench.train_tiles.pixels
    for column in ("image", "mask"):
        for where, data in pictures(release, bench.rows.ids, "train", column=column):
            for i, png in zip(where, data, strict=True):
                if column == "image":
                    np.testing.assert_array_equal(pixels[i, ..., :3], decode_png(png, "x"))
                else:
                    np.testing.assert_array_equal(pixels[i, ..., 3], decode_mask(png, "x"))


def test_every_pixel_of_the_test_tiles_is_counted_once(done):
    bench, records = done
    pixels = SIZE * SIZE * len(bench.test)
    for record in [record for runs in records.values() for record in runs]:
        hit, truth, predicted = np.split(record.counts, 3, axis=1)
        assert truth.sum() == predicted.sum() == pixels
        np.testing.assert_array_equal(truth, bench.test.pixels)
        assert (hit <= np.minimum(truth, predicted)).all()


def test_crops_are_no_larger_than_the_tiles(release, tmp_path):
    assert Bench(release, tmp_path, replace(TINY_SEGMENTER, crop=256)).settings.crop == SIZE


def test_the_report_has_every_class_and_the_commonest_class_as_floor(done):
    bench, records = done
    report = report_of(bench, records)
    text = report.document().markdown()
    for name in CLASSES:  # a line of F1 and another of IoU, with intervals
        assert len(re.findall(rf"^\| {name} \|.*\(\d", text, re.MULTILINE)) == 2
    assert report.as_json()["arms"]["balanced"]["synthetic"] == 12
    # Pooled over tiles and averaged over seeds, as segmenter.scores does it for a single one.
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    constant = int(bench.rows.shares[bench.rows.real].mean(0).argmax())
    confusion[:, constant] = bench.test.pixels.sum(0)
    expected = segmenter.scores(confusion)
    floor = report.analysis.arms["constant"]
    assert floor["macro F1"].value / 100 == pytest.approx(expected.macro_f1, abs=1e-4)
    assert floor["accuracy"].value / 100 == pytest.approx(expected.accuracy, abs=1e-4)
    assert floor["mean IoU"].value / 100 == pytest.approx(expected.mean_iou, abs=1e-4)


def test_scores_are_those_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    confusion = rng.integers(1, 900, (7, 7))
    confusion[6] = 0
    columns = [np.diag(confusion), confusion.sum(1), confusion.sum(0)]
    values = dict(zip(FIGURES, scores(np.concatenate(columns)[None].astype(float), [1])[0],
                      strict=True))  # fmt: skip
    expected = segmenter.scores(confusion)
    for ours, theirs in (("macro F1", "macro_f1"), ("mean IoU", "mean_iou"),
                         ("accuracy", "accuracy")):  # fmt: skip
        assert values[ours] / 100 == pytest.approx(getattr(expected, theirs), abs=1e-4)
    assert values["F1 Shrub"] / 100 == pytest.approx(expected.f1["Shrub"], abs=1e-4)
    assert values["IoU Crop"] / 100 == pytest.approx(expected.iou["Crop"], abs=1e-4)
    assert values["tail F1"] == pytest.approx(values["F1 Shrub"])
    assert np.isnan(values["F1 Water"])


def seeds(head, tail, first):
    """Counts of three trainings that get these shares of head and tail pixels right."""
    out = []
    for seed in range(3):
        rng = np.random.default_rng(first + seed)
        truth = np.round(1000 * SHARES * rng.uniform(0.5, 1.5, (TILES, 7)))
        right = np.where(SHARES <= 0.1, tail, head) + rng.normal(0, 0.01, (TILES, 7))
        hit = np.round(truth * right.clip(0, 1))
        predicted = hit.copy()
        predicted[:, 0] += (truth - hit).sum(1)  # whatever is missed is called Tree
        out.append(np.concatenate([hit, truth, predicted], axis=1))
    return out


def case(**given):
    arms = {
        name: seeds(*given.get(name, (0.6, 0.4)), 0)
        for name in ("real", "oversampled", "synthetic", "natural", "balanced")
    }
    arms["constant"] = seeds(0.0, 0.0, 0)
    blocks = [f"block{i // 2}" for i in range(TILES)]
    return analyse(arms, blocks, SHARES)


def test_the_tail_are_the_rarest_classes_of_the_train_pixels():
    analysis = case()
    assert analysis.facts["tail"] == ["Grass", "Crop", "Built-up"]
    assert (analysis.clusters.unit, analysis.clusters.number) == ("block", 12)
    assert analysis.facts["test_clusters"]["Barren"] == 0
    assert analysis.arms["real"]["F1 Barren"].value is None


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"balanced": (0.6, 0.7)}, "yes: above real rows, and above real rows repeated"),
        ({"balanced": (0.6, 0.7), "oversampled": (0.6, 0.7)}, "above real rows alone, but not"),
        ({"balanced": (0.6, 0.2)}, "no, they hurt"),
        ({}, "not shown"),
    ],
)
def test_the_answer_asks_for_more_than_oversampling_gives(done, given, answer):
    lines = conclusions(case(**given), done[0])
    assert f"by tail F1? {answer}" in lines[1]


def test_a_model_that_learned_nothing_allows_no_conclusion(done):
    nothing = dict.fromkeys(("real", "oversampled", "synthetic", "natural"), (0.0, 0.0))
    lines = conclusions(case(**nothing, balanced=(0.9, 0.9)), done[0])
    assert lines[0].startswith("NO CONCLUSION")


def test_classes_that_no_arm_finds_are_named(done):
    arms = ("real", "oversampled", "synthetic", "natural", "balanced")
    lines = conclusions(case(**dict.fromkeys(arms, (0.6, -1.0))), done[0])
    assert sum("No arm finds Grass, Crop, Built-up at all" in line for line in lines) == 1
    assert not any("No arm finds" in line for line in conclusions(case(), done[0]))
