"""Train rows of a release, and pools drawn from them towards a class distribution."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder import balance, maxent
from builder.balance_target import Target
from builder.bench.ranks import Floats, Ints
from builder.errors import ArasError
from builder.landcover import CLASSES
from builder.pictures import per_class
from builder.release.read import metadata
from builder.schema import KINDS, SPLITS
from builder.seeds import seed as seed_of

MAX_REPEATS = 8
EVEN = "tempered:0"
"""The same share for every class that there is."""
COLUMNS = ("id", "kind", "pixels", "copy")


@dataclass(frozen=True)
class TrainRows:
    """Train rows: ids, flags (n,) and shares (n, K) of ``classes``."""

    ids: list[str]
    synthetic: npt.NDArray[np.bool_]
    copy: npt.NDArray[np.bool_]
    shares: Floats
    classes: tuple[str, ...] = field(default=CLASSES, kw_only=True)

    @property
    def real(self) -> Ints:
        return np.flatnonzero(~self.synthetic)

    @property
    def made(self) -> Ints:
        return np.flatnonzero(self.synthetic)


def train_table(release: Path, columns: Sequence[str] = ()) -> pa.Table:
    """The train rows' `COLUMNS` and more. Raises ArasError when there are none."""
    wanted = (*COLUMNS, *columns)
    tables = [table for name, table in metadata(release, wanted) if name == SPLITS[0]]
    table = pa.concat_tables(tables) if tables else None
    if table is None or not table.num_rows:
        raise ArasError(f"{release}: has no train rows")
    return table


def train_rows(table: pa.Table) -> TrainRows:
    """The rows of a table of `COLUMNS`."""
    pixels = per_class(table.column("pixels")).astype(np.float64)
    return TrainRows(
        table.column("id").to_pylist(),
        table.column("kind").to_numpy() == KINDS.index("synthetic"),
        np.array([bool(one) for one in table.column("copy").to_pylist()]),
        pixels / np.maximum(pixels.sum(1, keepdims=True), 1),
    )


def balanced(
    rows: TrainRows,
    among: Ints,
    count: int,
    seed: int,
    target: str = EVEN,
    natural: Floats | None = None,
) -> Ints:
    """``count`` rows of ``among``, some repeated, whose class shares come near ``target``.

    The target is a recipe's balance, relative to the shares ``natural`` (K,), those of ``among``
    unless given; of it, classes that ``among`` lacks are left out.
    """
    shares = rows.shares[among]
    natural = shares.mean(0) if natural is None else natural
    wanted = Target.parse(target).shares(np.where(shares.sum(0) > 0, natural, 0.0))
    return drawn(rows, among, count, wanted / wanted.sum(), seed, MAX_REPEATS)


def alike(rows: TrainRows, among: Ints, like: Ints, count: int, seed: int) -> Ints:
    """``count`` rows of ``among``, repeated so as to come near the class shares of ``like``."""
    wanted = rows.shares[like].mean(0)
    wanted = np.where(rows.shares[among].sum(0) > 0, wanted, 0.0)
    return drawn(rows, among, count, wanted / wanted.sum(), seed)


def drawn(
    rows: TrainRows,
    among: Ints,
    count: int,
    wanted: Floats,
    seed: int,
    repeats: int | None = None,
) -> Ints:
    """``count`` rows of ``among`` whose class shares are (K,) ``wanted``, or as near as can be.

    Of all ways to weight the rows that give these shares the one nearest to uniform is taken, no
    row more than ``repeats`` times unless there are too few rows for that.
    """
    shares = rows.shares[among]
    most = count if repeats is None else max(repeats, -(-count // len(among)))
    cap = np.full(len(among), min(1.0, most / count))
    weights = maxent.project(shares, wanted, cap).weights
    number = seed_of(seed, "imbalance", str(np.round(wanted, 6).tolist()))
    ids = [rows.ids[i] for i in among]
    times = balance.allocate(weights, count, number, ids=ids, compositions=shares)
    return np.repeat(among, times)
