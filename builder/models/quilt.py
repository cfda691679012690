"""Quilts of train tiles: patches sewn together through the layout, a yardstick that copies.

After Efros & Freeman (2001), "Image Quilting for Texture Synthesis and Transfer": patches overlap,
and each pair is cut where it differs least. Nothing is learnt and every pixel is a train tile's, so
the tiles are as real as patches can be; a generator is worth its training as far as it comes near
them without copying.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from scipy import ndimage

from builder.core.files import atomic
from builder.land.classes import CLASSES
from builder.models.data import Tiles
from builder.models.texture import SIDE, pieces_of, purest, refuse_unknown, soft_edge

WEIGHTS = "quilt.safetensors"
OVERLAP = 8
"""Pixels by which neighbouring patches overlap, and within which the seam between them runs."""
PATCHES = 128
"""Most patches of train tiles that are kept of each class, each of another tile."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Quilt:
    """``patches`` (n, SIDE, SIDE, 3) uint8 of train tiles; ``owners`` (n,) are their classes."""

    patches: Pixels
    owners: npt.NDArray[np.int64]

    def draw(self, layouts: Pixels, seeds: Sequence[int]) -> Pixels:
        """Draw one tile per layout: (n, H, W) ids and n seeds → (n, H, W, 3) uint8.

        Raises ArasError for a layout of a class that no train tile has.
        """
        return np.stack([self._tile(*pair) for pair in zip(layouts, seeds, strict=True)])

    def _tile(self, layout: Pixels, seed: int) -> Pixels:
        rng = np.random.default_rng(seed)
        tile = np.zeros((*layout.shape, 3), dtype=np.float32)
        for class_id in np.unique(layout):
            inside = layout == class_id
            refuse_unknown(class_id, self.owners)
            patches = self.patches[self.owners == class_id]
            [(rows, columns)] = ndimage.find_objects(inside.astype(np.uint8))
            sewn = np.zeros_like(tile)
            sewn[rows, columns] = _sew(patches, inside[rows, columns], rng)
            # Beyond its borders a class is what it is at them, for there classes blend.
            y, x = np.indices(inside.shape)
            nearest = (
                y.clip(rows.start, rows.stop - 1),
                x.clip(columns.start, columns.stop - 1),
            )
            tile += sewn[nearest] * soft_edge(inside)[..., None]
        return tile.round().clip(0, 255).astype(np.uint8)

    def save(self, folder: Path) -> None:
        arrays = {"patches": self.patches, "owners": self.owners}
        with atomic(folder / WEIGHTS) as temporary:
            temporary.write_bytes(safetensors.numpy.save(arrays))

    @classmethod
    def read(cls, folder: Path) -> "Quilt":
        arrays = safetensors.numpy.load((folder / WEIGHTS).read_bytes())
        return cls(arrays["patches"], arrays["owners"])

    @property
    def parts(self) -> str:
        """What it is made of, in words."""
        return f"{len(self.owners)} patches of train tiles"


def fit(tiles: Tiles, seed: int, classes: int = len(CLASSES)) -> Quilt:
    """Patches of train tiles, a tile's purest of each class, up to `PATCHES` of a class. Pixels of
    other classes in a patch take the place of the class's nearest pixel."""
    patches, owners = [], []
    for class_id, places in enumerate(pieces_of(tiles, seed, classes)):
        for _, y, x, number in purest(places, PATCHES):
            piece = np.asarray(tiles.pixels[number, y : y + SIDE, x : x + SIDE])
            wide = [(0, SIDE - side) for side in piece.shape[:2]]
            piece = np.pad(piece, [*wide, (0, 0)], mode="symmetric")
            other = piece[..., 3] != class_id
            nearest = ndimage.distance_transform_edt(
                other, return_distances=False, return_indices=True
            )
            patches.append(piece[..., :3][tuple(nearest)])
            owners.append(class_id)
    return Quilt(np.stack(patches), np.array(owners, dtype=np.int64))


def _sew(patches: Pixels, inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """A canvas (H, W, 3) of patches; places where no pixel is ``inside`` stay black.

    Patches are drawn at random: the paper's choice of those that fit their neighbours best brings
    flat ones to the fore (sharpness .49 of real, instead of 1.0, with the best of 12).
    """
    height, width = inside.shape
    step = SIDE - OVERLAP
    canvas = np.zeros((height + SIDE, width + SIDE, 3), dtype=np.float32)
    sewn = np.zeros(canvas.shape[:2], dtype=bool)
    for y in range(0, height, step):
        for x in range(0, width, step):
            if not inside[y : y + SIDE, x : x + SIDE].any():
                continue
            there = canvas[y : y + SIDE, x : x + SIDE]
            known = sewn[y : y + SIDE, x : x + SIDE]
            patch = _turned(patches[rng.integers(len(patches))], rng)
            new = _cut(((there - patch) ** 2).sum(axis=2), known)
            there[new], known[:] = patch[new], True
    return canvas[:height, :width]


def _turned(patch: Pixels, rng: np.random.Generator) -> Floats:
    """A patch in one of its eight turns and flips."""
    turned = np.rot90(patch, int(rng.integers(4)))
    return (turned[:, ::-1] if rng.integers(2) else turned).astype(np.float32)


def _cut(difference: Floats, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which pixels of a place come from the new patch: (SIDE, SIDE) bool. Along the overlap with
    the left and the upper neighbour the seam is the path of least ``difference``."""
    new = np.ones_like(known)
    if known[:, :OVERLAP].all():
        new &= np.arange(SIDE) >= _seam(difference[:, :OVERLAP])[:, None]
    if known[:OVERLAP].all():
        new &= np.arange(SIDE)[:, None] >= _seam(difference[:OVERLAP].T)[None, :]
    return new | ~known


def _seam(cost: Floats) -> npt.NDArray[np.int64]:
    """Of each row of ``cost`` (n, width) the column where the path of least cost runs, (n,)."""
    total = cost.astype(np.float64)
    for row in range(1, len(total)):
        before = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(before[:-2], before[1:-1]), before[2:])
    path = np.empty(len(total), dtype=np.int64)
    path[-1] = int(total[-1].argmin())
    for row in range(len(total) - 2, -1, -1):
        low = max(0, path[row + 1] - 1)
        path[row] = low + int(total[row, low : path[row + 1] + 2].argmin())
    return path
