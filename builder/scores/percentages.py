"""Shares in numbers ("79 %", "0.62 of the area", "60/40") and the classes that have them."""

from collections.abc import Sequence
from typing import Any

from builder.scores.lexicon import (
    BOUND,
    CLOSE,
    COMMA,
    COPULA,
    COVERAGE,
    DETERMINER,
    DOMINANT,
    EACH,
    JOIN,
    MENTION,
    NUMBER,
    OF,
    OPEN,
    OTHER,
    PART,
    PART_CUE,
    PASSIVE,
    PERCENT,
    PREPOSITION,
    SCENE,
    STOP,
    STRONG,
    Lexicon,
)
from builder.scores.mentions import REACH, Mention, Scan, chain, subjects, union

SHOWS = frozenset(("shows", "showing", "depicts", "depicting"))
_TOGETHER = frozenset(("together", "combined", "jointly", "collectively", "between them"))
_IN_NOUN_PHRASE = frozenset((OTHER, OF, DETERMINER, STRONG, PART_CUE, PART, DOMINANT))
_LISTS = frozenset((COMMA, JOIN, BOUND))
_WITH = frozenset(("with", "at"))
_TO_CLASS = frozenset((OF, DETERMINER, SCENE, COPULA, JOIN, NUMBER, PERCENT, PART))
_FROM_CLASS = frozenset(
    (OPEN, COPULA, COVERAGE, BOUND, PREPOSITION, PASSIVE, DETERMINER, PART, JOIN, NUMBER, PERCENT)
)
_WHOLE = (0.97, 1.03)
"""What the numbers of a text must sum to, in units or per cent, to be shares."""


def numbers_as_shares(kinds: list[int], values: list[Any], words: list[str]) -> None:
    """Make percentages of bare numbers beside classes that sum to 100 or to 1: "crop 90, built 10".

    A lone decimal below 1 ("0.62 of the area") is a share too.
    """
    beside = [
        i for i, kind in enumerate(kinds) if kind == NUMBER and _is_beside_class(kinds, words, i)
    ]
    if not beside:
        return
    numbers = [values[i][0] for i in beside]
    signed = sum(sum(value[:2]) / 2 for k, value in zip(kinds, values, strict=True) if k == PERCENT)
    decimal = any("." in words[i] or "," in words[i] for i in beside)
    if decimal and max(numbers) <= 1 and sum(numbers) <= _WHOLE[1]:
        scale = 100.0
    elif len(beside) + bool(signed) > 1 and _WHOLE[0] <= (sum(numbers) + signed) / 100 <= _WHOLE[1]:
        scale = 1.0
    else:
        return
    for i in beside:
        kinds[i] = PERCENT
        low, high, half = values[i]
        values[i] = (scale * low, scale * high, min(0.5, scale * half))


def _is_beside_class(kinds: list[int], words: list[str], i: int) -> bool:
    """Whether a class is right before or after the number at ``i``, or its list of numbers."""
    for j in range(i + 1, min(i + 6, len(kinds))):
        if kinds[j] == MENTION:
            return True
        if kinds[j] not in _TO_CLASS:
            break
    for j in range(i - 1, max(i - 7, -1), -1):
        if kinds[j] == MENTION:
            return True
        if kinds[j] not in _FROM_CLASS and words[j] not in ("s", ",", "other"):
            break
    return False


_TOGETHER = frozenset(("together", "combined", "jointly", "collectively"))


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
    if i in scan.shares:
        _give([scan.shares[i]], bounds, scan.words[i])
        return *bounds, 0
    if kinds[i + 1] in _LISTS and _shared_out(scan, i, lexicon):
        return *bounds, 0
    first = _noun_ahead(scan, i + 1) if kinds[i + 1 : i + 3] == [EACH, OF] else None
    if first is not None:
        mentions = list(chain(scan.mentions, first))
    elif kinds[i + 1] == EACH or (last is not None and EACH in kinds[last.at : i]):
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
    _give(mentions, bounds, scan.words[i])
    return *bounds, 0


def _give(mentions: Sequence[Mention | None], bounds: tuple[float, float], words: str) -> None:
    """Give a share to the classes that have none and are not denied."""
    for mention in mentions:
        if mention is not None and mention.percent is None and not mention.negated:
            mention.percent, mention.percent_words = bounds, words


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
    for j in range(i + 1, min(i + 1 + 3 * REACH // 4, len(kinds) - 1)):
        kind, after = kinds[j], kinds[j + 1]
        if kind == MENTION:
            return scan.at.get(j)
        if kind == SCENE:
            noun = True
            if after not in (OF, PASSIVE, COPULA, SCENE, STOP):
                return None
        elif kind == STOP and noun and scan.words[j] in SHOWS:
            continue  # "12 % of this image shows bare ground"
        elif kind == COMMA and j == i + 1 and (after == COPULA or scan.words[i - 1] in _WITH):
            noun = True  # "the rest, some 30 %, is bog", "with 65 %, trees lead"
        elif kind == COPULA and j <= i + 2:  # "80 % is covered by trees"
            noun = True
        elif kind in (COPULA, PASSIVE):
            if not noun and j != i + 1:
                return None
        elif kind == PREPOSITION:  # "leaves 7 % for farms"
            leaves = scan.words[j] == "for" or scan.words[i - 1].startswith("leav")
            if kinds[j - 1] != PASSIVE and (j > i + 1 or not leaves):
                return None
        elif kind not in _IN_NOUN_PHRASE:
            return None
    return None
