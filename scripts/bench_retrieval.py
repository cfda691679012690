"""Measure `aras bench embeddings` against clip-benchmark and against the matrix product alone.

One run on one machine: the same files, each measurement in a process of its own, ratios at the
end. clip-benchmark goes into a folder of its own, without its dependencies:

    pip install --no-deps --target clipbench clip-benchmark==1.6.2
    python scripts/bench_retrieval.py --clip-benchmark clipbench            # 12 GB of memory
    python scripts/bench_retrieval.py --clip-benchmark clipbench --sizes 2000 10000    # a minute

--memory measures instead the peak memory of a text-to-text baseline (BM25) and of all protocols at
full size, from captions of random words. --start-to-end measures the command itself, from its start
to its end with all imports, beside the product of the same vectors alone, and every figure of the
protocols at the smaller size.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from measure import peak_mb, resident_mb

WIDTH, PER_IMAGE = 512, 5
SIZES = (10_000, 100_240)
"""Images beside clip-benchmark, and at full size."""
BATCHES = (64, 512)  # images per batch; 64 is the default of clip-benchmark's program
KS = (1, 5, 10)
# Threads that wait asleep: on a busy machine, spinning ones slow clip-benchmark many times. A
# machine may pin numpy to the products of an older processor, at half the speed; not here.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
ENVIRONMENT["OMP_WAIT_POLICY"] = "passive"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clip-benchmark", type=Path, metavar="DIR", help="where pip put it")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=2,
        default=SIZES,
        metavar=("PEER", "FULL"),
        help="images beside clip-benchmark, and at full size",
    )
    parser.add_argument("--skip-full", action="store_true", help="leave the full size out")
    parser.add_argument("--memory", action="store_true", help="peak memory of BM25, nothing else")
    parser.add_argument(
        "--start-to-end", action="store_true", help="the command beside the bare product, only"
    )
    parser.add_argument("--folder", type=Path, help="where the vectors go (default: temporary)")
    parser.add_argument("--output", type=Path, help="write the JSON here too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child](arguments)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.start_to_end:
            sizes = arguments.sizes[: 1 if arguments.skip_full else 2]
            folder = arguments.folder or Path(temporary)
            report = {str(size): start_to_end(folder / str(size), size) for size in sizes}
            peer = folder / str(sizes[0])
            report["protocols"] = child("protocols", peer)
        elif arguments.memory:
            report = {"words": child("words", Path(temporary), arguments.sizes[1])}
        else:
            report = measure(arguments, arguments.folder or Path(temporary))
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All measurements, and the ratios that the targets are about."""
    import torch

    report: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "load_before": os.getloadavg()[0],
        },
        "width": WIDTH,
    }
    peer = make(folder / "peer", arguments.sizes[0])
    ours = child("ours", peer)
    report["peer_size"] = {"ours": ours}
    if arguments.clip_benchmark:
        for batch in BATCHES:
            theirs = child("theirs", peer, batch, arguments.clip_benchmark)
            report["peer_size"][f"clip_benchmark_batch_{batch}"] = {
                **theirs,
                "times_slower": theirs["seconds"] / ours["seconds"],
                "times_cpu_time": theirs["cpu_seconds"] / ours["cpu_seconds"],
                "times_memory": theirs["peak_mb"] / ours["peak_mb"],
                "times_memory_beyond_vectors_and_libraries": (
                    theirs["peak_mb"] - theirs["loaded_mb"]
                )
                / (ours["peak_mb"] - ours["loaded_mb"]),
                "equal_recall": equal(ours["recall"], theirs["recall"]),
            }
    if not arguments.skip_full:
        full = make(folder / "full", arguments.sizes[1])
        report["full_size"] = child("full", full)
    report["machine"]["load_after"] = os.getloadavg()[0]
    return report


def make(folder: Path, images: int) -> Path:
    """Vectors of ``images`` images and five texts each, unit rows, with noise that costs recall."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = images * PER_IMAGE
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (images, WIDTH))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float32, (texts, WIDTH))
    owner = np.repeat(np.arange(images), PER_IMAGE)
    rng = np.random.default_rng(0)
    for start in range(0, images, 10_000):
        rows = rng.standard_normal((min(10_000, images - start), WIDTH), dtype=np.float32)
        x[start : start + len(rows)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for start in range(0, texts, 10_000):
        mine = owner[start : start + 10_000]
        rows = x[mine] + 0.25 * rng.standard_normal((len(mine), WIDTH), dtype=np.float32)
        y[start : start + len(rows)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(folder / "owner.npy", owner)
    return folder


def child(name: str, folder: Path, batch: int = 0, package: Path | None = None) -> dict[str, Any]:
    """Run one measurement in a fresh process: its peak memory is its own."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    command += ["--batch", str(batch)]
    if package:
        command += ["--clip-benchmark", str(package)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=ENVIRONMENT)
    result: dict[str, Any] = json.loads(done.stdout)
    print(f"{folder.name} {name} {batch or ''}: {result['seconds']:.2f} s", file=sys.stderr)
    return result


def start_to_end(folder: Path, images: int) -> dict[str, Any]:
    """`aras bench embeddings` as a user runs it, by numpy, and the bare product, by torch."""
    if not (folder / "owner.npy").exists():
        make(folder, images)
    files = {"images": "x", "texts": "y", "owner": "owner"}
    options = [f"--{option}={folder / name}.npy" for option, name in files.items()]
    command = [sys.executable, "-m", "builder", "bench", "embeddings", "--json", *options]
    bare, started = child("product", folder), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    whole = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1e3,
        "vectors_mb": sum((folder / f"{name}.npy").stat().st_size for name in "xy") / 1e6,
    }
    ratios = {f"times_{key}": whole[key] / bare[key] for key in ("seconds", "cpu_seconds")}
    return {"bare": bare, "whole": whole, **ratios}


def product(arguments: argparse.Namespace) -> dict[str, Any]:
    """The matrix product alone, torch loaded already."""
    from builder.retrieval.ranks import product_only

    x, y = (np.load(arguments.folder / f"{name}.npy", mmap_mode="c") for name in "xy")
    product_only(x[:64], y[:64], (0, 64))
    clock = Clock()
    product_only(x, y, (0, len(y)))
    return clock.read()


def protocols(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure that `aras bench retrieval` computes of vectors: S, D, C, intervals, classes."""
    from builder.retrieval.protocol import About, evaluate

    x, y = (np.load(arguments.folder / f"{name}.npy", mmap_mode="c") for name in "xy")
    owner, rng = np.load(arguments.folder / "owner.npy"), np.random.default_rng(0)
    captions = [f"caption {n}" for n in rng.integers(0, len(y), len(y))]  # a third repeats another
    about = About(captions=captions, compositions=rng.dirichlet(np.ones(7), len(x)))
    clock = Clock()
    figures = evaluate(x, y, owner, about)
    return {**clock.read(), "peak_mb": peak_mb(), "protocols": list(figures.protocols)}


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    from builder.retrieval.metrics import summary
    from builder.retrieval.ranks import Positives, rank
    from builder.retrieval.vector_files import load, load_owner

    folder = arguments.folder
    images, texts = load(folder / "x.npy"), load(folder / "y.npy")
    owner = load_owner(folder / "owner.npy", images, texts)
    loaded, clock = resident_mb(), Clock()
    t2i, i2t = rank(images.vectors, texts.vectors, Positives.owned(owner))
    recall = summary(t2i, i2t).as_json()
    return {**clock.read(), "loaded_mb": loaded, "peak_mb": peak_mb(), "recall": recall}


def theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """clip-benchmark's own evaluate() with a model that passes vectors through."""
    import torch

    sys.path.append(str(arguments.clip_benchmark))
    from clip_benchmark.metrics.zeroshot_retrieval import evaluate

    folder, size = arguments.folder, arguments.batch
    x, y = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in "xy")

    class Model:
        encode_image = encode_text = staticmethod(lambda vectors: vectors)

    def batches() -> Any:
        for start in range(0, len(x), size):
            part = x[start : start + size]
            rows = y[start * PER_IMAGE : (start + len(part)) * PER_IMAGE]
            yield part, rows.view(len(part), PER_IMAGE, WIDTH)

    loaded, clock = resident_mb(), Clock()
    scores = evaluate(Model(), batches(), torch.stack, "cpu", amp=False, recall_k_list=list(KS))
    recall = {
        way: {f"R@{k}": 100 * scores[f"{name}_retrieval_recall@{k}"] for k in KS}
        for way, name in (("t2i", "image"), ("i2t", "text"))
    }
    return {**clock.read(), "loaded_mb": loaded, "peak_mb": peak_mb(), "recall": recall}


def full(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ranks and the bare product, strip by strip in turn, so that both see the same machine."""
    import torch

    from builder.retrieval.metrics import summary
    from builder.retrieval.ranks import Positives, best_positive, count, product_only
    from builder.retrieval.vector_files import load, load_owner

    folder = arguments.folder
    images, texts = load(folder / "x.npy"), load(folder / "y.npy")
    positives = Positives.owned(load_owner(folder / "owner.npy", images, texts))
    x, y = images.vectors, texts.vectors
    size = (x.nbytes + y.nbytes) / 1e6
    clock = Clock()
    best = best_positive(x, y, positives)
    spent = {"ours": clock.read(), "floor": Clock.zero(), "torch_mm": Clock.zero()}
    total = None
    edges = np.linspace(0, len(y), 21).astype(int)
    for begin, end in pairwise(edges):
        clock = Clock()
        part = count(x, y, positives, best, text_range=(int(begin), int(end)))
        spent["ours"] = clock.read(spent["ours"])
        total = part if total is None else total + part
        clock = Clock()
        product_only(x, y, (int(begin), int(end)))
        spent["floor"] = clock.read(spent["floor"])
    peak = peak_mb()
    spent["torch_mm"] = plain_products(torch, x, y)
    t2i, i2t = total.ranks(positives, best)
    return {
        **spent["ours"],
        "floor": spent["floor"],
        "torch_mm_extrapolated": spent["torch_mm"],
        "times_floor": spent["ours"]["seconds"] / spent["floor"]["seconds"],
        "times_floor_cpu_time": spent["ours"]["cpu_seconds"] / spent["floor"]["cpu_seconds"],
        "embeddings_mb": size,
        "peak_mb": peak,
        "beyond_embeddings_mb": peak - size,
        "images": len(x),
        "texts": len(y),
        "recall": summary(t2i, i2t).as_json(),
    }


def words(arguments: argparse.Namespace) -> dict[str, Any]:
    """BM25 on captions of ten random words, and every figure of `aras bench retrieval`."""
    from builder.retrieval.blind import TERMS, bm25
    from builder.retrieval.protocol import About, evaluate

    rng, images = np.random.default_rng(0), arguments.batch
    owner = np.repeat(np.arange(images), PER_IMAGE)
    # Words as frequent as in language: the k-th in proportion to 1 / k.
    chance = 1 / np.arange(1, TERMS + 1)
    drawn = rng.choice(TERMS, (images, 20), p=chance / chance.sum())
    documents = [" ".join(f"w{k}" for k in row[:10]) for row in drawn]
    captions = [" ".join(f"w{k}" for k in rng.permutation(drawn[i])[:10]) for i in owner]
    about = About(captions=captions, compositions=rng.dirichlet(np.ones(7), images))
    loaded, clock = resident_mb(), Clock()
    x, y = bm25(documents, captions)
    results = evaluate(x, y, owner, about)
    dense = 4 * (x.shape[0] + y.shape[0]) * x.shape[1] / 1e6
    sizes = {"images": images, "texts": len(captions), "terms": x.shape[1], "dense_mb": dense}
    return {
        **clock.read(),
        "loaded_mb": loaded,
        "peak_mb": peak_mb(),
        **sizes,
        "mR": results.S.mR,
    }


def plain_products(torch: Any, x: Any, y: Any) -> dict[str, float]:
    """Time of torch.mm with its own threads, on some texts, scaled to all of them."""
    rows, columns = min(2000, len(x)), min(4000, len(y))
    a, b = torch.from_numpy(np.asarray(x)), torch.from_numpy(np.asarray(y[: 6 * columns]))
    out = torch.empty(rows, columns)
    done, clock = 0, Clock()
    for i in range(0, len(a) - rows + 1, rows):
        for j in range(0, len(b) - columns + 1, columns):
            torch.mm(a[i : i + rows], b[j : j + columns].T, out=out)
            done += rows * columns
    return {key: value * len(x) * len(y) / done for key, value in clock.read().items()}


CHILDREN = {
    "product": product,
    "protocols": protocols,
    "ours": ours,
    "theirs": theirs,
    "full": full,
    "words": words,
}


class Clock:
    """Wall and processor seconds since it was made; the latter hardly feel other programs."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    @staticmethod
    def zero() -> dict[str, float]:
        return {"seconds": 0.0, "cpu_seconds": 0.0}

    def read(self, before: dict[str, float] | None = None) -> dict[str, float]:
        before = before or self.zero()
        return {
            "seconds": before["seconds"] + time.perf_counter() - self.wall,
            "cpu_seconds": before["cpu_seconds"] + time.process_time() - self.cpu,
        }


def equal(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether every recall lies between our bounds for ties, to float32's last digit."""
    low, high = ours.get("pessimistic", ours), ours.get("optimistic", ours)
    return all(
        low[way][name] - 1e-4 <= value <= high[way][name] + 1e-4
        for way in ("t2i", "i2t")
        for name, value in theirs[way].items()
    )


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
