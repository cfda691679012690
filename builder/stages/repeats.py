"""Stage: which captions of one stream nearly repeat each other, over all rows."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from builder.clusters import named
from builder.schema import CAPTION_REPEAT, REPEAT_PREFIX, STREAM_PREFIX
from builder.scores.near_duplicates import SIMILARITY, NearDuplicates
from builder.stage import Made, Maker, Scan, Stage
from builder.store import Store


@dataclass(frozen=True)
class Repeats(Stage):
    """``near_duplicate_cluster``: the first id among the rows whose captions nearly repeat each
    other; null for a caption of its own and where there is none."""

    stream: str = "full"
    similarity: float = SIMILARITY

    light = True

    @property
    def name(self) -> str:
        return f"repeat-{self.stream}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id",)

    @property
    def surveys(self) -> tuple[str, ...]:
        return ("id", f"{STREAM_PREFIX}{self.stream}")

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{REPEAT_PREFIX}{self.stream}",)

    def survey(self, scan: Scan) -> dict[str, str]:
        """id → cluster of every row whose caption is not its own."""
        ids: list[str] = []
        near = NearDuplicates(self.similarity)
        for _, table in scan(self.surveys):
            ids += table.column("id").to_pylist()
            near.add(pc.struct_field(table.column(self.surveys[1]), "text").combine_chunks())
        return named(ids, near.clusters())

    def open(self, store: Store, survey: Any) -> Maker:
        def make(table: pa.Table) -> Made:
            found = [survey.get(one) for one in table.column("id").to_pylist()]
            cells = pa.StructArray.from_arrays(
                [pa.array(found, pa.string())], fields=list(CAPTION_REPEAT)
            )
            repeats = len(found) - found.count(None)
            return Made(pa.table({self.adds[0]: cells}), {"repeats": repeats})

        return make
