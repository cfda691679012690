"""Time and memory of exact and near-duplicate captions on generated text of the true size.

Makes captions that look like the five ARAS400k streams (one of them terse and repetitive), feeds
them batch by batch to `Redundancy` and `NearDuplicates`, and prints one JSON object. Generating
the text is not counted.

    python scripts/bench_duplicates.py                # 2,001,200 captions
    python scripts/bench_duplicates.py --captions 100000
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator

import pyarrow as pa
from measure import peak_mb

from builder.scores.near_duplicates import NearDuplicates
from builder.scores.redundancy import Redundancy

CLASSES = ("forest", "grassland", "cropland", "shrubland", "built-up", "barren", "water")
OPENINGS = (
    "The image depicts a landscape dominated by",
    "The scene is predominantly",
    "The scene depicts a rugged, mountainous terrain with",
    "This satellite image shows",
    "A semi-arid landscape of",
)
ADJECTIVES = (
    "dense",
    "extensive",
    "scattered",
    "sparse",
    "small",
    "patchy",
    "open",
    "vast",
    "narrow",
)
THINGS = (
    "winding river",
    "narrow valley",
    "network of roads",
    "cluster of buildings",
    "rocky slope",
)
THINGS += ("dry riverbed", "deep canyon", "straight canal", "gentle hill", "terraced hillside")
PLACES = ("upper left", "upper right", "lower left", "lower right", "centre", "northern half")
ENDINGS = (
    "suggesting a semi-arid environment with limited agricultural activity",
    "indicating a natural, open landscape with little human development",
    "forming a patchwork across rolling terrain",
    "with minor contributions from the remaining classes",
)


def captions(n: int, seed: int) -> Iterator[str]:
    """Four of five captions varied, the fifth from a short stream that repeats itself."""
    draw = random.Random(seed)
    pick, integer = draw.choice, draw.randrange
    for i in range(n):
        main, other, third = draw.sample(CLASSES, 3)
        share = integer(40, 100)
        if i % 5 == 0:
            share -= share % 3
            yield (
                f"The scene is predominantly {main}, covering {share}% of the area, with minor "
                f"contributions from {other} and {third}."
            )
            continue
        yield (
            f"{pick(OPENINGS)} {pick(ADJECTIVES)} {main} ({share}%) interspersed with "
            f"{pick(ADJECTIVES)} {other} ({(100 - share) // 2}%) and {pick(ADJECTIVES)} {third} "
            f"along a {pick(THINGS)} in the {pick(PLACES)}. A {pick(ADJECTIVES)} {pick(THINGS)} is "
            f"visible near the {pick(PLACES)}, {pick(ENDINGS)}."
        )


def batches(n: int, size: int, seed: int) -> Iterator[pa.Array]:
    """The captions as string arrays of ``size``."""
    source = captions(n, seed)
    for start in range(0, n, size):
        yield pa.array([next(source) for _ in range(min(size, n - start))], pa.string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--captions", type=int, default=2_001_200)
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    exact, near = Redundancy(), NearDuplicates()
    seconds = dict.fromkeys(("generate", "exact", "minhash", "clusters"), 0.0)
    characters = 0
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name] += now - clock
        clock = now

    processor = time.process_time()
    for batch in batches(options.captions, options.batch, options.seed):
        characters += batch.nbytes
        lap("generate")
        exact.add(batch)
        lap("exact")
        near.add(batch)
        lap("minhash")
    summary = exact.summary()
    lap("exact")
    label = near.clusters()
    lap("clusters")
    alone = int((label == range(len(label))).sum())
    print(
        json.dumps(
            {
                "captions": options.captions,
                "bytes_per_caption": round(characters / options.captions, 1),
                "seconds": {name: round(value, 1) for name, value in seconds.items()},
                "seconds_without_generating": round(sum(seconds.values()) - seconds["generate"], 1),
                "cpu_seconds": round(time.process_time() - processor, 1),
                "peak_gb": round(peak_mb() / 1e3, 2),
                "redundancy": {name: level.redundancy for name, level in summary.items()},
                "near_duplicate_share": 1 - alone / len(label),
                "load_average": os.getloadavg()[0],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
