"""Matrix products of vectors in tiles, exact and in parallel: rows dense or sparse."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch.nn.functional import pad

T = TypeVar("T")

Array = npt.NDArray[Any]
"""(n, d) vectors: an array, a memory map, or a scipy CSR matrix, whose rows are counted by
``shape[0]``, as it has no ``len``."""
Ints = npt.NDArray[np.int64]

_TILES = {"cpu": (1024, 512)}  # images × texts; a worker's scores and flags stay in its cache
_TILE = (8192, 8192)
_NARROW = 16


def tile_on(device: str) -> tuple[int, int]:
    """Images × texts of one tile of scores on a device."""
    return _TILES.get(torch.device(device).type, _TILE)


def device_of(vectors: Array, device: str) -> str:
    """Where products of ``vectors`` are made: sparse ones on the CPU, whatever was asked for."""
    return "cpu" if sparse.issparse(vectors) else device


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
    are widened, so that equal vectors have equal scores wherever they stand. Sparse rows are
    summed in the order of their columns, which no shape changes.
    """
    if sparse.issparse(left):
        return torch.from_numpy((left @ right.T).toarray())
    a, b = len(left), len(right)
    if min(a, b) < _NARROW:
        left, right = (pad(one, (0, 0, 0, max(0, _NARROW - len(one)))) for one in (left, right))
    if left.device.type == "cpu" and _has_onednn():
        scores = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    else:
        scores = left @ right.T
    narrow: torch.Tensor = scores[:a, :b]
    return narrow.contiguous()


@functools.cache
def _has_onednn() -> bool:
    """Whether oneDNN's linear layer is there and right; torch gives it no public name."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    probe = torch.arange(6.0).view(3, 2)
    try:
        out = torch.ops.mkldnn._linear_pointwise(probe, probe, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.equal(out, probe @ probe.T))


def block(array: Array, index: slice | Ints, device: str = "cpu") -> Any:
    """Rows of an array or memory map as a float32 tensor; float32 on the CPU is not copied.

    Rows of a sparse matrix stay one.
    """
    if sparse.issparse(array):
        return array[index]
    return torch.from_numpy(np.ascontiguousarray(array[index])).to(device, torch.float32)


def in_parallel(work: Callable[[int], T], starts: range, device: str) -> Iterator[T]:
    """Results of ``work`` in order, by as many workers as torch has threads, one thread each.

    Independent workers never wait for each other; threads inside each operation would meet at a
    barrier thousands of times a second, which costs a factor of ten and more on a busy machine.
    TF32 and bfloat16 products are forbidden meanwhile: they err by a thousand times TOLERANCE.
    """
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
