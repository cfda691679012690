"""The verdict on a release: what a person should know before they use it, in words and numbers.

A release with findings can be made and published; its card says them first. Everything follows
from the manifest, so that a card, a report and `aras check` say the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from builder.core.manifest import Census, Manifest, TileComparison
from builder.core.progress import counted
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.release import tile_verdict
from builder.release.shares import obtained_shares
from builder.release.tile_verdict import Measure

ENOUGH = 10
"""Tiles on either side below which nothing is said of measures."""
SHARE_MISSED = 0.05
"""Points of all tiles, or a third of what was asked for, by which a split may miss its share."""
PLAN_MISSED = 0.02
"""Points of all synthetic pixels by which a class may miss its planned share."""
LEFT_OUT = 0.25
"""Share of the synthetic tiles that may be left out."""
LOW_IS_BAD, HIGH_IS_BAD = ("mask_agreement",), ("cloudiness", "blankness")
"""Measures of which one end is nothing to worry about."""
COMPARED = ("realism", "sharpness", "contrast", "colour_saturation", "mask_agreement")
"""Measures whose range is not looked at where tiles of like composition were compared."""


@dataclass(frozen=True)
class Finding:
    """``subject``: split, classes, images, training, balance, captions or duplicates."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(frozen=True)
class Verdict:
    """What stands out in a release, and what could not be judged and why."""

    findings: tuple[Finding, ...]
    unjudged: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    """Synthetic tiles beside held-out real tiles of like composition."""
    compared: str = ""
    """Of which tiles the measures are."""

    @property
    def headline(self) -> str:
        if not self.findings:
            return "nothing stands out"
        n = len(self.findings)
        return f"{n} {'finding' if n == 1 else 'findings'}"

    @property
    def unjudged_lines(self) -> list[str]:
        return [f"not judged: {reason}" for reason in self.unjudged]

    def lines(self) -> list[str]:
        """For a person: the headline, a line per finding, and the measures of synthetic tiles."""
        width = max((len(measure.name) for measure in self.measures), default=0)
        return [
            f"verdict: {self.headline}",
            *(f"  {finding}" for finding in self.findings),
            *(f"  {line}" for line in self.unjudged_lines),
            *([f"measured on {self.compared}:"] if self.measures else []),
            *(f"  {m.name:<{width}}  {m.value}  ({m.usual})" for m in self.measures),
        ]


def verdict(manifest: Manifest) -> Verdict:
    """The verdict on a whole release; on a part of one, whose shares and plan are not its own,
    there is none."""
    if manifest.part or manifest.selection:
        return Verdict((), ("a part of a release: see the verdict on the whole",))
    findings: list[Finding] = []
    drawn = any(part.startswith("synthetic/") for part in manifest.facts.census.rows)
    comparison = manifest.facts.comparison if drawn else None
    for subject, texts in (
        ("split", _shares(manifest)),
        ("classes", _classes(manifest.facts.census)),
        ("images", _images(manifest.facts.census, comparison)),
        ("training", _trainings(manifest)),
        ("balance", _balance(manifest)),
        ("captions", _captions(manifest)),
        ("duplicates", _duplicates(manifest.facts.census)),
    ):
        findings += [Finding(subject, text) for text in texts]
    unjudged = tuple(_unjudged(manifest, comparison))
    if comparison is None:
        return Verdict(tuple(findings), unjudged)
    sides = (
        f"{counted(comparison.synthetic, 'synthetic tile')} beside "
        f"{counted(comparison.real, 'held-out real tile')} of like composition"
    )
    measures = tuple(tile_verdict.measures(comparison))
    return Verdict(tuple(findings), unjudged, measures, sides)


def _shares(manifest: Manifest) -> Iterator[str]:
    """Splits that hold another share of the real tiles than the recipe asks for."""
    asked = manifest.facts.setting("split", "shares")
    rows = {split: manifest.facts.census.rows.get(f"real/{split}", 0) for split in SPLITS}
    total = sum(rows.values())
    if not isinstance(asked, dict) or not total or manifest.facts.imported:
        return
    for split, share in asked.items():
        wanted, reached = float(str(share)), rows.get(split, 0) / total
        if abs(reached - wanted) > max(SHARE_MISSED, wanted / 3):
            yield (
                f"{split} holds {reached:.0%} of the real tiles ({rows.get(split, 0):,}), "
                f"{wanted:.0%} was asked for; a smaller block in [split] comes nearer"
            )


def _classes(census: Census) -> Iterator[str]:
    """Classes without a real tile, and splits that lack a class that others have."""
    real = {part: n for part, n in census.pixels.items() if part.startswith("real/")}
    for name in CLASSES:
        without = [part.split("/")[1] for part, n in real.items() if not n.get(name)]
        if real and len(without) == len(real):
            yield f"no real tile has {name}"
        elif without:
            yield f"{name} is missing in {' and '.join(without)}, so nothing can be measured there"


def _images(census: Census, comparison: TileComparison | None) -> Iterator[str]:
    """What the comparison finds, and measures whose median over synthetic tiles is not among those
    of real held-out tiles."""
    if comparison:
        yield from tile_verdict.findings(comparison)
    held_out = census.ranges.get("real/test", {})
    for part, medians in census.measures.items():
        if not part.startswith("synthetic/") or _too_few(census, part):
            continue
        for name, (low, high) in held_out.items():
            value = medians.get(name)
            if value is None or low <= value <= high or (comparison and name in COMPARED):
                continue
            if name in (HIGH_IS_BAD if value < low else LOW_IS_BAD):
                continue
            yield (
                f"{name.replace('_', ' ')} of synthetic tiles is {value:,.4g} in the median, of "
                f"nine in ten real test tiles {low:,.4g} to {high:,.4g}"
            )


def _trainings(manifest: Manifest) -> Iterator[str]:
    """Trainings that ended while they still got better, and a generator that gained nothing."""
    for name, model in manifest.facts.models.items():
        if (sticks := model.yardsticks) and not sticks.beats_texture:
            yield (
                f"the {name} does not beat textures, which need no training: its Fréchet distance "
                f"to real tiles is {sticks.generator:.3g} (± {sticks.generator_error:.2g}), theirs "
                f'{sticks.texture:.3g} (± {sticks.texture_error:.2g}); kind = "texture" is faster'
            )
        last = model.best and int(model.best.get("step", 0)) >= model.steps
        if last and model.steps and not model.waited:
            yield (
                f"the {name} was still getting better at its last step, {model.steps:,}; more "
                f"steps in [{name}] would help"
            )


def _balance(manifest: Manifest) -> Iterator[str]:
    """Classes whose share in the synthetic tiles is not the planned one, and tiles left out."""
    census, plan = manifest.facts.census, manifest.facts.balance
    drawn = sum(n for part, n in census.rows.items() if part.startswith("synthetic/"))
    reasons = {name: n for name, n in census.left_out.get("synthetic", {}).items() if n}
    lost = sum(reasons.values())
    if lost > LEFT_OUT * (drawn + lost):
        why = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in reasons.items())
        yield f"{lost:,} of {drawn + lost:,} synthetic tiles were left out ({why})"
    if plan is None or not drawn:
        return
    if not plan.feasible:
        missed = ", ".join(
            f"{name} by {100 * n:.1f} points" for name, n in plan.shortfall.items() if n > 0.001
        )
        yield f"no draw of these layouts reaches the class target{f': {missed}' if missed else ''}"
    obtained = obtained_shares(manifest)
    if obtained is None:
        return
    shares = obtained.released
    gaps = {name: shares[name] - planned for name, planned in plan.shares_planned.items()}
    classes = sorted((n for n in gaps if abs(gaps[n]) > PLAN_MISSED), key=lambda n: -abs(gaps[n]))
    if classes:
        missed = ", ".join(f"{n} {shares[n]:.1%} for {plan.shares_planned[n]:.1%}" for n in classes)
        cause = f" ({obtained.cause})" if obtained.cause else ""
        yield f"shares of the {drawn:,} synthetic tiles are not the planned ones: {missed}{cause}"


def _captions(manifest: Manifest) -> Iterator[str]:
    """Streams of which captions failed, and whose words give away which rows are synthetic."""
    for stage, counts in manifest.facts.counts.items():
        failed = counts.get("failed", 0)
        if stage.startswith("caption-") and failed:
            of = failed + counts.get("captions", 0)
            stream = stage.removeprefix("caption-")
            yield f"{failed:,} of {of:,} captions of {stream} are missing (their rows say why)"
    yield from (said.rstrip(".") for said in manifest.facts.census.source_leaks.values())


def _duplicates(census: Census) -> Iterator[str]:
    for name, clusters in (
        ("equal", census.duplicates),
        ("nearly equal", census.near_duplicates),
    ):
        for splits, n in clusters.spans.items():
            yield f"{n:,} groups of {name} tiles lie in {splits}"


def _too_few(census: Census, part: str) -> bool:
    return min(census.rows.get(part, 0), census.rows.get("real/test", 0)) < ENOUGH


def _unjudged(manifest: Manifest, comparison: TileComparison | None) -> Iterator[str]:
    census = manifest.facts.census
    held_out = sum(census.rows.get(f"real/{split}", 0) for split in ("validation", "test"))
    for part in census.measures:
        drawn = census.rows.get(part, 0) if part.startswith("synthetic/") else 0
        if drawn and not comparison and (min(drawn, held_out) < ENOUGH or not census.ranges):
            yield (
                f"the look of the synthetic tiles: {drawn:,} of them and {held_out:,} held-out "
                f"real tiles, at least {ENOUGH} of each are compared"
            )
    unused: dict[str, list[str]] = {}
    for limit in manifest.facts.limits:
        if limit.value is None:
            unused.setdefault(limit.origin, []).append(limit.measure.replace("_", " "))
    for origin, names in unused.items():
        yield f"single tiles by {', '.join(names)}: {origin}"
