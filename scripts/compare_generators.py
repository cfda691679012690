"""Textures, and small diffusion models with and without min-SNR weights, on the tiles of a project.

    aras -C DIR tiles && aras -C DIR split && aras -C DIR train segmenter
    python scripts/compare_generators.py DIR

Each draws tiles on the layouts of the same validation crops. Printed per generator and guidance
scale, as JSON lines:

    frechet      Fréchet distance in the segmenter's features to the real crops (64 on each side:
                 compare within one run only)
    agreement    share of pixels on which the segmenter sees the layout
    sharpness    variance of the Laplacian over that of the real crops; 1 is right
    colour       root mean square distance of class colours from the real ones, in levels of 0…255
    spread       standard deviation of class colours from crop to crop over the real one; 1 is right
    train_s      CPU seconds of training or fitting, draw_s of drawing a tile

The real crops' own agreement comes first. Generators are kept under DIR/models and not trained
twice (train_s is then null).
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.models import data, generator, segmenter
from builder.models.sets import Moments, frechet
from builder.models.settings import GENERATOR, GeneratorSettings
from builder.pipeline.project import Project

GAMMAS = (5.0, 0.0)
GUIDANCE = (1.0, 2.0, 4.0)
FEWEST = 64
"""Pixels of a class that a crop must have to count for its colour."""


def sharpness(images: np.ndarray) -> float:
    """Mean variance of the Laplacian of grey images (n, H, W, 3)."""
    return float(np.mean([ndimage.laplace(i.mean(axis=2)).var() for i in images.astype(float)]))


def colours(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean colour of each class in each crop, (n, classes, 3); NaN where it has few pixels."""
    means = np.full((len(images), len(CLASSES), 3), np.nan)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for class_id in np.flatnonzero(np.bincount(mask.ravel(), minlength=len(CLASSES)) >= FEWEST):
            means[i, class_id] = image[mask == class_id].mean(axis=0)
    return means


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
    real, real_colours = Moments.of(features), colours(images, masks)
    print(json.dumps({"real": True, "agreement": round(float((ids == masks).mean()), 4)}))

    def compare(name: str, settings: GeneratorSettings, scales: tuple[float, ...]) -> None:
        folder = project.models / f"compared-{name}"
        before = time.process_time()
        fresh = generator.train(project.store, folder, settings).fresh
        trained = time.process_time() - before
        model = generator.load(folder)
        for scale in scales:
            before = time.process_time()
            noise = [seed(7, i) for i in range(given.tiles)]
            how = generator.Sampling(steps=12, guidance=scale)
            drawn = generator.sample(model, masks, noise, how)
            seconds = time.process_time() - before
            ids, features = segmenter.look(judge, drawn)
            ours = colours(drawn, masks)
            error = np.nanmean(ours, axis=0) - np.nanmean(real_colours, axis=0)
            spread = np.nanstd(ours, axis=0) / np.nanstd(real_colours, axis=0)
            measures: dict[str, Any] = {
                "frechet": frechet(real, Moments.of(features)),
                "agreement": float(np.mean(ids == masks)),
                "sharpness": sharpness(drawn) / sharpness(images),
                "colour": float(np.sqrt(np.nanmean(error**2))),
                "spread": float(np.nanmean(spread)),
                "train_s": trained if fresh else None,
                "draw_s": seconds / given.tiles,
            }
            rounded = {k: v if v is None else round(v, 4) for k, v in measures.items()}
            print(json.dumps({"generator": name, "guidance": scale, **rounded}), flush=True)

    for number in range(given.seeds):
        compare(f"texture-{number}", dataclasses.replace(base, seed=number, kind="texture"), (1.0,))
        for gamma in GAMMAS:
            settings = dataclasses.replace(base, seed=number, min_snr=gamma)
            compare(f"pixel-{number}-min-snr-{gamma}", settings, GUIDANCE)


if __name__ == "__main__":
    main()
