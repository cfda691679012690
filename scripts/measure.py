"""What a benchmark measures beside time."""

import resource
from pathlib import Path


def peak_mb() -> float:
    """The most memory that this process has used, in MB of 10⁶ bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts the process that this one was forked from
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
