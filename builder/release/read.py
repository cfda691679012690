"""Reading a release back without its pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.land.columns import KINDS, SPLITS
from builder.land.pictures import per_class
from builder.tiles.split import centres
from builder.tiles.subsets import Rows


def opened(path: Path) -> pq.ParquetFile:
    """A Parquet file of a release. Raises ArasError when it is missing, cut short or no Parquet."""
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise ArasError(
            f"{path}: missing; `aras check {path.parents[1]}` lists what else is wrong"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise ArasError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); `aras check "
            f"{path.parents[1]}` lists what else is wrong"
        ) from error


def metadata(release: Path, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """(split, table) of each metadata file, only the given columns.

    Raises ArasError when the release or one of its files is not there, or cut short.
    """
    for split, part in read_manifest(release).configs["metadata"].items():
        for name in part.files:
            with opened(release / name) as file:
                yield split, file.read(list(columns))


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
