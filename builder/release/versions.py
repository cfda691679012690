"""Version numbers as semver.org has them: MAJOR.MINOR.PATCH and the steps between."""

import re

from builder.errors import ArasError

STEPS = ("none", "patch", "minor", "major")
"""From the smallest to the largest."""


def parse_version(text: str) -> tuple[int, int, int]:
    """``1.2.3`` → (1, 2, 3). Raises ArasError for anything else."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text)
    if not found:
        raise ArasError(f"version {text!r} is not MAJOR.MINOR.PATCH, such as 1.2.0")
    return int(found[1]), int(found[2]), int(found[3])


def bump(version: str, step: str) -> str:
    """The version after a step, as semver.org has it; the same one after the step ``none``.

    Before 1.0.0 anything may change (semver's rule 4), so a major step raises MINOR there; 1.0.0
    comes when the author says so.
    """
    major, minor, patch = parse_version(version)
    if major == 0 and step == "major":
        step = "minor"
    after = {
        "none": (major, minor, patch),
        "patch": (major, minor, patch + 1),
        "minor": (major, minor + 1, 0),
        "major": (major + 1, 0, 0),
    }
    return ".".join(str(one) for one in after[step])
