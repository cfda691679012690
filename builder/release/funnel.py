"""Which rows a release leaves out, and why: every row of the store is counted."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.manifest import Limit
from builder.land.columns import arrow_type
from builder.pipeline.recipe import Recipe
from builder.quality.limits import beyond

REASONS = ("failed", "set_aside", "copies", "repeats_held_out", "flagged")
"""Why a row is left out, the first that holds: a stage could not make its columns of it; no split
took it; it copies a train tile; it is synthetic and repeats a validation or test tile; a measure is
beyond a threshold."""


@dataclass
class Funnel:
    """Takes the rows that a release is to hold, kind by kind, and counts the others."""

    recipe: Recipe
    limits: Sequence[Limit] = ()
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    flags: dict[str, Counter[str]] = field(default_factory=dict)
    copies: tuple[int, int] = (0, 0)
    """Synthetic rows that copy a train tile, and all synthetic rows."""

    @property
    def official(self) -> bool:
        """The split is as rows were imported: it is reported on, not changed."""
        return has_official_split(self.recipe.imports.sources, self.recipe.imports.split)

    def keep(
        self, kind: str, rows: pa.Table, repeats: pa.ChunkedArray, failed: Collection[str] = ()
    ) -> pa.Table:
        """The rows to publish, with ``flags`` filled in.

        ``repeats`` is the working column ``repeats_held_out`` of the same rows, ``failed`` the ids
        of those that a stage failed on.
        """
        flags = flags_of(rows, [limit for limit in self.limits if kind in limit.kinds])
        counts_of_flags = self.flags.setdefault(kind, Counter())
        counts_of_flags.update(flag for row in flags for flag in row)
        place = rows.schema.get_field_index("flags")
        column = pa.array(flags, arrow_type("flags"))
        rows = rows.set_column(place, rows.schema.field(place), column)
        lost = np.zeros(rows.num_rows, dtype=bool)
        if failed:
            lost = np.array([row in failed for row in rows.column("id").to_pylist()], bool)
        wrong = {
            "failed": lost,
            "set_aside": _true(rows.column("split").is_null()),
            "copies": _true(rows.column("copy")) & self.recipe.memorization.drop_copies,
            "repeats_held_out": _true(repeats) & (not self.official),
            "flagged": np.array([bool(row) for row in flags], bool)
            & self.recipe.quality.drop_flagged,
        }
        if kind == "synthetic":
            copied = int(_true(rows.column("copy")).sum())
            self.copies = self.copies[0] + copied, self.copies[1] + rows.num_rows
        out = np.zeros(rows.num_rows, dtype=bool)
        counts = self.left_out.setdefault(kind, Counter())
        for reason in REASONS:
            left = int((wrong[reason] & ~out).sum())
            if left or reason != "failed":  # no release before knew that reason
                counts[reason] += left
            out |= wrong[reason]
        return rows.filter(pa.array(~out)) if out.any() else rows  # filtering copies pictures


def has_official_split(sources: Sequence[str] | None, split: str | None) -> bool:
    """Whether rows keep the split that they were imported with, by [import] of the recipe."""
    return bool(sources) and split == "official"


def flags_of(rows: pa.Table, limits: Iterable[Limit]) -> list[list[str]]:
    """For each row the measures beyond their thresholds; a missing value is beyond none."""
    flags: list[list[str]] = [[] for _ in range(rows.num_rows)]
    for limit in limits:
        for i in np.flatnonzero(_true(beyond(limit, rows.column(limit.measure)))):
            flags[i].append(limit.measure)
    return flags


def _true(values: pa.ChunkedArray) -> np.ndarray:
    """Where a boolean column is true; null is not."""
    return np.asarray(pc.fill_null(values, False).to_numpy(), dtype=bool)
