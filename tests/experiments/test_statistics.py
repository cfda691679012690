"""Intervals, contrasts and tests over seeds and clusters, and how a report words them."""

import json
from pathlib import Path

import numpy as np
import pytest

from builder.experiments.imbalance import Design
from builder.experiments.imbalance_report import Groups, analyse
from builder.experiments.report import cell, contrast_table, verdict
from builder.experiments.statistics import (
    Analysis,
    Contrast,
    Difference,
    Effect,
    Estimate,
    hierarchical,
)
from builder.retrieval.ranks import Ranks

RESULTS = Path(__file__).parents[2] / "docs" / "results"
EMPTY = "no test tile has these classes"


def test_the_hierarchical_bootstrap_is_wider_than_either_level():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(4, 30, 1)) + 3 * rng.normal(size=(4, 1, 1))
    both = hierarchical(parts, 600).std()
    clusters_only = hierarchical(parts.mean(0, keepdims=True), 600).std()
    seeds_only = hierarchical(parts.mean(1, keepdims=True), 600).std() * 30
    assert both > 1.2 * clusters_only
    assert both > 0.95 * seeds_only


def read(document):
    """A JSON document with ten digits of each number: the last ones hang on the processor."""
    return json.loads(json.dumps(document), parse_float=lambda text: float(f"{float(text):.10g}"))


def test_the_committed_ranks_give_the_committed_report():
    """Two arms of EuroSAT's experiment, whose test tiles lie class by class."""
    folder = RESULTS / "imbalance-eurosat"
    report = json.loads((folder / "report.json").read_text())
    names, arms = list(report["train_tiles"]), ("real", "shuffled")
    train = np.repeat(np.arange(len(names)), list(report["train_tiles"].values()))
    with np.load(folder / "ranks.npz") as kept:
        pairs = {
            arm: [
                tuple(
                    Ranks(
                        *(kept[f"{arm}/{seed}/C/{way}/{part}"].astype(np.int64) for part in parts)
                    )
                    for way in ("t2i", "i2t")
                )
                for seed in range(report["analysis"]["seeds"])
            ]
            for arm in arms
            for parts in [("above", "level", "negatives")]
        }
    dominant = np.repeat(np.arange(len(names)), list(report["analysis"]["test_tiles"].values()))
    analysis = analyse(pairs, dominant, None, Groups.of(train, names, 1), Design({}, 1.0), "C")
    computed, committed = read(analysis.as_json()), read(report["analysis"])
    for key in ("images", "clusters", "seeds", "depth", "head", "tail", "test_tiles"):
        assert computed[key] == committed[key]
    assert computed["chance"]["mR"] == committed["chance"]["mR"]
    for arm in arms:
        assert computed["arms"][arm] == committed["arms"][arm]
    (new,) = computed["contrasts"]
    before = Analysis.model_validate(report["analysis"]).contrast("real", "shuffled")
    assert without_new(new, read(before.as_json())) == read(before.as_json())
    assert list(before.tested) == ["mR", "tail"]


def without_new(new, old):
    """``new`` without the keys that reports of earlier versions lack."""
    if not isinstance(old, dict):
        return new
    return {key: without_new(new[key], value) for key, value in old.items()}


@pytest.mark.parametrize("name", ["imbalance-eurosat", "imbalance-scene", "augmentation"])
def test_committed_reports_are_read(name):
    report = json.loads((RESULTS / name / "report.json").read_text())["analysis"]
    analysis = Analysis.model_validate(report)
    assert list(analysis.arms) == list(report["arms"])
    written = json.loads(json.dumps(analysis.as_json()))
    assert written == report
    assert [list(contrast) for contrast in written["contrasts"]] == [
        list(contrast) for contrast in report["contrasts"]
    ]
    assert all(isinstance(contrast["mR" if "imbalance" in name else "macro F1"], Effect)
               for contrast in analysis.contrasts)  # fmt: skip


def effect(value, p, detectable=1.5):
    return Effect(
        value=value,
        interval=(1.0, 3.0),
        cluster_sd=1.0,
        seed_sd=0.1,
        low=0.0,
        p=p,
        detectable=detectable,
        p_holm=p,
    )


def test_a_gain_and_a_loss_are_named_as_such():
    assert verdict(effect(2.0, 0.01), EMPTY).endswith("a gain")
    assert verdict(effect(-2.0, 0.01), EMPTY).endswith("a loss")
    unsure = verdict(effect(2.0, 0.2), EMPTY)
    assert "no difference established; a difference below 1.5 points" in unsure
    unknown = Difference(value=None, interval=None)
    assert verdict(unknown, EMPTY) == "no test tile has these classes; nothing can be said"
    assert unknown.sign == 0


def test_small_p_values_and_hopeless_contrasts_are_said_as_such():
    assert "p < 0.001): a gain" in verdict(effect(2.0, 1e-5), EMPTY)
    hopeless = verdict(effect(2.0, 0.4, detectable=364.6), EMPTY)
    assert hopeless.endswith("no difference established, and none could be, whatever its size")
    contrast = Contrast.model_validate(
        {"ours": "a", "theirs": "b", "question": "?"}
        | {"mR": effect(2.0, 0.25, 364.6), "tail": effect(2.0, 4e-4)}
        | {"rare": {"difference": None, "interval": None, "p": None, "p_holm": None}}
    )
    _, rows = contrast_table([contrast])
    value = "+2.00 (+1.00 … +3.00)"
    assert rows == [["a − b", "?", value, "0.250", "none", value, "< 0.001", "1.50", "–", "–", "–"]]
    assert cell(Estimate(value=7.4, interval=(5.48, 9.62)), 1) == "7.4 (5.5–9.6)"
