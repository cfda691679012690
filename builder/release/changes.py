"""The difference of two releases, and the version step that it asks for.

Steps follow from what a user of the older release must know:

- **major**, something that they use is gone or means another thing, so that their numbers can no
  longer be compared: a config, column or caption stream removed, rows removed or moved between
  splits, a column of another type or with other classes, other values (pixels, masks, places,
  generator) under an id that was there before;
- **minor**, something came beside what they use: rows, configs, columns or caption streams added;
  a split's or judge's column (block, realism, flags) or the vectors of a baseline redone; masks
  of the same ids in another encoding;
- **patch**, texts only: captions, and the scores and control captions that follow from them, card,
  citation, pictures of the card; or the version alone;
- **none**, the same files.

Before 1.0.0 a major step raises MINOR, see `builder.release.changes.bump`.
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from builder.core.errors import ArasError
from builder.land.columns import BY_NAME

STEPS = ("none", "patch", "minor", "major")
"""From the smallest to the largest."""


def parse_version(text: str) -> tuple[int, int, int]:
    """``1.2.3`` → (1, 2, 3). Raises ArasError for anything else."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text)
    if not match:
        raise ArasError(
            f"version {text!r} is not valid; expected MAJOR.MINOR.PATCH, for example 0.2.0"
        )
    return int(match[1]), int(match[2]), int(match[3])


def bump(version: str, step: str) -> str:
    """The version after a step, as semver.org has it; the same version after the step ``none``.

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
    return ".".join(str(number) for number in after[step])


TEXTS = frozenset({"caption"})
JUDGES = frozenset(
    {"split", "segment", "realism", "quality", "memorize", "copies", "score", "duplicates"}
)
"""Makers of columns (see `builder.land.columns`) whose change is a patch, and a minor step."""
FOLLOWS = {"caption_scores": "captions"}
"""Columns that change with another column, and ask for no step of their own then."""


@dataclass
class Changes:
    """The difference of two releases. A part is ``kind/split``; counts are rows."""

    old: str
    new: str
    rows: dict[str, int]
    added: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    reencoded: dict[str, int] = field(default_factory=dict)
    """Pictures with the same pixels in other bytes."""
    configs_added: list[str] = field(default_factory=list)
    configs_removed: list[str] = field(default_factory=list)
    streams_added: list[str] = field(default_factory=list)
    streams_removed: list[str] = field(default_factory=list)
    columns_added: dict[str, str] = field(default_factory=dict)
    columns_removed: dict[str, str] = field(default_factory=dict)
    columns_changed: dict[str, list[str]] = field(default_factory=dict)
    not_compared: list[str] = field(default_factory=list)
    beside: dict[str, dict[str, int]] = field(default_factory=dict)
    """Parts of configs controls and embeddings with other content → rows, old and new."""
    texts: list[str] = field(default_factory=list)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """The largest step that any of the changes asks for."""
        asked = [
            _step_of(column) for column in self.changed if FOLLOWS.get(column) not in self.changed
        ]
        gone = (self.columns_removed, self.columns_changed, self.configs_removed)
        fewer = any(rows["new"] < rows["old"] for rows in self.beside.values())
        if any(gone) or self.streams_removed or self.removed or self.moved or fewer:
            asked.append("major")
        more = (self.added, self.columns_added, self.configs_added, self.streams_added)
        if any(more) or self.reencoded:
            asked.append("minor")
        asked += ["patch" if part.startswith("controls/") else "minor" for part in self.beside]
        if self.texts or self.old != self.new or self.not_compared:
            asked.append("patch")
        return max(asked, key=STEPS.index, default="none")

    @property
    def next_version(self) -> str:
        """The older release's version, stepped."""
        return bump(self.old, self.step)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "step": self.step, "next_version": self.next_version}


def _step_of(column: str) -> str:
    maker = BY_NAME[column].made_by if column in BY_NAME else ""
    if column == "flags":  # what [quality] makes of the judges' columns while packaging
        return "minor"
    return "patch" if maker in TEXTS else "minor" if maker in JUDGES else "major"
