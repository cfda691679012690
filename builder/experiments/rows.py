"""Train rows of a release, the arms that hold them, and rows drawn towards class shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.core.seeds import seed as seed_of
from builder.experiments.statistics import Factor
from builder.land.classes import CLASSES
from builder.land.columns import KINDS, SPLITS
from builder.land.pictures import per_class
from builder.release.rows import metadata
from builder.retrieval.ranks import Floats, Ints
from builder.retrieval.result import Part
from builder.synthesis import balance, maxent
from builder.synthesis.target import Target

Flags = npt.NDArray[np.bool_]

MAX_REPEATS = 8
EVEN = "tempered:0"
"""The same share for every class that the rows have."""


@dataclass(frozen=True)
class TrainRows:
    """Train rows: ids, flags (n,), shares (n, K) of ``classes``, captions where arms need any."""

    ids: list[str]
    is_synthetic: Flags
    shares: Floats
    texts: list[str] = field(default_factory=list)
    passes: Flags | None = None
    """Synthetic rows that pass the filter; None where all of them do."""
    classes: tuple[str, ...] = CLASSES

    @property
    def real(self) -> Ints:
        return np.flatnonzero(~self.is_synthetic)

    @property
    def synthetic(self) -> Ints:
        return np.flatnonzero(self.is_synthetic)

    def mean_shares(self, rows: Ints) -> Floats:
        """(K,) class shares of some rows together; a row listed twice counts twice."""
        return np.asarray(self.shares[rows].mean(0))


@dataclass(frozen=True)
class Arm:
    """Train rows that batches are drawn from; a row listed twice is drawn twice as often."""

    what: str
    pool: Ints
    texts: list[str] = field(default_factory=list)
    """(n,) the caption of every train row in this arm, where the arm trains on captions."""
    factors: Mapping[str, Factor] = field(default_factory=dict)
    """What the arm is described by against real rows, for example its ratio."""


class Holding(Part):
    """What an arm holds: rows, distinct ones, synthetic ones, distinct captions, class shares."""

    what: str
    rows: int
    distinct: int
    synthetic: int
    captions: int | None = None
    class_shares: dict[str, float]

    @staticmethod
    def of(rows: TrainRows, arm: Arm) -> "Holding":
        shares = zip(rows.classes, rows.mean_shares(arm.pool), strict=True)
        holding = Holding(
            what=arm.what,
            rows=len(arm.pool),
            distinct=len(np.unique(arm.pool)),
            synthetic=int(rows.is_synthetic[arm.pool].sum()),
            class_shares={name: round(float(share), 4) for name, share in shares},
        )
        captions = {arm.texts[i] for i in arm.pool} if arm.texts else ()
        return holding.plus(captions=len(captions)) if captions else holding


def train_table(release: Path, columns: Sequence[str] = ()) -> pa.Table:
    """Ids, kinds, pixels and ``columns`` of the train rows. Raises ArasError without any."""
    shards = metadata(release, ("id", "kind", "pixels", *columns))
    tables = [table for split, table in shards if split == SPLITS[0]]
    table = pa.concat_tables(tables) if tables else None
    if table is None or not table.num_rows:
        raise ArasError(f"{release}: has no train rows")
    return table


def train_rows(release: Path, table: pa.Table, least: int = 1, which: str = "") -> TrainRows:
    """The rows of a `train_table`, or of some of its rows, called ``which``.

    Raises ArasError when real or synthetic ones are fewer than ``least``.
    """
    pixels = per_class(table.column("pixels")).astype(np.float64)
    rows = TrainRows(
        table.column("id").to_pylist(),
        table.column("kind").to_numpy() == KINDS.index("synthetic"),
        pixels / np.maximum(pixels.sum(1, keepdims=True), 1),
    )
    for kind, members in (("real", rows.real), ("synthetic", rows.synthetic)):
        if len(members) < least:
            raise ArasError(
                f"{release}: {len(members)} {kind} train rows{which}; the experiment compares real "
                "with synthetic rows and needs both"
            )
    return rows


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
    unless given.
    """
    natural = rows.mean_shares(among) if natural is None else natural
    has = rows.shares[among].sum(0) > 0
    wanted = Target.parse(target).shares(np.where(has, natural, 0.0))
    return drawn(rows, among, count, wanted, seed, MAX_REPEATS)


def drawn(
    rows: TrainRows,
    among: Ints,
    count: int,
    wanted: Floats,
    seed: int,
    repeats: int | None = None,
) -> Ints:
    """``count`` rows of ``among`` whose class shares are (K,) ``wanted``, or as near as can be;
    of these, classes that ``among`` lacks are left out.

    Of all weights of the rows that give these shares those nearest to uniform are taken, no row
    more than ``repeats`` times unless there are too few rows for that.
    """
    shares = rows.shares[among]
    wanted = np.where(shares.sum(0) > 0, wanted, 0.0)
    wanted = wanted / wanted.sum()
    most = count if repeats is None else max(repeats, -(-count // len(among)))
    cap = np.full(len(among), min(1.0, most / count))
    weights = maxent.project(shares, wanted, cap).weights
    # The name in the seed stays, so that arms hold the rows that published runs were trained on.
    number = seed_of(seed, "imbalance", str(np.round(wanted, 6).tolist()))
    ids = [rows.ids[i] for i in among]
    times = balance.allocate(weights, count, number, ids=ids, compositions=shares)
    return np.repeat(among, times)
