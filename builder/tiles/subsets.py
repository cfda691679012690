"""Named splits and subsets: small files of ids that people can share and compare numbers on."""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.files import atomic
from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.synthesis import balance
from builder.synthesis.target import Target

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Real rows of a release: ids, split ids (n,), pixels (n, 7), places (n, 2) lon/lat, blocks.

    A tile whose place is not known has NaN for it; a split that is not by blocks has None.
    """

    ids: list[str]
    splits: Ints
    pixels: Ints
    places: npt.NDArray[np.float64]
    blocks: list[str | None]

    @property
    def placed(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the place of a tile is known."""
        return np.asarray(np.isfinite(self.places).all(axis=1))

    def take(self, where: Ints | npt.NDArray[np.bool_]) -> "Rows":
        """The rows at these positions, or where this (n,) mask is true."""
        order = np.arange(len(self.ids))[where]
        return Rows(
            [self.ids[i] for i in order],
            self.splits[order],
            self.pixels[order],
            self.places[order],
            [self.blocks[i] for i in order],
        )


class Chosen(NamedTuple):
    """Sorted positions of a subset's rows and, by split, how its target was changed or missed."""

    places: Ints
    notes: dict[str, dict[str, Any]]


def choose(rows: Rows, name: str, size: int, target: str) -> Chosen:
    """A subset of exactly ``size`` rows, every split in its proportion by the largest remainder.

    ``natural`` takes the rows whose hash of (name, id) is smallest, so a subset of a larger
    release keeps most of its rows. Another target draws rows, none twice, with the weights
    nearest to uniform that meet it. A class that no row of a split holds is left out of the
    target there, and where the rest cannot be met the nearest shares are taken: the notes say so.
    Raises ArasError naming subset and split when a target asks for absent classes alone.
    """
    if size >= len(rows.ids):
        return Chosen(np.arange(len(rows.ids)), {})
    positions, notes = [], {}
    sizes = largest_remainder(np.bincount(rows.splits, minlength=len(SPLITS)), size)
    for split in np.flatnonzero(sizes):
        places = np.flatnonzero(rows.splits == split)
        ids = [rows.ids[i] for i in places]
        if target == "natural":
            order = np.argsort([seed(name, row_id) for row_id in ids], kind="stable")
            positions.append(places[order[: sizes[split]]])
            continue
        try:
            chosen, note = _balanced(ids, rows.pixels[places], name, int(sizes[split]), target)
        except ArasError as error:
            raise ArasError(f"[subsets.{name}], split {SPLITS[split]}: {error}") from error
        positions.append(places[chosen])
        if note:
            notes[SPLITS[split]] = note
    return Chosen(np.sort(np.concatenate(positions)), notes)


def largest_remainder(counts: Ints, total: int) -> Ints:
    """``total`` shared out in whole numbers in proportion to ``counts``; ties go to the first."""
    scaled = counts * total
    floor, rest = np.divmod(scaled, counts.sum())
    order = np.argsort(-rest, kind="stable")
    floor[order[: total - floor.sum()]] += 1
    return floor


def _balanced(
    ids: Sequence[str], pixels: Ints, name: str, rows: int, target: str
) -> tuple[Ints, dict[str, Any]]:
    wanted, absent = _reachable(Target.parse(target), pixels)
    plan = balance.solve(pixels, wanted, rows=rows, max_repeats=1)
    number = seed("subset", name)
    repeats = balance.allocate(plan.weights, rows, number, ids=ids, compositions=pixels)
    note: dict[str, Any] = {"absent": absent} if absent else {}
    if not plan.feasible:
        note["short"] = list(plan.short_classes)
    return np.flatnonzero(repeats), note


def _reachable(target: Target, pixels: Ints) -> tuple[Target, list[str]]:
    """The target among the classes that some row holds, and those that it asks for in vain."""
    natural = balance.fractions_of(pixels).mean(axis=0)
    shares = target.shares(natural)
    absent = (shares > 0) & (natural == 0)
    if not absent.any():
        return target, []
    names = [name for name, gone in zip(CLASSES, absent, strict=True) if gone]
    kept = np.where(absent, 0, shares)
    if not kept.any():
        raise ArasError(f"balance {target} asks for {', '.join(names)} alone, which no row holds")
    named = zip(CLASSES, (kept / kept.sum()).tolist(), strict=True)
    return Target("shares", named=tuple(named)), names


def write(path: Path, ids: Sequence[str], splits: Iterable[int]) -> dict[str, Any]:
    """Write a CSV of id and split, LF line ends; returns its rows and the digest of its content."""
    names = [SPLITS[split] for split in splits]
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split"])
        writer.writerows(zip(ids, names, strict=True))
    return {"rows": len(ids), "digest": digest(zip(ids, names, strict=True))}


def read(path: Path) -> dict[str, str]:
    """id → split of a file of ids. Raises ArasError naming the line that is not right."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if next(reader, None) != ["id", "split"]:
                raise ArasError(f"{path}: the first line must be id,split")
            splits: dict[str, str] = {}
            for line in reader:
                if len(line) != 2 or line[1] not in SPLITS:
                    raise ArasError(
                        f"{path}, line {reader.line_num}: wanted an id and one of "
                        f"{', '.join(SPLITS)}, found {','.join(line)!r}"
                    )
                if line[0] in splits:
                    raise ArasError(f"{path}, line {reader.line_num}: {line[0]} stands twice")
                splits[line[0]] = line[1]
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{path}: cannot be read: {error}") from error
    return splits


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 of the (id, split) pairs, whatever their order: equal digests, equal subsets."""
    lines = sorted(f"{row_id},{split}\n" for row_id, split in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def apply(rows: Rows, chosen: Mapping[str, str]) -> Rows:
    """The rows that a file of ids names, in its splits. Raises ArasError for ids not there."""
    if missing := chosen.keys() - set(rows.ids):
        raise ArasError(
            f"{len(missing):,} ids are not real rows of this release, such as {min(missing)}: "
            "the file belongs to another release"
        )
    kept = rows.take(np.array([row_id in chosen for row_id in rows.ids], dtype=bool))
    splits = [SPLITS.index(chosen[row_id]) for row_id in kept.ids]
    return replace(kept, splits=np.array(splits, dtype=np.int64))
