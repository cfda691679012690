"""Does min-SNR weighting help, and guidance? Small generators on the tiles of one project.

    aras -C DIR tiles && aras -C DIR split && aras -C DIR train segmenter
    python scripts/compare_generators.py DIR

For each seed a generator is trained with and without min-SNR weights; each draws tiles on the
layouts of the same validation crops. Printed per generator and guidance scale, as JSON lines: the
Fréchet distance in the segmenter's features to the real crops (64 on each side: compare within one
run only) and the share of pixels on which the segmenter sees the layout. The real crops'
own share comes first. Generators are kept under DIR/models and not trained twice.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed
from builder.models import data, generator, segmenter
from builder.models.sets import Moments, frechet
from builder.models.settings import GENERATOR
from builder.pipeline.project import Project

GAMMAS = (5.0, 0.0)
GUIDANCE = (1.0, 2.0, 4.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="a project with tiles, split and segmenter")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200, help="of every training")
    parser.add_argument("--batch", type=int, default=12, help="of every training")
    parser.add_argument("--tiles", type=int, default=64, help="crops on each side")
    given = parser.parse_args()
    project = Project(given.directory)
    judge = segmenter.load(project.models / segmenter.NAME)
    base = dataclasses.replace(
        GENERATOR["cpu"], steps=given.steps, batch=given.batch, evaluate_every=0
    )
    held_out = data.load(project.store, "validation")
    images, masks = held_out.crops(rng_of(1, "measure"), given.tiles, base.crop)
    ids, features = segmenter.look(judge, images)
    real = Moments.of(features)
    print(json.dumps({"real": True, "agreement": round(float((ids == masks).mean()), 4)}))
    for number in range(given.seeds):
        for gamma in GAMMAS:
            settings = dataclasses.replace(base, seed=number, min_snr=gamma)
            folder = project.models / f"compared-{number}-{gamma}"
            generator.train(project.store, folder, settings)
            model = generator.load(folder)
            for scale in GUIDANCE:
                how = generator.Sampling(steps=12, guidance=scale)
                noise = [seed(7, i) for i in range(given.tiles)]
                drawn = generator.sample(model, masks, noise, how)
                ids, features = segmenter.look(judge, drawn)
                results = {
                    "seed": number,
                    "min_snr": gamma,
                    "guidance": scale,
                    "frechet": round(frechet(real, Moments.of(features)), 4),
                    "agreement": round(float(np.mean(ids == masks)), 4),
                }
                print(json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
