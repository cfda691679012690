"""Time batched captions against one row at a time, with a text model on this machine.

Example: python scripts/bench_caption.py --model SmolLM2-135M-Instruct.Q4_1.gguf --rows 64

The slow way is how the scripts behind ARAS400k call a model: chat template, generate() and decode
for one row after the other. The fast way is the transformers backend of `aras caption`. Both get
the same prompts (compositions drawn around the class shares of ARAS400k), the same weights in the
same precision, greedy decoding and the same limit, so their texts are compared as well. --repeat
alternates the two ways and prints the median of the ratios; on a machine that is shared, the
ratio of CPU seconds is the steadier one. --json prints one object instead.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builder.captions.ask import Ask
from builder.captions.base import Running
from builder.captions.local_model import Local
from builder.land import prompts
from builder.land.prompts import Request

SHARES = (28.78, 0.84, 45.33, 17.99, 1.14, 4.22, 1.69)
PIXELS = 256 * 256

PRESET = prompts.PRESETS["text_qwen3-4b"]
"""The text stream of ARAS400k: its prompts, whatever the model."""


def tiles(rows: int, seed: int) -> list[Request]:
    """Requests with compositions of two or three main classes, as most tiles have."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(1.2 * np.array(SHARES) / sum(SHARES) * 4, rows)
    counts = [rng.multinomial(PIXELS, share) for share in shares]
    return [Request(f"bench/{i}", seed=i, pixels=pixels) for i, pixels in enumerate(counts)]


def one_by_one(backend: Local, requests: Sequence[Request]) -> tuple[list[str], int]:
    """Texts and new tokens of the plain loop that the original scripts run."""
    texts, tokens = [], 0
    with torch.inference_mode():
        for request in requests:
            text = prompts.render(backend.ask.prompt, backend.ask.sees, request)
            batch = backend.tokenizer.apply_chat_template(
                [
                    {"role": "system", "content": backend.ask.system},
                    {"role": "user", "content": text},
                ],
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            ).to(backend.network.device)
            out = backend.network.generate(
                **batch, max_new_tokens=backend.ask.max_new_tokens, do_sample=False
            )
            new = out[0, batch["input_ids"].shape[1] :]
            texts.append(" ".join(backend.tokenizer.decode(new, skip_special_tokens=True).split()))
            tokens += len(new)
    return texts, tokens


def measure(backend: Local, rows: int, seed: int, show: int) -> dict[str, Any]:
    """One run of both ways over the same rows."""
    requests = tiles(rows, seed)
    start, busy = time.perf_counter(), time.process_time()
    answers = backend.caption(requests)
    batched, batched_cpu = time.perf_counter() - start, time.process_time() - busy
    start, busy = time.perf_counter(), time.process_time()
    texts, tokens = one_by_one(backend, requests)
    single, single_cpu = time.perf_counter() - start, time.process_time() - busy
    pairs = [(a.text, text) for a, text in zip(answers, texts, strict=True) if a.text]
    shown = [
        {
            "land_cover": prompts.percentages(request.pixels),
            "text": answer.text or f"({answer.error})",
        }
        for request, answer in zip(requests[:show], answers[:show], strict=True)
        if request.pixels is not None
    ]
    return {
        "single_captions_per_s": round(rows / single, 3),
        "batched_captions_per_s": round(rows / batched, 3),
        "single_tokens_per_s": round(tokens / single, 1),
        "batched_tokens_per_s": round(sum(a.counts["new_tokens"] for a in answers) / batched, 1),
        "ratio": round(single / batched, 2),
        "cpu_ratio": round(single_cpu / batched_cpu, 2),
        "failed": rows - len(pairs),
        "same_text": sum(a == b for a, b in pairs),
        "captions": shown,
    }


def describe(run: dict[str, Any]) -> str:
    return (
        f"one by one {run['single_captions_per_s']} captions/s ({run['single_tokens_per_s']} "
        f"tokens/s), batched {run['batched_captions_per_s']} ({run['batched_tokens_per_s']}): "
        f"{run['ratio']}x by the clock, {run['cpu_ratio']}x in CPU seconds; {run['same_text']} "
        f"texts equal, {run['failed']} failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder or GGUF file")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's default")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10, help="captions to print")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    ask = Ask(
        model=options.model.stem,
        prompt=PRESET["prompt"],
        system=PRESET["system"],
        sees=("composition",),
        max_new_tokens=options.max_new_tokens,
        dtype=options.dtype,
    )
    with contextlib.redirect_stdout(sys.stderr):
        backend = Local(ask, Running(path=options.model.absolute(), batch=options.batch))
    backend.caption(tiles(2, 1))  # the first call is slower than all later ones
    runs = []
    for _ in range(options.repeat):
        runs.append(measure(backend, options.rows, options.seed, options.show))
        print(describe(runs[-1]), file=sys.stderr, flush=True)
    report = {
        "model": ask.model,
        "device": str(backend.network.device),
        "dtype": str(backend.network.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "rows": options.rows,
        "batch": options.batch,
        "runs": [
            {name: value for name, value in run.items() if name != "captions"} for run in runs
        ],
        "median_ratio": statistics.median(run["ratio"] for run in runs),
        "median_cpu_ratio": statistics.median(run["cpu_ratio"] for run in runs),
        "captions": runs[0]["captions"],
    }
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
        return
    print(
        f"{report['model']} on {report['device']}, {report['dtype']}, {report['threads']} threads, "
        f"{options.rows} rows, batch {options.batch}"
    )
    print(
        f"median ratio {report['median_ratio']}x by the clock, "
        f"{report['median_cpu_ratio']}x in CPU seconds"
    )
    for caption in report["captions"]:
        print(f"\n  {caption['land_cover']}\n    {caption['text']}")


if __name__ == "__main__":
    main()
