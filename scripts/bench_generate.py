"""Training steps and sampled tiles per second of a generator profile, beside the device's floor.

    python scripts/bench_generate.py                      # on a GPU: the gpu profile
    python scripts/bench_generate.py --profile cpu        # small enough for a CPU

Trains the profile on a made-up scene, draws tiles of 256×256 pixels on its layouts with the
profile's solver steps, and measures: training steps/s, tiles/s, peak memory, how busy the device
was, its matrix-multiply rate, and the model's floating-point operations (matrix products and
convolutions, as torch.utils.flop_counter counts them). The floor is the time that those operations
take at the measured rate; the report ends with the hours for 300,000 tiles and their ratio to it.
Writes JSON to --out.
"""

import builder.models  # noqa: F401, I001 - before torch: it says how OpenMP's threads wait

import argparse
import dataclasses
import json
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import peak_mb
from torch.utils.flop_counter import FlopCounterMode

from builder import recipe
from builder.demo import make_scene
from builder.engine import Engine
from builder.models import data, generator, training
from builder.pipeline import Project, run_steps
from builder.store import Store

ROWS = 300_000
STEPS = {"cpu": 15, "gpu": 25}
"""Solver steps that the recipe takes for each profile."""
WARM = 3
"""Training steps before those that count: compiling, choosing kernels. With them fewer than 100
are made, so that no checkpoint is written meanwhile."""


def tiles_of(folder: Path) -> Store:
    """A store with the real tiles of the made-up scene, split."""
    recipe.write(folder, demo=True)
    make_scene(folder / "inputs")
    project = Project(folder)
    steps = project.steps()
    first = next(i for i, step in enumerate(steps) if step.name == "split")
    run_steps(project, steps[: first + 1], Engine("serial"))
    return project.store


def settings_of(options: argparse.Namespace) -> generator.Settings:
    """The profile as it is, never judged on its way, with the batch and crop asked for."""
    made = generator.PROFILES[options.profile]
    known = {one.name for one in dataclasses.fields(made)}
    asked = {"evaluate_every": 0, "batch": options.batch, "crop": options.crop}
    given: dict[str, Any] = {k: v for k, v in asked.items() if k in known and v is not None}
    return dataclasses.replace(made, **given)


def clock() -> float:
    """Seconds: of the wall on a GPU, once it has done all that it was asked; else of the CPU, over
    all threads, so that other programs on the machine do not count."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def train(store: Store, folder: Path, settings: generator.Settings, steps: int) -> dict[str, Any]:
    """Seconds per training step: the difference between a longer and a shorter training."""

    def seconds(count: int) -> float:
        started = clock()
        some = dataclasses.replace(settings, steps=count)
        generator.train(store, folder / f"{count}", some)
        return clock() - started

    seconds(WARM - 1)  # builds kernels and caches
    few = seconds(WARM)
    with watching() as busy:
        many = seconds(WARM + steps)
    return {
        "steps": steps,
        "batch": settings.batch,
        "crop": settings.crop,
        "steps_per_second": steps / max(many - few, 1e-3),
        "busy_percent": busy[0] if busy else None,
        "peak_mb": peak_memory(),
    }


def flops(work: Callable[[], Any]) -> float | None:
    """Operations of matrix products and convolutions; None where compiled code hides them."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) or None


def matmul_rate(seconds: float = 3.0) -> dict[str, Any]:
    """The best rate of a square matrix product in the type that the model runs in."""
    cuda = torch.cuda.is_available()
    side, kind = (8192, torch.bfloat16) if cuda else (2048, torch.float32)
    a, b = (torch.randn(side, side, dtype=kind, device=training.device()) for _ in range(2))
    repeats = 20 if cuda else 1
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = clock()
        for _ in range(repeats):
            a @ b
        best = min(best, (clock() - started) / repeats)
    return {"side": side, "dtype": str(kind).removeprefix("torch."), "flops": 2 * side**3 / best}


@contextmanager
def watching() -> Iterator[list[float]]:
    """Fills the list with how busy the device was, in per cent, when the block ends."""
    busy: list[float] = []
    if not torch.cuda.is_available():
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        yield busy
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        busy.append(100 * used / (time.perf_counter() - started))
        return
    ended = threading.Event()
    readings: list[float] = []
    query = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-i",
        "0",
    ]

    def read() -> None:
        while not ended.wait(0.5):
            try:
                told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
                readings.append(float(told.split()[0]))
            except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
                return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield busy
    finally:
        ended.set()
        thread.join()
        if readings:
            busy.append(float(np.mean(readings)))


def peak_memory() -> int:
    """Most memory in MB of 10⁶ bytes: on a GPU since the last call, else of the process so far."""
    if not torch.cuda.is_available():
        return round(peak_mb())
    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return round(most / 1e6)


def draw(
    folder: Path, layouts: Any, tiles: int, batch: int, how: generator.Sampling
) -> dict[str, Any]:
    """Tiles per second in batches of ``batch``, and operations per tile."""
    model = generator.load(folder)
    rows = np.resize(np.arange(len(layouts)), max(tiles, batch))
    first = layouts[rows[:batch]]
    generator.sample(model, first, range(len(first)), how)  # kernels are chosen
    with watching() as busy:
        started = clock()
        for start in range(0, tiles, batch):
            some = rows[start : min(start + batch, tiles)]
            generator.sample(model, layouts[some], range(start, start + len(some)), how)
        seconds = clock() - started
    memory = peak_memory()
    counted = flops(lambda: generator.sample(model, layouts[:1], [0], how))
    return {
        "tiles": tiles,
        "batch": batch,
        "side": layouts.shape[1],
        "solver_steps": how.steps,
        "tiles_per_second": tiles / seconds,
        "flops_per_tile": counted,
        "busy_percent": busy[0] if busy else None,
        "peak_mb": memory,
    }


def report(told: dict[str, Any]) -> str:
    """What a person reads."""
    made, trained, rate = told["sampling"], told["training"], told["matmul"]

    def use(one: dict[str, Any]) -> str:
        busy = "unknown" if one["busy_percent"] is None else f"{one['busy_percent']:.0f} %"
        return f"device busy {busy}, peak memory {one['peak_mb']:,} MB"

    lines = [
        f"{told['device']}; torch {torch.__version__}; profile {told['profile']}, "
        f"{told['parameters'] / 1e6:.1f} M parameters",
        f"matrix product {rate['side']}² in {rate['dtype']}: {rate['flops'] / 1e12:.3f} TFLOP/s"
        + ("" if told["cuda"] else "; all seconds are CPU seconds, summed over threads"),
        f"training  {trained['steps_per_second']:.3f} steps/s of {trained['batch']} crops of "
        f"{trained['crop']} pixels; {use(trained)}",
        f"sampling  {made['tiles_per_second']:.3f} tiles/s of {made['side']}×{made['side']}, "
        f"{made['solver_steps']} solver steps, {made['batch']} at once; {use(made)}",
    ]
    hours = f"{ROWS:,} tiles: {told['hours']:.1f} {'' if told['cuda'] else 'CPU '}hours"
    if told["floor_hours"] is None:
        lines.append(f"{hours}; operations could not be counted, so there is no floor")
    else:
        lines.append(
            f"{hours}; floor {told['floor_hours']:.2f} hours at "
            f"{made['flops_per_tile'] / 1e9:.1f} GFLOP a tile: {told['ratio']:.2f}×"
        )
    return "\n".join(lines)


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [x.split(": ")[1] for x in told.splitlines() if x.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=list(generator.PROFILES), default="gpu")
    parser.add_argument("--steps", type=int, default=90 if cuda else 12, help="that are timed")
    parser.add_argument("--batch", type=int, help="crops of a training step; the profile's")
    parser.add_argument("--crop", type=int, help="side of a crop; the profile's")
    parser.add_argument("--tiles", type=int, default=1024 if cuda else 4, help="that are drawn")
    parser.add_argument("--at-once", type=int, default=64 if cuda else 1, help="tiles in a batch")
    parser.add_argument("--solver-steps", type=int, help="of sampling; the recipe's")
    parser.add_argument("--out", type=Path, default=Path("bench-generate.json"))
    options = parser.parse_args()
    settings = settings_of(options)
    how = generator.Sampling(steps=options.solver_steps or STEPS[options.profile])
    with tempfile.TemporaryDirectory(prefix="bench-generate-") as name:
        folder = Path(name)
        store = tiles_of(folder)
        layouts = np.array(data.load(store, "train").pixels[..., 3])
        trained = train(store, folder / "models", settings, options.steps)
        last = folder / "models" / f"{WARM + options.steps}"
        made = draw(last, layouts, options.tiles, options.at_once, how)
        weights = (last / generator.WEIGHTS).stat().st_size / 4
    rate = matmul_rate()
    counted = made["flops_per_tile"]
    hours = ROWS / made["tiles_per_second"] / 3600
    floor = counted and ROWS * counted / rate["flops"] / 3600
    told = {
        "device": device_name(),
        "cuda": cuda,
        "torch": torch.__version__,
        "profile": options.profile,
        "settings": dataclasses.asdict(settings),
        "parameters": weights,
        "training": trained,
        "sampling": made,
        "matmul": rate,
        "hours": hours,
        "floor_hours": floor,
        "ratio": floor and hours / floor,
    }
    options.out.write_text(json.dumps(told, indent=2) + "\n")
    print(report(told))


if __name__ == "__main__":
    main()
