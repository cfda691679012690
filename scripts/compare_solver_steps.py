"""How few solver steps draw tiles that are as near to real ones? On a project's own generator.

    aras -C DIR train generator
    python scripts/compare_solver_steps.py DIR            # on a GPU: --tiles 2048 --at-once 64

Draws tiles on the layouts of the same validation crops with each number of steps and prints, as a
table: the Fréchet distance in the segmenter's features to the real crops and tiles per second (of
the CPU's seconds where there is no GPU). First comes the distance between the crops and as many
other real ones, which is what chance alone makes of it. Take the fewest steps whose distance is
not above that of the most. The distance falls with --tiles: compare within one run only.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import builder.models  # noqa: F401, I001 - before torch: it says how OpenMP's threads wait

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from builder.models import data, generator, segmenter
from builder.pipeline.project import Project
from builder.models.sets import Moments, frechet
from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed
from scripts.bench_generate import clock


def compare(
    project: Project, steps: Sequence[int], tiles: int, at_once: int
) -> Iterator[tuple[int, float, float]]:
    """(solver steps, Fréchet distance, tiles per second); with 0 steps other real crops."""
    settings = project.training(generator.NAME).settings
    model = generator.load(
        project.models / generator.NAME,
        compiled=settings.compile,
        channels_last=settings.channels_last,
    )
    judge = segmenter.load(project.models / segmenter.NAME)
    held_out = data.load(project.store, "validation")
    images, masks = held_out.crops(rng_of(1, "measure"), tiles, settings.crop)
    others, _ = held_out.crops(rng_of(2, "measure"), tiles, settings.crop)
    real, other = (Moments.of(segmenter.look(judge, some)[1]) for some in (images, others))
    yield 0, frechet(real, other), float("nan")
    spans = [slice(i, i + at_once) for i in range(0, tiles, at_once)]
    seeds = [seed(7, i) for i in range(tiles)]
    for count in steps:
        how = generator.Sampling(steps=count)
        generator.sample(model, masks[spans[0]], seeds[spans[0]], how)  # kernels are chosen
        started = clock()
        drawn = [generator.sample(model, masks[span], seeds[span], how) for span in spans]
        rate = tiles / (clock() - started)
        drawn_moments = Moments.of(segmenter.look(judge, np.concatenate(drawn))[1])
        yield count, frechet(real, drawn_moments), rate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="a project with a trained generator")
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 12, 15, 25])
    parser.add_argument("--tiles", type=int, default=64, help="crops on each side")
    parser.add_argument("--at-once", type=int, default=8, help="tiles in a batch")
    given = parser.parse_args()
    print("| solver steps | Fréchet distance | tiles/s |\n|---|---|---|")
    for row in compare(Project(given.directory), given.steps, given.tiles, given.at_once):
        count, distance, rate = row
        print(
            f"| {count} | {distance:.3f} | {rate:.3f} |"
            if count
            else f"| real | {distance:.3f} | |"
        )


if __name__ == "__main__":
    main()
