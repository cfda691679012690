"""How many planted copies the search for copies finds, and how many held-out tiles it accuses.

    python scripts/measure_copies.py EUROSAT.tar                # train and held-out tiles drawn
    python scripts/measure_copies.py EUROSAT.tar --choose       # thresholds, on tiles of their own
    python scripts/measure_copies.py DIR                        # a project with tiles and split

Copies of pieces of train tiles are planted into held-out real tiles: the whole tile, half of it, a
quarter (from anywhere to anywhere), all but a shift of 4 to 32 pixels, and crops that are enlarged
by up to 1.3; each as it is, turned, brightened (gain .85 to 1.15, offset up to 15 levels), through
JPEG, and all three. Printed as JSON lines: the share that is marked as a copy, the share in which
the very train tile is named (``recall``; on tiles that share pictures another may be), the same
without tiles that JPEG leaves nothing of (``textured``: standard deviation of the finest detail of
at least a level), the share accused of held-out tiles that hold no copy with its 95 % interval
(Wilson), and CPU milliseconds. Of a tar every second tile is used, with ``--choose`` the others:
then recall is printed at the thresholds that accuse 2, 1 and .5 % of the held-out tiles.
"""

import argparse
import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.stats import binomtest

from builder.land.columns import SPLITS
from builder.land.pictures import decode_mask, decode_png, image_bytes
from builder.pipeline.project import Project
from builder.quality.copies import ALIKE, BLOCK, COPIED, Block, find_copies
from builder.quality.memorize import symmetries
from builder.quality.patches import blurred, frame_of, patches_of
from builder.steps.stage import shards

Pixels = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Tile = tuple[Pixels, Pixels]
"""Picture and mask."""

KINDS = ("whole", "half", "quarter", "enlarged", *(f"shift {n}" for n in (4, 8, 16, 32)))
TURNED, BRIGHT, COMPRESSED = "turned", "bright", "jpeg"
CHANGES = ((), (TURNED,), (BRIGHT,), (COMPRESSED,), (TURNED, BRIGHT, COMPRESSED))


def read_tar(path: Path, first: int, most: int, rng: np.random.Generator) -> list[Tile]:
    """``most`` pictures drawn from a tar of JPEG files of one class each, of every second file from
    ``first``."""
    tiles = []
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.name.endswith(".jpg")][first::2]
        for number in rng.permutation(len(members))[:most]:
            file = archive.extractfile(members[number])
            assert file is not None  # a picture is no folder
            picture = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
            tiles.append((picture, np.zeros(picture.shape[:2], np.uint8)))
    return tiles


def read_project(folder: Path) -> tuple[list[Tile], list[Tile]]:
    """Train and held-out tiles of a project."""
    store = Project(folder).store
    sides: tuple[list[Tile], list[Tile]] = ([], [])
    for shard in shards(store, ("real",)):
        table = store.read(shard, ("id", "image", "mask", "split"))
        pictures = map(decode_png, image_bytes(table.column("image")))
        masks = map(decode_mask, image_bytes(table.column("mask")), table.column("id").to_pylist())
        tiles = zip(pictures, masks, strict=True)
        for tile, split in zip(tiles, table.column("split").to_pylist(), strict=True):
            if split is not None:
                sides[SPLITS[split] != "train"].append(tile)
    return sides


def plant(kind: str, source: Tile, back: Tile, rng: np.random.Generator) -> Tile:
    """``back`` with a piece of ``source``, and of its mask, in it."""
    size = len(source[0])
    if kind == "enlarged":
        side = round(size / rng.uniform(1.02, 1.3))
        row, column = rng.integers(0, size - side + 1, 2)
        crop = [part[row : row + side, column : column + side] for part in source]
        picture = Image.fromarray(crop[0]).resize((size, size), Image.Resampling.BICUBIC)
        mask = Image.fromarray(crop[1]).resize((size, size), Image.Resampling.NEAREST)
        return np.asarray(picture), np.asarray(mask)
    height, width, a, b, c, d = size, size, 0, 0, 0, 0
    if kind == "half":
        upright, second = rng.integers(0, 2, 2)
        height, width = (size, size // 2) if upright else (size // 2, size)
        a = c = (size - height) * int(second)
        b = d = (size - width) * int(second)
    elif kind == "quarter":
        height = width = size // 2
        a, b, c, d = map(int, rng.integers(0, size - height + 1, 4))
    elif kind.startswith("shift"):
        by = int(kind.split()[1])
        upright, back_way = rng.integers(0, 2, 2)
        height, width = (size - by, size) if upright else (size, size - by)
        a, b = (by, 0) if upright else (0, by)
        if back_way:
            a, b, c, d = c, d, a, b
    planted = tuple(part.copy() for part in back)
    for part, piece in zip(planted, source, strict=True):
        part[c : c + height, d : d + width] = piece[a : a + height, b : b + width]
    return planted[0], planted[1]


def change(tile: Tile, how: tuple[str, ...], quality: int, rng: np.random.Generator) -> Tile:
    picture, mask = tile
    if TURNED in how:
        turn = rng.integers(8)
        picture = symmetries(picture)[turn]
        mask = symmetries(np.repeat(mask[..., None], 3, axis=2))[turn][..., 0]
    if BRIGHT in how:
        levels = picture * rng.uniform(0.85, 1.15) + rng.uniform(-15, 15)
        picture = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    if COMPRESSED in how:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
        picture = np.asarray(Image.open(file).convert("RGB"))
    return np.ascontiguousarray(picture), np.ascontiguousarray(mask)


class Gallery:
    """Train tiles that copies are looked for in."""

    def __init__(self, tiles: list[Tile]) -> None:
        started = time.process_time()
        self.frames = [frame_of(*tile) for tile in tiles]
        self.patches = [patches_of(frame) for frame in self.frames]
        self.seconds = time.process_time() - started
        self.grain = np.array([np.std(frame - blurred(frame, 2.0)) for frame in self.frames])
        """Standard deviation of the finest detail of each, levels."""

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.frames), BLOCK):
            part = slice(start, start + BLOCK)
            names = [str(i) for i in range(len(self.frames))[part]]
            yield Block(names, self.frames[part], self.patches[part])

    def search(self, tiles: list[Tile], alike: float, least: float) -> tuple[I64, F64]:
        """Numbers of the train tiles that tiles copy, -1 for none, and the strengths."""
        frames = [frame_of(*tile) for tile in tiles]
        copies = find_copies(frames, self.blocks(), alike=alike, least=least)
        named = [-1 if copy is None else int(copy[0]) for copy in copies]
        return np.array(named), np.array([copy[1].strength if copy else 0.0 for copy in copies])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="a tar of pictures, or a project")
    parser.add_argument("--train", type=int, default=2000, help="train tiles")
    parser.add_argument("--copies", type=int, default=100, help="planted of each kind and change")
    parser.add_argument("--held-out", type=int, default=1000, help="tiles without a copy")
    parser.add_argument("--quality", type=int, default=75, help="of JPEG")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--alike", type=float, default=ALIKE, help="in place of ALIKE")
    parser.add_argument("--choose", action="store_true", help="show thresholds for COPIED")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    if given.data.is_dir():
        train, held_out = read_project(given.data)
        held_out = [held_out[i] for i in rng.permutation(len(held_out))]
    else:
        most = given.train + max(given.held_out, 1000)
        tiles = read_tar(given.data, int(not given.choose), most, rng)
        train, held_out = tiles[: given.train], tiles[given.train :]
    gallery = Gallery(train[: given.train])
    least = 0.0 if given.choose else COPIED
    started = time.process_time()
    named, strengths = gallery.search(held_out[: given.held_out], given.alike, least)
    seconds = time.process_time() - started
    n, accused = len(named), int((named >= 0).sum())
    interval = binomtest(accused, max(1, n)).proportion_ci(method="wilson")
    figures = {
        "train": len(gallery.frames),
        "held_out": n,
        "accused": accused,
        "share_accused": round(accused / max(1, n), 4),
        "interval": [round(float(edge), 4) for edge in interval],
        "described_ms_per_tile": round(1e3 * gallery.seconds / max(1, len(gallery.frames)), 2),
        "searched_ms_per_tile": round(1e3 * seconds / max(1, n), 1),
    }
    print(json.dumps(figures), flush=True)
    thresholds = [COPIED]
    if given.choose:
        thresholds = [float(np.quantile(strengths, 1 - share)) for share in (0.02, 0.01, 0.005)]
    for kind in given.kinds.split(",") if given.copies else ():
        for how in CHANGES:
            sources = rng.integers(len(gallery.frames), size=given.copies)
            backs = rng.integers(len(held_out), size=given.copies)
            planted = [
                change(plant(kind, train[i], held_out[k], rng), how, given.quality, rng)
                for i, k in zip(sources, backs, strict=True)
            ]
            named, strengths = gallery.search(planted, given.alike, least)
            textured = gallery.grain[sources] >= 1
            for threshold in thresholds:
                marked = (named >= 0) & (strengths >= threshold)
                right = marked & (named == sources)
                recall = {
                    "copy": kind,
                    "changed": "+".join(how) or "not",
                    "copied": round(threshold, 4),
                    "marked": round(float(marked.mean()), 3),
                    "recall": round(float(right.mean()), 3),
                    "textured": round(float(right[textured].mean()), 3) if textured.any() else None,
                }
                print(json.dumps(recall), flush=True)


if __name__ == "__main__":
    main()
