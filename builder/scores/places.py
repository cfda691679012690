"""Where a caption says that a class lies: the mention that a region is about."""

from builder.scores.lexicon import ABSENT_BEFORE
from builder.scores.mentions import REACH, Mention, Scan
from builder.scores.tokens import (
    BOUND,
    COMMA,
    COPULA,
    COVERAGE,
    DETERMINER,
    DOMINANT,
    DOMINATES,
    JOIN,
    MENTION,
    NO,
    OF,
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

_IN_CLAUSE = frozenset(
    (OTHER, DETERMINER, STRONG, PART_CUE, PART, SCENE, OF, COPULA, COVERAGE, DOMINATES, DOMINANT,
     PASSIVE, NO, PERCENT, BOUND)
)  # fmt: skip
_PLACING = ("in ", "to ", "on ", "at ", "near ", "along ", "around ", "toward ", "towards ")


def qualify(scan: Scan, one: Mention) -> None:
    """Attach the words right beside a class: "northern forest", "tree-free"."""
    kinds, values, at = scan.kinds, scan.values, one.at
    if at and kinds[at - 1] in (OTHER, STRONG):
        for j in (at - 1, at - 2):
            if kinds[j] == OTHER and type(values[j]) is int:
                one.regions.append((values[j], scan.words[j]))
    if values[at + 1] is ABSENT_BEFORE:
        one.negated, one.negated_after = scan.words[at + 1], True


def is_relative(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` is the side of a class: "to the left of the lake"."""
    if scan.kinds[i + 1] == OF:
        for kind in scan.kinds[i + 2 : i + 5]:
            if kind in (MENTION, SCENE):
                return kind == MENTION
    return False


def is_behind(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` speaks of the last mention, not of one to come."""
    kinds, last = scan.kinds, scan.last
    if last is None:
        return False
    between = kinds[last.at + 1 : i]
    if STOP in between or RELATIVE in between or _opens_item(scan, i):
        return False
    placed = PREPOSITION in kinds[max(0, i - 2) : i] or scan.words[i].startswith(_PLACING)
    opens = COMMA in between or not placed  # "the northern half is …"
    return not (opens and kinds[i + 1] in (COPULA, COVERAGE, DOMINATES, PASSIVE))


def _opens_item(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` opens an item of its own: "…, and in the centre a town"."""
    kinds = scan.kinds
    j = i - 2 if kinds[i - 1] == DETERMINER else i - 1
    if j < 0 or kinds[j] not in (COMMA, JOIN):
        return False
    for k in range(i + 1, min(i + 1 + REACH // 2, len(kinds) - 1)):
        if kinds[k] == MENTION:
            return True
        if kinds[k] == OF and SCENE not in kinds[k + 1 : k + 3]:
            return False
        if kinds[k] not in _IN_CLAUSE and kinds[k - 1] != PASSIVE:
            return False
    return False
