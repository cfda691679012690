"""How long `aras --help` takes: the target is 0.3 s, of which Python itself is the floor.

python scripts/bench_cli.py [--runs 20]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "aras --help": ["-m", "builder", "--help"],
    "aras build --help": ["-m", "builder", "build", "--help"],
}


def measure(arguments: list[str], runs: int) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of each run."""
    wall, cpu = [], []
    for _ in range(runs):
        before, started = os.times(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        wall.append(time.perf_counter() - started)
        after = os.times()
        cpu.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    print(f"{'':<20} {'median':>8} {'best':>8} {'CPU':>8}  seconds of {runs} runs")
    for name, arguments in COMMANDS.items():
        wall, cpu = measure(arguments, runs)
        print(
            f"{name:<20} {statistics.median(wall):8.3f} {min(wall):8.3f} "
            f"{statistics.median(cpu):8.3f}"
        )


if __name__ == "__main__":
    main()
