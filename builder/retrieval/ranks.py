"""Exact ranks of image↔text retrieval in blocks: one matrix product serves both directions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError

if TYPE_CHECKING:  # ranks are read and written without torch, which takes seconds to load
    import torch

T = TypeVar("T")

Array = npt.NDArray[Any]
"""(n, d) vectors: an array, a memory map, or a scipy CSR matrix, whose rows are counted by
``shape[0]``, as it has no ``len``."""
Ints = npt.NDArray[np.int64]

_TILES = {"cpu": (1024, 512)}  # images × texts; a worker's scores and flags stay in its cache
_TILE = (8192, 8192)
_NARROW = 16


def is_sparse(array: Any) -> bool:
    """Whether it is a matrix of scipy, which is not imported to ask."""
    return hasattr(array, "tocsr")


def tile_on(device: str) -> tuple[int, int]:
    """Images × texts of a tile of scores on a device."""
    import torch

    return _TILES.get(torch.device(device).type, _TILE)


def device_of(vectors: Array, device: str) -> str:
    """Where products of ``vectors`` are computed: always on the CPU for sparse vectors."""
    return "cpu" if is_sparse(vectors) else device


def product_only(
    images: Array, texts: Array, text_range: tuple[int, int], tile: tuple[int, int] | None = None
) -> None:
    """The products of `ranks.count` on the CPU and nothing else: the floor under its time."""
    rows, cols = tile or tile_on("cpu")

    def strip(left: int) -> None:
        captions = block(texts, slice(left, min(left + cols, text_range[1])))
        for top in range(0, len(images), rows):
            product(block(images, slice(top, top + rows)), captions)

    for _ in in_parallel(strip, range(*text_range, cols), "cpu"):
        pass


def product(left: Any, right: Any) -> torch.Tensor:
    """``left`` (a, d) times ``right`` (b, d) transposed, as `block` gives them: (a, b) float32.

    On the CPU by oneDNN where torch has it: more than twice as fast on AMD processors as the
    MKL behind ``torch.mm``. Narrow products go to other kernels, which sum in another order: they
    are widened, so that equal vectors have equal scores wherever they are. Sparse rows are
    summed in the order of their columns, which no shape changes.
    """
    import torch
    from torch.nn.functional import pad

    if is_sparse(left):
        return torch.from_numpy((left @ right.T).toarray())
    a, b = len(left), len(right)
    if min(a, b) < _NARROW:
        left, right = (pad(rows, (0, 0, 0, max(0, _NARROW - len(rows)))) for rows in (left, right))
    if left.device.type == "cpu" and _has_onednn():
        scores = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    else:
        scores = left @ right.T
    narrow: torch.Tensor = scores[:a, :b]
    return narrow.contiguous()


@functools.cache
def _has_onednn() -> bool:
    """Whether oneDNN's linear layer is there and right; torch gives it no public name."""
    import torch

    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    probe = torch.arange(6.0).view(3, 2)
    try:
        out = torch.ops.mkldnn._linear_pointwise(probe, probe, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(torch.equal(out, probe @ probe.T))


def block(array: Array, index: slice | Ints, device: str = "cpu") -> Any:
    """Rows of an array or memory map as a float32 tensor; float32 on the CPU is not copied.

    Rows of a sparse matrix stay sparse.
    """
    import torch

    if is_sparse(array):
        return array[index]
    return torch.from_numpy(np.ascontiguousarray(array[index])).to(device, torch.float32)


def in_parallel(work: Callable[[int], T], starts: range, device: str) -> Iterator[T]:
    """Results of ``work`` in order, by as many workers as torch has threads, one thread each.

    Independent workers never wait for each other; threads inside each operation would meet at a
    barrier thousands of times a second, which costs a factor of ten and more on a busy machine.
    TF32 and bfloat16 products are forbidden meanwhile: they err by a thousand times TOLERANCE.
    """
    import torch

    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    on_cpu = torch.device(device).type == "cpu"
    torch.set_float32_matmul_precision("highest")
    if on_cpu:
        torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads if on_cpu else 1) as pool:
            yield from pool.map(work, starts)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


# Written by hand: retrieval metrics of scikit-learn, torchmetrics and clip-benchmark break ties as
# they fall, which makes a collapsed model look perfect or hopeless, and none adds up over shards.
TOLERANCE = 1e-6
"""Scores this near to each other are equal: float32 products of unit vectors err by about 3e-7."""

Floats = npt.NDArray[np.float64]

_PAIRS = 128  # pairs per product when their own scores are computed


@dataclass(frozen=True)
class Positives:
    """Which image and text belong together: pair p is (images[p], texts[p]), each pair once.

    Both are (P,) int64 and sorted by text. Every image and every text has at least one pair.
    """

    images: Ints
    texts: Ints

    @staticmethod
    def of(images: npt.ArrayLike, texts: npt.ArrayLike) -> Positives:
        """Sort pairs by text, then image, and drop repeated pairs."""
        pairs = np.unique(np.stack([np.asarray(texts), np.asarray(images)], axis=1), axis=0)
        return Positives(pairs[:, 1].astype(np.int64), pairs[:, 0].astype(np.int64))

    @staticmethod
    def owned(owner: npt.ArrayLike) -> Positives:
        """The classic relation: text u belongs to image owner[u] alone."""
        return Positives(np.asarray(owner, dtype=np.int64), np.arange(np.size(owner)))


@dataclass(frozen=True)
class Best:
    """Score of every query's best positive: images (N,) and texts (M,), float64.

    ``image_tied`` and ``text_tied`` count the positives that are level with it, itself included.
    """

    images: Floats
    texts: Floats
    image_tied: Ints
    text_tied: Ints

    @staticmethod
    def of(scores: Floats, positives: Positives, images: int, texts: int) -> Best:
        """From the score of each pair, (P,)."""
        highest, tied = [], []
        for query, size in ((positives.images, images), (positives.texts, texts)):
            top = np.full(size, -np.inf)
            np.maximum.at(top, query, scores)
            highest.append(top)
            tied.append(np.bincount(query[scores >= top[query] - TOLERANCE], minlength=size))
        return Best(*highest, *tied)


@dataclass(frozen=True)
class Ranks:
    """Per query, the negatives above its best positive, level with it, and all; (Q,) int64 each.

    Ordering the level items at random puts the query's rank in above + 1 … above + level + 1:
    uniformly where one positive is level with the best, and lower on average where there are
    more. ``tied`` (Q,) counts those, the best included; None means 1 each.
    """

    above: Ints
    level: Ints
    negatives: Ints
    tied: Ints | None = None

    @property
    def expected(self) -> Floats:
        """Mean 1-based rank over random orders of the ties, (Q,)."""
        return self.above + 1 + self.level / (1 + self.several)

    @property
    def parts(self) -> dict[str, Ints]:
        """The arrays that there are, by name, for files."""
        arrays = {name: getattr(self, name) for name in PARTS}
        return arrays if self.tied is None else {**arrays, "tied": self.tied}

    @property
    def several(self) -> Ints:
        """``tied``, with ones where it is None."""
        return np.ones_like(self.above) if self.tied is None else self.tied

    def take(self, index: Ints) -> Ranks:
        """The ranks of some queries, or of queries repeated."""
        tied = None if self.tied is None else self.tied[index]
        return Ranks(self.above[index], self.level[index], self.negatives[index], tied)


PARTS = ("above", "level", "negatives")
"""Arrays of `Ranks` that every file of ranks has; ``tied`` is there where positives tie."""

Pair = tuple[Ranks, Ranks]
"""Ranks of (text→image, image→text)."""


@dataclass(frozen=True)
class Counts:
    """Partial counts of a part of the score matrix; those of disjoint parts add up."""

    image_above: Ints
    image_level: Ints
    text_above: Ints
    text_level: Ints

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.image_above + other.image_above,
            self.image_level + other.image_level,
            self.text_above + other.text_above,
            self.text_level + other.text_level,
        )

    def ranks(self, positives: Positives, best: Best | None = None) -> tuple[Ranks, Ranks]:
        """(text→image, image→text) ranks, once the parts cover the whole matrix.

        ``best`` says how many positives of a query tie; without it they count as single.
        """
        n, m = len(self.image_above), len(self.text_above)
        tied = (None, None) if best is None else (best.text_tied, best.image_tied)
        of_image = np.bincount(positives.images, minlength=n)
        of_text = np.bincount(positives.texts, minlength=m)
        return (
            Ranks(self.text_above, self.text_level, n - of_text, tied[0]),
            Ranks(self.image_above, self.image_level, m - of_image, tied[1]),
        )


def check_device(device: str) -> None:
    """Raise ArasError when torch cannot work on ``device``."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArasError(f"device {device}: {reason}; --device cpu works everywhere") from error


def rank(
    images: Array,
    texts: Array,
    positives: Positives,
    device: str = "cpu",
    advance: Callable[[float], None] | None = None,
) -> tuple[Ranks, Ranks]:
    """(text→image, image→text) ranks of unit embeddings (N, d) and (M, d) under `positives`."""
    best = best_positive(images, texts, positives, device)
    counts = count(images, texts, positives, best, device=device, advance=advance)
    return counts.ranks(positives, best)


def best_positive(images: Array, texts: Array, positives: Positives, device: str = "cpu") -> Best:
    """Highest score among each query's positives.

    A pair's own score is the diagonal of a small matrix product: a sum in another order (dot
    products, float64) differs from the big product by more than TOLERANCE for some vectors, and
    then a collapsed model, whose scores are all equal, would look perfect.
    """
    import torch

    device = device_of(images, device)

    @torch.inference_mode()
    def own(start: int) -> Floats:
        i = positives.images[start : start + _PAIRS]
        t = positives.texts[start : start + _PAIRS]
        scores = product(block(images, i, device), block(texts, t, device)).diagonal()
        return np.asarray(scores.cpu().double().numpy())

    parts = in_parallel(own, range(0, len(positives.texts), _PAIRS), device)
    scores = np.concatenate(list(parts))
    return Best.of(scores, positives, images.shape[0], texts.shape[0])


def count(
    images: Array,
    texts: Array,
    positives: Positives,
    best: Best,
    image_range: tuple[int, int] | None = None,
    text_range: tuple[int, int] | None = None,
    device: str = "cpu",
    tile: tuple[int, int] | None = None,
    advance: Callable[[float], None] | None = None,
) -> Counts:
    """Count, for every query, the negatives above and level with its best positive.

    ``images`` is (N, d) and ``texts`` (M, d): numpy arrays or memory maps of float32 or float16
    whose rows have unit length, or both sparse. ``image_range`` and ``text_range`` restrict the
    score matrix to a part; the results of parts that cover it once sum to the whole, so shards
    and workers need share nothing but `best`. Memory beyond the embeddings is two tiles of
    scores. Positives are left out by index, never by comparing scores. ``advance`` is called with
    the number of texts done. Definition: above = #(s > best + 1e-6), level = #(|s − best| ≤ 1e-6).
    """
    import torch

    first, last = image_range or (0, images.shape[0])
    begin, end = text_range or (0, texts.shape[0])
    device = device_of(images, device)
    kind = torch.device(device).type
    rows, cols = tile or tile_on(device)
    edges = np.append(np.arange(first, last, rows), last)
    # Off the CPU one copy of the images serves all tiles; on it blocks are views.
    gallery = None if kind == "cpu" else block(images, slice(first, last), device)
    # Two bars per query, a tolerance below and above its best positive: level and above count
    # from the first on, above from the second.
    image_bars = torch.from_numpy(_bars(best.images)).to(device)
    text_bars = torch.from_numpy(_bars(best.texts)).to(device)

    @torch.inference_mode()
    def strip(left: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        """Counts of all images against the texts from ``left`` on: (2, N) and (2, texts)."""
        right = min(left + cols, end)
        captions = block(texts, slice(left, right), device)
        of_images = torch.zeros(2, images.shape[0], dtype=torch.int64, device=device)
        of_texts = torch.zeros(2, right - left, dtype=torch.int64, device=device)
        own = _positives_of(positives, left, right, edges)
        flags = torch.empty(rows * cols, device=device)
        for k, (top, bottom) in enumerate(pairwise(edges)):
            inside = slice(int(top), int(bottom))
            if gallery is None:
                scores = product(block(images, inside, device), captions)
            else:
                scores = product(gallery[top - first : bottom - first], captions)
            r, c = own(k)
            scores[r.to(device), c.to(device)] = -torch.inf
            # Flags are float32 zeros and ones: torch compares and sums those with SIMD
            # instructions, which it does not for booleans.
            flag = flags[: scores.numel()].view_as(scores)
            for bar in (0, 1):
                torch.ge(scores, image_bars[bar, inside, None], out=flag)
                of_images[bar, inside] += flag.sum(1).long()
                torch.ge(scores, text_bars[bar, left:right], out=flag)
                of_texts[bar] += flag.sum(0).long()
            del scores  # before the next product takes as much again
        return left, of_images.cpu(), of_texts.cpu()

    image_counts = np.zeros((2, images.shape[0]), dtype=np.int64)
    text_counts = np.zeros((2, texts.shape[0]), dtype=np.int64)
    for left, of_images, of_texts in in_parallel(strip, range(begin, end, cols), device):
        image_counts += of_images.numpy()
        text_counts[:, left : left + of_texts.shape[1]] = of_texts.numpy()
        if advance is not None:
            advance(of_texts.shape[1])
    return Counts(
        image_counts[1],
        image_counts[0] - image_counts[1],
        text_counts[1],
        text_counts[0] - text_counts[1],
    )


def _bars(best: Floats) -> npt.NDArray[np.float32]:
    """(2, Q): the lowest scores that count as level with ``best`` and as above it."""
    above = np.nextafter((best + TOLERANCE).astype(np.float32), np.float32(np.inf))
    return np.stack([(best - TOLERANCE).astype(np.float32), above])


def _positives_of(
    positives: Positives, left: int, right: int, edges: Ints
) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    """k → (row, column) of the positive pairs inside the k-th tile of texts left … right."""
    import torch

    low, high = np.searchsorted(positives.texts, (left, right))
    order = np.argsort(positives.images[low:high], kind="stable")
    rows = positives.images[low:high][order]
    cols = positives.texts[low:high][order] - left
    bounds = np.searchsorted(rows, edges)

    def inside(k: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(bounds[k], bounds[k + 1])
        return torch.from_numpy(rows[part] - edges[k]), torch.from_numpy(cols[part])

    return inside
