"""Figures, contrasts and answers of the augmentation experiment, against made-up counts."""

import numpy as np
import pytest

from builder.experiments.augmentation_analysis import FIGURES, analyse, conclusions, scores
from builder.models import segmenter

SHARES = np.array([0.5, 0.3, 0.1, 0.05, 0.05, 0, 0])
TILES = 24


def test_scores_are_those_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    confusion = rng.integers(1, 900, (7, 7))
    confusion[6] = 0
    columns = [np.diag(confusion), confusion.sum(1), confusion.sum(0)]
    found = dict(zip(FIGURES, scores(np.concatenate(columns)[None].astype(float), [1])[0],
                     strict=True))  # fmt: skip
    wanted = segmenter.scores(confusion)
    for ours, theirs in (("macro F1", "macro_f1"), ("mean IoU", "mean_iou"),
                         ("accuracy", "accuracy")):  # fmt: skip
        assert found[ours] / 100 == pytest.approx(getattr(wanted, theirs), abs=1e-4)
    assert found["F1 Shrub"] / 100 == pytest.approx(wanted.f1["Shrub"], abs=1e-4)
    assert found["IoU Crop"] / 100 == pytest.approx(wanted.iou["Crop"], abs=1e-4)
    assert found["tail F1"] == pytest.approx(found["F1 Shrub"])
    assert np.isnan(found["F1 Water"])


def seeds(head, tail, first):
    """Counts of three trainings that get these shares of head and tail pixels right."""
    out = []
    for seed in range(3):
        rng = np.random.default_rng(first + seed)
        truth = np.round(1000 * SHARES * rng.uniform(0.5, 1.5, (TILES, 7)))
        right = np.where(SHARES <= 0.1, tail, head) + rng.normal(0, 0.01, (TILES, 7))
        hit = np.round(truth * right.clip(0, 1))
        found = hit.copy()
        found[:, 0] += (truth - hit).sum(1)  # whatever is missed is called Tree
        out.append(np.concatenate([hit, truth, found], axis=1))
    return out


def case(**given):
    arms = {
        name: seeds(*given.get(name, (0.6, 0.4)), 0)
        for name in ("real", "oversampled", "synthetic", "natural", "balanced")
    }
    arms["constant"] = seeds(0.0, 0.0, 0)
    blocks = [f"block{i // 2}" for i in range(TILES)]
    return analyse(arms, blocks, SHARES, resamples=200)


def test_the_tail_are_the_rarest_classes_of_the_train_pixels():
    found = case()
    assert found["tail"] == ["Grass", "Crop", "Built-up"]
    assert found["clusters"] == {"unit": "block", "number": 12}
    assert found["test_clusters"]["Barren"] == 0
    assert found["arms"]["real"]["F1 Barren"]["value"] is None


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"balanced": (0.6, 0.7)}, "yes: above real rows, and above real rows repeated"),
        ({"balanced": (0.6, 0.7), "oversampled": (0.6, 0.7)}, "above real rows alone, but not"),
        ({"balanced": (0.6, 0.2)}, "no, they hurt"),
        ({}, "not shown"),
    ],
)
def test_the_answer_asks_for_more_than_oversampling_gives(given, answer):
    told = conclusions(case(**given))
    assert f"by tail F1? {answer}" in told[1]


def test_a_model_that_learned_nothing_allows_no_conclusion():
    nothing = dict.fromkeys(("real", "oversampled", "synthetic", "natural"), (0.0, 0.0))
    assert conclusions(case(**nothing, balanced=(0.9, 0.9)))[0].startswith("NO CONCLUSION")


def test_classes_that_no_arm_finds_are_named():
    arms = ("real", "oversampled", "synthetic", "natural", "balanced")
    told = conclusions(case(**dict.fromkeys(arms, (0.6, -1.0))))
    assert sum("No arm finds Grass, Crop, Built-up at all" in line for line in told) == 1
    assert not any("No arm finds" in line for line in conclusions(case()))
