"""Cues of a caption ("limited", "dominates", "42 %") and the mention that each is about."""

from builder.scores.lexicon import Quantity
from builder.scores.mentions import DERIVED, OWN, REACH, Mention, Scan, subjects, union
from builder.scores.tokens import (
    AFTER,
    BOUND,
    CLOSE,
    COMMA,
    COPULA,
    COVERAGE,
    DETERMINER,
    DOMINANT,
    DOMINANT_USE,
    DOMINATES,
    EACH,
    END,
    JOIN,
    MENTION,
    OF,
    OPEN,
    OTHER,
    PART,
    PART_CUE,
    PASSIVE,
    PERCENT,
    PREPOSITION,
    RELATIVE,
    SCENE,
    STOP,
    STRONG,
)

_CLAUSE = frozenset((END, COMMA, JOIN, STOP, PREPOSITION, OPEN))
_TRANSPARENT = frozenset((OF, PERCENT, BOUND, STRONG, PART_CUE, DOMINANT, CLOSE))
_ADVERBS = frozenset(
    ("very", "only", "quite", "relatively", "fairly", "rather", "extremely", "mostly", "just",
     "still", "also")
)  # fmt: skip
_TOGETHER = frozenset(("together", "combined", "jointly", "collectively"))


def ahead(scan: Scan, i: int, *, adverb: bool = False) -> Mention | None:
    """The mention that the cue at ``i`` introduces, if it does.

    An adverb ("predominantly", "entirely covered by") reaches over other adjectives and commas.
    """
    kinds = scan.kinds
    others, noun, listed = 0, False, False
    for j in range(i + 1, min(i + 1 + REACH, len(kinds) - 1)):
        kind, after = kinds[j], kinds[j + 1]
        if kind == MENTION:
            return scan.at.get(j)
        if kind == OTHER:
            others += 1
        elif kind in _TRANSPARENT:
            continue
        elif kind in (COMMA, JOIN):
            if others and not adverb and scan.words[j] != "or":
                return None
            listed = True
        elif kind == DETERMINER:
            if listed and not adverb:
                return None
        elif kind in (SCENE, PART):  # "a small area of …", "half of the tile is …"
            noun = True
            if after not in (OF, OPEN, PASSIVE, COPULA, SCENE, PART) and not (
                adverb and after == MENTION
            ):
                return None
        elif kind in (COPULA, PASSIVE):
            if not noun and not (j == i + 1 and after == MENTION):  # "a quarter is forest"
                return None
        elif kind == PREPOSITION:
            if kinds[j - 1] != PASSIVE:
                return None
        elif kind == OPEN:  # "a small percentage (2%) of barren land"
            if kinds[j + 1 : j + 4] != [PERCENT, CLOSE, OF]:
                return None
        else:
            return None
    return None


def quantity(scan: Scan, i: int) -> None:
    """Attach "limited", "patches of", "interspersed with", "more than half"."""
    kinds, cue = scan.kinds, scan.values[i]
    strength = OWN if kinds[i] == STRONG else DERIVED
    at, after = _before(scan, i), kinds[i + 1]
    before = kinds[at]
    predicate = kinds[i] == AFTER or (before in (COPULA, MENTION) and after in _CLAUSE)
    target = None if predicate else ahead(scan, i, adverb=cue.low >= 0.8)
    if target:
        target.claim(cue, strength, scan.words[i])
    elif (cue.fraction or cue.low >= 0.5) and is_sum(scan, at, i):
        scan.sums.append((union(subjects(scan)), (cue.low, cue.high), scan.words[i]))
    elif predicate or before in (COPULA, COVERAGE, DOMINATES) or after == PREPOSITION:
        for one in subjects(scan):
            if not one.strength or (one is scan.last and one.strength < strength):
                one.claim(cue, strength, scan.words[i])


def dominance(scan: Scan, i: int) -> None:
    """Attach "predominantly", "dominates", "the main land use"."""
    kinds, last = scan.kinds, scan.last
    found: list[Mention | None] = []
    if kinds[i] == DOMINATES:
        if last and (STOP not in kinds[last.at : i] or kinds[i - 1] == RELATIVE):
            found = [one for one in subjects(scan) if one is last or not one.strength]
    elif kinds[i] == DOMINANT_USE:
        found = [ahead(scan, i + 1, adverb=True) if kinds[i + 1] == COPULA else last]
    else:
        found = [ahead(scan, i, adverb=True)]
        if (
            found == [None]
            and kinds[_before(scan, i)] == COPULA
            and scan.words[i].endswith("dominant")
        ):
            found = list(subjects(scan))
    for one in found:
        if one is not None:
            one.dominance_at = i
            one.claim(scan.values[i], DERIVED, scan.words[i])


def not_dominant(scan: Scan, i: int) -> int:
    """Attach "is not dominant", "does not dominate"; the place of the denied word, −1 for none.

    Who is not dominant is there all the same; "not dominated by forest" speaks of what follows.
    """
    kinds = scan.kinds
    at = i + 2 if kinds[i + 1] == DETERMINER else i + 1
    said = i > 0 and kinds[i - 1] == COPULA
    if not (
        kinds[at] == DOMINATES
        or (said and kinds[at] == DOMINANT_USE)
        or (said and kinds[at] == DOMINANT and kinds[at + 1] in _CLAUSE)
    ):
        return -1
    for one in subjects(scan):
        cue = Quantity("not dominant", 0.0, scan.values[at].low)
        one.claim(cue, OWN, f"{scan.words[i]} {scan.words[at]}")
    return at


def _before(scan: Scan, i: int) -> int:
    """The token before ``i``, articles, bounds and adverbs skipped; −1, an END, for none."""
    j = i - 1
    while (
        j >= 0 and i - j < 4 and (scan.kinds[j] in (DETERMINER, BOUND) or scan.words[j] in _ADVERBS)
    ):
        j -= 1
    return j


def is_sum(scan: Scan, before: int, i: int) -> bool:
    """Whether the share at ``i`` is of several classes: "trees and shrubs together cover 40 %".

    ``before`` is the token before it and its bound. "A and B, covering 40 %" is said of B, "A and
    B each cover 40 %" of both.
    """
    last = scan.last
    if last is None or last.link != JOIN or before <= last.at:
        return False
    if EACH in scan.kinds[last.at : i + 2]:
        return False
    verb = scan.kinds[before] == COVERAGE and not scan.words[before].endswith("ing")
    return verb or not _TOGETHER.isdisjoint(scan.words[last.at : i])
