"""What synthetic tiles made for class balance may be expected to do for retrieval, and from what
that is inferred: the dose–response experiment, by the agreement of a classifier with the tiles."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from builder.core.manifest import TileComparison

FILE = Path(__file__).with_name("balance_rule.json")


@dataclass(frozen=True)
class Rule:
    """Balanced synthesis equals repeating real tiles where the agreement of a classifier with
    synthetic tiles is ``break_even`` of that with real ones (95 %: ``low`` to ``high``); each unit
    of that share more gives ``points`` of mean recall. ``source`` is the experiment; of its other
    studies the one with the highest break-even, ``strictest``, had it in ``strictest_in``."""

    break_even: float
    low: float
    high: float
    points: float
    source: str
    strictest: float
    strictest_in: str


@dataclass(frozen=True)
class Expected:
    """``share``: agreement on synthetic tiles over that on real ones; ``points``: mean recall over
    repeating real tiles, at a ratio of 1; ``degrades`` where ``share`` is below the break-even."""

    share: float
    points: float
    rule: Rule

    @property
    def degrades(self) -> bool:
        return self.share < self.rule.break_even

    @property
    def value(self) -> str:
        return (
            f"{self.points:+.0f} points of mean recall over repeating real tiles, by an agreement "
            f"of {self.share:.2f} of that on real tiles"
        )

    @property
    def usual(self) -> str:
        return (
            f"equal at {self.rule.break_even:.2f} ({self.rule.low:.2f} to {self.rule.high:.2f}); "
            f"inferred from {self.rule.source}, not measured here; with {self.rule.strictest_in} "
            f"they were equal at {self.rule.strictest:.2f} only"
        )

    @property
    def finding(self) -> str:
        if not self.degrades:
            return ""
        return (
            "synthetic tiles may be expected to degrade retrieval if they are used for class "
            f"balance: a judge agrees with them {self.share:.2f} times as often as with real "
            f"tiles, and they equal repeating real tiles at {self.rule.break_even:.2f} "
            f"({self.rule.low:.2f} to {self.rule.high:.2f}; inferred from {self.rule.source})"
        )


@lru_cache(maxsize=1)
def rule() -> Rule:
    """The rule that this version of aras ships with."""
    return Rule(**json.loads(FILE.read_text(encoding="utf-8")))


def expected(comparison: TileComparison, by: Rule | None = None) -> Expected | None:
    """By the judge that agrees least; None where no judge looked at both kinds of tiles."""
    by = by or rule()
    shares = [own.synthetic / own.real for own in comparison.agreement.values() if own.real > 0]
    if not shares:
        return None
    share = min(shares)
    return Expected(share, by.points * (share - by.break_even), by)
