"""Near-duplicate captions: MinHash bands propose pairs, exact Jaccard similarity decides.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3. All of it is arithmetic on whole
batches: words are hashed from the bytes of the Arrow buffer, never one string at a time. It stays
by hand because libraries for MinHash take one word of one caption at a time: too slow for two
million captions.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.clusters import join, named
from builder.core.store import Store
from builder.land.columns import CAPTION_REPEAT, REPEAT_PREFIX, STREAM_PREFIX
from builder.steps.stage import Maker, Output, Scan, Stage

T = TypeVar("T")
R = TypeVar("R")
U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

SIMILARITY = 0.8
"""Captions whose sets of word pairs have at least this Jaccard similarity are near-duplicates."""

BANDS, ROWS = 14, 4
"""At similarity 0.8 a pair shares a band with probability 1 − (1 − 0.8⁴)¹⁴ = 0.9994."""

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2⁶⁴
_INVERSE = pow(_BASE, -1, 1 << 64)
_PAIRS_AT_ONCE = 1 << 14
_CAPTIONS_AT_ONCE = 1 << 12

_IS_WORD = np.zeros(256, dtype=bool)
_IS_WORD[[*range(ord("0"), ord("9") + 1), *range(ord("a"), ord("z") + 1), *range(128, 256)]] = True


class NearDuplicates:
    """Clusters of near-duplicate captions, fed batch by batch.

    Keeps 4 bytes per word and 8 · (`BANDS` + 1) bytes per caption in temporary files, and not the
    texts; `clusters` reads the words into memory. The result does not depend on how the captions
    are cut into batches.
    """

    def __init__(self, similarity: float = SIMILARITY, threads: int = 2) -> None:
        self.similarity, self.threads = similarity, threads
        self._shingles = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this
        self._sizes: list[I64] = []
        self._keys = [tempfile.TemporaryFile(buffering=0) for _ in range(BANDS + 1)]  # noqa: SIM115
        generator = np.random.default_rng(20090414)
        count = BANDS * ROWS
        self._factors = generator.integers(0, 1 << 32, count, dtype=np.uint32) | np.uint32(1)
        self._offsets = generator.integers(0, 1 << 32, count, dtype=np.uint32)

    def add(self, texts: pa.Array) -> None:
        """Take a batch of captions (string array); null and wordless captions stay alone."""
        parts = [texts.slice(i, j - i) for i, j in _cuts(len(texts), _CAPTIONS_AT_ONCE)]
        for shingles, sizes, keys in self._map(self._minhash, parts):
            self._shingles.write(shingles.tobytes())
            self._sizes.append(sizes)
            for file, band in zip(self._keys, keys, strict=True):
                file.write(band.tobytes())

    def clusters(self) -> I64:
        """For each caption, in order of `add`, the number of the first caption of its cluster.

        (n,) int64; a caption without near-duplicates has its own number. Clusters are connected
        components: A ~ B and B ~ C put A and C together even where A and C are less alike.
        """
        sizes = np.concatenate([np.zeros(0, np.int64), *self._sizes])
        n = len(sizes)
        self._shingles.seek(0)
        shingles = np.fromfile(self._shingles, np.uint32)
        starts = np.cumsum(sizes) - sizes
        label = np.arange(n)
        which = np.flatnonzero(sizes)
        for band in range(-1, BANDS):
            keys, next_keys = self._keys_of(band, which), self._keys_of((band + 1) % BANDS, which)
            a, b = _candidates(which, keys, next_keys)
            fresh = label[a] != label[b]
            a, b = a[fresh], b[fresh]

            def alike(cut: tuple[int, int], a: I64 = a, b: I64 = b) -> npt.NDArray[np.bool_]:
                some = slice(*cut)
                return _similar(shingles, starts, sizes, a[some], b[some], self.similarity)

            parts = self._map(alike, _cuts(len(a), _PAIRS_AT_ONCE))
            same = np.concatenate([np.zeros(0, bool), *parts])
            label = join(label, a[same], b[same])
            if band < 0:  # the first of each set of equals goes on
                which = which[label[which] == which]
        return label

    def _keys_of(self, band: int, which: I64) -> U64:
        self._keys[band].seek(0)
        return np.fromfile(self._keys[band], np.uint64)[which]

    def _map(self, work: Callable[[T], R], parts: list[T]) -> list[R]:
        """Numpy lets go of the interpreter lock, so threads share the work."""
        if self.threads < 2 or len(parts) < 2:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, parts))

    def _minhash(self, texts: pa.Array) -> tuple[U32, I64, U64]:
        shingles, sizes = shingle(texts)
        return shingles, sizes, self._band_keys(shingles, sizes)

    def _band_keys(self, shingles: U32, sizes: I64) -> U64:
        """(BANDS + 1, n) uint64: captions with an equal key in a band are candidates.

        The last row, band −1, is the same for equal sets of word pairs and for no others.
        """
        filled = np.flatnonzero(sizes)
        keys = np.zeros((BANDS + 1, len(sizes)), dtype=np.uint64)
        if not len(filled):
            return keys
        starts = (np.cumsum(sizes) - sizes)[filled]
        hashed = np.empty_like(shingles)
        for p in range(BANDS * ROWS):
            np.multiply(shingles, self._factors[p], out=hashed)
            np.add(hashed, self._offsets[p], out=hashed)
            least = np.minimum.reduceat(hashed, starts)
            band = p // ROWS
            keys[band, filled] = _mix64(keys[band, filled] ^ least)
        keys[-1, filled] = np.add.reduceat(_mix64(shingles.astype(np.uint64)), starts)
        return keys


def near_duplicates(texts: Sequence[str | None], similarity: float = SIMILARITY) -> I64:
    """`NearDuplicates` of one list: (n,) int64, the first member of each caption's cluster."""
    near = NearDuplicates(similarity)
    near.add(pa.array(texts, pa.string()))
    return near.clusters()


def shingle(texts: pa.Array) -> tuple[U32, I64]:
    """Hashes of the distinct pairs of neighbouring words of each caption.

    Words are runs of ASCII letters and digits in lower case and of non-ASCII bytes; a one-word
    caption has its word. Returns the hashes, caption after caption and sorted within each, and
    how many each caption has: (m,) uint32 and (n,) int64.
    """
    lower = pc.ascii_lower(pc.fill_null(texts, "")).cast(pa.large_string())
    if isinstance(lower, pa.ChunkedArray):
        lower = lower.combine_chunks()
    n = len(lower)
    _, offset_buffer, data = lower.buffers()
    bounds = np.frombuffer(offset_buffer, dtype=np.int64)[lower.offset : lower.offset + n + 1]
    raw = np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]]
    bounds = bounds - bounds[0]
    begins, ends = _words(raw, bounds)
    if not len(begins):
        return np.zeros(0, np.uint32), np.zeros(n, np.int64)
    hashes = _word_hashes(raw, begins, ends)
    row = np.searchsorted(bounds, begins, side="right") - 1
    paired = row[1:] == row[:-1]
    alone = np.bincount(row, minlength=n)[row] == 1
    pair = _mix64(hashes[:-1] * np.uint64(_BASE) + hashes[1:])[paired]
    rows = np.concatenate([row[:-1][paired], row[alone]])
    hashed = np.concatenate([pair, _mix64(hashes[alone])])
    packed = (rows.astype(np.uint64) << np.uint64(32)) | (hashed >> np.uint64(32))
    packed.sort()  # np.unique would hash, which is slower here and leaves no order
    packed = packed[np.concatenate([[True], packed[1:] != packed[:-1]])]
    sizes = np.bincount((packed >> np.uint64(32)).astype(np.int64), minlength=n)
    return packed.astype(np.uint32), sizes.astype(np.int64)


def _words(raw: npt.NDArray[np.uint8], bounds: I64) -> tuple[I64, I64]:
    """First byte of each word and the byte after its last; no word crosses a caption's bounds."""
    is_word = np.concatenate([[False], _IS_WORD[raw], [False]])
    begins_here = is_word[1:] & ~is_word[:-1]
    ends_here = is_word[:-1] & ~is_word[1:]
    inner = bounds[(bounds > 0) & (bounds < len(raw))]
    inner = inner[is_word[inner] & is_word[inner + 1]]  # two captions touch, letter to letter
    begins_here[inner] = True
    ends_here[inner] = True
    return np.flatnonzero(begins_here), np.flatnonzero(ends_here)


def _word_hashes(raw: npt.NDArray[np.uint8], begins: I64, ends: I64) -> U64:
    """Polynomial hash of each word, by differences of prefix sums modulo 2⁶⁴."""
    powers = _powers(_BASE, len(raw))
    prefix = np.zeros(len(raw) + 1, dtype=np.uint64)
    np.cumsum(_mix64(raw.astype(np.uint64) + np.uint64(1)) * powers, out=prefix[1:])
    return _mix64((prefix[ends] - prefix[begins]) * _powers(_INVERSE, len(raw))[begins])


def _powers(base: int, count: int) -> U64:
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.asarray(np.multiply.accumulate(factors), dtype=np.uint64)


def _candidates(which: I64, keys: U64, next_keys: U64) -> tuple[I64, I64]:
    """Pairs of the captions ``which`` with equal ``keys``: each with the first of its bucket and
    with the member before it, where a bucket is ordered by the keys of the next band, so that a
    large bucket does not part its duplicates."""
    order = np.lexsort((next_keys, keys))
    ordered, which = keys[order], which[order]
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = ordered[1:] != ordered[:-1]
    first = which[np.maximum.accumulate(np.where(opens, np.arange(len(order)), 0))]
    before = np.concatenate([which[:1], which[:-1]])
    more = ~opens & (before != first)
    a = np.concatenate([first[~opens], before[more]])
    b = np.concatenate([which[~opens], which[more]])
    return a, b


def _similar(
    shingles: U32, starts: I64, sizes: I64, a: I64, b: I64, similarity: float
) -> npt.NDArray[np.bool_]:
    """Whether the Jaccard similarity of each pair of captions reaches ``similarity``."""
    least = np.minimum(sizes[a], sizes[b])
    maybe = np.flatnonzero(least >= similarity * np.maximum(sizes[a], sizes[b]))
    a, b = a[maybe], b[maybe]
    joined = np.concatenate(
        [_gather(shingles, starts, sizes, a), _gather(shingles, starts, sizes, b)]
    )
    joined.sort()
    twice = joined[1:][joined[1:] == joined[:-1]]
    shared = np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=len(a))
    same = np.zeros(len(least), dtype=bool)
    same[maybe] = shared >= similarity * (sizes[a] + sizes[b] - shared)
    return same


def _gather(shingles: U32, starts: I64, sizes: I64, which: I64) -> U64:
    """Shingles of the captions ``which``, each marked in its upper half with its place there."""
    size = sizes[which]
    total = np.cumsum(size)
    place = np.repeat(np.arange(len(which), dtype=np.uint64) << np.uint64(32), size)
    at = np.repeat(starts[which] - total + size, size)
    at += np.arange(len(at))
    return np.asarray(place | shingles[at], dtype=np.uint64)


def _cuts(n: int, size: int) -> list[tuple[int, int]]:
    return [(i, min(n, i + size)) for i in range(0, n, size)]


def _mix64(x: U64) -> U64:
    """Spread the bits of x (SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


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
        def make(table: pa.Table) -> Output:
            clusters = [survey.get(id_) for id_ in table.column("id").to_pylist()]
            cells = pa.StructArray.from_arrays(
                [pa.array(clusters, pa.string())], fields=list(CAPTION_REPEAT)
            )
            repeats = len(clusters) - clusters.count(None)
            return Output(pa.table({self.adds[0]: cells}), {"repeats": repeats})

        return make
