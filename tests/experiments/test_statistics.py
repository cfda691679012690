"""Intervals, contrasts and tests over seeds and clusters, and how a report words them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builder.experiments.imbalance import Design
from builder.experiments.imbalance_report import Groups, analyse
from builder.experiments.report import detectable_cell, p_cell, verdict
from builder.experiments.statistics import (
    Analysis,
    Contrast,
    Estimate,
    Interval,
    Scores,
    StudentTest,
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


def test_the_committed_ranks_give_the_committed_report_to_the_digit():
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
    findings = analyse(
        pairs, dominant, None, Groups.of(train, names, 1), Design({}, 1.0, [1.0], []), "C"
    )
    computed, committed = json.loads(json.dumps(findings.as_json())), report["analysis"]
    for key in ("images", "clusters", "seeds", "depth", "head", "tail", "test_tiles", "chance"):
        assert computed[key] == committed[key]
    for arm in arms:
        assert computed["arms"][arm] == committed["arms"][arm]
    old = Analysis.from_json(committed)
    (new,), before = findings.analysis.contrasts, old.contrast("real", "shuffled")
    for name, difference in before.differences.figures.items():
        assert replace(new[name], seeds=difference.seeds) == difference
    assert new.tests == before.tests


def without_new(new, old):
    """``new`` without the keys that reports of earlier versions lack."""
    if not isinstance(old, dict):
        return new
    return {key: without_new(new[key], value) for key, value in old.items()}


@pytest.mark.parametrize("name", ["imbalance-eurosat", "imbalance-scene", "augmentation"])
def test_committed_reports_are_read(name):
    report = json.loads((RESULTS / name / "report.json").read_text())["analysis"]
    analysis = Analysis.from_json(report)
    assert list(analysis.arms) == list(report["arms"])
    written = json.loads(json.dumps(analysis.as_json()))
    assert written["arms"] == report["arms"]
    for new, old in zip(written["contrasts"], report["contrasts"], strict=True):
        assert without_new(new, old) == old


def contrast(value, p, detectable=1.5):
    test = StudentTest(1.0, 0.1, 0.0, p, detectable, p)
    estimate = Estimate(value, Interval(1.0, 3.0), [])
    return Contrast("a", "b", "", Scores({"mR": estimate}, {}), {"mR": test})


def test_a_gain_and_a_loss_are_named_as_such():
    assert verdict(contrast(2.0, 0.01), "mR", EMPTY).endswith("a gain")
    assert verdict(contrast(-2.0, 0.01), "mR", EMPTY).endswith("a loss")
    unsure = verdict(contrast(2.0, 0.2), "mR", EMPTY)
    assert "no difference established; a difference below 1.5 points" in unsure
    unknown = replace(contrast(None, 1.0), tests={"mR": None})
    expected = "no test tile has these classes; nothing can be said"
    assert verdict(unknown, "mR", EMPTY) == expected
    assert unknown.sign("mR") == 0


def test_small_p_values_and_hopeless_contrasts_are_said_as_such():
    assert "p < 0.001): a gain" in verdict(contrast(2.0, 1e-5), "mR", EMPTY)
    hopeless = verdict(contrast(2.0, 0.4, detectable=364.6), "mR", EMPTY)
    assert hopeless.endswith("no difference established, and none could be, whatever its size")
    assert detectable_cell(364.6) == "none"
    assert (p_cell(0.0004), p_cell(0.25)) == ("< 0.001", "0.250")
