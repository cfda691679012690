"""The verdict says in words what a right release may still be wrong for, and says it everywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.manifest import Census, Manifest, read_manifest
from builder.land.classes import CLASSES
from builder.pipeline.project import Project
from builder.release.verdict import verdict
from tests.makers.damage import copy_of, restamp

MEASURES = {"sharpness": 300.0, "mask_agreement": 0.8, "cloudiness": 0.0}
STICKS = {
    "crops": 64,
    "generator_error": 0.1,
    "texture": 1.6,
    "texture_error": 0.1,
    "quilt": 0.2,
}
RANGES = {"sharpness": (21.0, 913.0), "mask_agreement": (0.6, 0.95), "cloudiness": (0.0, 0.1)}


def sound(**changes: Any) -> dict[str, Any]:
    """The census of a release without a finding, with some of its counts changed."""
    rows = {"real/train": 80, "real/validation": 10, "real/test": 10, "synthetic/train": 20}
    census: dict[str, Any] = {
        "rows": rows,
        "pixels": {part: dict.fromkeys(CLASSES, 100 * n) for part, n in rows.items()},
        "measures": {"real/test": MEASURES, "synthetic/train": MEASURES},
        "ranges": {"real/test": RANGES},
        "left_out": {"synthetic": {"copies": 0, "flagged": 0}},
    }
    return {**census, **changes}


def judged(project: Project, facts: dict[str, Any] | None = None, **census: Any) -> list[str]:
    manifest = read_manifest(project.releases / "0.1.0")
    known = {
        "recipe": {"split": {"shares": {"train": 0.8, "validation": 0.1, "test": 0.1}}},
        **(facts or {}),
        "census": Census.model_validate(sound(**census)),
    }
    kept = {"balance": None, "counts": {}, "models": {}, "imported": None}
    kept |= {"comparison": None, "limits": ()}
    manifest = manifest.model_copy(
        update={"facts": manifest.facts.model_copy(update={**kept, **known})}
    )
    return verdict(Manifest.model_validate(manifest.model_dump())).lines()


def measures(**values: float) -> dict[str, Any]:
    return {"real/test": MEASURES, "synthetic/train": {**MEASURES, **values}}


def test_a_sound_release_has_no_finding(project: Project) -> None:
    assert judged(project) == ["verdict: nothing stands out"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"rows": {"real/train": 60, "real/validation": 10, "real/test": 30}},
            "split: test holds 30% of the real tiles (30), 10% was asked for",
        ),
        (
            {"pixels": {f"real/{s}": {"Tree": 5, "Water": 0} for s in ("train", "test")}},
            "classes: no real tile has Water",
        ),
        (
            {"pixels": {"real/train": dict.fromkeys(CLASSES, 5), "real/test": {"Tree": 9}}},
            "classes: Water is missing in test",
        ),
        (
            {"measures": measures(sharpness=8121.0)},
            "images: sharpness of synthetic tiles is 8,121 in the median, of nine in ten real test "
            "tiles 21 to 913",
        ),
        ({"measures": measures(mask_agreement=0.2)}, "images: mask agreement of synthetic"),
        ({"measures": measures(cloudiness=0.5)}, "images: cloudiness of synthetic"),
        (
            {"left_out": {"synthetic": {"copies": 9, "flagged": 1}}},
            "balance: 10 of 30 synthetic tiles were left out (9 copies, 1 flagged)",
        ),
        (
            {"near_duplicates": {"clusters": 2, "rows": 4, "spans": {"train, test": 2}}},
            "duplicates: 2 groups of nearly equal tiles lie in train, test",
        ),
    ],
)
def test_each_fault_of_the_rows_is_a_finding(project: Project, changes: Any, words: str) -> None:
    assert any(line.strip().startswith(words) for line in judged(project, **changes))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"counts": {"caption-vlm": {"captions": 90, "failed": 10}}},
            "captions: 10 of 100 captions of vlm are missing",
        ),
        (
            {"models": {"generator": {"steps": 250, "best": {"step": 250, "loss": 0.1}}}},
            "training: the generator was still getting better at its last step, 250",
        ),
        (
            {"models": {"generator": {"yardsticks": {**STICKS, "generator": 1.4}}}},
            "training: the generator does not beat textures, which need no training",
        ),
    ],
)
def test_each_fault_of_the_making_is_a_finding(project: Project, facts: Any, words: str) -> None:
    assert any(line.strip().startswith(words) for line in judged(project, facts))


@pytest.mark.parametrize(
    "model",
    [
        {"yardsticks": {**STICKS, "generator": 1.0}},
        {"steps": 250, "best": {"step": 250, "loss": 0.1}, "waited": 2},  # a better one was chance
    ],
)
def test_a_generator_that_beats_textures_and_has_learnt_is_no_finding(
    project: Project, model: Any
) -> None:
    lines = judged(project, {"models": {"generator": model}})
    assert not [line for line in lines if "training" in line]


def test_a_plan_that_was_not_kept_is_one_finding(project: Project) -> None:
    plan = read_manifest(project.releases / "0.1.0").facts.balance
    assert plan is not None
    planned = {**dict.fromkeys(CLASSES, 0.1), "Tree": 0.4}
    plan = plan.model_copy(update={"feasible": True, "shares_planned": planned})
    (_, line) = judged(project, {"balance": plan})
    assert line.startswith("  balance: shares of the 20 synthetic tiles are not the planned")
    assert "Tree 14.3% for 40.0%" in line


def test_the_better_end_of_a_measure_is_no_finding(project: Project) -> None:
    assert judged(project, measures=measures(mask_agreement=0.99)) == [
        "verdict: nothing stands out"
    ]


def test_too_few_tiles_are_not_judged_and_that_is_said(project: Project) -> None:
    few = {"real/train": 8, "real/validation": 1, "real/test": 1, "synthetic/train": 2}
    lines = judged(project, rows=few, measures=measures(sharpness=8121.0))
    assert lines[0] == "verdict: nothing stands out"
    assert "not judged: the look of the synthetic tiles: 2 of them and 2 held-out real" in lines[1]


def test_card_check_build_and_report_say_the_same(project: Project, tmp_path: Path) -> None:
    release = copy_of(project.releases / "0.1.0", tmp_path)
    whole = verdict(read_manifest(release))
    lines, findings = whole.lines(), list(map(str, whole.findings))
    assert findings
    assert len(whole.measures) == 13
    card = (release / "README.md").read_text(encoding="utf-8")
    assert card.index("**Verdict: ") < card.index("pictures/contact-sheet.png")
    assert f"{len(findings)} finding" in card
    checked = CliRunner().invoke(cli, ["check", str(release)])
    assert checked.exit_code == 0, checked.output
    for line in lines:
        assert line in checked.output
    answer = CliRunner().invoke(cli, ["check", str(release), "--json"])
    assert json.loads(answer.stdout)["verdict"] == findings
    assert json.loads(answer.stdout)["measures"][0]["name"] == "realism"
    for measure in whole.measures:
        assert f"| {measure.name} | " in card
    strict = CliRunner().invoke(cli, ["check", str(release), "--strict"])
    assert strict.exit_code == 1
    assert f"--strict: the verdict has {len(findings)} finding" in strict.stderr


def test_a_release_of_before_the_comparison_is_judged_by_its_ranges(project: Project) -> None:
    """Its manifest has neither comparison nor limits, and the verdict has no measures."""
    assert "measured on" not in "\n".join(judged(project, measures=measures(sharpness=8121.0)))


def test_thresholds_that_are_not_used_are_named(project: Project) -> None:
    limit = {
        "measure": "realism",
        "bound": "min",
        "value": None,
        "origin": "82 real tiles, too few",
    }
    assert judged(project, {"limits": [limit]})[1:] == [
        "  not judged: single tiles by realism: 82 real tiles, too few"
    ]


def test_ranges_that_the_rows_contradict_are_refused(project: Project, tmp_path: Path) -> None:
    release = copy_of(project.releases / "0.1.0", tmp_path)

    def edit(value: dict[str, Any]) -> None:
        value["facts"]["census"]["ranges"]["real/test"]["sharpness"] = [0.0, 1e9]

    restamp(release, edit)
    checked = CliRunner().invoke(cli, ["check", str(release)])
    assert checked.exit_code == 1
    assert "the ranges of measures of real/test are not those of its rows" in checked.stderr


def test_flags_that_the_thresholds_contradict_are_refused(project: Project, tmp_path: Path) -> None:
    release = copy_of(project.releases / "0.1.0", tmp_path)

    def edit(value: dict[str, Any]) -> None:
        limit = {"measure": "contrast", "bound": "min", "value": 0.5, "origin": "the recipe"}
        value["facts"]["limits"] = [{**limit, "kinds": ["real"]}]

    restamp(release, edit)
    checked = CliRunner().invoke(cli, ["check", str(release)])
    assert checked.exit_code == 1
    assert "rows are not what its limits give" in checked.stderr
