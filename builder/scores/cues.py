"""Cues of a caption ("limited", "dominates", "42 %") and the mention that each is about."""

from builder.scores.lexicon import (
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
    Lexicon,
)
from builder.scores.mentions import DERIVED, OWN, REACH, Mention, Scan, subjects

_CLAUSE = frozenset((END, COMMA, JOIN, STOP, PREPOSITION, OPEN))
_IN_NOUN_PHRASE = frozenset((OTHER, OF, DETERMINER, STRONG, PART_CUE, PART, DOMINANT))
_TRANSPARENT = frozenset((OF, PERCENT, BOUND, STRONG, PART_CUE, DOMINANT, CLOSE))
_ADVERBS = frozenset(
    ("very", "only", "quite", "relatively", "fairly", "rather", "extremely", "mostly", "just",
     "still", "also")
)  # fmt: skip
_PLACING = ("in ", "to ", "on ", "at ", "near ", "along ", "around ", "toward ", "towards ")


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
    before, after = _before(scan, i), kinds[i + 1]
    predicate = kinds[i] == AFTER or (before in (COPULA, MENTION) and after in _CLAUSE)
    target = None if predicate else ahead(scan, i, adverb=cue.low >= 0.8)
    if target:
        target.claim(cue, strength, scan.words[i])
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
        if found == [None] and _before(scan, i) == COPULA and scan.words[i].endswith("dominant"):
            found = list(subjects(scan))
    for one in found:
        if one is not None:
            one.dominance_at = i
            one.claim(scan.values[i], DERIVED, scan.words[i])


def percentage(scan: Scan, i: int, lexicon: Lexicon) -> tuple[float, float]:
    """Attach "79 %", "(79%)", "covering 79 % of the area"; the interval of shares it claims."""
    kinds, last = scan.kinds, scan.last
    bounds = _bounds(scan, i, lexicon)
    previous = i - 1
    while previous > 0 and kinds[previous] in (BOUND, PREPOSITION) and i - previous < 3:
        previous -= 1
    bracketed = previous >= 0 and kinds[previous] == OPEN
    found: list[Mention | None] = [last]
    if kinds[i + 1] == EACH:
        found = list(subjects(scan))
    elif not bracketed or kinds[i + 1 : i + 3] == [CLOSE, OF]:
        told = last is not None and (
            last.at == previous or (last.at == previous - 1 and kinds[previous] == COPULA)
        )  # "grass: 79%"
        start = i + 1 if bracketed else i
        found = [last if told else _noun_ahead(scan, start) or last]
    for one in found:
        if one is not None and one.percent is None and not one.negated:
            one.percent, one.percent_words = bounds, scan.words[i]
    return bounds


def is_behind(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` speaks of the last mention, not of one to come."""
    kinds, last = scan.kinds, scan.last
    if last is None:
        return False
    between = kinds[last.at + 1 : i]
    if STOP in between or RELATIVE in between:
        return False
    placed = PREPOSITION in kinds[max(0, i - 2) : i] or scan.words[i].startswith(_PLACING)
    opens = COMMA in between or not placed  # "the northern half is …"
    return not (opens and kinds[i + 1] in (COPULA, COVERAGE, DOMINATES, PASSIVE))


def _before(scan: Scan, i: int) -> int:
    """Kind of the token before ``i``, articles and adverbs skipped."""
    j = i - 1
    while (
        j >= 0 and i - j < 4 and (scan.kinds[j] in (DETERMINER, BOUND) or scan.words[j] in _ADVERBS)
    ):
        j -= 1
    return scan.kinds[j] if j >= 0 else END


def _bounds(scan: Scan, i: int, lexicon: Lexicon) -> tuple[float, float]:
    """Shares that a percentage claims, its rounding, "over", "about" and "up to" included."""
    low, high, half = scan.values[i]
    bound = scan.values[i - 1] if i and isinstance(scan.values[i - 1], str) else ""
    if bound == "about":
        half = max(half, 100 * lexicon.about)
    if bound == "more":
        return max(0.0, (low - half) / 100), 1.0
    if bound == "less":
        return 0.0, (high + half) / 100
    return (low - half) / 100, (high + half) / 100


def _noun_ahead(scan: Scan, i: int) -> Mention | None:
    """The mention that a percentage at ``i`` introduces: "79 % grassland"."""
    kinds = scan.kinds
    noun = False
    for j in range(i + 1, min(i + 1 + REACH // 2, len(kinds) - 1)):
        kind, after = kinds[j], kinds[j + 1]
        if kind == MENTION:
            return scan.at.get(j)
        if kind == SCENE:
            noun = True
            if after not in (OF, PASSIVE, COPULA, SCENE):
                return None
        elif kind in (COPULA, PASSIVE):
            if not noun and not (j == i + 1 and after == MENTION):
                return None
        elif kind == PREPOSITION:
            if kinds[j - 1] != PASSIVE:
                return None
        elif kind not in _IN_NOUN_PHRASE:
            return None
    return None
