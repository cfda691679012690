"""What the benchmarks measure beside time: the memory of a process, or of all below it."""

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def peak_mb() -> float:
    """The most memory that this process has used, in MB of 10⁶ bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts the process that this one was forked from
        return resident_mb("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def resident_mb(field: str = "VmRSS") -> float:
    """Memory of this process now, libraries and mapped files included; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / 1e6


@contextmanager
def watching_tree(pid: int) -> Iterator[list[float]]:
    """Samples the memory of a process and all below it; the list's item is the peak, in MB.

    Pages that processes share are shared out among them (PSS). Linux only; 0 elsewhere.
    """
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            peak[0] = max(peak[0], sum(_shared_out_mb(process) for process in _tree(pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _tree(pid: int) -> list[int]:
    processes = [pid]
    for process in processes:  # grows while it is read
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text()
        except OSError:
            continue
        processes += [int(child) for child in children.split()]
    return processes


def _shared_out_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def in_a_child(command: Sequence[str]) -> dict[str, Any]:
    """The JSON object that ends the output of a command, with ``peak_mb``, the peak memory of its
    tree. Ends this process with the command's own exit code where it failed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with watching_tree(process.pid) as peak:
        text, _ = process.communicate()
    if process.returncode:
        sys.exit(process.returncode)
    figures: dict[str, Any] = json.loads(text.splitlines()[-1])
    return {**figures, "peak_mb": round(peak[0])}
