"""What a release says of its synthetic tiles' use for class balance, and from what."""

import json
from pathlib import Path

import pytest

from builder.core.manifest import Agreement, Estimate, TileComparison
from builder.experiments import dose_report
from builder.experiments.dose_analysis import Analysis
from builder.release.expected_gain import Rule, expected, rule
from builder.release.tile_verdict import findings, measures

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "doses"
RULE = Rule(0.6, 0.5, 0.7, 40.0, "an experiment", 0.9, "single tiles")


def compared(*shares: float):
    judges = ("segmenter", "discriminant")
    agreement = {
        judge: Agreement(real=0.8, synthetic=0.8 * share, error=0.01)
        for judge, share in zip(judges, shares, strict=False)
    }
    one, none = (Estimate.of(value, value, value) for value in (1.0, 0.0))
    return TileComparison(
        real=40, synthetic=30, realism=0.5, realism_of_real=0.5, told_apart=none, kid_x1000=none,
        precision=1.0, recall=1.0, sharpness=one, contrast=one, spread=one, agreement=agreement,
        spectrum={"luminance_4": one},
    )  # fmt: skip


def test_tiles_as_good_as_real_ones_help_and_worse_ones_harm():
    assert expected(compared(1.0), RULE).points == pytest.approx(16)
    bad = expected(compared(0.9, 0.5), RULE)
    assert bad.points == pytest.approx(-4)
    assert bad.degrades
    assert "equal repeating real tiles at 0.60 (0.50 to 0.70" in bad.finding
    assert expected(compared(), RULE) is None


def test_the_verdict_holds_the_expectation_and_its_finding_below_the_break_even():
    good, bad = compared(1.0), compared(0.1)
    (line,) = [m for m in measures(good) if m.name == "expected of class balance"]
    assert "points of mean recall over repeating real tiles" in line.value
    assert "not measured here; with EuroSAT tiles" in line.usual
    assert not any("degrade retrieval" in text for text in findings(good))
    assert any("degrade retrieval" in text for text in findings(bad))


def test_the_rule_is_that_of_the_published_records():
    names = (RESULTS / "studies.txt").read_text().split()
    kept = json.loads((RESULTS / "report.json").read_text())
    first, *others = (Analysis.model_validate(kept[name]) for name in names)
    assert rule() == dose_report.rule(first, others)
    assert rule().strictest > 1 > rule().break_even  # single tiles: no worse than real ones
