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
)
from builder.retrieval.ranks import Ranks

RESULTS = Path(__file__).parents[2] / "docs" / "results"
EMPTY = "no test tile has these classes"


def read(document):
    """A JSON document with ten digits of each number: the last ones hang on the processor."""
    return json.loads(json.dumps(document), parse_float=lambda text: float(f"{float(text):.10g}"))


def test_the_committed_ranks_give_the_committed_figures():
    """Two arms of EuroSAT's experiment, whose test tiles lie class by class. Intervals and tests of
    the committed report are those of its version."""
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
        assert drawn_apart(computed["arms"][arm]) == drawn_apart(committed["arms"][arm])
    (new,) = computed["contrasts"]
    before = Analysis.model_validate(report["analysis"]).contrast("real", "shuffled")
    assert drawn_apart(new) == drawn_apart(read(before.as_json()))
    assert list(before.tested) == ["mR", "tail"]
    for name, difference in before.tested.items():
        assert new[name]["seed_sd"] == pytest.approx(difference.seed_sd)
        assert new[name]["cluster_sd"] == pytest.approx(difference.cluster_sd, rel=0.06)


def drawn_apart(figures):
    """Values without what differs from version to version: intervals and tests."""
    if not isinstance(figures, dict):
        return figures
    kept = ("value", "difference") if "interval" in figures else figures
    return {key: drawn_apart(figures[key]) for key in kept if key in figures}


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
    few = Difference(value=2.0, interval=None)
    assert verdict(few, EMPTY).startswith("+2.00 points: not tested")
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
