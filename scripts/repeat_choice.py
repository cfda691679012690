"""Is the best of a few evaluations better than the last? The same choice on other crops, repeated.

    aras -C DIR tiles && aras -C DIR split
    python scripts/repeat_choice.py DIR --seconds 60

Trains the CPU profile's objective for so many CPU seconds, keeps its average at each quarter of the
time, and lets each draw the same crops of validation tiles. Then, many times, some of these crops
are drawn at random and the quarter with the least Fréchet distance on them (24 hand-made features)
is the best, as in an evaluation on so many crops. A table says how often each quarter is the best,
and how often the rule of `History.chosen` prefers an earlier one to the last: only where it is
better by more than two standard errors.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import builder.models  # noqa: F401, I001 - before torch: it says how OpenMP's threads wait

import argparse
import copy

import numpy as np
import torch
from torch import nn

from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed as seed_of
from builder.models import data, drawing
from builder.models.checkpoint import History
from builder.models.sets import frechet_estimate, groups_of
from builder.pipeline.project import Project
from scripts.compare_generators import FLOW, Trial
from scripts.generator_measures import hand_made

QUARTERS = (0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of the training")
    parser.add_argument("--crops", type=int, default=160, help="in all")
    parser.add_argument("--some", type=int, nargs="+", default=[16, 64], help="of an evaluation")
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    store = Project(given.directory).store
    trial = Trial(FLOW, 0, data.load(store, "train"))
    kept: list[nn.Module] = []

    def keep(share: float, average: nn.Module) -> None:
        if len(kept) < len(QUARTERS) and share >= QUARTERS[len(kept)]:
            kept.append(copy.deepcopy(average).eval())

    last, _ = trial.train(given.seconds, keep)
    kept = [*kept, last.unet][: len(QUARTERS)]
    rng = rng_of(0, "repeat choice")
    crop = trial.settings.crop
    images, masks = data.load(store, "validation").crops(rng, given.crops, crop)
    seeds = [seed_of(0, "repeat choice", i) for i in range(given.crops)]
    real = hand_made(images)
    spread = real.std(axis=0) + 1e-6
    sides = []
    for unet in kept:
        artist = drawing.Generator(unet, last.codec, last.process, textures=last.textures)
        drawn = drawing.sample(artist, masks, seeds, drawing.Sampling(steps=4))
        sides.append(hand_made(drawn) / spread)
    heads = [f"best after {share:.0%}" for share in QUARTERS[: len(sides)]]
    print("| crops | " + " | ".join([*heads, "rule prefers an earlier one"]) + " |")
    print("|---" * (len(heads) + 2) + "|")
    for some in given.some:
        best, early = np.zeros(len(sides), dtype=int), 0
        for _ in range(given.repeats):
            rows = rng.choice(given.crops, some, replace=False)
            history = History(watch="frechet")
            for number, side in enumerate(sides):
                estimate = frechet_estimate(real[rows] / spread, side[rows], groups_of(some))
                row = {"step": number, "frechet": estimate.value, "frechet_error": estimate.error}
                history.evaluations.append(row)
            if history.best is not None:
                best[int(history.best["step"])] += 1
            early += history.chosen is not history.evaluations[-1]
        shares = [f"{count / given.repeats:.0%}" for count in (*best, early)]
        print("| " + " | ".join([str(some), *shares]) + " |", flush=True)


if __name__ == "__main__":
    main()
