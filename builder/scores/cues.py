"""Cues of a caption ("limited", "dominates", "no") and the mention that each is about."""

from builder.scores.lexicon import (
    ABSENT,
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
    FOREIGN,
    JOIN,
    MENTION,
    OF,
    ONLY,
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
    THAN,
    Quantity,
)
from builder.scores.mentions import DERIVED, OWN, REACH, Mention, Scan, subjects, union
from builder.scores.percentages import SHOWS, is_sum

_CLAUSE = frozenset((END, COMMA, JOIN, STOP, PREPOSITION, OPEN))
_TRANSPARENT = frozenset((OF, PERCENT, BOUND, STRONG, PART_CUE, DOMINANT, CLOSE, ONLY))
_OPENINGS = frozenset((END, JOIN, COMMA, STOP))
_ARTICLES = frozenset(("a", "an"))
_VERBS = frozenset((COPULA, COVERAGE, MENTION, OPEN))
_OF_SCENE = frozenset((OF, DETERMINER, SCENE, PART))
_ADVERBS = frozenset(
    ("very", "only", "quite", "relatively", "fairly", "rather", "extremely", "mostly", "just",
     "still", "also", "between")
)  # fmt: skip


def ahead(scan: Scan, i: int, *, adverb: bool = False) -> Mention | None:
    """The mention that the cue at ``i`` introduces, if it does.

    An adverb ("predominantly", "entirely covered by") reaches over other adjectives and commas.
    """
    kinds = scan.kinds
    others, noun, listed = 0, False, False
    for j in range(i + 1, min(i + 1 + REACH, len(kinds) - 1)):
        kind, after = kinds[j], kinds[j + 1]
        if kind == MENTION:
            return scan.at.get(j) or scan.at.get(j + 1)
        if kind in (OTHER, FOREIGN):
            others += 1
        elif kind in _TRANSPARENT:
            continue
        elif kind in (COMMA, JOIN):
            if others and not adverb and scan.words[j] not in ("or", "nor"):
                return None
            listed = True
        elif kind == DETERMINER:
            if listed and not adverb:
                return None
        elif kind in (SCENE, PART):  # "a small area of …", "half of the tile is …"
            noun = True
            if after not in (OF, OPEN, PASSIVE, COPULA, SCENE, PART, STOP) and not (
                (adverb or scan.words[j] == "land") and after == MENTION
            ):
                return None
        elif kind == STOP and scan.words[j] in SHOWS and (noun or (adverb and j == i + 1)):
            continue  # "mainly shows farmland", "half of the image shows a lake"
        elif kind in (COPULA, PASSIVE):
            adverbial = kind == PASSIVE and adverb  # "entirely composed of sand"
            noun = noun or (adverb and kinds[j - 1] == DETERMINER)  # "this is"
            is_share = isinstance(scan.values[i], Quantity) and scan.values[i].fraction
            if not (noun or adverbial or (j == i + 1 and (is_share or after == MENTION))):
                return None
        elif kind == PREPOSITION:
            if kinds[j - 1] != PASSIVE and (j > i + 1 or scan.words[j] != "for"):
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
    if after in (ABSENT, THAN) or (cue.most and _is_part(scan, i)):
        return  # "entirely absent", "most of the trees"
    if cue.low >= 0.8 and (after == STOP or (after == OTHER and scan.words[i - 1] in _ARTICLES)):
        return  # "totally surrounded by", "a fully equipped harbour"
    flat = after == OTHER and not scan.words[i + 1].endswith(("ed", "ed by", "ed with", "ed in"))
    if cue.name == "all" and flat and " " not in scan.words[i + 1]:
        return  # "completely flat"
    ends = after in _CLAUSE or after == CLOSE
    predicate = kinds[i] == AFTER or (before in _VERBS and ends)
    if cue.fraction and EACH in (before, after, kinds[at - 1]):
        for mention in _of_each(scan):
            mention.claim(cue, strength, scan.words[i])
        return
    target = None if predicate else ahead(scan, i, adverb=cue.low >= 0.8)
    claimed: list[Mention] = []
    if target:
        claimed = [target]
    elif (cue.fraction or cue.low >= 0.5) and is_sum(scan, at, i):
        scan.sums.append((union(subjects(scan)), (cue.low, cue.high), scan.words[i]))
    elif cue.low >= 0.8 and after == OTHER:
        return  # "a fully equipped harbour"
    elif cue.most and (before in _OPENINGS or (scan.words[i] == "most" and after != CLOSE)):
        return
    elif predicate or before in (COPULA, COVERAGE, DOMINATES) or after == PREPOSITION or cue.most:
        claimed = [
            mention
            for mention in subjects(scan)
            if not mention.strength or (mention is scan.last and mention.strength < strength)
        ]
    for mention in claimed:
        mention.claim(cue, strength, scan.words[i])
        if cue.most and len(claimed) == 1:
            mention.dominance_at = i


def _is_part(scan: Scan, i: int) -> bool:
    """Whether "most" speaks of a part of a class, not of the tile: "most of the trees"."""
    if scan.words[i] == "most":
        return scan.kinds[i + 1] not in (CLOSE, COPULA)
    if not scan.words[i].endswith(" of"):
        return False
    if scan.kinds[i + 1] == RELATIVE:  # "most of which"
        return True
    for kind in scan.kinds[i + 1 : i + 6]:
        if kind in (MENTION, SCENE):
            return kind == MENTION
        if kind not in (DETERMINER, OTHER):
            return False
    return False


def _of_each(scan: Scan) -> list[Mention]:
    """What "each" refers to: the list before it, or all that was named before."""
    if scan.last is not None:
        first = scan.last.place
        while first and scan.mentions[first].link != OTHER:
            first -= 1
        return scan.mentions[first : scan.last.place + 1]
    return [m for m in scan.mentions if m.place <= scan.read and not m.strength]


def dominance(scan: Scan, i: int) -> None:
    """Attach "predominantly", "dominates", "the main land use"."""
    kinds, last = scan.kinds, scan.last
    leading: list[Mention | None] = []
    if kinds[i] == DOMINATES:
        if last and (STOP not in kinds[last.at : i] or kinds[i - 1] == RELATIVE):
            leading = [
                mention for mention in subjects(scan) if mention is last or not mention.strength
            ]
    elif kinds[i] == DOMINANT_USE:
        j = i + 1
        while kinds[j] in _OF_SCENE:
            j += 1
        if kinds[j] in (COPULA, COVERAGE):
            leading = [ahead(scan, j, adverb=True)]
        elif kinds[j] != MENTION:
            leading = list(subjects(scan)) if kinds[i + 1] != OTHER else []
    elif kinds[i + 1] != OF or last is None or last.at != i - 1:  # not "woods mainly of oak"
        leading = [ahead(scan, i, adverb=True)]
        if (
            leading == [None]
            and kinds[_before(scan, i)] == COPULA
            and scan.words[i].endswith("dominant")
        ):
            leading = list(subjects(scan))
    for mention in leading:
        if mention is not None:
            mention.dominance_at = i
            mention.claim(scan.values[i], DERIVED, scan.words[i])


def not_dominant(scan: Scan, i: int) -> int:
    """Attach "is not dominant", "does not dominate"; the place of the denied word, −1 for none.

    A class that is not dominant is still present; "not dominated by forest" speaks of what follows.
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
    for mention in subjects(scan):
        cue = Quantity("not dominant", 0.0, scan.values[at].low)
        mention.claim(cue, OWN, f"{scan.words[i]} {scan.words[at]}")
    return at


def _before(scan: Scan, i: int) -> int:
    """The token before ``i``, articles, bounds and adverbs skipped; −1, an END, for none."""
    j = i - 1
    while (
        j >= 0 and i - j < 4 and (scan.kinds[j] in (DETERMINER, BOUND) or scan.words[j] in _ADVERBS)
    ):
        j -= 1
    return j
