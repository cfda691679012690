"""How many rows further attempts lift, and at what cost, with a text model on this machine.

Compositions drawn around the class shares of ARAS400k are captioned by the model with sampled
decoding; a text whose discrimination is below --least is written again, and of a row's attempts
the best counts. Prints, for one attempt and for --attempts: rows that pass, mean discrimination,
rows whose text changed for a better one, attempts, new tokens and seconds. The first attempt is
the same in both.

    python scripts/measure_attempts.py --model SmolLM2-135M-Instruct.Q4_1.gguf --rows 96
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench_caption import PRESET, tiles

from builder.captions.ask import Ask
from builder.captions.base import Running
from builder.captions.checked import Checked, fits
from builder.captions.local_model import Local


def measure(backend: Local, rows: int, attempts: int, least: float, seed: int) -> dict[str, Any]:
    """Figures of a run with so many attempts, and ``scores``, the discrimination of each row."""
    requests = tiles(rows, seed)
    checked = Checked(backend, attempts, min_discrimination=least, score=fits, keep_best=True)
    start = time.perf_counter()
    answers = checked.caption(requests)
    seconds = time.perf_counter() - start
    scores = [
        0.0 if answer.text is None else fits([request], [answer.text])[0].discrimination or 0.0
        for request, answer in zip(requests, answers, strict=True)
    ]
    return {
        "attempts": sum(answer.counts["attempts"] for answer in answers),
        "captions": sum(answer.text is not None for answer in answers),
        "passed": sum(score >= least for score in scores),
        "mean_discrimination": round(sum(scores) / rows, 3),
        "new_tokens": sum(answer.counts.get("new_tokens", 0) for answer in answers),
        "seconds": round(seconds, 1),
        "scores": scores,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder or GGUF file")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--least", type=float, default=0.7)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-new-tokens", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ask = Ask(
        model=options.model.stem,
        prompt=PRESET["prompt"],
        system=PRESET["system"],
        sees=("composition",),
        decoding="sample",
        temperature=options.temperature,
        top_p=0.8,
        max_new_tokens=options.max_new_tokens,
    )
    with contextlib.redirect_stdout(sys.stderr):
        backend = Local(ask, Running(path=options.model.absolute(), batch=options.batch))
    first, several = (
        measure(backend, options.rows, n, options.least, options.seed)
        for n in (1, options.attempts)
    )
    pairs = list(zip(first.pop("scores"), several.pop("scores"), strict=True))
    report = {
        "model": ask.model,
        "rows": options.rows,
        "least": options.least,
        "one_attempt": first,
        "several": several,
        "lifted": sum(after > before for before, after in pairs),
        "lifted_over_the_threshold": sum(
            before < options.least <= after for before, after in pairs
        ),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
