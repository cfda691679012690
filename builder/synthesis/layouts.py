"""Source stage: which layout each synthetic row is drawn on, by the balance plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.classes import CLASSES, count_pixels
from builder.land.columns import SPLITS
from builder.land.pictures import decode_mask, encode_png, image_bytes, image_column, per_class
from builder.steps.plan import survey
from builder.steps.stage import Maker, Output, Scan, Stage, Unit, spans
from builder.synthesis import balance, transforms
from builder.synthesis.balance import BalancePlan
from builder.synthesis.target import Target
from builder.synthesis.transforms import Mask, Transform

TRAIN = SPLITS.index("train")
DONORS = 4
"""Tiles per scarce class whose regions are pasted into others."""
PRIOR = 0.02
"""Prior weight of a crop or recombination, where an unchanged tile has 1: drawn only if needed."""


def balance_plan(stage: "Layouts", store: Store) -> BalancePlan | None:
    """The plan behind the rows of ``stage``, met or not; None when there are none."""
    if not stage.rows:
        return None
    plan: BalancePlan = survey(replace(stage, nearest=True), store).plan
    return plan


@dataclass(frozen=True)
class Candidate:
    """A layout that rows can be drawn on: a train tile, as it is or changed."""

    tile: str
    shard: str
    change: Transform


@dataclass(frozen=True)
class LayoutPlan:
    """The balance plan, and for every row its candidate and repeat number."""

    plan: BalancePlan
    candidates: list[Candidate]
    rows: list[tuple[int, int]]
    donors: dict[str, Mask]


@dataclass(frozen=True, kw_only=True)
class Layouts(Stage):
    """Choose ``rows`` layouts of train tiles so that their mean composition is the target.

    Weights are those nearest to uniform that meet it (maximum entropy). Repeats of a layout differ
    by turns and flips, which keep its composition; with ``variants`` > 0 up to that many crops and
    recombinations per tile are candidates of their own. A symmetric mask has fewer different turns,
    a mask of a single class none: repeats beyond them are counted in the summary
    (``repeats_that_look_alike``), and differ only by the noise that their tiles are drawn from.
    """

    version = 4

    rows: int
    run: str
    seed: int
    target: str
    max_repeats: int
    variants: int
    nearest: bool
    shard_rows: int

    kinds = ("synthetic",)
    light = True
    surveys = ("id", "split", "pixels", "mask")
    surveyed = ("real",)
    adds = ("id", "split", "layout", "gen_seed", "gen_layout", "gen_transform")

    def units(self, store: Store) -> list[Unit]:
        return spans(self.run, self.rows, self.shard_rows)

    def survey(self, scan: Scan) -> LayoutPlan:
        """Solve the plan over all train tiles; masks are read only for variants.

        Raises ArasError when there is no train tile, when the target asks for a class that no
        layout has and, unless ``nearest``, when the target cannot be met.
        """
        candidates, counts, natural = _tiles(scan)
        target = Target.parse(self.target)
        donors: dict[str, Mask] = {}
        if self.variants:
            wanted = target.shares(natural / natural.sum())
            pairs = _donors(candidates, counts, wanted)
            donors = _read_donors(scan, {tile for tile, _ in pairs})
            more, more_counts = _variants(self, scan, pairs, donors)
            candidates, counts = candidates + more, np.concatenate([counts, more_counts])
        order = sorted(range(len(candidates)), key=lambda i: _order(candidates[i]))
        candidates, counts = [candidates[i] for i in order], counts[order]
        plan = balance.solve(
            counts,
            target,
            rows=self.rows,
            max_repeats=self.max_repeats,
            natural=natural,
            prior=[PRIOR if _is_changed(candidate) else 1.0 for candidate in candidates],
        )
        if not plan.feasible and not self.nearest:
            raise ArasError(
                f"[generator] balance cannot be met; nearest = true takes the nearest\n{plan}"
            )
        names = [f"{candidate.tile}|{candidate.change}" for candidate in candidates]
        repeats = balance.allocate(
            plan.weights, self.rows, self.seed, ids=names, compositions=counts
        )
        repeats = balance.settle(repeats, plan.weights, counts, self.seed, ids=names)
        drawn = repeats @ balance.fractions_of(counts) / self.rows
        plan = replace(plan, shares_drawn=drawn)
        places, numbers = balance.expand(repeats)
        rows = list(zip(places.tolist(), numbers.tolist(), strict=True))
        return LayoutPlan(plan, candidates, rows, donors)

    def open(self, store: Store, survey: LayoutPlan) -> Maker:
        return lambda span: self._make(store, survey, span)

    def _make(self, store: Store, chosen: LayoutPlan, span: tuple[int, int]) -> Output:
        ids, seeds, tiles, changes, masks = [], [], [], [], []
        cache: dict[str, dict[str, Mask]] = {}
        alike = 0
        for number in range(*span):
            place, repeat = chosen.rows[number]
            candidate = chosen.candidates[place]
            if candidate.shard not in cache:
                table = store.read(candidate.shard, ("id", "split", "mask"))
                cache = {candidate.shard: _masks(table.filter(pa.array(_is_train(table))))}
            mask = changed(candidate.change, candidate.tile, cache[candidate.shard], chosen.donors)
            change = transforms.choose(
                self.seed, candidate.tile, repeat, mask, base=candidate.change
            )
            alike += repeat >= transforms.symmetries(mask) if repeat else 0
            name = f"synthetic/{self.run}/{number:07d}"
            masks.append(transforms.apply(Transform(flip=change.flip, turns=change.turns), mask))
            ids.append(name)
            seeds.append(seed(self.seed, name, "generate"))
            tiles.append(candidate.tile)
            changes.append(str(change))
        names = [row_id.split("/")[-1] + ".png" for row_id in ids]
        columns = {
            "id": pa.array(ids, pa.string()),
            "split": pa.array([TRAIN] * len(ids), pa.int64()),
            "layout": image_column([encode_png(mask) for mask in masks], names),
            "gen_seed": pa.array(map(str, seeds), pa.string()),
            "gen_layout": pa.array(tiles, pa.string()),
            "gen_transform": pa.array(changes, pa.string()),
        }
        return Output(pa.table(columns), {"repeats_that_look_alike": alike})


def _order(candidate: Candidate) -> tuple[str, str, bool, str]:
    return candidate.shard, candidate.tile, _is_changed(candidate), str(candidate.change)


def _is_changed(candidate: Candidate) -> bool:
    return candidate.change != Transform()


def _is_train(table: pa.Table) -> npt.NDArray[np.bool_]:
    """(n,) whether a row is in train; a null split is in none."""
    splits = table.column("split").to_pylist()
    return np.array([split == TRAIN for split in splits], dtype=bool)


def _tiles(scan: Scan) -> tuple[list[Candidate], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Train tiles as candidates, their (n, 7) counts, and the (7,) sum: the natural shares."""
    candidates: list[Candidate] = []
    counts = [np.zeros((0, len(CLASSES)), dtype=np.int64)]
    for shard, table in scan(("id", "split", "pixels")):
        train = _is_train(table)
        ids = np.array(table.column("id").to_pylist(), dtype=object)[train]
        candidates += [Candidate(tile, shard, Transform()) for tile in ids]
        counts.append(per_class(table.column("pixels"))[train])
    if not candidates:
        raise ArasError(
            "there is no train tile to take a layout from: run `aras tiles` and `aras split`, "
            "or give train a larger share in [split]"
        )
    every = np.concatenate(counts)
    return candidates, every, every.sum(axis=0)


def _donors(
    candidates: Sequence[Candidate],
    counts: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.float64],
) -> list[tuple[str, str]]:
    """(tile, class) pairs: for each class whose share must grow, the tiles that hold most of it."""
    shares = counts.sum(axis=0) / counts.sum()
    pairs = []
    for k in np.flatnonzero(wanted > shares * 1.01):
        top = np.argsort(-counts[:, k], kind="stable")[:DONORS]
        pairs += [(candidates[i].tile, CLASSES[k]) for i in top if counts[i, k]]
    return pairs


def train_masks(scan: Scan) -> Iterator[tuple[str, dict[str, Mask]]]:
    """Every shard and its train tiles' masks by id, one shard at a time."""
    for shard, table in scan(("id", "split", "mask")):
        yield shard, _masks(table.filter(pa.array(_is_train(table))))


def _read_donors(scan: Scan, wanted: set[str]) -> dict[str, Mask]:
    return {
        tile: mask
        for _, masks in train_masks(scan)
        for tile, mask in masks.items()
        if tile in wanted
    }


def _variants(
    stage: Layouts, scan: Scan, pairs: Sequence[tuple[str, str]], donors: dict[str, Mask]
) -> tuple[list[Candidate], npt.NDArray[np.int64]]:
    """Up to ``stage.variants`` crops and recombinations of each train tile, counted."""
    candidates: list[Candidate] = []
    counts = [np.zeros(len(CLASSES), dtype=np.int64)]
    for shard, masks in train_masks(scan):
        for tile, mask in masks.items():
            crops = _mosaic(tile, masks) is not None
            rng = generator(stage.seed, tile, "donors")
            donated = [pairs[i] for i in rng.permutation(len(pairs))[: stage.variants]]
            changes = transforms.variants(
                stage.seed, tile, crops=crops, donors=donated, size=len(mask)
            )
            for change in changes[1 : 1 + stage.variants]:
                candidates.append(Candidate(tile, shard, change))
                counts.append(count_pixels(changed(change, tile, masks, donors)))
    return candidates, np.stack(counts)[1:]


def changed(change: Transform, tile: str, masks: dict[str, Mask], donors: dict[str, Mask]) -> Mask:
    """The layout that ``change`` makes of ``tile``; ``masks`` are those of its shard."""
    other = donors.get(change.other) if change.other else None
    around = _mosaic(tile, masks) if change.crop else None
    return transforms.apply(change, masks[tile], mosaic=around, other=other)


def _mosaic(tile: str, masks: dict[str, Mask]) -> Mask | None:
    """The 2 × 2 neighbourhood east and south of a tile, where its shard holds all four."""
    stem, row, column = tile.rsplit("_", 2)
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    names = [f"{stem}_{int(row) + r:03d}_{int(column) + c:03d}" for r, c in places]
    if not all(name in masks for name in names):
        return None
    return transforms.mosaic(*(masks[name] for name in names))


def _masks(table: pa.Table) -> dict[str, Mask]:
    ids = table.column("id").to_pylist()
    data = image_bytes(table.column("mask"))
    return {tile: decode_mask(mask, tile) for tile, mask in zip(ids, data, strict=True)}


@dataclass(frozen=True, kw_only=True)
class RowsWithoutLayout(Stage):
    """``rows`` synthetic train rows that are drawn without a layout: its columns are null.

    It has the name and the shards of `Layouts`, so that a recipe that changes from one to the other
    replaces them.
    """

    rows: int
    run: str
    seed: int
    shard_rows: int

    name = "layouts"
    kinds = ("synthetic",)
    light = True
    adds = ("id", "split", "gen_seed", "gen_layout", "gen_transform")

    def units(self, store: Store) -> list[Unit]:
        return spans(self.run, self.rows, self.shard_rows)

    def open(self, store: Store, survey: Any) -> Maker:
        def make(span: tuple[int, int]) -> Output:
            ids = [f"synthetic/{self.run}/{number:07d}" for number in range(*span)]
            seeds = [seed(self.seed, row_id, "generate") for row_id in ids]
            columns = {
                "id": pa.array(ids, pa.string()),
                "split": pa.array([TRAIN] * len(ids), pa.int64()),
                "gen_seed": pa.array(map(str, seeds), pa.string()),
                "gen_layout": pa.nulls(len(ids), pa.string()),
                "gen_transform": pa.nulls(len(ids), pa.string()),
            }
            return Output(pa.table(columns))

        return make
