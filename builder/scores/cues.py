"""Cues of a caption ("limited", "dominates", "42 %") and the mention that each is about."""

from builder.scores.lexicon import (
    ABSENT_BEFORE,
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
    NO,
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
    Quantity,
)
from builder.scores.mentions import DERIVED, OWN, REACH, Mention, Scan, subjects, union

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
        for mention in subjects(scan):
            if not mention.strength or (mention is scan.last and mention.strength < strength):
                mention.claim(cue, strength, scan.words[i])


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
        leading = [ahead(scan, i + 1, adverb=True) if kinds[i + 1] == COPULA else last]
    else:
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


_IN_NOUN_PHRASE = frozenset((OTHER, OF, DETERMINER, STRONG, PART_CUE, PART, DOMINANT))
_LISTS = frozenset((COMMA, JOIN, BOUND))


def percentage(scan: Scan, i: int, lexicon: Lexicon) -> tuple[float, float, int]:
    """Attach "79 %", "(79%)", "covering 79 % of the area"; the interval of shares it claims, and
    the classes that have it together, else 0."""
    kinds, last = scan.kinds, scan.last
    bounds = _bounds(scan, i, lexicon)
    previous = i - 1
    while previous > 0 and kinds[previous] in (BOUND, PREPOSITION) and i - previous < 3:
        previous -= 1
    bracketed = previous >= 0 and kinds[previous] == OPEN
    mentions: list[Mention | None] = [last]
    if kinds[i + 1] in _LISTS and _shared_out(scan, i, lexicon):
        return *bounds, 0
    if kinds[i + 1] == EACH or (last is not None and EACH in kinds[last.at : i]):
        mentions = list(subjects(scan))
    elif is_sum(scan, previous, i) and _noun_ahead(scan, i) is None:
        together = union(subjects(scan))
        scan.sums.append((together, bounds, scan.words[i]))
        return *bounds, together
    elif not bracketed or kinds[i + 1 : i + 3] == [CLOSE, OF]:
        is_before = last is not None and (
            last.at == previous or (last.at == previous - 1 and kinds[previous] == COPULA)
        )  # "grass: 79%"
        start = i + 1 if bracketed else i
        mentions = [last if is_before else _noun_ahead(scan, start) or last]
    for mention in mentions:
        if mention is not None and mention.percent is None and not mention.negated:
            mention.percent, mention.percent_words = bounds, scan.words[i]
    return *bounds, 0


def _shared_out(scan: Scan, i: int, lexicon: Lexicon) -> bool:
    """Give the shares of a list to the classes of a list: "A, B and C cover 85 %, 10 % and 5 %".

    ``i`` is the first of the shares; whether there are as many shares as classes.
    """
    kinds, run = scan.kinds, [i]
    j = i + 1
    while kinds[j] in _LISTS:
        if kinds[j + 1] == PERCENT:
            run.append(j + 1)
            j += 1
        j += 1
    if len(run) == 1:
        return False
    first = _noun_ahead(scan, run[-1])
    listed = subjects(scan)
    if first is not None:
        listed = scan.mentions[first.place : first.place + len(run)]
        after = scan.mentions[first.place + len(run) :][:1]
        if any(mention.link == OTHER for mention in listed[1:]) or any(
            mention.link != OTHER for mention in after
        ):
            return False
    if len(listed) != len(run) or any(mention.percent is not None for mention in listed):
        return False
    for mention, place in zip(listed, run, strict=True):
        mention.percent, mention.percent_words = _bounds(scan, place, lexicon), scan.words[place]
    return True


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


_IN_CLAUSE = frozenset(
    (OTHER, DETERMINER, STRONG, PART_CUE, PART, SCENE, OF, COPULA, COVERAGE, DOMINATES, DOMINANT,
     PASSIVE, NO, PERCENT, BOUND)
)  # fmt: skip
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


def is_relative(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` is the side of a class: "to the left of the lake"."""
    if scan.kinds[i + 1] == OF:
        for kind in scan.kinds[i + 2 : i + 5]:
            if kind in (MENTION, SCENE):
                return kind == MENTION
    return False


def is_behind(scan: Scan, i: int) -> bool:
    """Whether the region at ``i`` speaks of the last mention, not of a mention to come."""
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
