"""Named splits and subsets: small files of ids to share, so that figures can be compared."""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from builder.core.errors import ArasError
from builder.core.fields import Positive, Section
from builder.core.files import write_csv
from builder.core.manifest import SubsetFile, SubsetNote
from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.synthesis import balance
from builder.synthesis.section import known_target
from builder.synthesis.target import Target

Ints = npt.NDArray[np.int64]


class SubsetSection(Section):
    rows: Positive
    balance: str = "natural"

    @field_validator("balance")
    @classmethod
    def _target(cls, value: str) -> str:
        return known_target(value)


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

    positions: Ints
    notes: dict[str, SubsetNote]


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
    chosen: list[Ints] = []
    notes: dict[str, SubsetNote] = {}
    sizes = largest_remainder(np.bincount(rows.splits, minlength=len(SPLITS)), size)
    for split in np.flatnonzero(sizes):
        candidates = np.flatnonzero(rows.splits == split)
        ids = [rows.ids[i] for i in candidates]
        if target == "natural":
            order = np.argsort([seed(name, row_id) for row_id in ids], kind="stable")
            chosen.append(candidates[order[: sizes[split]]])
            continue
        try:
            drawn, note = _balanced(ids, rows.pixels[candidates], name, int(sizes[split]), target)
        except ArasError as error:
            raise ArasError(f"[subsets.{name}], split {SPLITS[split]}: {error}") from error
        chosen.append(candidates[drawn])
        if note.absent or note.short:
            notes[SPLITS[split]] = note
    return Chosen(np.sort(np.concatenate(chosen)), notes)


def largest_remainder(counts: Ints, total: int) -> Ints:
    """``total`` shared out in whole numbers in proportion to ``counts``; ties go to the first."""
    scaled = counts * total
    floor, rest = np.divmod(scaled, counts.sum())
    order = np.argsort(-rest, kind="stable")
    floor[order[: total - floor.sum()]] += 1
    return floor


def _balanced(
    ids: Sequence[str], pixels: Ints, name: str, rows: int, target: str
) -> tuple[Ints, SubsetNote]:
    # The weights of a balance plan, with a cap of one repeat, draw a subset of real rows too.
    reachable, absent = _reachable(Target.parse(target), pixels)
    plan = balance.solve(pixels, reachable, rows=rows, max_repeats=1)
    number = seed("subset", name)
    repeats = balance.allocate(plan.weights, rows, number, ids=ids, compositions=pixels)
    note: dict[str, tuple[str, ...]] = {"absent": tuple(absent)} if absent else {}
    if not plan.feasible:
        note["short"] = plan.short_classes
    return np.flatnonzero(repeats), SubsetNote(**note)


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
        raise ArasError(f"balance {target} asks only for {', '.join(names)}, which no row holds")
    named = zip(CLASSES, (kept / kept.sum()).tolist(), strict=True)
    return Target("shares", named=tuple(named)), names


def write(path: Path, ids: Sequence[str], splits: Iterable[int]) -> SubsetFile:
    """Write a CSV of id and split, LF line ends; returns its rows and the digest of its content."""
    names = [SPLITS[split] for split in splits]
    write_csv(path, [("id", "split"), *zip(ids, names, strict=True)])
    return SubsetFile(rows=len(ids), digest=digest(zip(ids, names, strict=True)))


def read(path: Path) -> dict[str, str]:
    """id → split of a file of ids. Raises ArasError naming the line that is wrong."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if next(reader, None) != ["id", "split"]:
                raise ArasError(f"{path}: the first line must be id,split")
            splits: dict[str, str] = {}
            for line in reader:
                if len(line) != 2 or line[1] not in SPLITS:
                    raise ArasError(
                        f"{path}, line {reader.line_num}: expected an id and one of "
                        f"{', '.join(SPLITS)}, got {','.join(line)!r}"
                    )
                if line[0] in splits:
                    raise ArasError(f"{path}, line {reader.line_num}: {line[0]} is listed twice")
                splits[line[0]] = line[1]
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{path}: cannot be read: {error}") from error
    return splits


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 of the (id, split) pairs, whatever their order: equal digests, equal subsets."""
    lines = sorted(f"{row_id},{split}\n" for row_id, split in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def apply(rows: Rows, chosen: Mapping[str, str]) -> Rows:
    """The rows that a file of ids names, in its splits. Raises ArasError for unknown ids."""
    if missing := chosen.keys() - set(rows.ids):
        raise ArasError(
            f"{len(missing):,} ids are not real rows of this release, such as {min(missing)}: "
            "the file belongs to another release"
        )
    kept = rows.take(np.array([row_id in chosen for row_id in rows.ids], dtype=bool))
    splits = [SPLITS.index(chosen[row_id]) for row_id in kept.ids]
    return replace(kept, splits=np.array(splits, dtype=np.int64))
