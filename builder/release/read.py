"""Reading a release back without its pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from builder.errors import ArasError
from builder.pictures import per_class
from builder.release.layout import read_manifest
from builder.schema import KINDS, SPLITS
from builder.stages.split import centres
from builder.subsets import Rows


def metadata(release: Path, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """(split, table) of each metadata file, only the given columns.

    Raises ArasError when the release or one of its files is not there.
    """
    for split, entry in read_manifest(release)["configs"]["metadata"].items():
        for name in entry["files"]:
            try:
                yield split, pq.read_table(release / name, columns=list(columns))
            except FileNotFoundError:
                raise ArasError(
                    f"{release / name}: is missing; `aras check {release}` tells what else is"
                ) from None


def real_rows(release: Path) -> Rows:
    """All real rows, whether their place is known or not. Raises ArasError when there are none."""
    ids: list[str] = []
    blocks: list[str | None] = []
    splits, pixels, places = [], [], []
    columns = ("id", "kind", "pixels", "longitude", "latitude", "block")
    for split, table in metadata(release, columns):
        kind = table.column("kind").to_numpy() == KINDS.index("real")
        table = table.filter(pa.array(kind))
        ids += table.column("id").to_pylist()
        blocks += table.column("block").to_pylist()
        splits += [SPLITS.index(split)] * table.num_rows
        pixels.append(per_class(table.column("pixels")))
        places.append(centres(table))
    if not ids:
        raise ArasError(f"{release}: holds no real rows")
    return Rows(ids, np.array(splits), np.concatenate(pixels), np.concatenate(places), blocks)
