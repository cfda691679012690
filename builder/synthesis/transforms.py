"""Layout transforms: turns, crops and recombinations that make the repeats of a mask differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.seeds import generator
from builder.land.classes import CLASSES

Mask = npt.NDArray[np.uint8]

SIZE = 256
"""Side of a tile in pixels."""

_TURNS = ("", "rot90", "rot180", "rot270")
_NOTHING = 255
"""In place of a class id; above all of them."""
_WAYS = "identity, crop:ROW,COLUMN, recombine:ID:CLASS,…, flip-lr, rot90, rot180, rot270"


@dataclass(frozen=True)
class Transform:
    """Changes to a layout, in this order: crop, recombine, flip left-right, quarter turns.

    A synthetic row records ``str(transform)``, which ``parse`` reads back, e.g. ``identity``,
    ``flip-lr+rot90`` or ``crop:64,128+recombine:real/N36E028_005_025:Built-up+rot180``.
    Flip and turns permute pixels, so they leave the composition as it is; a crop or a
    recombination changes it, and the pixels must be counted again.
    """

    crop: tuple[int, int] | None = None
    """(row, column), pixels, of the window's upper-left corner in the 2 × 2 mosaic."""
    other: str | None = None
    """Id of the layout whose regions are pasted."""
    classes: tuple[str, ...] = ()
    """Names of the classes that are pasted from ``other``, in id order."""
    flip: bool = False
    turns: int = 0
    """Quarter turns counter-clockwise, 0…3 (as numpy.rot90)."""

    def __str__(self) -> str:
        steps = []
        if self.crop:
            steps.append(f"crop:{self.crop[0]},{self.crop[1]}")
        if self.other is not None:
            # Quoted, so that no id can hold the separators.
            steps.append(f"recombine:{quote(self.other, safe='/')}:{','.join(self.classes)}")
        if self.flip:
            steps.append("flip-lr")
        if self.turns:
            steps.append(_TURNS[self.turns])
        return "+".join(steps) or "identity"


DIHEDRAL = tuple(Transform(flip=flip, turns=turns) for flip in (False, True) for turns in range(4))
"""The eight symmetries of a square, identity first."""

MOST_REPEATS = len(DIHEDRAL)
"""Uses of a layout that can differ by turns and flips."""


def parse(text: str) -> Transform:
    """The transform that ``str`` wrote as ``text``; each has one spelling.

    Raises ArasError that quotes the text.
    """
    crop: tuple[int, int] | None = None
    other: str | None = None
    classes: tuple[str, ...] = ()
    flip, turns = False, 0
    for step in text.split("+"):
        name, _, rest = step.partition(":")
        if name == "crop":
            numbers = rest.split(",")
            if len(numbers) == 2 and all(n.isascii() and n.isdigit() for n in numbers):
                crop = (int(numbers[0]), int(numbers[1]))
        elif name == "recombine":
            quoted, _, names = rest.rpartition(":")
            other, classes = unquote(quoted), tuple(names.split(","))
        elif step == "flip-lr":
            flip = True
        elif step in _TURNS[1:]:
            turns = _TURNS.index(step)
    transform = Transform(crop, other, classes, flip, turns)
    # Writing it again catches unknown steps, wrong order and doubles in one comparison.
    if str(transform) != text or not _class_list(classes, wanted=other is not None) or other == "":
        raise ArasError(
            f"{text!r} is not a layout transform; expected {_WAYS}, in this order, joined by '+'"
        )
    return transform


def _class_list(names: Sequence[str], *, wanted: bool) -> bool:
    known = [name for name in CLASSES if name in names]
    return list(names) == known and bool(names) == wanted


def mosaic(tile: Mask, east: Mask, south: Mask, southeast: Mask) -> Mask:
    """(2s, 2s) neighbourhood of adjacent (s, s) tiles, from which crops are taken."""
    return np.block([[tile, east], [south, southeast]])


def apply(
    transform: Transform, mask: Mask, *, mosaic: Mask | None = None, other: Mask | None = None
) -> Mask:
    """The transformed layout, (s, s) uint8, C-contiguous; exact, nothing is interpolated.

    ``mosaic`` (2s, 2s), with ``mask`` as its upper-left quarter, is needed by a crop; ``other``
    (s, s), the mask of ``transform.other``, by a recombination: wherever ``other`` shows any of
    the named classes, along its boundaries there, it replaces what was below, single pixels that it
    cuts off from their patch included. The named classes so cover at least what they cover in
    ``other``, and no other class gains.

    Raises ArasError when a mosaic or mask is missing or does not fit.
    """
    size = len(mask)
    if transform.crop is not None:
        if mosaic is None or mosaic.shape != (2 * size, 2 * size):
            given = "none" if mosaic is None else f"{mosaic.shape}"
            raise ArasError(
                f"layout transform {transform} needs a mosaic of {2 * size} × {2 * size} pixels "
                f"(the tile and its east, south and southeast neighbours); got {given}"
            )
        if not np.array_equal(mosaic[:size, :size], mask):
            raise ArasError(
                f"layout transform {transform}: the mosaic's upper-left quarter is not the tile"
            )
        row, column = transform.crop
        if max(row, column) > size:
            raise ArasError(f"layout transform {transform}: offsets go from 0 to {size}")
        mask = mosaic[row : row + size, column : column + size]
    if transform.other is not None:
        if other is None or other.shape != mask.shape:
            given = "none" if other is None else f"{other.shape}"
            raise ArasError(
                f"layout transform {transform} needs the mask of {transform.other}, "
                f"{size} × {size} pixels; got {given}"
            )
        mask = _pasted(mask, other, [CLASSES.index(name) for name in transform.classes])
    if transform.flip:
        mask = np.fliplr(mask)
    return np.ascontiguousarray(np.rot90(mask, transform.turns))


def _pasted(mask: Mask, other: Mask, classes: Sequence[int]) -> Mask:
    """``mask`` under the regions of ``classes`` in ``other``.

    Real boundaries that cross leave single pixels of cut patches along the new boundary, which
    would make land look torn: each takes the pasted class beside it.
    """
    regions = np.where(np.isin(other, classes), other, _NOTHING)
    result = np.where(regions == _NOTHING, mask, regions)
    cut_off = _has_like_neighbour(mask) & ~_has_like_neighbour(result) & (regions == _NOTHING)
    return np.where(cut_off, _neighbours(regions).min(axis=0), result)


def _has_like_neighbour(mask: Mask) -> npt.NDArray[np.bool_]:
    like: npt.NDArray[np.bool_] = (_neighbours(mask) == mask).any(axis=0)
    return like


def _neighbours(mask: Mask) -> Mask:
    """(4, h, w) values above, below, left and right of each pixel; `_NOTHING` beyond the frame."""
    framed = np.pad(mask, 1, constant_values=_NOTHING)
    return np.stack([framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]])


def symmetries(mask: Mask) -> int:
    """How many of the eight turns and flips of ``mask`` look different: 1, 2, 4 or 8.

    Repeats of a layout differ up to this number: a mask of one class looks the same under all.
    """
    return len({_turned_bytes(turn, mask) for turn in DIHEDRAL})


def variants(
    seed: int,
    layout: str,
    *,
    crops: bool = False,
    donors: Sequence[tuple[str, str]] = (),
    size: int = SIZE,
) -> tuple[Transform, ...]:
    """A layout and its crops and recombinations: candidates for a balance plan.

    The layout itself comes first, then, in an order drawn from (seed, layout), crops a quarter
    tile apart (when ``crops``: the layout has a mosaic) and recombinations with each of
    ``donors``, pairs of another layout's id and a class name. Their compositions differ, so each
    is counted and planned for as a layout of its own.
    """
    changed = [Transform(crop=offset) for offset in _offsets(size)] if crops else []
    pairs = sorted({(other, name) for other, name in donors if other != layout})
    changed += [Transform(other=other, classes=(name,)) for other, name in pairs]
    order = generator(seed, layout, "variants").permutation(len(changed))
    return (Transform(), *(changed[i] for i in order))


def choose(
    seed: int, layout: str, repeat: int, mask: Mask, *, base: Transform | None = None
) -> Transform:
    """The transform for the ``repeat``-th use, 0…7, of ``base`` (one of the layout's `variants`).

    Repeat 0 is ``base`` as it is (the layout itself when None), 1…7 are its other turns and
    flips, in an order drawn from (seed, layout, base): first those under which ``mask``, what
    ``base`` makes of the layout, looks different, `symmetries` in all. No two are the same, none
    depends on how many repeats there are, and all have the composition that the plan counted on.

    Raises ArasError beyond the eighth use.
    """
    base = base or Transform()
    if not 0 <= repeat < MOST_REPEATS:
        raise ArasError(
            f"repeat {repeat} of layout {layout} ({base}) has no transform of its own; expected 0 "
            f"to {MOST_REPEATS - 1}: lower max_repeats to {MOST_REPEATS} and, where that is not "
            "enough, plan with crops or recombined layouts too"
        )
    if not repeat:
        return base
    order = generator(seed, layout, str(base)).permutation(MOST_REPEATS - 1)
    fresh: list[Transform] = []
    alike: list[Transform] = []
    seen: set[bytes] = set()
    for turn in (DIHEDRAL[0], *(DIHEDRAL[1 + i] for i in order)):
        pixels = _turned_bytes(turn, mask)
        (alike if pixels in seen else fresh).append(turn)
        seen.add(pixels)
    turn = [*fresh, *alike][repeat]
    return replace(base, flip=turn.flip, turns=turn.turns)


def _turned_bytes(turn: Transform, mask: Mask) -> bytes:
    return apply(turn, mask).tobytes()


def _offsets(size: int) -> list[tuple[int, int]]:
    """Crop offsets a quarter tile apart; the four that show a whole tile are left out."""
    steps = [size * quarter // 4 for quarter in range(5)]
    whole = (0, size)
    return [(r, c) for r in steps for c in steps if not (r in whole and c in whole)]
