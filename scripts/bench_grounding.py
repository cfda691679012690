"""Captions scored per second on two processes: parsing, claims as columns, grounding,
discrimination among 2,048 reference tiles, and numerals together.

Takes the captions of FILE (a captions.csv as published) or, without one, generated captions, and
repeats them up to N with a number changed in each, so that no two are the same text. Prints one
JSON object.

    python scripts/bench_grounding.py captions.csv
"""

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from bench_duplicates import captions

from builder.land.caption_tables import Reader
from builder.scores.caption_scores import score_captions
from builder.scores.references import TILES, Reference

CHUNK = 2_000
REFERENCE = Reference("drawn", np.random.default_rng(1).dirichlet(np.full(7, 0.4), TILES))
Chunk = tuple[list[str], np.ndarray]


def score(chunk: Chunk) -> tuple[int, float, float]:
    """Rows, sum of grounding and processor seconds of one chunk."""
    start = time.process_time()
    scores = score_captions(*chunk, reference=REFERENCE)["grounding"].to_numpy()
    return len(scores), float(scores.sum()), time.process_time() - start


def material(path: Path | None) -> list[tuple[str, np.ndarray]]:
    """Captions and the compositions of their tiles."""
    if path is None:
        shares = np.random.default_rng(0).dirichlet(np.ones(7), 2_000)
        return list(zip(captions(2_000, 0), shares, strict=True))
    pairs = []
    for batch in Reader(path).batches(CHUNK):
        if batch.shares is None:
            raise SystemExit(f"{path}: no class columns")
        for texts in batch.texts.values():
            pairs += [(t, p) for t, p in zip(texts, batch.shares, strict=True) if t]
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    pairs = material(options.file)
    chosen = [pairs[i % len(pairs)] for i in range(options.captions)]
    texts = [f"{text} Tile {i + 1000}." for i, (text, _) in enumerate(chosen)]
    shares = np.array([share for _, share in chosen])
    cuts = range(0, len(texts), CHUNK)
    chunks: list[Chunk] = [(texts[i : i + CHUNK], shares[i : i + CHUNK]) for i in cuts]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        list(pool.map(score, chunks[: options.processes]))  # start-up is not counted
        start = time.perf_counter()
        done = list(pool.map(score, chunks))
        seconds = time.perf_counter() - start
    processor = sum(spent for _, _, spent in done)
    print(
        json.dumps(
            {
                "captions": len(texts),
                "words_per_caption": round(sum(len(t.split()) for t in texts) / len(texts), 1),
                "processes": options.processes,
                "seconds": round(seconds, 2),
                "captions_per_second": round(len(texts) / seconds),
                "captions_per_processor_second": round(len(texts) / processor),
                "mean_grounding": round(sum(total for _, total, _ in done) / len(texts), 4),
                "load_average": round(os.getloadavg()[0], 2),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
