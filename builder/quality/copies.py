"""Stages: which synthetic tiles copy a train tile, whole or in parts, and which piece of it.

`find_copies` takes the places that `patches` proposes and compares detail there, pixel by pixel.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.store import Store
from builder.land.columns import COPIED_FROM, SPLITS
from builder.land.pictures import decode_mask, decode_png, image_bytes
from builder.quality.patches import (
    CENTRE,
    F32,
    PROPOSED,
    SCALES,
    SIDE,
    Index,
    Patches,
    Proposal,
    blurred,
    frame_of,
    joined,
    patches_of,
    propose,
    shrunk,
    turn_matrices,
)
from builder.steps.stage import Maker, Output, Scan, Stage, each

TRAIN = SPLITS.index("train")
_QUARTERS = ("rot90", "rot180", "rot270")
TURNS = ("identity", *_QUARTERS, "flip-lr", *(f"flip-lr+{quarter}" for quarter in _QUARTERS))
"""Names of the turns of a square, as ``gen_transform`` spells them."""
PATCHES = ("frame", "patch_codes", "patch_places", "patch_turns")
"""Working columns of the tiles that copies are looked for in."""
BLOCK = 2048
"""Train tiles that are searched at once: 30 MB of frames and patches."""

WINDOW = 7
"""Pixels per side in which detail is correlated."""
ALIKE = 0.6
"""A correlation above this speaks for a copy, below it against."""
SIZES = (25, 34, 42, 52, 60)
"""Sides, in pixels, of the rectangles that a copy is looked for in."""
COPIED = 0.008
"""A copy where the correlations above `ALIKE`, summed over the best rectangle, reach this share of
the tile: a quarter of it that correlates by .632. Chosen on EuroSAT, of which 2 of 400 held-out
tiles reached it (`scripts/measure_copies.py` measures others)."""
APART, AWAY = 3, 12
"""Ploughed fields repeat themselves, and one is like another in many places; a copy agrees better
where it lies than anywhere more than `APART` and at most `AWAY` pixels off."""


@dataclass(frozen=True)
class Copy:
    """A rectangle of the own frame and the one of the train tile's frame it was copied from: row,
    column, height and width in pixels of 64; ``turn`` (see `turn_matrices`) and ``scale`` make the
    own of the other. ``share`` is how much of the own tile it covers, ``strength`` the sum that
    `COPIED` bounds."""

    own: tuple[float, float, float, float]
    other: tuple[float, float, float, float]
    turn: int
    scale: float
    share: float
    strength: float


def verify(
    own: F32, other: F32, proposal: Proposal, *, alike: float = ALIKE, least: float = COPIED
) -> Copy | None:
    """The copy of a piece of the frame ``other`` in ``own`` near ``proposal``, of strength
    ``least`` or more; None for no copy."""
    from scipy import fft, ndimage

    theirs = _fine(other)
    wide = fft.rfft2(theirs, (2 * SIDE, 2 * SIDE))
    best: tuple[float, float, F32, int, int] | None = None
    rest = (0.0, 0.0)
    steps = (1.0,) if not proposal.scale else (0.955, 0.977, 1.0, 1.022, 1.045)
    for step in steps:
        scale = SCALES[proposal.scale] * step
        view = _turn(shrunk(own, scale), proposal.turn)
        fine = _fine(view)
        together = fft.irfft2(wide * np.conj(fft.rfft2(fine, (2 * SIDE, 2 * SIDE))))
        top, left = (
            round(CENTRE + place - (len(view) - 1) / 2) for place in (proposal.row, proposal.column)
        )
        near = range(-2, 3)
        window = together[np.ix_([(top + i) % 128 for i in near], [(left + j) % 128 for j in near])]
        i, j = np.unravel_index(window.argmax(), window.shape)
        value = float(window.max()) * scale**2
        if best is None or value > best[0]:
            top, left = top + int(i) - 2, left + int(j) - 2
            best = (value, scale, view, top, left)
            # Tiles of more than 64 pixels may lie half a pixel of the frame off: on which side?
            above, below, before, after = (
                together[(top + y) % 128, (left + x) % 128]
                for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))
            )
            rest = (0.5 if below > above else -0.5, 0.5 if after > before else -0.5)
    assert best is not None
    _, scale, view, top, left = best
    inside = np.zeros(theirs.shape, bool)
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(SIDE, top + len(view)), min(SIDE, left + len(view))
    if min(y1 - y0, x1 - x0) < SIZES[0] / scale - 4:
        return None
    inside[y0:y1, x0:x1] = True

    def placed(shift: tuple[float, float]) -> F32:
        moved = ndimage.shift(view, shift, order=3, mode="nearest") if any(shift) else view
        ours = np.zeros_like(theirs)
        ours[y0:y1, x0:x1] = _fine(moved)[y0 - top : y1 - top, x0 - left : x1 - left]
        return ours

    shifts = ((0.0, 0.0), (rest[0], 0.0), (0.0, rest[1]), rest)
    ours = max(map(placed, shifts), key=lambda o: (o * theirs).sum() / np.sqrt((o**2).sum() + 1))

    def mean(values: F32) -> F32:
        return np.asarray(ndimage.uniform_filter(values, WINDOW, mode="constant"), np.float32)

    agreed = mean(ours * theirs) / np.sqrt(mean(ours**2) * mean(theirs**2) + 1e-2)
    sums = np.pad(np.where(inside, agreed - alike, -1.0), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    strength, box = max(_rectangles(sums, scale))
    strength *= scale**2 / SIDE**2
    row, column, height, width = box
    part = np.s_[row : row + height, column : column + width]
    if strength < least or not _agrees_best_here(ours[part], theirs[part]):
        return None
    back = turn_matrices()[proposal.turn].T
    corners = np.array([(row, column), (row + height, column + width)], float)
    middle = (corners.mean(axis=0) - 0.5 - (top, left)) - (len(view) - 1) / 2
    centre = back @ middle * scale + SIDE / 2
    sides = np.abs(back @ np.array([height, width])) * scale
    low, high = np.clip(centre - sides / 2, 0, SIDE), np.clip(centre + sides / 2, 0, SIDE)
    own_box = (*low, *(high - low))
    return Copy(
        own=tuple(map(float, own_box)),  # type: ignore[arg-type]
        other=(float(row), float(column), float(height), float(width)),
        turn=_inverse()[proposal.turn],
        scale=float(scale),
        share=float(np.prod(high - low)) / SIDE**2,
        strength=float(strength),
    )


def _rectangles(
    sums: npt.NDArray[np.float64], scale: float
) -> Iterator[tuple[float, tuple[int, int, int, int]]]:
    """(sum, (row, column, height, width)) of the best rectangle of each size, by corner sums."""
    sizes = [round(size / scale) for size in SIZES]
    for height in sizes:
        for width in sizes:
            total = sums[height:, width:] - sums[:-height, width:]
            total = total - sums[height:, :-width] + sums[:-height, :-width]
            row, column = np.unravel_index(total.argmax(), total.shape)
            yield float(total.max()), (int(row), int(column), height, width)


def _agrees_best_here(ours: F32, theirs: F32) -> bool:
    """Whether two pieces correlate better as they lie than moved against each other."""
    from scipy import fft

    height, width = ours.shape
    spectra = [fft.rfft2(piece, (2 * height, 2 * width)) for piece in (ours, theirs)]
    sums = fft.irfft2(spectra[0] * np.conj(spectra[1]), (2 * height, 2 * width))
    moves = np.arange(-AWAY, AWAY + 1)
    shared = np.outer(height - np.abs(moves), width - np.abs(moves))
    means = sums[np.ix_(moves % (2 * height), moves % (2 * width))] / shared
    far = np.maximum.outer(np.abs(moves), np.abs(moves)) > APART
    return bool(means[AWAY, AWAY] > means[far].max())


def _fine(frame: F32) -> F32:
    """The finest detail, of variance near 1 everywhere: an edge weighs no more than grain."""
    detail = blurred(frame, 0.6) - blurred(frame, 2.0)
    return np.asarray(detail / np.sqrt(blurred(detail**2, 2.0) + 0.3**2), np.float32)


def _turn(frame: F32, turn: int) -> F32:
    flip, quarters = divmod(turn, 4)
    return np.ascontiguousarray(np.rot90(frame[:, ::-1] if flip else frame, quarters))


@cache
def _inverse() -> tuple[int, ...]:
    matrices = turn_matrices()
    return tuple(
        next(k for k in range(8) if (matrices[k] == matrix.T).all()) for matrix in matrices
    )


@dataclass(frozen=True)
class Block:
    """Tiles that copies are looked for in: ids, frames and patches of each."""

    ids: Sequence[str]
    frames: Sequence[F32]
    patches: Sequence[Patches]


def find_copies(
    frames: Sequence[F32],
    blocks: Iterable[Block],
    suspects: Sequence[str | None] = (),
    *,
    alike: float = ALIKE,
    least: float = COPIED,
) -> list[tuple[str, Copy] | None]:
    """For each frame the id of the tile that a piece of it is copied from, and the copy; None where
    none is. ``blocks`` are gone through once, so memory is that of the largest. ``suspects`` are
    ids of tiles that frames are compared with in any case, as a whole and in every turn.
    ``alike`` and ``least`` stand for `ALIKE` and `COPIED` where these are chosen."""
    queries = [patches_of(frame, query=True) for frame in frames]
    places: list[list[tuple[Proposal, str, F32]]] = [[] for _ in frames]
    named: list[list[tuple[Proposal, str, F32]]] = [[] for _ in frames]
    for block in blocks:
        owners = np.repeat(np.arange(len(block.ids)), [len(p.codes) for p in block.patches])
        index = Index.of(joined(block.patches), owners)
        for kept, proposals in zip(places, propose(index, queries), strict=True):
            kept += [(p, block.ids[p.tile], block.frames[p.tile]) for p in proposals]
            kept.sort(key=lambda place: -place[0].votes)
            del kept[PROPOSED:]
        numbers = {name: number for number, name in enumerate(block.ids)}
        for i, name in enumerate(suspects):
            if name is not None and (number := numbers.get(name)) is not None:
                whole = (Proposal(0.0, number, turn, 0, 0.0, 0.0) for turn in range(8))
                named[i] += [(proposal, name, block.frames[number]) for proposal in whole]
    return [
        _strongest(frame, [*more, *kept], alike, least)
        for frame, more, kept in zip(frames, named, places, strict=True)
    ]


def _strongest(
    frame: F32, places: Sequence[tuple[Proposal, str, F32]], alike: float, least: float
) -> tuple[str, Copy] | None:
    copies = [
        (name, verify(frame, other, proposal, alike=alike, least=least))
        for proposal, name, other in places
    ]
    known = [(name, copy) for name, copy in copies if copy is not None]
    return max(known, key=lambda pair: pair[1].strength, default=None)


@dataclass(frozen=True)
class Frames(Stage):
    """``frame`` of every synthetic and every real train row, (64, 64) float32 as bytes, and the
    patches of the train rows: codes, places (row and column in turn) and turns; null otherwise."""

    kind: str = "synthetic"

    adds = PATCHES

    @property
    def name(self) -> str:
        return f"frames-{self.kind}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "image", "mask", *(["split"] if self.kind == "real" else []))

    def open(self, store: Store, survey: Any) -> Maker:
        def make(table: pa.Table) -> Output:
            ids = table.column("id").to_pylist()
            images, masks = (image_bytes(table.column(name)) for name in ("image", "mask"))
            asked: list[int] | None = None
            if self.kind == "real":
                splits = table.column("split").to_pylist()
                asked = [i for i, split in enumerate(splits) if split == TRAIN]

            def look(i: int, name: str) -> tuple[bytes, Patches | None]:
                frame = frame_of(decode_png(images[i], name), decode_mask(masks[i], name))
                return frame.tobytes(), patches_of(frame) if self.kind == "real" else None

            looks, failed = each(ids, look, asked)
            rows = [looks.get(i, (None, None)) for i in range(len(ids))]
            patches = [patches for _, patches in rows]
            columns = {
                "frame": pa.array([frame for frame, _ in rows], pa.binary()),
                "patch_codes": pa.array([p and p.codes for p in patches], pa.list_(pa.uint64())),
                "patch_places": pa.array(
                    [p and p.places.ravel() for p in patches], pa.list_(pa.float32())
                ),
                "patch_turns": pa.array([p and p.turns for p in patches], pa.list_(pa.uint8())),
            }
            return Output(pa.table(columns), failed=failed)

        return make


@dataclass(frozen=True)
class Copies(Stage):
    """``copy`` and ``copied_from``: the piece of a train tile that a synthetic tile repeats pixel
    by pixel, of at least about a quarter of it, moved, turned, enlarged by up to 1.3 or changed in
    brightness. Train tiles go through memory in blocks, once per shard.

    Every tile of a ``quilt``, which is sewn of train tiles, is a copy, of many small pieces.
    """

    quilt: bool = False

    kinds = ("synthetic",)
    needs = ("id", "image", "frame", "nearest_real_id", "suspected")
    surveys = ("id", "split", *PATCHES)
    surveyed = ("real",)
    adds = ("copy", "copied_from")

    def survey(self, scan: Scan) -> list[str]:
        """Shards with train tiles."""
        tables = ((shard, table.column("split").to_pylist()) for shard, table in scan(("split",)))
        return [shard for shard, splits in tables if TRAIN in splits]

    def open(self, store: Store, survey: list[str]) -> Maker:
        def make(table: pa.Table) -> Output:
            frames = [_frame(data) for data in table.column("frame").to_pylist()]
            images = image_bytes(table.column("image"))
            nearest, suspected = (
                table.column(name).to_pylist() for name in ("nearest_real_id", "suspected")
            )
            suspects = [
                name if is_suspected else None
                for name, is_suspected in zip(nearest, suspected, strict=True)
            ]
            copies = find_copies(frames, _blocks(store, survey), suspects)
            rows = [
                pair and _row(pair[0], pair[1], len(decode_png(images[i])))
                for i, pair in enumerate(copies)
            ]
            marked = [self.quilt or row is not None for row in rows]
            columns = {"copy": pa.array(marked), "copied_from": pa.array(rows, COPIED_FROM)}
            return Output(pa.table(columns), {"copies": sum(marked)})

        return make


def _blocks(store: Store, shards: Sequence[str]) -> Iterator[Block]:
    """The train tiles of ``shards``, some `BLOCK` at once."""
    block = Block([], [], [])
    for shard in shards:
        table = store.read(shard, ("id", *PATCHES))
        table = table.filter(table.column("frame").is_valid())
        names = ("patch_codes", "patch_places", "patch_turns")
        parts = zip(*(table.column(name) for name in names), strict=True)
        ids = [*block.ids, *table.column("id").to_pylist()]
        frames = [*block.frames, *map(_frame, table.column("frame").to_pylist())]
        block = Block(ids, frames, [*block.patches, *(_patches_in(*part) for part in parts)])
        if len(block.ids) >= BLOCK:
            yield block
            block = Block([], [], [])
    if block.ids:
        yield block


def _frame(data: bytes) -> F32:
    return np.frombuffer(data, np.float32).reshape(SIDE, SIDE)


def _patches_in(codes: pa.Scalar, places: pa.Scalar, turns: pa.Scalar) -> Patches:
    n = len(codes.values)
    return Patches(
        codes.values.to_numpy(),
        places.values.to_numpy().reshape(n, 2),
        turns.values.to_numpy().astype(np.int64),
        np.zeros(n, np.int64),
        np.empty((n, 0), np.float32),
    )


def _row(name: str, copy: Copy, size: int) -> dict[str, Any]:
    """A value of ``copied_from``, in pixels of tiles of side ``size``."""
    sides = ("row", "column", "height", "width")
    pixels = size / SIDE
    return {
        "id": name,
        **{side: round(value * pixels) for side, value in zip(sides, copy.other, strict=True)},
        **{f"own_{k}": round(v * pixels) for k, v in zip(sides, copy.own, strict=True)},
        "turn": TURNS[copy.turn],
        "scale": copy.scale,
        "share": copy.share,
    }
