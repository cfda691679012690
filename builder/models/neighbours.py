"""Exact nearest neighbours, blocked so that memory stays flat, and perceptual hashes."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError

Floats = npt.NDArray[np.floating]
BLOCK = 4_096
"""Rows of each side that are compared at once: 4,096² float32 distances are 64 MB."""
HASHES = 16
"""Hashes that are compared with a block at once: half a MB, which stays in the cache."""


def matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A features column as (n, d) float32."""
    values = column.combine_chunks()
    n = len(values)
    return np.asarray(values.flatten().to_numpy(), np.float32).reshape(n, -1 if n else 0)


def nearest(
    queries: Floats, gallery: Floats, k: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The k nearest gallery rows of each query: positions and Euclidean distances (n, k).

    Exact, in blocks: distances of candidates are recomputed from the difference, so a row's
    distance to itself is 0. Equal distances come in the order of their positions. Raises
    ArasError when the gallery has fewer than k rows.
    """
    if len(gallery) < k:
        raise ArasError(
            f"{k} nearest neighbours expected, but there are only {len(gallery)} rows to search"
        )
    places = np.empty((len(queries), k), dtype=np.int64)
    distances = np.empty((len(queries), k), dtype=np.float64)
    # A few more than k survive each block, so that rounding in the quick form costs no neighbour.
    spare = k + 8
    for start in range(0, len(queries), BLOCK):
        part = np.asarray(queries[start : start + BLOCK])
        candidates = np.empty((len(part), 0), dtype=np.int64)
        quick = np.empty((len(part), 0), dtype=part.dtype)
        for first in range(0, len(gallery), BLOCK):
            block = np.asarray(gallery[first : first + BLOCK])
            square = (block**2).sum(axis=1)[None] - 2 * part @ block.T
            names = np.broadcast_to(np.arange(first, first + len(block)), square.shape)
            quick = np.concatenate([quick, square], axis=1)
            candidates = np.concatenate([candidates, names], axis=1)
            if quick.shape[1] > spare:
                keep = np.argpartition(quick, spare - 1, axis=1)[:, :spare]
                quick = np.take_along_axis(quick, keep, axis=1)
                candidates = np.take_along_axis(candidates, keep, axis=1)
        gap = np.asarray(gallery[candidates.ravel()], dtype=np.float64).reshape(
            *candidates.shape, -1
        )
        exact = np.linalg.norm(gap - part[:, None].astype(np.float64), axis=2)
        order = np.lexsort((candidates, exact), axis=1)[:, :k]
        places[start : start + BLOCK] = np.take_along_axis(candidates, order, axis=1)
        distances[start : start + BLOCK] = np.take_along_axis(exact, order, axis=1)
    return places, distances


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int:
    """64-bit hash of the lowest frequencies of an image's luminance, (H, W, 3) uint8.

    Block means to 32×32, discrete cosine transform, signs of the 8×8 lowest coefficients against
    their median (Zauner 2010). Small changes of brightness, noise or scale flip few bits.
    """
    from scipy.fft import dctn

    grey = image.astype(np.float64) @ (0.299, 0.587, 0.114)
    height, width = (side // 32 * 32 for side in grey.shape)
    if not height or not width:
        raise ArasError(f"an image of {grey.shape} is too small for a perceptual hash (32×32)")
    small = grey[:height, :width].reshape(32, height // 32, 32, width // 32).mean(axis=(1, 3))
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    # The first coefficient is the mean brightness and would outweigh the median.
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">u8")[0])


def hamming(
    hashes: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Bits in which 64-bit hashes differ, broadcast."""
    return _bits(np.bitwise_xor(hashes, others)).astype(np.int64)


def nearest_hash(
    queries: npt.NDArray[np.uint64], gallery: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The gallery hash that differs from each query in the fewest bits, the first where several do.

    Positions and bits, (n,) each; exact, in blocks of half a MB. Raises ArasError when the
    gallery is empty.
    """
    if not len(gallery):
        raise ArasError("there are no hashes to search: the gallery is empty")
    places = np.zeros(len(queries), dtype=np.int64)
    fewest_bits = np.full(len(queries), 65, dtype=np.int64)
    for start in range(0, len(queries), HASHES):
        part = slice(start, start + HASHES)
        for first in range(0, len(gallery), BLOCK):
            bits = _bits(queries[part, None] ^ gallery[None, first : first + BLOCK])
            best = bits.argmin(axis=1)
            fewest = bits[np.arange(len(bits)), best]
            nearer = fewest < fewest_bits[part]
            places[part][nearer] = first + best[nearer]
            fewest_bits[part][nearer] = fewest[nearer]
    return places, fewest_bits


def _bits(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """Bits that are set in each word."""
    if hasattr(np, "bitwise_count"):  # from numpy 2 on, and ten times as fast
        return np.asarray(np.bitwise_count(words), np.uint8)
    whole = np.ascontiguousarray(words)[..., None].view(np.uint8)
    return np.asarray(np.unpackbits(whole, axis=-1).sum(axis=-1), np.uint8)
