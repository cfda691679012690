"""Percentages of a caption and the class, or the classes, that each is about."""

from builder.scores.cues import is_sum
from builder.scores.lexicon import Lexicon
from builder.scores.mentions import REACH, Mention, Scan, subjects, union
from builder.scores.tokens import (
    BOUND,
    CLOSE,
    COMMA,
    COPULA,
    DETERMINER,
    DOMINANT,
    EACH,
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
    SCENE,
    STRONG,
)

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
    found: list[Mention | None] = [last]
    if kinds[i + 1] in _LISTS and _shared_out(scan, i, lexicon):
        return *bounds, 0
    if kinds[i + 1] == EACH or (last is not None and EACH in kinds[last.at : i]):
        found = list(subjects(scan))
    elif is_sum(scan, previous, i) and _noun_ahead(scan, i) is None:
        together = union(subjects(scan))
        scan.sums.append((together, bounds, scan.words[i]))
        return *bounds, together
    elif not bracketed or kinds[i + 1 : i + 3] == [CLOSE, OF]:
        told = last is not None and (
            last.at == previous or (last.at == previous - 1 and kinds[previous] == COPULA)
        )  # "grass: 79%"
        start = i + 1 if bracketed else i
        found = [last if told else _noun_ahead(scan, start) or last]
    for one in found:
        if one is not None and one.percent is None and not one.negated:
            one.percent, one.percent_words = bounds, scan.words[i]
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
        if any(one.link == OTHER for one in listed[1:]) or any(one.link != OTHER for one in after):
            return False
    if len(listed) != len(run) or any(one.percent is not None for one in listed):
        return False
    for one, place in zip(listed, run, strict=True):
        one.percent, one.percent_words = _bounds(scan, place, lexicon), scan.words[place]
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
