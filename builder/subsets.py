"""Named splits and subsets: small files of ids that people can share and compare numbers on."""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder import balance
from builder.balance_target import Target
from builder.errors import ArasError
from builder.files import atomic
from builder.schema import SPLITS
from builder.seeds import seed

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Real rows of a release: ids, split ids (n,), pixels (n, 7), places (n, 2) lon/lat, blocks."""

    ids: list[str]
    splits: Ints
    pixels: Ints
    places: npt.NDArray[np.float64]
    blocks: list[str | None]


def choose(rows: Rows, name: str, size: int, target: str) -> Ints:
    """Positions of a subset of about ``size`` rows, every split in its proportion; sorted.

    ``natural`` takes the rows whose hash of (name, id) is smallest, so a subset of a larger
    release keeps most of its rows. Another target draws rows, none twice, with the weights
    nearest to uniform that meet it, or the nearest shares where it cannot be met.
    """
    if size >= len(rows.ids):
        return np.arange(len(rows.ids))
    found = []
    for split in range(len(SPLITS)):
        places = np.flatnonzero(rows.splits == split)
        wanted = round(size * len(places) / len(rows.ids))
        if not wanted:
            continue
        ids = [rows.ids[i] for i in places]
        if target == "natural":
            order = np.argsort([seed(name, one) for one in ids], kind="stable")
            found.append(places[order[:wanted]])
        else:
            found.append(places[_balanced(ids, rows.pixels[places], name, wanted, target)])
    return np.sort(np.concatenate(found))


def _balanced(ids: Sequence[str], pixels: Ints, name: str, rows: int, target: str) -> Ints:
    wanted = Target.parse(target)
    plan = balance.solve(pixels, wanted, rows=rows, max_repeats=1)
    number = seed("subset", name)
    repeats = balance.allocate(plan.weights, rows, number, ids=ids, compositions=pixels)
    return np.flatnonzero(repeats)


def write(path: Path, ids: Sequence[str], splits: Iterable[int]) -> dict[str, Any]:
    """Write a CSV of id and split, LF line ends; returns its rows and the digest of its content."""
    names = [SPLITS[one] for one in splits]
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
            found: dict[str, str] = {}
            for line in reader:
                if len(line) != 2 or line[1] not in SPLITS:
                    raise ArasError(
                        f"{path}, line {reader.line_num}: wanted an id and one of "
                        f"{', '.join(SPLITS)}, found {','.join(line)!r}"
                    )
                if line[0] in found:
                    raise ArasError(f"{path}, line {reader.line_num}: {line[0]} stands twice")
                found[line[0]] = line[1]
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{path}: cannot be read: {error}") from error
    return found


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 of the (id, split) pairs, whatever their order: equal digests, equal subsets."""
    lines = sorted(f"{one},{split}\n" for one, split in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def apply(rows: Rows, chosen: Mapping[str, str]) -> Rows:
    """The rows that a file of ids names, in its splits. Raises ArasError for ids not there."""
    if missing := chosen.keys() - set(rows.ids):
        raise ArasError(
            f"{len(missing):,} ids are not real rows of this release, such as {min(missing)}: "
            "the file belongs to another release"
        )
    places = [i for i, one in enumerate(rows.ids) if one in chosen]
    return Rows(
        [rows.ids[i] for i in places],
        np.array([SPLITS.index(chosen[rows.ids[i]]) for i in places], dtype=np.int64),
        rows.pixels[places],
        rows.places[places],
        [rows.blocks[i] for i in places],
    )
