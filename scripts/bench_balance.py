"""Time the balance plan: seconds and Newton steps for targets and caps over many layouts.

Example: python scripts/bench_balance.py --layouts 100000 --rows 300000

The layouts are drawn at random (Dirichlet) around the class shares of ARAS400k, as pixel counts.
One line per target and cap, in CPU seconds (a busy machine changes them less than the clock's);
"solve" includes the search for a cap that is enough when the target is missed. --json prints one
object instead.
"""

import argparse
import json
import time

import numpy as np
import numpy.typing as npt

from builder.synthesis.balance import allocate, solve
from builder.synthesis.target import Target

SHARES = (28.78, 0.84, 45.33, 17.99, 1.14, 4.22, 1.69)
PIXELS = 256 * 256


def layouts(n: int, seed: int) -> npt.NDArray[np.int64]:
    """(n, 7) pixel counts: most tiles are ruled by one or two classes, as real ones are."""
    mean = np.array(SHARES) / sum(SHARES)
    fractions = np.random.default_rng(seed).dirichlet(1.2 * mean, n)
    return np.asarray(np.rint(fractions * PIXELS), dtype=np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layouts", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--caps", type=int, nargs="*", default=[0, 64, 8], help="0 is no cap")
    parser.add_argument(
        "--targets",
        nargs="*",
        default=[
            "natural",
            "tempered:0.5",
            "uniform",
            "Shrub=0.05,Water=0.05",
            "Tree=0.5,Grass=0.5",
        ],
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pool = layouts(options.layouts, options.seed)
    runs = []
    if not options.json:
        print(
            f"{'target':<24}{'cap':>5}{'met':>5}{'solve s':>9}{'steps':>7}{'distance':>10}"
            f"{'effective':>11}{'cap enough':>12}{'draw s':>8}{'draw error':>12}"
        )
    for target in options.targets:
        for cap in options.caps:
            start = time.process_time()
            plan = solve(pool, Target.parse(target), rows=options.rows, max_repeats=cap or None)
            solved = time.process_time()
            repeats = allocate(plan.weights, options.rows, options.seed, compositions=pool)
            drawn = time.process_time()
            obtained = repeats @ pool / (repeats @ pool).sum()
            run = {
                **plan.summary().as_json(),
                "max_repeats": cap or None,
                "solve_cpu_seconds": solved - start,
                "allocate_cpu_seconds": drawn - solved,
                "allocate_error": float(np.abs(obtained - plan.shares_planned).max()),
            }
            runs.append(run)
            if not options.json:
                print(
                    f"{target:<24}{cap or '–':>5}{'yes' if plan.feasible else 'no':>5}"
                    f"{run['solve_cpu_seconds']:>9.2f}{plan.iterations:>7}{plan.distance:>10.1e}"
                    f"{plan.effective_layouts:>11,.0f}{plan.repeats_needed or '–':>12}"
                    f"{run['allocate_cpu_seconds']:>8.2f}{run['allocate_error']:>12.1e}"
                )
    if options.json:
        print(json.dumps({"layouts": options.layouts, "rows": options.rows, "runs": runs}))


if __name__ == "__main__":
    main()
