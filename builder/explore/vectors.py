"""Embeddings of a release as the page reads them: whole numbers of 16 bits, split by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.explore.files import write_array
from builder.parts.opened import OpenRelease

SCALE = 32_767
"""A unit vector times this, rounded: products differ from those of floats by less than 1e-4."""
MOST = 96 << 20
"""Bytes of the vectors of a split; further rows are left out, and the page says so."""


@dataclass(frozen=True)
class VectorsOf:
    """Vectors of a split: of images first, then of captions; ``of`` counts those in the release."""

    split: str
    images: int
    captions: int
    width: int
    of: int


def write_vectors(
    release: OpenRelease, folder: Path, rows: Mapping[str, int], streams: Sequence[str]
) -> list[VectorsOf]:
    """Write ``vectors-SPLIT.bin`` (raw, int16), their rows and their streams; what was written."""
    written = []
    for split, part in release.manifest.configs.get("embeddings", {}).items():
        images: list[tuple[int, npt.NDArray[np.int16]]] = []
        captions: list[tuple[int, int, npt.NDArray[np.int16]]] = []
        size = width = 0
        for name in part.files:
            for table in release.table(name):
                for row in _whole(table):
                    owner, stream, vector = row
                    if owner not in rows or size + 2 * len(vector) > MOST:
                        continue
                    size, width = size + 2 * len(vector), len(vector)
                    number = np.rint(np.clip(vector, -1, 1) * SCALE).astype(np.int16)
                    if stream is None:
                        images.append((rows[owner], number))
                    elif stream in streams:
                        captions.append((rows[owner], streams.index(stream), number))
        if not images:
            continue
        images.sort(key=lambda image: image[0])
        captions.sort(key=lambda caption: caption[:2])
        vectors = np.stack([*(image[1] for image in images), *(c[2] for c in captions)])
        (folder / f"vectors-{split}.bin").write_bytes(vectors.astype("<i2").tobytes())
        owners = [*(image[0] for image in images), *(caption[0] for caption in captions)]
        write_array(folder / f"vectors-{split}-rows.bin", np.array(owners, np.uint32))
        of_stream = np.array([caption[1] for caption in captions], np.uint8)
        write_array(folder / f"vectors-{split}-streams.bin", of_stream)
        written.append(VectorsOf(split, len(images), len(captions), width, part.rows))
    return written


def _whole(table: pa.Table) -> list[tuple[str, str | None, npt.NDArray[np.float32]]]:
    """(id of the row, stream or None, vector)."""
    ids, owners, streams = (table.column(n).to_pylist() for n in ("id", "owner", "stream"))
    vectors = table.column("vector").to_pylist()
    return [
        (owner or row, stream, np.array(vector, np.float32))
        for row, owner, stream, vector in zip(ids, owners, streams, vectors, strict=True)
    ]
