"""Textures of each class with random phases: tiles without a network, and what one must beat.

After Galerne, Gousseau & Morel (2011), "Random Phase Textures: Theory and Synthesis": white noise,
convolved with a spot that has the spectrum of a piece of a real tile, looks like that piece where
it has no structure larger than its grain. Roads, rivers and field borders have one; they come out
as far as the layout draws them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from scipy import fft, ndimage

from builder.core.errors import ArasError
from builder.core.files import atomic
from builder.core.progress import bar
from builder.core.seeds import generator as rng_of
from builder.land.classes import CLASSES
from builder.models.data import Tiles

WEIGHTS = "textures.safetensors"
SIDE = 32
"""Pixels per side of a spot: structure up to this size is kept."""
PIECES = 64
"""Most pieces of train tiles that are kept of each class, each of another place."""
PURE, ENOUGH = 0.95, 8
"""Where `ENOUGH` pieces have this share of their class, no piece with less is kept: a border of
classes looks like grain."""
TAPER = 4
"""Pixels over which a piece fades at a border of its class."""
SCANNED = 4_000
"""Train tiles, drawn at random, that pieces are looked for in; more while a class has none."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Piece = tuple[int, int, int, int]
"""Of a square of `SIDE` pixels: pixels of its class, y, x, and the number of its tile."""


@dataclass(frozen=True)
class Textures:
    """``spots`` (n, SIDE, SIDE, 3) in levels of 0…255 and ``colours`` (n, 3), the means, of n
    pieces of train tiles; ``owners`` (n,) are their classes. A spot has the piece's spectrum and
    the relations of its channels, and not its phases: nothing of its picture can be seen in it.
    """

    spots: Floats
    colours: Floats
    owners: npt.NDArray[np.int64]

    def draw(self, layouts: Pixels, seeds: Sequence[int]) -> Pixels:
        """Draw one tile per layout: (n, H, W) ids and n seeds → (n, H, W, 3) uint8.

        Of each class a tile takes the colour and grain of one piece, by its seed. Raises ArasError
        for a layout of a class that no train tile has.
        """
        return np.stack([self._tile(*pair) for pair in zip(layouts, seeds, strict=True)])

    def _tile(self, layout: Pixels, seed: int) -> Pixels:
        rng = np.random.default_rng(seed)
        tile = np.zeros((*layout.shape, 3), dtype=np.float32)
        for class_id in np.unique(layout):
            refuse_unknown(class_id, self.owners)
            piece = rng.choice(np.flatnonzero(self.owners == class_id))
            noise = rng.standard_normal(layout.shape, dtype=np.float32)
            texture = self.colours[piece] + _grain(noise, self.spots[piece])
            tile += texture * soft_edge(layout == class_id)[..., None]
        return tile.round().clip(0, 255).astype(np.uint8)

    @property
    def parts(self) -> str:
        """What they are made of, in words."""
        return f"{len(self.owners)} pieces of train tiles"

    def save(self, folder: Path) -> None:
        arrays = {"spots": self.spots, "colours": self.colours, "owners": self.owners}
        with atomic(folder / WEIGHTS) as temporary:
            temporary.write_bytes(safetensors.numpy.save(arrays))

    @classmethod
    def read(cls, folder: Path) -> "Textures":
        arrays = safetensors.numpy.load((folder / WEIGHTS).read_bytes())
        return cls(arrays["spots"], arrays["colours"], arrays["owners"])


def fit(tiles: Tiles, seed: int, classes: int = len(CLASSES)) -> Textures:
    """The spectrum of pieces of train tiles, a tile's purest of each class, up to `PIECES` of a
    class, and the colour of the class in that tile. Every class that a train tile has gets one:
    layouts are made of these tiles, and may have a class of a single pixel."""
    spots, colours, owners = [], [], []
    for class_id, places in enumerate(pieces_of(tiles, seed, classes)):
        for _, y, x, number in purest(places, PIECES):
            tile = np.asarray(tiles.pixels[number])
            piece = tile[y : y + SIDE, x : x + SIDE]
            spots.append(_spot(piece[..., :3].astype(np.float32), piece[..., 3] == class_id))
            colours.append(tile[tile[..., 3] == class_id, :3].mean(axis=0, dtype=np.float32))
            owners.append(class_id)
    return Textures(np.stack(spots), np.stack(colours), np.array(owners, dtype=np.int64))


def pieces_of(tiles: Tiles, seed: int, classes: int) -> list[list[Piece]]:
    """Of each class, a piece of each of the train tiles that have it, in an order by ``seed``."""
    order = rng_of(seed, "texture").permutation(len(tiles))
    pieces: list[list[Piece]] = [[] for _ in range(classes)]
    with bar("fit textures", len(order), "tiles") as advance:
        for looked, number in enumerate(order):
            if looked >= SCANNED and all(pieces):
                break
            for class_id, place in _places(np.asarray(tiles.pixels[number, ..., 3]), classes):
                pieces[class_id].append((*place, int(number)))
            advance(1)
    return pieces


def purest(pieces: list[Piece], most: int) -> list[Piece]:
    """Up to ``most`` of a class's pieces, the purest first; without those that hold much of other
    classes where `ENOUGH` hold little."""
    ordered = sorted(pieces, key=lambda piece: -piece[0])[:most]
    pure = [piece for piece in ordered if piece[0] >= PURE * SIDE**2]
    return pure if len(pure) >= ENOUGH else ordered[:ENOUGH]


def refuse_unknown(class_id: int, owners: npt.NDArray[np.int64]) -> None:
    """Raises ArasError for a class of a layout that no train tile has."""
    if class_id not in owners:
        raise ArasError(
            f"a layout holds class {class_id}, which no train tile has; train the generator on "
            "tiles that have it"
        )


def _places(mask: Pixels, classes: int) -> list[tuple[int, tuple[int, int, int]]]:
    """(class, (its pixels, y, x)) of the piece of a tile with most pixels of each class."""
    step = SIDE // 4
    places = []
    for class_id in np.flatnonzero(np.bincount(mask.ravel(), minlength=classes)):
        sums = np.pad((mask == class_id).astype(np.int32), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        last = [max(0, side - SIDE) for side in mask.shape]
        starts = [np.append(np.arange(0, end, step), end) for end in last]
        y, x = (grid.ravel() for grid in np.meshgrid(*starts, indexing="ij"))
        bottom, right = np.minimum(y + SIDE, mask.shape[0]), np.minimum(x + SIDE, mask.shape[1])
        inside = sums[bottom, right] - sums[y, right] - sums[bottom, x] + sums[y, x]
        best = int(inside.argmax())
        places.append((int(class_id), (int(inside[best]), int(y[best]), int(x[best]))))
    return places


def _spot(piece: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
    """The spot of the pixels ``inside`` a piece (H, W, 3)."""
    colour, spread = piece[inside].mean(axis=0), piece[inside].std(axis=0)
    depth = ndimage.distance_transform_edt(np.pad(inside, TAPER, mode="edge"))
    seen = np.minimum(depth[TAPER:-TAPER, TAPER:-TAPER] / TAPER, 1)
    waves = fft.fft2(
        (piece - colour) * _fade(*inside.shape) * seen[..., None], s=(SIDE, SIDE), axes=(0, 1)
    )
    common = waves.sum(axis=2, keepdims=True)
    waves *= np.conj(common) / np.maximum(np.abs(common), 1e-12)  # phases go, relations stay
    spot = fft.fftshift(fft.ifft2(waves, axes=(0, 1)).real, axes=(0, 1)) * _fade(SIDE, SIDE)
    power = np.sqrt((spot**2).sum(axis=(0, 1)))
    return np.asarray(spot * (spread / np.maximum(power, 1e-12)), dtype=np.float32)


def _fade(height: int, width: int) -> Floats:
    """A window that falls to nothing at its borders, (H, W, 1)."""
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    return np.asarray(window[..., None], dtype=np.float32)


def _grain(noise: Floats, spot: Floats) -> Floats:
    """White noise (H, W), convolved with a spot around each pixel, on a torus: (H, W, 3)."""
    shape = tuple(max(side, SIDE) for side in noise.shape)
    padded = np.zeros((*shape, 3), dtype=np.float32)
    padded[:SIDE, :SIDE] = spot
    padded = np.roll(padded, (-(SIDE // 2), -(SIDE // 2)), axis=(0, 1))
    wide = np.pad(noise, [(0, a - b) for a, b in zip(shape, noise.shape, strict=True)], mode="wrap")
    waves = fft.rfft2(wide)[..., None] * fft.rfft2(padded, axes=(0, 1))
    grain = fft.irfft2(waves, s=shape, axes=(0, 1))
    return np.asarray(grain[: noise.shape[0], : noise.shape[1]], dtype=np.float32)


def soft_edge(inside: npt.NDArray[np.bool_]) -> Floats:
    """Weights of a class, (H, W), that fade over a pixel at its borders as a sensor blurs them."""
    padded = np.pad(inside.astype(np.float32), 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4, dtype=np.float32)
