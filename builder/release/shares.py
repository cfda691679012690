"""Class shares of the synthetic rows: planned, as whole rows drawn, and released, and why they
differ."""

from collections.abc import Mapping
from dataclasses import dataclass

from builder.core.manifest import Manifest
from builder.land.classes import CLASSES


@dataclass(frozen=True)
class ObtainedShares:
    """Shares by class name, fractions of 1. ``drawn`` is empty where a release did not count it;
    ``left_out`` are the synthetic rows left out, by reason."""

    planned: Mapping[str, float]
    drawn: Mapping[str, float]
    released: Mapping[str, float]
    rows: int
    left_out: Mapping[str, int]
    masks_follow_layouts: bool

    def gap(self, shares: Mapping[str, float]) -> tuple[str, float]:
        """The class that is furthest from its planned share, and by how much."""
        gaps = {name: shares.get(name, 0.0) - share for name, share in self.planned.items()}
        name = max(gaps, key=lambda k: abs(gaps[k]))
        return name, gaps[name]

    @property
    def cause(self) -> str:
        """Why the released shares are not those planned, in words; empty where nothing is known to
        have moved them."""
        causes = []
        if lost := sum(self.left_out.values()):
            reasons = (f"{n:,} {name.replace('_', ' ')}" for name, n in self.left_out.items())
            causes.append(
                f"{lost:,} of {self.rows + lost:,} rows were left out ({', '.join(reasons)})"
            )
        if not self.masks_follow_layouts:
            causes.append("the masks are the segmenter's, not the layouts")
        if self.drawn and abs(self.gap(self.drawn)[1]) > 0.001:
            name, points = self.gap(self.drawn)
            causes.append(
                f"rows are whole, so already those drawn are {100 * abs(points):.1f} points from "
                f"the plan in {name}"
            )
        return "; ".join(causes)

    @property
    def sentence(self) -> str:
        """How near the released shares come to the planned ones, and why not nearer."""
        name, points = self.gap(self.released)
        near = (
            f"The {self.rows:,} released rows are within {100 * abs(points):.1f} points of the "
            f"planned shares ({name}: planned {self.planned[name]:.1%}, obtained "
            f"{self.released.get(name, 0.0):.1%})"
        )
        return f"{near}{': ' + self.cause if self.cause and abs(points) >= 0.0005 else ''}."


def obtained_shares(manifest: Manifest) -> ObtainedShares | None:
    """Of a release with a balance plan and synthetic rows; None for another."""
    plan, census = manifest.facts.balance, manifest.facts.census
    pixels = [n for part, n in census.pixels.items() if part.startswith("synthetic/")]
    counts = {name: sum(of.get(name, 0) for of in pixels) for name in CLASSES}
    total = sum(counts.values())
    if plan is None or not total:
        return None
    return ObtainedShares(
        planned=plan.shares_planned,
        drawn=plan.shares_drawn,
        released={name: n / total for name, n in counts.items()},
        rows=sum(n for part, n in census.rows.items() if part.startswith("synthetic/")),
        left_out={k: n for k, n in census.left_out.get("synthetic", {}).items() if n},
        masks_follow_layouts=manifest.facts.setting("generator", "mask") != "segmenter",
    )
