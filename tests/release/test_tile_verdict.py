"""Each kind of generator gets the verdict that it deserves."""

from pathlib import Path

import pytest

from builder.pipeline.project import Project
from builder.release.tile_verdict import findings, measures
from tests.makers.generators import (
    blurred,
    copying,
    deaf,
    good,
    judged,
    real_project,
    with_cast,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return real_project(tmp_path_factory.mktemp("judged") / "base")


def subjects(base: Project, folder: Path, draw, **how: bool) -> str:
    comparison = judged(base, folder / "drawn", draw, **how)
    assert comparison is not None
    return "\n".join(findings(comparison))


def test_unseen_real_tiles_in_disguise_have_no_finding(base: Project, tmp_path: Path) -> None:
    comparison = judged(base, tmp_path / "drawn", good)
    assert comparison is not None
    assert list(findings(comparison)) == []
    assert (comparison.real, comparison.synthetic) == (40, 30)
    assert comparison.told_apart.low < 0.5 < comparison.told_apart.high
    assert comparison.agreement["discriminant"].real > 0.7
    assert [m.name for m in measures(comparison) if m.name.startswith("layout")] == [
        "layout as a classifier of another kind sees it"
    ]


def test_a_generator_of_twenty_steps_is_found_out(base: Project, tmp_path: Path) -> None:
    text = subjects(base, tmp_path, None)
    for words in ("realism of synthetic tiles is 0.0", "a classifier of another kind sees"):
        assert words in text


def test_a_colour_cast_is_named_with_its_size(base: Project, tmp_path: Path) -> None:
    text = subjects(base, tmp_path, with_cast)
    assert "colour of synthetic tiles is off by red +" in text
    assert "sharpness" not in text


def test_blur_is_named(base: Project, tmp_path: Path) -> None:
    assert "sharpness of synthetic tiles is 0." in subjects(base, tmp_path, blurred)


def test_a_generator_that_ignores_its_layout_is_named(base: Project, tmp_path: Path) -> None:
    text = subjects(base, tmp_path, deaf)
    assert "the tiles do not show what their masks say" in text


def test_copies_of_train_tiles_are_counted(base: Project, tmp_path: Path) -> None:
    assert "of 30 synthetic tiles copy a train tile" in subjects(
        base, tmp_path, copying, copies=True
    )
