"""How far layouts look like land: boundary statistics of real masks, crops and recombinations.

    python scripts/measure_layouts.py DIR --picture layouts.png   # a project with tiles and split

Prints a table of boundary statistics of real masks, of the crops and recombinations that a balance
plan may draw, and of the layouts of a plan's rows. Recombined layouts hold more of the scarce
classes than the average tile and so have other boundaries by right: each row of them, of all and by
the class that was pasted, is followed by "real, alike", the real masks whose composition is nearest
to that of each. The last column is how far the pairs of classes along boundaries are from those of
real masks (total variation, 0 to 1): in rows of recombined layouts from those that are alike. The
picture shows recombined layouts, each between its tile and its donor.
"""

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from builder.core.figures import panels, save
from builder.core.seeds import generator
from builder.land.classes import CLASSES, PALETTE, count_pixels
from builder.land.pictures import decode_mask, image_bytes
from builder.pipeline.project import Project
from builder.quality.boundaries import Boundaries, adjacency_distance, boundaries
from builder.steps.plan import survey
from builder.steps.stage import shards
from builder.synthesis.layouts import LayoutPlan, changed, train_masks
from builder.synthesis.transforms import Mask, Transform

HEAD = """\
| masks | n | edges per pixel | patches | median patch, px | specks | straight | adjacency |
|---|---|---|---|---|---|---|---|"""
SHOWN = 8
"""Recombined layouts in the picture."""


@dataclass(frozen=True)
class Example:
    tile: Mask
    layout: Mask
    donor: Mask | None


@dataclass
class Drawn:
    """Layouts of a project by what was done to them."""

    cropped: list[Mask] = field(default_factory=list)
    planned: list[Mask] = field(default_factory=list)
    """The layouts of the plan's rows."""
    recombined: dict[str, list[Example]] = field(default_factory=lambda: defaultdict(list))
    """By the class that was pasted."""

    def add(self, change: Transform, example: Example) -> None:
        if change.other is not None:
            self.recombined[change.classes[0]].append(example)
        elif change.crop:
            self.cropped.append(example.layout)


def layouts_of(project: Project, variants: int, rows: int, balance: str, most: int) -> Drawn:
    """At most ``most`` crops, and as many recombinations that paste each class; all of the plan."""
    store = project.store
    stage = replace(project.layouts(), variants=variants, nearest=True, rows=rows, target=balance)
    plan: LayoutPlan = survey(stage, store)
    left: dict[tuple[str, ...], int] = defaultdict(lambda: most)
    measured = set()
    for i in generator(stage.seed, "measured layouts").permutation(len(plan.candidates)).tolist():
        change = plan.candidates[i].change
        if left[change.classes] and change != Transform():
            left[change.classes] -= 1
            measured.add(i)
    repeats = Counter(i for i, _ in plan.rows)
    by_shard = defaultdict(list)
    for i in sorted(measured | set(repeats)):
        by_shard[plan.candidates[i].shard].append(i)
    drawn = Drawn()
    for shard, masks in train_masks(lambda columns: store.scan(list(by_shard), columns)):
        for i in by_shard[shard]:
            candidate = plan.candidates[i]
            layout = changed(candidate.change, candidate.tile, masks, plan.donors)
            drawn.planned += [layout] * repeats[i]
            if i in measured:
                donor = plan.donors.get(candidate.change.other or "")
                drawn.add(candidate.change, Example(masks[candidate.tile], layout, donor))
    return drawn


def alike(masks: list[Mask], real: list[Mask]) -> list[Mask]:
    """Of ``real`` the mask nearest in composition to each of ``masks``."""
    shares = np.array([count_pixels(mask) / mask.size for mask in real])
    nearest = [
        int(np.abs(shares - count_pixels(mask) / mask.size).sum(axis=1).argmin()) for mask in masks
    ]
    return [real[i] for i in nearest]


def line(name: str, measured: Boundaries, real: Boundaries) -> str:
    return (
        f"| {name} | {measured.masks:,} | {measured.density:.3f} | {measured.patches:,.0f} | "
        f"{measured.median_patch:,.0f} | {measured.specks:.0%} | {measured.straight:.2%} | "
        f"{adjacency_distance(measured, real):.3f} |"
    )


def draw(examples: list[Example], path: Path) -> None:
    """A column for each example: the tile, the recombined layout, the donor."""
    figure, axes = panels(1.6 * len(examples), 5.4, 3, len(examples))
    for column, example in enumerate(examples):
        for row, name in enumerate(("tile", "layout", "donor")):
            panel = axes[row * len(examples) + column]
            panel.imshow(PALETTE[getattr(example, name)], interpolation="nearest")
            panel.set_axis_off()
            panel.set_title(name, fontsize=8)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--variants", type=int, default=8, help="per tile, as in [generator]")
    parser.add_argument("--rows", type=int, default=400, help="of the balance plan")
    parser.add_argument("--balance", default="tempered:0.7")
    parser.add_argument("--most", type=int, default=100, help="crops, and recombinations by class")
    parser.add_argument("--picture", type=Path, help="a PNG of recombined layouts")
    given = parser.parse_args()
    project = Project(given.project)
    real = []
    for shard in shards(project.store, ("real",)):
        table = project.store.read(shard, ("id", "mask"))
        names = table.column("id").to_pylist()
        real += list(map(decode_mask, image_bytes(table.column("mask")), names))
    drawn = layouts_of(project, given.variants, given.rows, given.balance, given.most)
    whole = boundaries(real)
    print(HEAD)
    print(line("real", whole, whole))
    for name, masks in (("cropped", drawn.cropped), ("rows of a plan", drawn.planned)):
        if masks:
            print(line(name, boundaries(masks), whole))
    by_class = {
        f"{name} pasted": [example.layout for example in drawn.recombined[name]]
        for name in CLASSES
        if name in drawn.recombined
    }
    every = [mask for masks in by_class.values() for mask in masks]
    for name, masks in {"recombined": every, **by_class}.items():
        if masks:
            near = boundaries(alike(masks, real))
            print(line(name, boundaries(masks), near))
            print(line("real, alike", near, near))
    if given.picture and every:
        # Of each class in turn, so that all are shown before there are two of any.
        turns = zip_longest(*drawn.recombined.values())
        examples = [example for turn in turns for example in turn if example]
        draw(examples[:SHOWN], given.picture)


if __name__ == "__main__":
    main()
