"""Stage: which tiles repeat each other, exactly or nearly, real and synthetic, over all splits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from builder.clusters import named
from builder.quality.duplicates import BITS, LOOKS, RMS, Looks
from builder.schema import KINDS, SPLITS
from builder.stage import Made, Maker, Scan, Stage
from builder.store import Store

TRAIN = SPLITS.index("train")


@dataclass(frozen=True)
class Found:
    """Cluster names of the rows that share one, by row id, and synthetic rows that repeat a real
    validation or test tile."""

    exact: dict[str, str]
    near: dict[str, str]
    held_out: frozenset[str]


@dataclass(frozen=True)
class Duplicates(Stage):
    """``duplicate_cluster`` and ``near_duplicate_cluster``: the first id of a cluster, null for a
    row that is alone. Rows that the split set aside are not looked at.

    ``repeats_held_out``, a working column, marks synthetic rows in a cluster with a validation or
    test tile. They take part in no other cluster, so that none spans train and test through them.
    """

    bits: int = BITS
    rms: float = RMS

    light = True
    needs = ("id",)
    surveys = ("id", "split", *LOOKS)
    adds = ("duplicate_cluster", "near_duplicate_cluster", "repeats_held_out")

    def survey(self, scan: Scan) -> Found:
        ids: list[str] = []
        synthetic: list[bool] = []
        splits: list[int] = []
        looks = Looks.none()
        for shard, table in scan(self.surveys):
            table = table.filter(table.column("split").is_valid())
            ids += table.column("id").to_pylist()
            splits += table.column("split").to_pylist()
            synthetic += [shard.startswith(KINDS[1])] * table.num_rows
            looks.see(table)
        exact, near = looks.clusters(self.bits, self.rms)
        drawn, held_out = np.array(synthetic, bool), np.array(splits, int) != TRAIN
        beside = np.zeros(len(ids), dtype=bool)  # by the first member of its cluster
        beside[near[held_out & ~drawn]] = True
        wrong = drawn & beside[near]
        found = named(ids, exact), named(ids, near)
        gone = frozenset(ids[i] for i in np.flatnonzero(wrong))
        if gone:
            rest = np.flatnonzero(~wrong)
            kept = [ids[i] for i in rest]
            again = looks.take(rest).clusters(self.bits, self.rms)
            for told, label in zip(found, again, strict=True):
                for one in kept:
                    told.pop(one, None)
                told.update(named(kept, label))
        return Found(*found, gone)

    def open(self, store: Store, survey: Any) -> Maker:
        return lambda table: _look_up(table, survey)


def _look_up(table: pa.Table, found: Found) -> Made:
    ids = table.column("id").to_pylist()
    columns = {
        "duplicate_cluster": pa.array([found.exact.get(one) for one in ids], pa.string()),
        "near_duplicate_cluster": pa.array([found.near.get(one) for one in ids], pa.string()),
        "repeats_held_out": pa.array([one in found.held_out for one in ids], pa.bool_()),
    }
    near = table.num_rows - columns["near_duplicate_cluster"].null_count
    exact = table.num_rows - columns["duplicate_cluster"].null_count
    counts = {
        "exact": exact,
        "near": near,
        "repeats_held_out": sum(columns["repeats_held_out"].to_pylist()),
    }
    return Made(pa.table(columns), counts)
