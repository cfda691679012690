"""Whole stage: assign Earth-fixed blocks to train, validation and test, with a buffer between."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from builder.core.errors import ArasError
from builder.core.fields import Fraction, NotNegative, Section
from builder.core.manifest import SplitReport
from builder.core.progress import counted
from builder.core.seeds import generator
from builder.core.store import Store
from builder.land import grid
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.land.pictures import per_class
from builder.quality.duplicates import LOOKS, Looks
from builder.steps.stage import Maker, Output, Scan, Stage, shards

PASSES = 20
"""Most rounds of local improvement over all blocks."""
ASIDE, REPEATS = -1, -2
"""In place of a split id: too near to another split; repeats a tile of another split."""
SWAPS = 200
"""Most blocks up to which every pair is tried for a swap; beyond, single moves are fine enough."""
OFF = 0.5
"""A split is short when it has less than this part of the share of tiles that it was to get."""
TRIED_BLOCKS = 1_000
"""Most blocks of a size that is tried for advice."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Shares(Section):
    train: Fraction = 0.8
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train, validation and test must sum to 1")
        return self


class SplitSection(Section):
    block: Annotated[float, Field(gt=0, le=10)] = 0.25
    buffer_km: NotNegative = 1.0
    shares: Shares = Shares()


@dataclass(frozen=True, kw_only=True)
class Split(Stage):
    """Blocks of ``block`` degrees go whole to one split, chosen so that every split has its
    share of tiles and of each class's pixels. A train tile nearer than ``buffer_km`` (edge to
    edge) to a validation or test tile, or a validation tile that near to test, is set aside: its
    ``split`` is null and `package` leaves it out. So is a tile that repeats, exactly or nearly, a
    tile of a split that it must not see: clusters of duplicates lie in one split.
    """

    shares: tuple[float, float, float]
    block: float
    buffer_km: float
    size: float
    """Side of a tile in degrees."""
    seed: int
    bits: int
    rms: float

    kinds = ("real",)
    light = True
    needs = ("id", "longitude", "latitude")
    surveys = ("id", "longitude", "latitude", "pixels", *LOOKS)
    surveyed = ("real",)
    adds = ("split", "block")

    def survey(self, scan: Scan) -> dict[str, int]:
        """`choose`. Raises ArasError when there are no tiles or train would be empty."""
        chosen = self.choose(scan)
        if not chosen:
            raise ArasError("there are no tiles to split: see the funnel that `aras tiles` prints")
        there = set(chosen.values())
        empty = [SPLITS[i] for i, share in enumerate(self.shares) if share and i not in there]
        if empty:
            place, counts = _places(scan, self.surveys)
            advice = self.advice(place, counts, np.array(list(chosen.values())))
            raise ArasError(
                f"no {' and no '.join(empty)} tile is left (blocks of {self.block}°, {len(chosen)} "
                f"tiles): {advice or 'repeats of other tiles; change shares in [split]'}"
            )
        return chosen

    def advice(self, place: Floats, counts: Ints, chosen: Ints) -> str:
        """What a split lacks, and the largest smaller block that gives it; "" for nothing.

        ``place`` (n, 2) degrees, ``counts`` (n, 7) pixels per class, ``chosen`` (n,) split ids.
        """
        wrong = lacking(chosen, counts, np.array(self.shares))
        known = np.isfinite(place).all(axis=1)
        if not wrong or not known.any():
            return ""
        place, counts, block = place[known], counts[known], self.block
        while (block := block / 2) > self.size:
            block = float(f"{block:.3g}")
            names = block_names(place, block)
            if len(np.unique(names)) > TRIED_BLOCKS:
                break
            tried = self._dealt(place, counts, names)
            if not lacking(tried, counts, np.array(self.shares)):
                kept = (tried >= 0).sum()
                return (
                    f"{wrong}; write block = {block:g} in [split], which gives each its part and "
                    f"keeps {counted(int(kept), 'tile')} of {len(place):,}"
                )
        return (
            f"{wrong}; no smaller block down to a tile's side gives each its part: bring maps and "
            "composites of a larger place, make buffer_km smaller, or change shares, in [split]"
        )

    def _dealt(self, place: Floats, counts: Ints, names: npt.NDArray[np.str_]) -> Ints:
        """Split id of every tile, by the blocks ``names``, before repeats are set aside."""
        blocks, member = np.unique(names, return_inverse=True)
        weights = np.zeros((len(blocks), len(CLASSES) + 1))
        np.add.at(weights, member, np.column_stack([counts, np.ones(len(counts))]))
        chosen = assign(weights, np.array(self.shares), list(blocks), self.seed)[member]
        return set_aside(chosen, place, self.size, self.buffer_km)

    def choose(self, scan: Scan) -> dict[str, int]:
        """Split id of every tile by row id; `ASIDE` or `REPEATS` for tiles that are set aside, also
        for tiles whose place is not known."""
        ids: list[str] = []
        places: list[Floats] = [np.zeros((0, 2))]
        pixels: list[Ints] = [np.zeros((0, len(CLASSES)), dtype=np.int64)]
        looks = Looks.none()
        for _, table in scan(self.surveys):
            looks.see(table)
            ids.extend(table.column("id").to_pylist())
            places.append(centres(table))
            pixels.append(per_class(table.column("pixels")))
        place, counts = np.concatenate(places), np.concatenate(pixels)
        known = np.isfinite(place).all(axis=1)
        chosen = np.full(len(ids), ASIDE)
        names = block_names(place[known], self.block)
        chosen[known] = self._dealt(place[known], counts[known], names)
        chosen = without_repeats(chosen, looks.clusters(self.bits, self.rms)[1])
        return dict(zip(ids, chosen.tolist(), strict=True))

    def report(self, store: Store) -> "Outcome":
        """`figures`, and advice where a split has not what it was to get."""
        place, chosen, pixels = self._outcome(store)
        return Outcome(self._figures(place, chosen, pixels), self.advice(place, pixels, chosen))

    def figures(self, store: Store) -> SplitReport:
        """Class shares per split in per cent, the smallest distance between splits in km, and how
        many tiles have no place and so no distance."""
        return self._figures(*self._outcome(store))

    def _outcome(self, store: Store) -> tuple[Floats, Ints, Ints]:
        """Places, split ids (-1 for none) and pixels per class of all real tiles."""
        columns = ("split", "pixels", "longitude", "latitude")
        places, chosen, counts = [np.zeros((0, 2))], [], [np.zeros((0, len(CLASSES)), np.int64)]
        for _, table in store.scan(shards(store, self.kinds), columns):
            places.append(centres(table))
            chosen += [
                -1 if split is None else split for split in table.column("split").to_pylist()
            ]
            counts.append(per_class(table.column("pixels")))
        return np.concatenate(places), np.array(chosen, dtype=np.int64), np.concatenate(counts)

    def _figures(self, place: Floats, split: Ints, pixels: Ints) -> SplitReport:
        shares = {}
        for i, name in enumerate(SPLITS):
            total = pixels[split == i].sum(axis=0)
            part = (100 * total / max(1, total.sum())).round(2).tolist()
            shares[name] = dict(zip(CLASSES, part, strict=True))
        known = np.isfinite(place).all(axis=1)
        distance = smallest_distance(place[known], split[known], self.size)
        unknown = int((~known).sum())
        return SplitReport(
            class_shares=shares, smallest_distance_km=distance, without_place=unknown
        )

    def open(self, store: Store, survey: Any) -> Maker:
        return lambda table: _look_up(table, survey, self.block)


@dataclass(frozen=True)
class Outcome:
    """What a split came to: a `Report`."""

    figures: SplitReport
    advice: str

    def lines(self) -> list[str]:
        return [*self.figures.lines(), *([f"ADVICE: {self.advice}"] if self.advice else [])]

    def as_json(self) -> dict[str, Any]:
        more = {"advice": self.advice} if self.advice else {}
        return {**self.figures.as_json(), **more}


def _places(scan: Scan, columns: Sequence[str]) -> tuple[Floats, Ints]:
    """Places and pixels per class of the tiles that `Split.choose` saw."""
    tables = [table for _, table in scan(columns)]
    places = [centres(table) for table in tables]
    return np.concatenate(places), np.concatenate([per_class(t.column("pixels")) for t in tables])


def lacking(chosen: Ints, counts: Ints, shares: Floats) -> str:
    """Which splits with a share have no tile, too few of them, or none of a class that there is;
    "" where nothing lacks. ``chosen`` (n,) split ids, ``counts`` (n, 7), ``shares`` (3,)."""
    problems = []
    total = max(1, int((chosen >= 0).sum()))
    present = counts.sum(axis=0) > 0
    for i, name in enumerate(SPLITS):
        if not shares[i]:
            continue
        mine = chosen == i
        if not mine.any():
            problems.append(f"{name} has no tile")
            continue
        if (share := mine.sum() / total) < OFF * shares[i]:
            problems.append(f"{name} has {share:.1%} of the tiles, not {shares[i]:.0%}")
        missing = present & (counts[mine].sum(axis=0) == 0)
        if missing.any():
            names = ", ".join(np.array(CLASSES)[missing])
            problems.append(f"{name} has no {names}")
    return "; ".join(problems)


def centres(table: pa.Table) -> Floats:
    """(n, 2) longitude and latitude of tiles in degrees, NaN where the place is not known."""
    return np.stack([table.column(n).to_numpy() for n in ("longitude", "latitude")], axis=1)


def _look_up(table: pa.Table, chosen: dict[str, int], block: float) -> Output:
    # A row whose picture could not be judged was not surveyed.
    ids = [chosen.get(row_id, ASIDE) for row_id in table.column("id").to_pylist()]
    place = centres(table)
    known = np.isfinite(place).all(axis=1)
    blocks = np.full(len(ids), None, dtype=object)
    blocks[known] = block_names(place[known], block)
    columns = {
        "split": pa.array([split if split >= 0 else None for split in ids], pa.int64()),
        "block": pa.array(blocks.tolist(), pa.string()),
    }
    counts = {name: ids.count(i) for i, name in enumerate(SPLITS)}
    counts |= {"set_aside": ids.count(ASIDE), "repeats": ids.count(REPEATS)}
    return Output(pa.table(columns), counts)


def block_names(place: Floats, block: float) -> npt.NDArray[np.str_]:
    """(n, 2) longitude, latitude → name of the Earth-fixed block, counted from 180° W, 90° S."""
    corner = np.array([-180.0, -90.0])
    cells = np.floor((place - corner) / block + 1e-9).astype(np.int64)
    return np.array([f"{block:g}:{x}:{y}" for x, y in cells], dtype=np.str_)


def block_corners(name: str) -> Floats:
    """Name of a block → its (4, 2) corners in degrees, counter-clockwise from the lower left."""
    step, x, y = (float(part) for part in name.split(":"))
    west, south = x * step - 180, y * step - 90
    square = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    return np.asarray(square * step + (west, south))


def assign(weights: Floats, shares: Floats, names: list[str], seed: int) -> Ints:
    """Blocks → splits: (n, d) amounts per block and (s,) target shares → (n,) split ids.

    Greedy, from the block that holds the largest part of some class downwards, then moves and
    swaps that lower Σ (share − target)² / target over splits and columns. Every split with a
    target above zero gets a block where there are enough. Ties fall by seed and block name.
    """
    total = weights.sum(axis=0)
    parts = weights / np.where(total > 0, total, 1)
    tie = np.array([generator(seed, "split", name).random() for name in names])
    order = np.lexsort((tie, -parts.max(axis=1)))
    open_ = np.flatnonzero(shares > 0)
    chosen = np.full(len(names), open_[0], dtype=np.int64)
    have = np.zeros((len(shares), weights.shape[1]))

    def cost(filled: Floats) -> float:
        gap = filled[open_] - shares[open_, None]
        return float((gap**2 / shares[open_, None]).sum())

    for block in order:
        costs = [cost(have + _only(split, parts[block], have.shape)) for split in open_]
        chosen[block] = open_[int(np.argmin(costs))]
        have[chosen[block]] += parts[block]
    swaps = list(itertools.combinations(order, 2)) if len(order) <= SWAPS else []
    for _ in range(PASSES):
        moved = [_move(chosen, have, parts, block, open_, cost) for block in order]
        swapped = [_swap(chosen, have, parts, pair, cost) for pair in swaps]
        if not any(moved) and not any(swapped):
            break
    return chosen


def _move(chosen: Ints, have: Floats, parts: Floats, block: int, open_: Ints, cost: Any) -> bool:
    """Move a block to where it lowers the cost most, or to an empty split. A split keeps its
    last block."""
    now = chosen[block]
    if (chosen == now).sum() == 1:
        return False
    empty = [split for split in open_ if not (chosen == split).any()]
    best, where = (np.inf if empty else cost(have) - 1e-12), now
    for split in empty or open_:
        value = cost(_moved(have, parts[block], now, split))
        if split != now and value < best:
            best, where = value, split
    have[:] = _moved(have, parts[block], now, where)
    chosen[block] = where
    return bool(where != now)


def _swap(chosen: Ints, have: Floats, parts: Floats, pair: tuple[int, int], cost: Any) -> bool:
    """Exchange two blocks of different splits if that lowers the cost."""
    a, b = pair
    if chosen[a] == chosen[b]:
        return False
    after = _moved(have, parts[a] - parts[b], chosen[a], chosen[b])
    if cost(after) >= cost(have) - 1e-12:
        return False
    have[:] = after
    chosen[a], chosen[b] = chosen[b], chosen[a]
    return True


def _moved(have: Floats, part: Floats, source: Any, target: Any) -> Floats:
    """Amounts per split after ``part`` went from one split to another."""
    out = have.copy()
    out[source] -= part
    out[target] += part
    return out


def _only(split: Any, part: Floats, shape: tuple[int, ...]) -> Floats:
    """Amounts per split when one split holds ``part`` and the others nothing."""
    out = np.zeros(shape)
    out[split] = part
    return out


def set_aside(chosen: Ints, place: Floats, size: float, buffer_km: float) -> Ints:
    """Split ids with `ASIDE` for tiles nearer than the buffer to a split that they must not see."""
    out = chosen.copy()
    for split, protected in ((0, (1, 2)), (1, (2,))):
        guard = np.isin(chosen, protected)
        near = nearest_gap(place[chosen == split], place[guard], size, buffer_km)
        out[np.flatnonzero(chosen == split)[near < buffer_km]] = ASIDE
    return out


def without_repeats(chosen: Ints, cluster: Ints) -> Ints:
    """Split ids with `REPEATS` for tiles in a cluster with one of a split that they must not see:
    train sees neither of the others, validation not test. ``cluster`` (n,) numbers clusters."""
    last = np.full(int(cluster.max(initial=-1)) + 1, ASIDE, dtype=np.int64)
    np.maximum.at(last, cluster, chosen)
    return np.where((chosen >= 0) & (chosen < last[cluster]), REPEATS, chosen)


def nearest_gap(tiles: Floats, others: Floats, size: float, within_km: float) -> Floats:
    """Edge-to-edge kilometres from each tile to the nearest of ``others``; inf beyond reach.

    (n, 2) and (m, 2) centres in degrees. Exact for gaps up to ``within_km``.
    """
    from scipy.spatial import cKDTree

    out = np.full(len(tiles), np.inf)
    if not len(tiles) or not len(others):
        return out
    reach = within_km + 2 * _diagonal_km(size)
    tree = cKDTree(_on_sphere(others))
    chord = 2 * np.sin(min(reach / grid.EARTH_KM, np.pi) / 2)
    for i, near in enumerate(tree.query_ball_point(_on_sphere(tiles), chord)):
        if near:
            lon, lat = others[near].T
            out[i] = grid.gap_km(tiles[i, 0], tiles[i, 1], lon, lat, size).min()
    return out


def _diagonal_km(size: float) -> float:
    """Diagonal at the equator, the longest, of a tile of ``size`` degrees."""
    return float(np.hypot(size, size) * np.pi / 180 * grid.EARTH_KM)


def _on_sphere(place: Floats) -> Floats:
    lon, lat = np.radians(place).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def smallest_distance(place: Floats, chosen: Ints, size: float) -> dict[str, float | None]:
    """Edge-to-edge kilometres between each pair of splits; None where one is empty."""
    from scipy.spatial import cKDTree

    out: dict[str, float | None] = {}
    for a, b in ((0, 1), (0, 2), (1, 2)):
        left, right = place[chosen == a], place[chosen == b]
        value = None
        if len(left) and len(right):
            # The nearest centres bound the reach; the edges of tiles near enough decide.
            chord, _ = cKDTree(_on_sphere(right)).query(_on_sphere(left))
            centres = 2 * np.arcsin(chord / 2) * grid.EARTH_KM
            near = left[centres <= centres.min() + 2 * _diagonal_km(size)]
            value = round(float(nearest_gap(near, right, size, centres.min()).min()), 3)
        out[f"{SPLITS[a]}-{SPLITS[b]}"] = value
    return out
