"""Source stage: synthetic rows for an unconditional generator, each a seed without a layout."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from builder.schema import SPLITS
from builder.seeds import seed
from builder.stage import Made, Maker, Stage, Unit, spans
from builder.store import Store


@dataclass(frozen=True)
class Blanks(Stage):
    """``rows`` synthetic train rows; what `Layouts` says of a layout is null.

    It stands in the place of `Layouts` and makes the same shards, so that a recipe that goes
    over from one to the other replaces them.
    """

    rows: int = 24
    run: str = "a"
    seed: int = 0
    shard_rows: int = 8

    name = "layouts"
    kinds = ("synthetic",)
    light = True
    adds = ("id", "split", "gen_seed", "gen_layout", "gen_transform")

    def units(self, store: Store) -> list[Unit]:
        return spans(self.run, self.rows, self.shard_rows)

    def open(self, store: Store, survey: Any) -> Maker:
        def make(span: tuple[int, int]) -> Made:
            ids = [f"synthetic/{self.run}/{number:07d}" for number in range(*span)]
            columns = {
                "id": pa.array(ids, pa.string()),
                "split": pa.array([SPLITS.index("train")] * len(ids), pa.int64()),
                "gen_seed": pa.array([seed(self.seed, one, "generate") for one in ids], pa.int64()),
                "gen_layout": pa.nulls(len(ids), pa.string()),
                "gen_transform": pa.nulls(len(ids), pa.string()),
            }
            return Made(pa.table(columns))

        return make
