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
from builder.scores.mentions import REACH, Mention, Scan, chain, is_apart, subjects

_BREAKS = frozenset(
    ("while", "whereas", "where", "but", "although", "though", "because", "if", "so", "yet", "as")
)
_BRIDGES = frozenset(("bridge", "bridges", "overpass", "overpasses", "viaduct", "flyover"))
_BEFORE = frozenset((PREPOSITION, COVERAGE, DOMINATES, JOIN, MENTION))
_INDEX = frozenset((int, Side))
_ENDS = frozenset((END, COMMA, CLOSE))
_OPENS = frozenset((END, COMMA, OPEN, JOIN))


def sides(kinds: list[int], values: list[Any], words: list[str], lexicon: Lexicon) -> None:
    """Make regions of words for a side that stand alone: "north: forest", "lake, top"."""
    if not lexicon.adverbs.keys().isdisjoint(words):
        for i in [i for i, word in enumerate(words) if word in lexicon.adverbs]:
            _adverb(kinds, values, words, i, lexicon)
    named = [i for i, value in enumerate(values) if type(value) in _INDEX and kinds[i] == OTHER]
    for i in named:
        if kinds[i + 1] == JOIN:
            _pair(kinds, values, words, i, lexicon)
    for i in named:
        value = values[i]
        if kinds[i] == OTHER:
            before = kinds[i - 1] if i else END
            placed = before == DETERMINER and i > 1 and kinds[i - 2] in _BEFORE
            subject = before == DETERMINER and (i < 2 or kinds[i - 2] in _OPENS)
            left_over = words[i] == "left" and before == MENTION and NO in kinds[max(0, i - 4) : i]
            if left_over:
                continue  # "with no trees left"
            verb = (COPULA, COVERAGE, PASSIVE, DOMINATES)
            elliptic = kinds[i + 1] == DETERMINER or words[i + 1] in ("by", "with")
            elliptic = elliptic and i > 1 and kinds[i - 2] != END
            if subject and (kinds[i + 1] in verb or elliptic):
                kinds[i], values[i] = REGION, int(value)  # "the north is forested"
                continue
            bare = before == MENTION and type(value) is Side and len(words[i]) > 1
            opens = before in _OPENS or placed or before == PREPOSITION or bare
            own = words[i - 1] in ("its", "their")
            placed = placed and (not own or not lexicon.lines.isdisjoint(words[:i]))
            divides = kinds[i + 1] == OF and MENTION in kinds[i + 2 : i + 4]
            divides = divides and not lexicon.lines.isdisjoint(words[i + 2 : i + 4])
            if divides and (opens or before in (COPULA, MENTION)):
                kinds[i], values[i] = REGION, int(value)  # "south of the track"
                continue
            closes = kinds[i + 1] in _ENDS or words[i + 1] == ":" or kinds[i + 1] == JOIN
            closes |= own and placed  # "a road; to its left there are crops"
            if opens and closes and "from" not in words[max(0, i - 3) : i]:
                kinds[i], values[i] = REGION, int(value)


def _pair(kinds: list[int], values: list[Any], words: list[str], i: int, lexicon: Lexicon) -> None:
    """Make a region of the first side, at ``i``, of "the northern and eastern edges"."""
    at = i + 3 if kinds[i + 2] == DETERMINER else i + 2
    if kinds[at] != REGION or " " not in words[at]:
        return
    noun = words[at].split()[-1]
    for name in (f"{words[i]} {noun}", f"{words[i]} {noun.removesuffix('s')}"):
        runs = lexicon.phrases_in(name.split())
        if runs and runs[0][:2] == (0, len(name.split())) and runs[0][2][0] == REGION:
            kinds[i], values[i], words[i] = REGION, runs[0][2][1], f"{words[i]} {noun}"
            return


def _adverb(
    kinds: list[int], values: list[Any], words: list[str], i: int, lexicon: Lexicon
) -> None:
    """Make a region of "above" and "below" where they stand alone or beside a line."""
    at = i + 2 if kinds[i + 1] == DETERMINER else i + 1
    beside = kinds[at] == MENTION and words[at] in lexicon.lines
    alone = kinds[i + 1] in _ENDS or kinds[i + 1] == JOIN
    others = not lexicon.adverbs.keys().isdisjoint((*words[:i], *words[i + 1 :]))
    opens = kinds[i - 1] in _OPENS and REGION in kinds[:i]
    middle = any("middle" in word for word in words[:i])
    alone = alone and (others or opens or middle or not lexicon.lines.isdisjoint(words[: i - 1]))
    before = words[i - 1] if i else ""
    over = before in _BRIDGES or before in lexicon.lines or before == "directly"
    over = over or (i > 0 and kinds[i - 1] == PREPOSITION)
    if (alone or beside) and not over:
        kinds[i], values[i] = REGION, lexicon.adverbs[words[i]]


def place(scan: Scan, i: int, waiting: int | None) -> int | None:
    """Attach the region at ``i`` to the classes before it, or let it wait for those to come."""
    last = scan.last
    subject = not scan.words[i].startswith(_PLACING) and scan.kinds[i - 1] != PREPOSITION
    if subject and "surrounded by" in scan.words[i + 1 : i + 3]:
        return None  # "the centre is surrounded by trees"
    verb = scan.words[i - 1] in _LIES or scan.kinds[i - 1] in (COPULA, STOP)
    named = scan.kinds[i - 1] in _OPENS or (
        scan.kinds[i - 1] == MENTION and " of " in scan.words[i]
    )
    if scan.words[i].endswith(" it") and not named and not verb:
        return waiting  # "the road below it"
    if last is None or not is_behind(scan, i):
        is_pair = scan.kinds[i + 1] == JOIN and REGION in scan.kinds[i + 2 : i + 4]
        return None if scan.kinds[i + 1] in (JOIN, END) and not is_pair else i
    placed = [last]
    apart = last.place > 0 and is_apart(scan.mentions[last.place - 1], last)
    if last.link == JOIN and not last.joined and not apart and not scan.words[i].endswith(" of it"):
        placed = [m for m in subjects(scan) if m is last or not m.regions]
    for mention in placed:
        mention.regions.append((scan.values[i], scan.words[i]))
        if fills(scan, i):
            mention.fills = len(mention.regions) - 1
    return waiting


def joined(scan: Scan, i: int) -> list[tuple[int, str]]:
    """The region at ``i`` and the one that it is joined to: "the northern and eastern edges"."""
    j = i - 3 if scan.kinds[i - 1] == DETERMINER else i - 2
    pair = j >= 0 and scan.kinds[j : j + 2] == [REGION, JOIN]
    return [(scan.values[k], scan.words[k]) for k in ((j, i) if pair else (i,))]


_IN_CLAUSE = frozenset(
    (OTHER, DETERMINER, STRONG, PART_CUE, PART, SCENE, OF, COPULA, COVERAGE, DOMINATES, DOMINANT,
     PASSIVE, NO, PERCENT, BOUND)
)  # fmt: skip
_LIES = frozenset(
    ("sits", "sit", "lie", "flows", "flow", "runs", "run", "stand", "rests", "occurs")
)
_OF_SCENE = frozenset((OF, DETERMINER, SCENE))
_PARTED = frozenset(("split", "divided", "shared"))
_EXACT = frozenset(("half", "third", "thirds", "quarter", "quadrant"))
_ROUNDING = 0.05
_SHOWS = frozenset(("show", "shows", "holds", "contains", "is", "belongs", "consists"))
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
    at = i + 1 if scan.words[i] in scan.adverbs else i + 2
    if at == i + 2 and scan.kinds[i + 1] != OF:
        return False
    at += scan.kinds[at] == DETERMINER
    return at in scan.at and scan.words[at] in scan.lines


def is_excepted(scan: Scan, start: int, at: int) -> bool:
    """Whether the class at ``at`` is only an exception from what lies in the region at ``start``:
    "the west, apart from a farm, is meadow"."""
    between = scan.kinds[start:at]
    return EXCEPT in between and COPULA not in between and scan.kinds[at + 1] == COMMA


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
    if words.endswith("thirds"):
        size = 2 / 3  # "the upper two thirds", of which the region is a half
    return size - _ROUNDING, size + _ROUNDING


def fills(scan: Scan, i: int) -> bool:
    """Whether what lies in the region at ``i`` fills it: "the left half is forest", "forest covers
    the left half"."""
    kinds, words = scan.kinds, scan.words
    j = i - 1
    while j >= 0 and (kinds[j] == DETERMINER or words[j] in ("entire", "whole", "over", "s")):
        j -= 2 if words[j] == "s" else 1
    if not _PARTED.isdisjoint(words[i + 1 : i + 4]):
        return False  # "the right half is split between sand and grass"
    opens = j < 0 or kinds[j] in (END, COMMA, JOIN, STOP)
    entire = "entire" in words[i] or "whole" in words[i] or "over the" in words[i]
    plain = not words[i].startswith(_PLACING) or entire
    if opens and plain:
        k = i + 1
        while kinds[k] in _OF_SCENE:
            k += 1
        passive = PASSIVE in kinds[:i] or any(w.endswith((" by", " with")) for w in words[:i])
        elliptic = passive and words[k] in ("by", "with")  # "…, the right half by sand"
        return kinds[k] in (COPULA, COVERAGE, PASSIVE, MENTION) or words[k] in _SHOWS or elliptic
    if plain and kinds[j] == MENTION:  # "forest covers the left third, crops the right two thirds"
        return COVERAGE in kinds[:j] and REGION in kinds[:j] and kinds[j - 1] in (COMMA, JOIN)
    return plain and kinds[j] in (COVERAGE, PASSIVE)


def is_relative(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` is no part of the tile: "to the left of the lake", "from the
    upper left to the lower right"."""
    kinds, words = scan.kinds, scan.words
    if "from" in words[max(0, i - 3 if words[i].startswith("to ") else i - 2) : i]:
        return True
    if words[i - 1] in ("its", "their") and kinds[i - 2] == PREPOSITION and scan.last:
        return scan.lines.isdisjoint(words[:i])
    if is_line(scan, i):
        return False
    if kinds[i + 1] != OF or "of" in words[i].split():
        return False
    for kind, word in zip(kinds[i + 2 : i + 6], words[i + 2 : i + 6], strict=True):
        if kind in (SCENE, MENTION):
            of_scene = SCENE in kinds[i + 2 : i + 7]  # "the corner of the wooded tile"
            return (kind == MENTION and not of_scene) or word == "it"
    return True


def is_behind(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` speaks of the last mention, not of a mention to come."""
    kinds, last = scan.kinds, scan.last
    if last is None:
        return False
    since = max(last.at + 1, scan.resumed)
    between, words = kinds[since:i], scan.words[since:i]
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
    j -= j > 0 and kinds[j] == PREPOSITION
    if j < 0 or kinds[j] not in (COMMA, JOIN):
        return False
    if scan.words[i + 1] in ("with", "by"):  # "…, the right third with grass"
        return True
    start = i + 2 if kinds[i + 1] == COMMA else i + 1  # "…, and in the south, a lake"
    for k in range(start, min(i + 1 + REACH // 2, len(kinds) - 1)):
        if kinds[k] == MENTION:
            return True
        if kinds[k] == OF and k == i + 1 and SCENE not in kinds[k + 1 : k + 3]:
            return False
        if kinds[k] not in _IN_CLAUSE and kinds[k - 1] != PASSIVE:
            return False
    return False
