"""What the verdict says of synthetic tiles beside held-out real tiles of like composition."""

from collections.abc import Iterator
from dataclasses import dataclass

from builder.core.manifest import Estimate, TileComparison
from builder.core.progress import counted
from builder.release.expected_gain import expected

REALISM = 0.05
"""Median realism of synthetic tiles below which they are unlike real ones: as unusual as the most
unusual twentieth of those."""
RATIO = (0.5, 2.0)
"""Sharpness and spread, over those of real tiles, that are no finding."""
POWER = (0.25, 4.0)
"""Contrast and energy of a band: squares of such ratios."""
COLOUR = 8.0
"""Levels of 255 by which the mean of a channel may be off."""
FOLLOWED = 0.8
"""Agreement with the layout, over that on real tiles, that is no finding."""
COPIES = 0.05
"""Share of the synthetic tiles that may copy a train tile."""
ERRORS = 2.0
"""Standard errors that a difference of agreements must exceed beside `FOLLOWED`."""
JUDGES = {"segmenter": "the segmenter", "discriminant": "a classifier of another kind"}


@dataclass(frozen=True)
class Measure:
    """A line of the comparison: what was measured, in words, what of real tiles, and whether it is
    a finding."""

    name: str
    value: str
    usual: str
    finding: str = ""


def measures(comparison: TileComparison) -> list[Measure]:
    """Every measure in words and numbers; those outside what real tiles show have a finding.

    A finding needs the whole 95 % interval outside the range, so that few tiles give no alarm.
    """
    return [
        _realism(comparison),
        _told_apart(comparison),
        *_ratios(comparison),
        _colour(comparison),
        *_agreements(comparison),
        *_distances(comparison),
        *_copies(comparison),
        *_balance(comparison),
    ]


def findings(comparison: TileComparison) -> Iterator[str]:
    """The findings of `measures`."""
    return (measure.finding for measure in measures(comparison) if measure.finding)


def _realism(c: TileComparison) -> Measure:
    text = (
        f"realism of synthetic tiles is {_number(c.realism)} in the median, that of real tiles "
        f"{c.realism_of_real:.2f}: half of them are less usual than {1 - REALISM:.0%} of the real "
        "tiles of like composition"
    )
    return Measure(
        "realism",
        f"{_number(c.realism)} in the median",
        f"real tiles {c.realism_of_real:.2f}; a finding below {REALISM:g}",
        text if c.realism < REALISM else "",
    )


def _told_apart(c: TileComparison) -> Measure:
    usual = "by chance 50%"
    if c.told_apart_floor:
        usual += f"; other real tiles {c.told_apart_floor.value:.0%}"
    return Measure("told apart by a classifier", f"in {_per_cent(c.told_apart)} of pairs", usual)


def _ratios(c: TileComparison) -> Iterator[Measure]:
    bands = {name: e for name, e in c.spectrum.items() if name != "luminance_2"}
    worst = max(bands, key=lambda name: max(bands[name].value, 1 / max(bands[name].value, 1e-9)))
    plane, _, period = worst.rpartition("_")
    detail = f"{plane.replace('_', '-')} detail of {period} pixels"
    for name, estimate, limits in (
        ("sharpness", c.sharpness, POWER),
        (f"spectrum, farthest in {detail}", bands[worst], POWER),
        ("contrast", c.contrast, POWER),
    ):
        yield _ratio(name, _roots(estimate), tuple(edge**0.5 for edge in limits))
    yield _ratio("spread of colour from tile to tile", c.spread, RATIO)


def _ratio(name: str, estimate: Estimate, limits: tuple[float, ...]) -> Measure:
    low, high = limits
    value = f"{_number(estimate.value)} ({_number(estimate.low)} to {_number(estimate.high)})"
    text = f"{name} of synthetic tiles is {value} times that of real tiles of like composition"
    usual = f"real tiles 1; a finding outside {low:.2g} to {high:.2g}"
    return Measure(name, value, usual, "" if estimate.within(low, high) else text)


def _roots(estimate: Estimate) -> Estimate:
    """A ratio of energies as one of amplitudes."""
    return Estimate.of(*(edge**0.5 for edge in (estimate.value, estimate.low, estimate.high)))


def _colour(c: TileComparison) -> Measure:
    value = ", ".join(f"{name} {e.value:+.1f}" for name, e in c.colour.items()) + " levels of 255"
    off = [name for name, e in c.colour.items() if not e.within(-COLOUR, COLOUR)]
    text = f"colour of synthetic tiles is off by {value}, from real tiles of like composition"
    usual = f"real tiles 0; a finding beyond {COLOUR:g}"
    return Measure("colour", value, usual, text if off else "")


def _agreements(c: TileComparison) -> Iterator[Measure]:
    for judge, own in c.agreement.items():
        gap = own.real - own.synthetic
        bad = own.synthetic < FOLLOWED * own.real and gap > ERRORS * own.error
        text = (
            f"{JUDGES[judge]} sees the layout in {own.synthetic:.0%} of a synthetic tile, and the "
            f"mask in {own.real:.0%} of a real one: the tiles do not show what their masks say"
        )
        yield Measure(
            f"layout as {JUDGES[judge]} sees it",
            f"{own.synthetic:.0%} of a tile",
            f"real tiles {own.real:.0%}; a finding below {FOLLOWED * own.real:.0%}",
            text if bad else "",
        )


def _distances(c: TileComparison) -> Iterator[Measure]:
    floor = f"; other real tiles {_number(c.kid_floor.value)}" if c.kid_floor else ""
    yield Measure("KID × 1000", _number(c.kid_x1000.value), f"alike 0{floor}")
    yield Measure(
        "precision, recall", f"{c.precision:.2f}, {c.recall:.2f}", "near 1, 1 for real tiles"
    )


def _copies(c: TileComparison) -> Iterator[Measure]:
    if not c.drawn:
        return
    text = (
        f"{c.copies:,} of {counted(c.drawn, 'synthetic tile')} copy a train tile; the generator "
        "repeats what it was trained on"
    )
    yield Measure(
        "copies of train tiles",
        f"{c.copies:,} of {c.drawn:,}",
        f"a finding above {COPIES:.0%}",
        text if c.copies > COPIES * c.drawn else "",
    )


def _balance(c: TileComparison) -> Iterator[Measure]:
    if gain := expected(c):
        yield Measure("expected of class balance", gain.value, gain.usual, gain.finding)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _per_cent(e: Estimate) -> str:
    return f"{e.value:.0%} ({e.low:.0%} to {e.high:.0%})"
