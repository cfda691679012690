"""Ways to draw tiles, compared at equal CPU seconds of training on the tiles of a project.

    aras -C DIR tiles && aras -C DIR split
    python scripts/compare_generators.py DIR --eurosat eurosat_rgb.tar --out RECORDS
    python scripts/compare_generators.py --table RECORDS

Each arm and seed trains on one thread for so many CPU seconds, draws whole tiles on layouts of a
split (validation: for choices; test: for the finalists), and leaves one small JSON file in RECORDS;
a file that is there is not made again, so you can stop at any time. The figures of a drawing:

    frechet_hand, frechet_cnn   Fréchet distance in 24 hand-made features (each divided by its
                                deviation) and in 64 features of a CNN trained on EuroSAT's folders;
                                no extractor saw a mask. Compare at equal numbers of tiles only
    sharpness                   variance of the Laplacian over that of the real tiles; 1 is right
    colour                      root mean square distance of class colours, in levels of 0…255
    spread                      deviation of class colours between tiles over the real; 1 is right
    realism, coverage           share of drawn tiles near real tiles, and the other way round
    nearest_train               median distance to the nearest train tile over that of real tiles
    draw_s                      CPU seconds a tile

Arm `train` measures real train tiles: what chance alone makes of every figure.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import builder.models  # noqa: F401, I001 - before torch: it says how OpenMP's threads wait

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from builder.core.files import write_json
from builder.core.seeds import generator as rng_of
from builder.core.seeds import seed as seed_of
from builder.land.classes import CLASSES
from builder.land.pictures import encode_png
from builder.models import data, drawing, generator, quilt, texture
from builder.models.checkpoint import Average
from builder.models.codec import PixelCodec, Standard
from builder.models.objective import Batch, Objective
from builder.models.processes import LEVELS, Ddpm, Edm, Flow, Process
from builder.models.settings import GENERATOR, GeneratorSettings
from builder.pipeline.project import Project
from scripts.generator_measures import Yardstick, network

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Arm:
    """``objective``: ddpm, edm or flow. ``pixels``: plain (−1…1), all (standardised) or class (each
    class by its own). ``draws``: solver steps, and for edm σ at the start. ``highest``: σ up to
    which edm trains."""

    objective: str
    pixels: str = "class"
    start: str = "noise"
    batch: int = 4
    ema: float = 0.995
    highest: float = 40.0
    draws: tuple[tuple[int, float], ...] = ((8, 0.0),)


TODAY = Arm("ddpm", "plain", batch=16, ema=0.98, draws=((15, 0.0),))
TEXTURED = Arm("edm", start="texture", highest=0.6, draws=((4, 0.6), (4, 0.3), (8, 0.6)))
FLOW = Arm("flow", start="texture", draws=((4, 0.0), (8, 0.0)))
"""The CPU profile's."""
ARMS: dict[str, Arm | None] = {
    "train": None,
    "texture": None,
    "quilt": None,
    "ddpm-16": TODAY,
    "ddpm-4-standard": Arm("ddpm", "all", draws=((15, 0.0),)),
    "edm-noise-all": Arm("edm", "all", draws=((8, 40.0),)),
    "edm-noise-class": Arm("edm", draws=((8, 40.0),)),
    "edm-texture-all": dataclasses.replace(TEXTURED, pixels="all", draws=((4, 0.6),)),
    "edm-texture-class": TEXTURED,
    "flow-noise-class": Arm("flow", draws=((8, 0.0),)),
    "flow-texture-class": FLOW,
}


@dataclass(frozen=True)
class Trial:
    """An arm with a seed, on ``tiles``."""

    arm: Arm
    seed: int
    tiles: data.Tiles

    @property
    def settings(self) -> GeneratorSettings:
        return dataclasses.replace(
            GENERATOR["cpu"], batch=self.arm.batch, ema=self.arm.ema, seed=self.seed
        )

    def codec(self) -> PixelCodec:
        if self.arm.pixels == "plain":
            return PixelCodec()
        groups = len(CLASSES) if self.arm.pixels == "class" else 1
        return PixelCodec(Standard.of(map(np.asarray, self.tiles.pixels[::2]), groups))

    def process(self, highest: float = 0.0) -> Process:
        if self.arm.objective == "flow":
            return Flow()
        if self.arm.objective == "edm":
            return Edm(highest or self.arm.highest)
        return Ddpm("v_prediction", self.settings.min_snr, clip=False)

    def train(
        self, seconds: float, watch: Callable[[float, nn.Module], None] = lambda share, model: None
    ) -> tuple[drawing.Generator, dict[str, Any]]:
        """The last average after so many CPU seconds, and what the training took. After each step
        ``watch`` is called with the share of the time that is over, and the average."""
        before = time.process_time()
        codec, textures = self.codec(), None
        if self.arm.start == "texture":
            textures = texture.fit(self.tiles, self.seed)
        unet = generator.build(self.settings, codec).to(memory_format=torch.channels_last)
        average = Average(unet, self.settings.ema)
        objective = Objective(codec.encode, self.process(), "auto", len(CLASSES))
        optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.01)
        done, begun, spent = 0, time.process_time(), 0.0
        while spent < seconds:
            rate = min(1.0, 20 * spent / seconds + 0.05)  # as `training.fit`, by time for steps
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * rate * 0.5 * (1 + np.cos(np.pi * spent / seconds))
            optimizer.zero_grad(set_to_none=True)
            objective(unet, self.batch(codec, textures, done)).backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(unet)
            done, spent = done + 1, time.process_time() - begun
            watch(spent / seconds, average.module)
        model = drawing.Generator(average.module.eval(), codec, self.process(), textures=textures)
        return model, {"steps": done, "train_s": round(time.process_time() - before, 1)}

    def batch(self, codec: PixelCodec, textures: texture.Textures | None, step: int) -> Batch:
        rng = rng_of(self.seed, "compare", step)
        size, crop = self.arm.batch, self.settings.crop
        images, masks = self.tiles.crops(rng, size, crop)
        if self.arm.objective == "flow" and textures is not None:
            seeds = [int(value) for value in rng.integers(2**31, size=size)]
            noise = codec.encode(textures.draw(masks, seeds), masks)
        else:
            noise = torch.from_numpy(rng.standard_normal((size, 3, crop, crop), np.float32))
        times = torch.from_numpy(rng.integers(0, LEVELS, size))
        dropped = torch.from_numpy(rng.random(size) < self.settings.layout_dropout)
        return Batch(images, masks, noise, times, dropped)


def run(
    name: str, seed: int, tiles: data.Tiles, layouts: Pixels, yardstick: Yardstick, seconds: float
) -> tuple[dict[str, Any], Pixels]:
    """The record of an arm and seed, and its tiles of its first drawing."""
    arm, seeds = ARMS[name], [seed_of(seed, "draw", i) for i in range(len(layouts))]
    record: dict[str, Any] = {"arm": name, "seed": seed, "settings": None, "draws": []}
    model: drawing.Drawer | None = None
    if arm is not None:
        trial = Trial(arm, seed, tiles)
        record["settings"] = dataclasses.asdict(arm)
        model, taken = trial.train(seconds)
        record.update(taken)
    elif name != "train":
        before = time.process_time()
        model = (texture if name == "texture" else quilt).fit(tiles, seed)
        record["train_s"] = round(time.process_time() - before, 1)
    first = None
    for steps, sigma in arm.draws if arm else ((0, 0.0),):
        before = time.process_time()
        if model is None:
            chosen = rng_of(seed, "train").permutation(len(tiles))[: len(layouts)]
            drawn, masks = (np.asarray(tiles.pixels[chosen][..., part]) for part in (slice(3), 3))
        else:
            masks, some = layouts, model
            if isinstance(model, drawing.Generator) and sigma:
                some = dataclasses.replace(model, process=trial.process(sigma))
            drawn = drawing.sample(some, layouts, seeds, drawing.Sampling(steps=max(1, steps)))
        taken_s = (time.process_time() - before) / len(layouts)
        figures = yardstick.measure(drawn, masks)
        first = drawn if first is None else first
        record["draws"].append(
            {"steps": steps, "sigma": sigma, "draw_s": round(taken_s, 4)}
            | {key: round(value, 4) for key, value in figures.items()}
        )
    assert first is not None
    return record, first


def table(folder: Path) -> str:
    """The records of a folder as a Markdown table, a line per drawing."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    keys = [key for key in records[0]["draws"][0] if key not in ("steps", "sigma")]
    head = ["arm", "seed", "split", "train_s", "steps", "σ", *keys]
    lines = [head, ["---"] * len(head)]
    for record in records:
        for draw in record["draws"]:
            facts = [record["arm"], record["seed"], record["split"], record.get("train_s", 0)]
            lines.append(
                [*facts, draw["steps"], draw["sigma"], *(f"{draw[key]:.3g}" for key in keys)]
            )
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", help="a project with tiles and split")
    parser.add_argument("--eurosat", type=Path, help="tar of EuroSAT's folders, for the CNN")
    parser.add_argument("--out", type=Path, default=Path("records"))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--seconds", type=float, default=100.0, help="CPU seconds of a training")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--tiles", type=int, default=48, help="that are drawn")
    parser.add_argument("--network-steps", type=int, default=500, help="of the CNN's training")
    parser.add_argument("--grids", type=Path, help="where pictures of the drawn tiles go")
    parser.add_argument("--table", type=Path, help="print the records of this folder and end")
    given = parser.parse_args()
    if given.table:
        print(table(given.table))
        return
    torch.set_num_threads(1)
    project = Project(given.directory)
    tiles, held_out = data.load(project.store, "train"), data.load(project.store, given.split)
    cache = project.models / "compared" / "cnn.pt"
    look = network(given.eurosat, cache, given.network_steps).look
    pixels = np.asarray(held_out.pixels)
    yardstick = Yardstick(pixels[..., :3], pixels[..., 3], np.asarray(tiles.pixels[..., :3]), look)
    chosen = rng_of(1, "layouts").permutation(len(pixels))[: given.tiles]
    layouts = pixels[chosen][..., 3]
    for seed, name in itertools.product(map(int, given.seeds.split(",")), given.arms.split(",")):
        path = given.out / f"{name}-{seed}-{given.split}-{given.seconds:g}.json"
        if path.exists():
            continue
        record, drawn = run(name, seed, tiles, layouts, yardstick, given.seconds)
        record |= {"split": given.split, "tiles": len(layouts), "side": layouts.shape[1]}
        write_json(path, record | {"seconds": given.seconds})
        print(path.name, json.dumps(record["draws"]), flush=True)
        if given.grids:
            given.grids.mkdir(parents=True, exist_ok=True)
            rows = [pixels[chosen[:8]][..., :3], drawn[:8]]
            grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
            (given.grids / f"{path.stem}.png").write_bytes(encode_png(np.ascontiguousarray(grid)))


if __name__ == "__main__":
    main()
