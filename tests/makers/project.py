"""Maker of a tiny project, and one that is built and packaged once for all tests."""

import functools
from pathlib import Path

from builder.core.engine import Engine
from builder.land.products import cell_origin
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.release.package import package
from tests.makers.products import (
    SIZE,
    codes_of,
    composite_name,
    land,
    map_name,
    reflect,
    write_composite,
    write_map,
)

ROWS, WEST, EAST = 10, 8, 6
"""Patches of the tiny scene: rows, and columns west and east of the seam at 33° E."""

RECIPE = """
[dataset]
name = "tiny"
title = "Tiny: tiles for tests"
date = "2026-01-31"
authors = ["The testers"]
seed = 3
[engine]
kind = "serial"
[tiles]
size = 64
[split]
block = 0.016
buffer_km = 0.3
shares = { train = 0.6, validation = 0.2, test = 0.2 }
[segmenter]
steps = 3
batch = 2
crop = 32
[generator]
rows = 10
steps = 3
batch = 2
crop = 32
evaluation_tiles = 4
evaluation_steps = 2
sampling_steps = 2
[memorization]
drop_copies = false
[captions.dominant]
style = "dominant"
[captions.composition]
style = "composition"
[captions.layout]
style = "layout"
[captions.full]
style = "full"
[captions.absence]
style = "absence"
[subsets.mini]
rows = 20
[release]
repo = "someone/tiny"
"""


def make_project(folder: Path, *, recipe: str = RECIPE, seed: int = 0) -> Project:
    """A recipe and inputs on both sides of a seam between composites and between maps."""
    inputs = folder / "inputs"
    left, top = cell_origin("N36E033")
    edge = left - 12_000 % SIZE  # the last whole patch of the western cell ends here
    west = edge - WEST * SIZE
    ids = land((ROWS * SIZE, left - west + EAST * SIZE), seed)
    dn, codes, seam = reflect(ids, seed), codes_of(ids), left - west
    write_map(inputs, codes[:, :seam], west, top, name=map_name("N36E030"))
    write_map(inputs, codes[:, seam:], left, top, name=map_name("N36E033"))
    write_composite(inputs, dn[:, :, :seam], west, top, name=composite_name("N36E032"))
    write_composite(inputs, dn[:, :, seam:], left, top, name=composite_name("N36E033"))
    folder.joinpath("dataset.toml").write_text(recipe)
    return Project(folder)


@functools.cache
def built_project(base: Path) -> Project:
    """The tiny project with everything made and packaged, once per test session.

    Tests must not change it; copy what is to be damaged.
    """
    project = make_project(base / "tiny-project")
    run_steps(project, project.steps(), Engine("serial"))
    package(project.inputs())
    return project
