"""Planned, drawn and released class shares are compared, and the cause of a gap is said."""

from builder.land.classes import CLASSES
from builder.release.shares import ObtainedShares

PLANNED = {**dict.fromkeys(CLASSES, 0.0), "Tree": 0.6, "Grass": 0.4}


def obtained(tree: float, drawn: float | None = None, **more) -> ObtainedShares:
    def shares(share: float) -> dict[str, float]:
        return {**PLANNED, "Tree": share, "Grass": 1 - share}

    known = {"rows": 20, "left_out": {}, "masks_follow_layouts": True, **more}
    drawn_shares = {} if drawn is None else shares(drawn)
    return ObtainedShares(PLANNED, drawn_shares, shares(tree), **known)


def test_a_kept_plan_says_how_near_it_came() -> None:
    assert obtained(0.6).cause == ""
    assert obtained(0.6).sentence == (
        "The 20 released rows are within 0.0 points of the planned shares "
        "(Tree: planned 60.0%, obtained 60.0%)."
    )


def test_rows_left_out_are_a_cause() -> None:
    lost = obtained(0.5, 0.6, left_out={"copies": 3, "repeats_held_out": 1})
    assert lost.cause == "4 of 24 rows were left out (3 copies, 1 repeats held out)"
    assert "within 10.0 points" in lost.sentence
    assert lost.cause in lost.sentence


def test_whole_rows_and_masks_of_the_segmenter_are_causes() -> None:
    assert obtained(0.58, 0.58).cause.startswith("rows are whole, so already those drawn are 2.0")
    assert "segmenter" in obtained(0.5, 0.6, masks_follow_layouts=False).cause
