"""Training steps and sampled tiles per second of a generator profile, beside the device's floor.

    python scripts/bench_generate.py                      # on a GPU: the gpu profile
    python scripts/bench_generate.py --profile cpu        # small enough for a CPU
    python scripts/bench_generate.py --kind pixel         # instead of the profile's latents

Trains the profile on a made-up scene (for latents its autoencoder too, for as many steps), draws
tiles of 256×256 pixels on its layouts with the profile's solver steps, and measures: training
steps/s, tiles/s, peak memory, how busy the device was, its matrix-multiply rate, and the model's
floating-point operations (matrix products and convolutions, as torch.utils.flop_counter counts
them). Of a training only the steps count that it does once it runs: no set-up, compiling or saving.
The floor is the time that those operations take at the measured rate; the report ends with the
hours for 300,000 tiles and their ratio to it. Writes JSON to --out.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

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
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from builder.pipeline import recipe
from builder.pipeline.demo import make_scene
from builder.core.engine import Engine
from builder.models import autoencoder, data, generator, training
from builder.models.settings import (
    AUTOENCODER,
    DRAWING,
    GENERATOR,
    AutoencoderSettings,
    GeneratorSettings,
)
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.core.store import Store
from scripts.measure import peak_mb

ROWS = 300_000
WARM = 3
"""Training steps before those that count: compiling, choosing kernels. With them fewer than 100
are made, so that no checkpoint is written meanwhile."""

Settings = TypeVar("Settings", GeneratorSettings, AutoencoderSettings)


def tiles_of(folder: Path) -> Store:
    """A store with the real tiles of the made-up scene, split."""
    recipe.write(folder, demo=True)
    make_scene(folder / "inputs")
    project = Project(folder)
    steps = project.steps()
    first = next(i for i, step in enumerate(steps) if step.name == "split")
    run_steps(project, steps[: first + 1], Engine("serial"))
    return project.store


def asked_for(profile: Settings, options: argparse.Namespace) -> Settings:
    """The profile as it is, never judged on its way, but for what the options say."""
    known = {setting.name for setting in dataclasses.fields(profile)}
    asked = {"evaluate_every": 0, "steps": WARM + options.steps}
    asked |= {name: getattr(options, name) for name in ("batch", "crop", "kind")}
    if not torch.cuda.is_available():
        asked["compile"] = False  # refused there
    given: dict[str, Any] = {k: v for k, v in asked.items() if k in known and v is not None}
    return dataclasses.replace(profile, **given)


def clock() -> float:
    """Seconds: of the wall on a GPU, once it has done all that it was asked; else of the CPU, over
    all threads, so that other programs on the machine do not count."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def train(module: Any, store: Store, folder: Path, settings: Any) -> dict[str, Any]:
    """Train ``module``'s model; how fast, how busy and how large from step `WARM` to the last."""
    timed, done = settings.steps - WARM, 0
    figures: dict[str, Any] = {"steps": timed, "batch": settings.batch, "crop": settings.crop}
    watch = ExitStack()

    def after_step(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == WARM:
            peak_memory()
            figures["busy"], figures["started"] = watch.enter_context(watching()), clock()
        elif done == settings.steps:
            figures["steps_per_second"] = timed / max(clock() - figures.pop("started"), 1e-3)
            watch.close()
            figures["peak_mb"] = peak_memory()

    hook = register_optimizer_step_post_hook(after_step)
    with watch:
        module.train(store, folder, settings)
    hook.remove()
    busy = figures.pop("busy")
    return {**figures, "busy_percent": busy[0] if busy else None}


def flops(work: Callable[[], Any]) -> float:
    """Operations of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


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
                output = subprocess.run(query, capture_output=True, text=True, check=True).stdout
                readings.append(float(output.split()[0]))
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
    folder: Path, settings: GeneratorSettings, layouts: Any, tiles: int, batch: int, steps: int
) -> dict[str, Any]:
    """Tiles per second in batches of ``batch``, and operations per tile."""
    how = generator.Sampling(steps=steps)
    fast = {"compiled": settings.compile, "channels_last": settings.channels_last}
    model = generator.load(folder, **fast)
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
    plain = generator.load(folder)  # compiled code hides its operations
    counted = flops(lambda: generator.sample(plain, layouts[:1], [0], how))
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


def report(results: dict[str, Any]) -> str:
    """What a person reads."""
    drawn, trained, rate = results["sampling"], results["training"], results["matmul"]

    def use(part: dict[str, Any]) -> str:
        busy = "unknown" if part["busy_percent"] is None else f"{part['busy_percent']:.0f} %"
        return f"device busy {busy}, peak memory {part['peak_mb']:,} MB"

    lines = [
        f"{results['device']}; torch {torch.__version__}; profile {results['profile']}, on "
        f"{results['settings']['kind']}s, {results['parameters'] / 1e6:.1f} M parameters",
        f"matrix product {rate['side']}² in {rate['dtype']}: {rate['flops'] / 1e12:.3f} TFLOP/s"
        + ("" if results["cuda"] else "; all seconds are CPU seconds, summed over threads"),
        *(
            f"training  {part['steps_per_second']:.3f} steps/s of {part['batch']} crops of "
            f"{part['crop']} pixels{what}; {use(part)}"
            for part, what in ((trained, ""), (results["autoencoder"], " (autoencoder)"))
            if part
        ),
        f"sampling  {drawn['tiles_per_second']:.3f} tiles/s of {drawn['side']}×{drawn['side']}, "
        f"{drawn['solver_steps']} solver steps, {drawn['batch']} at once; {use(drawn)}",
    ]
    lines.append(
        f"{ROWS:,} tiles: {results['hours']:.1f} {'' if results['cuda'] else 'CPU '}hours; floor "
        f"{results['floor_hours']:.2f} hours at {drawn['flops_per_tile'] / 1e9:.1f} GFLOP a tile: "
        f"{results['ratio']:.2f}×"
    )
    return "\n".join(lines)


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [x.split(": ")[1] for x in text.splitlines() if x.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"


def measure(
    store: Store, folder: Path, options: argparse.Namespace, rate: dict[str, Any]
) -> dict[str, Any]:
    """All figures, of models that are trained in ``folder``; ``rate`` is `matmul_rate`'s."""
    cuda = torch.cuda.is_available()
    settings = asked_for(GENERATOR[options.profile], options)
    own = None
    if settings.kind == "latent":
        coder = asked_for(AUTOENCODER[options.profile], options)
        own = train(autoencoder, store, folder / autoencoder.NAME, coder)
    trained = train(generator, store, folder / generator.NAME, settings)
    layouts = np.array(data.load(store, "train").pixels[..., 3])
    steps = options.solver_steps or settings.solver_steps(DRAWING[options.profile])
    last = folder / generator.NAME
    sampling = draw(last, settings, layouts, options.tiles, options.at_once, steps)
    hours = ROWS / sampling["tiles_per_second"] / 3600
    floor = ROWS * sampling["flops_per_tile"] / rate["flops"] / 3600
    return {
        "device": device_name(),
        "cuda": cuda,
        "torch": torch.__version__,
        "profile": options.profile,
        "settings": dataclasses.asdict(settings),
        "parameters": (last / generator.WEIGHTS).stat().st_size / 4,
        "training": trained,
        "autoencoder": own,
        "sampling": sampling,
        "matmul": rate,
        "hours": hours,
        "floor_hours": floor,
        "ratio": hours / floor,
    }


def parser() -> argparse.ArgumentParser:
    cuda = torch.cuda.is_available()
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--profile", choices=list(GENERATOR), default="gpu")
    arguments.add_argument("--kind", choices=["pixel", "latent"], help="the profile's")
    arguments.add_argument("--steps", type=int, default=90 if cuda else 12, help="that are timed")
    arguments.add_argument("--batch", type=int, help="crops of a training step; the profile's")
    arguments.add_argument("--crop", type=int, help="side of a crop; the profile's")
    arguments.add_argument("--tiles", type=int, default=1024 if cuda else 4, help="that are drawn")
    arguments.add_argument(
        "--at-once", type=int, default=64 if cuda else 1, help="tiles in a batch"
    )
    arguments.add_argument("--solver-steps", type=int, help="of sampling; the profile's")
    arguments.add_argument("--out", type=Path, default=Path("bench-generate.json"))
    return arguments


def main() -> None:
    options = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-generate-") as name:
        store = tiles_of(Path(name))
        results = measure(store, Path(name) / "models", options, matmul_rate())
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(report(results))


if __name__ == "__main__":
    main()
