"""What the GPU profiles compute and keep in memory, counted without a GPU.

    python scripts/rehearse_gpu.py                       # about a minute
    python scripts/rehearse_gpu.py --models segmenter

Runs one training step of each model's GPU profile, and one drawing, at full size on torch's meta
device (`builder.models.rehearsal`), and prints Markdown: operations, weights, memory, and hours on
one GPU. Operations and bytes are counted. Hours follow from them, the peak rates of NVIDIA's data
sheets and utilisations that are assumed and that no run has measured; what waits for memory or for
the CPU is in them only as utilisation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import builder.models  # noqa: F401, I001 - before torch: it says how OpenMP's threads wait

import argparse

from builder.models import rehearsal
from builder.models.costs import PEAKS, SIDE, UTILISATIONS
from builder.models.drawing import Sampling
from builder.models.settings import AUTOENCODER, DRAWING, GENERATOR, PROFILES

ROWS = 300_000


def hours(tflop: float) -> list[str]:
    """On each GPU, from the highest utilisation to the lowest."""
    low, high = UTILISATIONS
    return [
        " – ".join(f"{tflop / peak / share / 3600:.2g}" for share in (high, low))
        for peak in PEAKS.values()
    ]


def line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=[*PROFILES, "drawing"])
    parser.add_argument("--tiles", type=int, default=DRAWING["gpu"].batch, help="drawn at once")
    given = parser.parse_args()
    wanted = given.models or [*PROFILES, "drawing"]
    shares = " – ".join(f"{share:.0%}" for share in reversed(UTILISATIONS))
    devices = [f"h, {device} at {shares}" for device in PEAKS]
    head = ["", "TFLOP", "a tile", "M weights", "GB that stay", "GB of a step", "read back"]
    print(line(*head, *devices))
    print(line(*["---"] * (len(head) + len(devices))))
    for name in wanted:
        if name == "drawing":
            steps = DRAWING["gpu"].steps
            counted = rehearsal.drawing_batch(
                GENERATOR["gpu"], AUTOENCODER["gpu"], Sampling(steps=steps), given.tiles, SIDE
            )
            batch, runs = given.tiles, ROWS / given.tiles
            what = f"{batch} tiles drawn in {steps} steps ({ROWS:,} in all)"
        else:
            settings = PROFILES[name]["gpu"]
            counted = rehearsal.training_step(settings, AUTOENCODER["gpu"])
            batch, runs = settings.batch, settings.steps
            what = f"{name}: a step of {batch} ({runs:,} in all)"
        tflop = counted.flops / 1e12
        memory = [f"{size / 1e9:.2f}" for size in (counted.state_bytes, counted.activation_bytes)]
        print(
            line(
                what,
                f"{tflop:.2f}",
                f"{tflop / batch:.4f}",
                f"{counted.parameters / 1e6:.1f}",
                *memory,
                counted.read_back,
                *hours(tflop * runs),
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
