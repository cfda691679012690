"""Where a caption says that a class lies: "in the upper left", "northern forest", "top: lake"."""

from typing import Any

from builder.scores.lexicon import (
    ABSENT_BEFORE,
    ALL,
    BOUND,
    CLOSE,
    COMMA,
    COPULA,
    COVERAGE,
    DETERMINER,
    DOMINANT,
    DOMINATES,
    END,
    EXCEPT,
    JOIN,
    MENTION,
    NO,
    OF,
    OPEN,
    OTHER,
    PART,
    PART_CUE,
    PASSIVE,
    PERCENT,
    PREPOSITION,
    REGION,
    RELATIVE,
    SCENE,
    STOP,
    STRONG,
    Lexicon,
    Side,
)
from builder.scores.mentions import REACH, Mention, Scan, chain, subjects

_BREAKS = frozenset(
    ("while", "whereas", "where", "but", "although", "though", "because", "if", "so", "yet", "as")
)
_BEFORE = frozenset((PREPOSITION, COVERAGE, JOIN, MENTION))
_ENDS = frozenset((END, COMMA, CLOSE))
_OPENS = frozenset((END, COMMA, OPEN, JOIN))


def sides(kinds: list[int], values: list[Any], words: list[str], lexicon: Lexicon) -> None:
    """Make regions of words for a side that stand alone: "north: forest", "lake, top"."""
    for i, value in enumerate(values):
        if type(value) is Side or (type(value) is int and kinds[i] == OTHER):
            before = kinds[i - 1] if i else END
            placed = before == DETERMINER and i > 1 and kinds[i - 2] in _BEFORE
            subject = before == DETERMINER and (i < 2 or kinds[i - 2] in _OPENS)
            if subject and kinds[i + 1] in (COPULA, COVERAGE, PASSIVE, DOMINATES):
                kinds[i], values[i] = REGION, int(value)  # "the north is forested"
                continue
            bare = before == MENTION and type(value) is Side and len(words[i]) > 1
            opens = before in _OPENS or placed or before == PREPOSITION or bare
            placed = placed and words[i - 1] not in ("its", "their")
            divides = kinds[i + 1] == OF and MENTION in kinds[i + 2 : i + 4]
            divides = divides and not lexicon.lines.isdisjoint(words[i + 2 : i + 4])
            if divides and (opens or before in (COPULA, MENTION)):
                kinds[i], values[i] = REGION, int(value)  # "south of the track"
                continue
            closes = kinds[i + 1] in _ENDS or words[i + 1] == ":" or kinds[i + 1] == JOIN
            if opens and closes and "from" not in words[max(0, i - 3) : i]:
                kinds[i], values[i] = REGION, int(value)


def place(scan: Scan, i: int, waiting: int | None) -> int | None:
    """Attach the region at ``i`` to the classes before it, or let it wait for those to come."""
    last = scan.last
    subject = not scan.words[i].startswith(_PLACING) and scan.kinds[i - 1] != PREPOSITION
    if subject and "surrounded by" in scan.words[i + 1 : i + 3]:
        return None  # "the centre is surrounded by trees"
    verb = scan.words[i - 1] in _LIES or scan.kinds[i - 1] in (COPULA, STOP)
    if scan.words[i].endswith(" it") and scan.kinds[i - 1] not in _OPENS and not verb:
        return waiting  # "the road below it"
    if last is None or not is_behind(scan, i):
        return None if scan.kinds[i + 1] in (JOIN, END) else i
    placed = [last]
    if last.link == JOIN and not last.joined:
        placed = [m for m in subjects(scan) if m is last or not m.regions]
    for mention in placed:
        mention.regions.append((scan.values[i], scan.words[i]))
        if fills(scan, i):
            mention.fills = len(mention.regions) - 1
    return waiting


_IN_CLAUSE = frozenset(
    (OTHER, DETERMINER, STRONG, PART_CUE, PART, SCENE, OF, COPULA, COVERAGE, DOMINATES, DOMINANT,
     PASSIVE, NO, PERCENT, BOUND)
)  # fmt: skip
_LIES = frozenset(
    ("sits", "sit", "lie", "flows", "flow", "runs", "run", "stand", "rests", "occurs")
)
_OF_SCENE = frozenset((OF, DETERMINER, SCENE))
_EXACT = frozenset(("half", "third", "quarter", "quadrant"))
_ROUNDING = 0.05
_SHOWS = frozenset(("shows", "holds", "contains", "is", "belongs", "consists"))
_PLACING = ("in ", "to ", "on ", "at ", "near ", "along ", "around ", "toward ", "towards ")


def qualify(scan: Scan, mention: Mention) -> None:
    """Attach the words right beside a class: "northern forest", "tree-free"."""
    kinds, values, at = scan.kinds, scan.values, mention.at
    if at and kinds[at - 1] in (OTHER, STRONG):
        for j in (at - 1, at - 2):
            if kinds[j] == OTHER and type(values[j]) is int:
                mention.regions.append((values[j], scan.words[j]))
    if values[at + 1] is ABSENT_BEFORE:
        mention.negated, mention.negated_after = scan.words[at + 1], True


def is_line(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` is a side of something that divides the tile: a road, a river."""
    if scan.kinds[i + 1] != OF:
        return False
    at = i + 3 if scan.kinds[i + 2] == DETERMINER else i + 2
    return at in scan.at and scan.words[at] in scan.lines


def order(scan: Scan, i: int) -> None:
    """Attach "from top to bottom: wood, beach, sea" to two or three classes."""
    first = next((m for m in scan.mentions if m.at > i), None)
    if scan.kinds[i + 1] not in (COPULA, COMMA) and scan.words[i + 1] not in ("we", "one", "you"):
        return
    if first is None or END in scan.kinds[i : first.at]:
        return
    listed = chain(scan.mentions, first)
    regions = scan.values[i][{2: slice(0, 2), 3: slice(2, 5)}.get(len(listed), slice(0))]
    for mention, region in zip(listed, regions, strict=False):
        mention.regions.append((region, scan.words[i]))


def area(region: int, words: str, lexicon: Lexicon) -> tuple[float, float] | None:
    """The share of a region that words name exactly ("the left half"), ± a rounding."""
    if words.split()[-1] not in _EXACT:
        return None
    top, left, bottom, right = lexicon.regions[region][1]
    size = (bottom - top) * (right - left)
    return size - _ROUNDING, size + _ROUNDING


def fills(scan: Scan, i: int) -> bool:
    """Whether what lies in the region at ``i`` fills it: "the left half is forest", "forest covers
    the left half"."""
    kinds, words = scan.kinds, scan.words
    j = i - 1
    while kinds[j] == DETERMINER or words[j] in ("entire", "whole", "over"):
        j -= 1
    opens = j < 0 or kinds[j] in (END, COMMA, JOIN, STOP)
    entire = "entire" in words[i] or "whole" in words[i] or "over the" in words[i]
    plain = not words[i].startswith(_PLACING) or entire
    if opens and plain:
        k = i + 1
        while kinds[k] in _OF_SCENE:
            k += 1
        return kinds[k] in (COPULA, COVERAGE, PASSIVE, MENTION) or words[k] in _SHOWS
    return plain and kinds[j] in (COVERAGE, PASSIVE)


def is_relative(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` is no part of the tile: "to the left of the lake", "from the
    upper left to the lower right"."""
    kinds, words = scan.kinds, scan.words
    if "from" in words[max(0, i - 3 if words[i].startswith("to ") else i - 2) : i]:
        return True
    if words[i - 2 : i] in (["to", "its"], ["to", "their"]):
        return True
    if is_line(scan, i):
        return False
    if kinds[i + 1] != OF or "of" in words[i].split():
        return False
    for kind, word in zip(kinds[i + 2 : i + 6], words[i + 2 : i + 6], strict=True):
        if kind in (SCENE, MENTION):
            return kind == MENTION or word == "it"
    return True


def is_behind(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` speaks of the last mention, not of a mention to come."""
    kinds, last = scan.kinds, scan.last
    if last is None:
        return False
    between, words = kinds[last.at + 1 : i], scan.words[last.at + 1 : i]
    if ALL in between or EXCEPT in between:
        return False
    if any(k == STOP and w in _BREAKS for k, w in zip(between, words, strict=True)):
        return False
    if "with" in words and COPULA not in between and _LIES.isdisjoint(words):
        return False
    relative = RELATIVE in between and RELATIVE not in between[:2]
    if relative or _opens_item(scan, i):
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
    if kinds[i + 1] == STOP and scan.words[i + 1] == "with":  # "…, the right third with grass"
        return True
    for k in range(i + 1, min(i + 1 + REACH // 2, len(kinds) - 1)):
        if kinds[k] == MENTION:
            return True
        if kinds[k] == OF and k == i + 1 and SCENE not in kinds[k + 1 : k + 3]:
            return False
        if kinds[k] not in _IN_CLAUSE and kinds[k - 1] != PASSIVE:
            return False
    return False
