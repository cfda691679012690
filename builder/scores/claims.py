"""What a caption claims about land cover: presence, absence, quantity, dominance, layout.

A caption is read without a grammar library: its words become tokens (lexicon.py), class mentions
are read and linked into lists (mentions.py), and every cue looks ahead or back for the mention
it is about (cues.py, percentages.py, places.py, comparisons.py, exclusions.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from builder.land.classes import CLASSES
from builder.scores import (
    comparisons,
    cues,
    exclusions,
    mentions,
    negations,
    percentages,
    places,
    shares,
)
from builder.scores import lexicon as lexicons
from builder.scores.lexicon import (
    ABSENT,
    AFTER,
    ALL,
    BEATS,
    BOUND,
    COMMA,
    COPULA,
    DETERMINER,
    DOMINANT,
    DOMINANT_USE,
    DOMINATES,
    END,
    EQUAL,
    EXCEPT,
    FOREIGN,
    JOIN,
    LINK,
    MENTION,
    NO,
    NUMBER,
    OF,
    ONLY,
    ORDER,
    PART_CUE,
    PERCENT,
    PREPOSITION,
    REGION,
    RELATIVE,
    REST,
    STOP,
    STRONG,
    THAN,
    Lexicon,
)
from builder.scores.mentions import DERIVED, FAR, OWN, Mention, Scan, scan, spread, union

PRESENCE, ABSENCE, QUANTITY, DOMINANCE, LAYOUT, LOCAL_ABSENCE = range(6)
"""Kinds of claims."""


Claim = tuple[int, int, float, float]
"""(kind, bits, low, high): a claim about the classes in ``bits`` (bit k is class k).

QUANTITY: their share lies in [low, high]. DOMINANCE: each is among the ``low`` largest. LAYOUT:
their pixels lie in the lexicon's region number ``low``. LOCAL_ABSENCE: none lies there.
"""

ZERO = 0.005
"""Largest share that "0 %" rounds."""

_ENGLISH = (DETERMINER, COPULA, PREPOSITION, JOIN, OF, STOP, RELATIVE, MENTION)
_LATIN = re.compile("[a-z]", re.IGNORECASE)
_DENIES = frozenset(("hardly", "no", "not", "never", "nope"))

_ACTS = [False] * 41
for _kind in (
    MENTION, END, STRONG, PART_CUE, LINK, AFTER, DOMINANT, DOMINATES, DOMINANT_USE, NO, ABSENT,
    PERCENT, NUMBER, REGION, ONLY, ALL, EQUAL, EXCEPT, ORDER, REST, BEATS, THAN, BOUND, COMMA,
):  # fmt: skip
    _ACTS[_kind] = True


@dataclass
class Reading:
    """One caption read: claims and the words that make them, classes in order of mention,
    numbers, percentages (intervals of shares, and the classes whose sum they are said to be, else
    0), fraction words and length in words."""

    claims: dict[Claim, str] = field(default_factory=dict)
    mentioned: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    percentages: list[tuple[float, float, int]] = field(default_factory=list)
    fraction_words: int = 0
    words: int = 0
    unread: bool = False


def read(text: str, lexicon: Lexicon) -> Reading:
    """Read a caption. Any text is readable; a text without classes claims nothing."""
    kinds, values, tokens = lexicon.tokens(text)
    for padding in (END, END):  # two, so that looking ahead needs no bounds check
        kinds.append(padding)
        values.append(None)
        tokens.append("")
    reading = Reading(words=len(text.split()))
    if is_foreign(kinds, text):
        reading.unread = True
        return reading
    places.sides(kinds, values, tokens, lexicon)
    percentages.numbers_as_shares(kinds, values, tokens)
    text_scan = scan(kinds, values, tokens, lexicon)
    shares.align(text_scan)
    _attach(text_scan, lexicon, reading)
    spread(text_scan.mentions)
    reading.claims = _claims(text_scan, lexicon)
    reading.mentioned = [
        bits.bit_length() - 1 for kind, bits, _, _ in reading.claims if kind == PRESENCE
    ]
    return reading


def is_foreign(kinds: list[int], text: str) -> bool:
    """Whether a text is in another language: words that show it, and more than English has, or no
    Latin letter at all. Numbers and emoji alone are no language."""
    foreign = kinds.count(FOREIGN)
    if foreign > 1:
        return foreign > sum(map(kinds.count, _ENGLISH))
    return foreign == 1 and not text.isascii() and not _LATIN.search(text)


def _attach(text: Scan, lexicon: Lexicon, reading: Reading) -> None:
    """Walk over the tokens and give every cue to its mention."""
    kinds, values, words = text.kinds, text.values, text.words
    waiting: int | None = None  # a region that comes before its class
    denied = -1  # the dominance word of "is not dominant"
    for i, kind in enumerate(kinds):
        if not _ACTS[kind]:
            continue
        if text.last is not None and i - text.last.at > FAR:
            text.last = None
        if kind == COMMA:
            cues.parenthesis(text, i)
        elif kind == MENTION:
            if i in text.at:
                mention = text.at[i]
                places.qualify(text, mention)
                if (
                    waiting is not None
                    and not places.is_excepted(text, waiting, i)
                    and not (i < waiting + 4 and places.is_line(text, waiting))
                ):
                    mention.regions += places.joined(text, waiting)
                    mention.placed_before = True
                    if places.fills(text, waiting):
                        mention.fills = len(mention.regions) - 1
                    waiting = None
                text.read = mention.place
                if not mention.aside:
                    text.last = mention
        elif kind == END:
            comparisons.more(text, i, lexicon)
            if words[i] != "?" or ABSENT not in kinds[i + 1 : i + 4]:
                short = words[i] == "?" and kinds[i + 2] in (END, COMMA)
                if short and kinds[i + 1] == STRONG and text.last:  # "Trees? Hardly any."
                    text.last.claim(values[i + 1], OWN, words[i + 1])
                elif short and words[i + 1].split(" ")[0] in _DENIES and text.last:  # "Barren? No."
                    text.last.negated, text.last.negated_after = words[i + 1], True
                text.last, waiting = mentions.antecedent(text, i), None
        elif kind in (STRONG, PART_CUE, LINK, AFTER):
            reading.fraction_words += values[i].fraction
            cues.quantity(text, i)
        elif kind in (DOMINANT, DOMINATES, DOMINANT_USE):
            if i != denied:
                cues.dominance(text, i)
        elif kind == NO:
            denied = max(denied, cues.not_dominant(text, i))
            if denied < i and not exclusions.nothing_but(text, i):
                negations.deny(text, i, lexicon)
        elif kind == ABSENT and words[i].startswith("do") and (target := cues.ahead(text, i)):
            target.negated = f"{words[i]} …"  # "does not feature any trees"
        elif kind == ABSENT:
            for mention in negations.subjects(text, i):
                if values[i]:
                    mention.aside = not mention.negated  # "no trace remains of the forest that …"
                else:
                    mention.negated, mention.negated_after = words[i], True
            negations.also(text, i)
        elif kind == PERCENT:
            reading.numbers.extend(sorted({*values[i][:2]}))
            reading.percentages.append(percentages.percentage(text, i, lexicon))
        elif kind == NUMBER:
            reading.numbers.append(values[i][0])
        elif kind == REGION:
            if not places.is_relative(text, i):
                waiting = places.place(text, i, waiting)
        elif kind in (ONLY, ALL):
            exclusions.only(text, i)
        elif kind == EXCEPT:
            exclusions.scene_except(text, i)
        elif kind == EQUAL:
            exclusions.equal(text, i)
        elif kind == ORDER:
            places.order(text, i)
        elif kind == REST:
            exclusions.rest(text, i)
        elif kind == BEATS:
            comparisons.beats(text, i)
        elif kind == THAN or (kind == BOUND and words[i].endswith("than")):
            comparisons.than(text, i, lexicon)


def _claims(text: Scan, lexicon: Lexicon) -> dict[Claim, str]:
    """What the mentions claim; a repeated claim counts once."""
    claims: dict[Claim, str] = {}
    add = claims.setdefault
    for mention in text.mentions:
        if mention.percent is not None and mention.percent[0] <= 0 and mention.percent[1] <= ZERO:
            mention.negated = mention.negated or mention.percent_words  # "0 % water"
            mention.cue = None
    present = union(
        [m for m in text.mentions if not (m.negated or m.aside or m.bits & (m.bits - 1))]
    )
    dominant: dict[int, list[Mention]] = {}
    for mention in text.mentions:
        cue, bits = mention.cue, mention.bits
        group = bits & (bits - 1)
        if mention.aside:
            continue
        if mention.negated:
            said = mention.denial
            if cue is not None and lexicon.presence / 2 < cue.low < 0.8:  # "no significant water"
                if not mention.regions:
                    add((QUANTITY, bits, 0.0, cue.low), f"{mention.negated} {mention.words}")
            elif mention.regions:
                for region, words in mention.regions:
                    add((LOCAL_ABSENCE, bits, region, 0.0), f"{said} {words}")
            elif bits & ~present:  # "no vegetation but a few trees", "a treeless centre"
                add((ABSENCE, bits & ~present, 0.0, 0.0), said)
            continue
        named = not group and not (cue is not None and cue.nearly_none)
        if named:
            add((PRESENCE, bits, 0.0, 0.0), mention.word)
        local = False
        if mention.regions:
            local = any(region not in lexicon.whole for region, _ in mention.regions)
        if local and mention.placed_before and cue is not None and (cue.most or cue.low >= 0.8):
            cue = None  # "the north is nearly all wheat"
        if local and mention.dominance_at >= 0:  # "the lower half is dominated by a lake"
            mention.dominance_at = -1
            cue = None if mention.strength == DERIVED else cue
        leads = mention.dominance_at >= 0 and (cue is None or cue.high > lexicon.dominant.low)
        if leads:  # not in "dominated by sparsely vegetated hills"
            dominant.setdefault(mention.dominance_at, []).append(mention)
        if cue is not None and mention.strength > (DERIVED if leads or group else 0):
            is_whole = cue.high == 1 or cue.fraction or not _is_part(text, mention)
            high = cue.high if is_whole else 1.0
            add((QUANTITY, bits, cue.low, high), mention.words)
        if mention.percent is not None:
            add((QUANTITY, bits, *mention.percent), mention.percent_words)
        if named:
            for region, words in mention.regions:
                add((LAYOUT, bits, region, 0.0), words)
    left_out, whole, words = exclusions.alone(text)
    for k in range(len(CLASSES)):
        if left_out >> k & 1:
            add((ABSENCE, 1 << k, 0.0, 0.0), words)
    filled = _filled(text, lexicon)
    for bits, (low, _), said in filled:
        add((QUANTITY, bits, low, 1.0), said)  # and it may lie elsewhere too
    explicit = _explicit(text)
    if len(explicit) > 1:
        _add_up(claims, text)
    known = [(bits, low, high) for bits, (low, high), _ in (*filled, *text.sums)]
    exclusions.remainder(text, list(dict.fromkeys([*known, *explicit])))
    for bits, interval, words in (*whole, *text.sums):
        add((QUANTITY, bits, *interval), words)
    winner, words = comparisons.largest(text)
    if winner and not dominant:
        add((DOMINANCE, winner, 1.0, 0.0), words)
    for at, together in dominant.items():
        for mention in together:
            add((DOMINANCE, mention.bits, len({m.bits for m in together}), 0.0), text.words[at])
        if any(
            mention.strength == DERIVED for mention in together
        ):  # "A and B dominate": their sum does
            low, high = lexicon.dominant.low, lexicon.dominant.high
            add((QUANTITY, union(together), low, high), text.words[at])
    return claims


def _is_part(text: Scan, mention: Mention) -> bool:
    """Whether its sentence names the class again, so that a vague word is about a part of it:
    "patches of snow on the rocks"."""
    others = [m for m in text.mentions if m.bits == mention.bits and m is not mention]
    others = [m for m in others if m.cue is not mention.cue and not m.negated and not m.aside]
    return any(END not in text.kinds[min(m.at, mention.at) : max(m.at, mention.at)] for m in others)


def _explicit(text: Scan) -> list[tuple[int, float, float]]:
    """The shares that the text gives in numbers and fractions: classes, lowest, highest."""
    known = []
    for mention in text.mentions:
        if mention.percent is not None:
            known.append((mention.bits, *mention.percent))
        elif mention.cue is not None and mention.cue.fraction and not mention.cue.most:
            known.append((mention.bits, mention.cue.low, mention.cue.high))
    return known


def _add_up(claims: dict[Claim, str], text: Scan) -> None:
    """Put the shares of several things of one class into their sum: "a quarter houses, a tenth
    roads"."""
    stated: dict[int, dict[str, Claim]] = {}
    for mention in text.mentions:
        if mention.negated or mention.aside or mention.shared:
            continue
        if mention.percent is not None:
            claim = (QUANTITY, mention.bits, *mention.percent)
        elif mention.cue is not None and mention.cue.fraction and not mention.cue.most:
            claim = (QUANTITY, mention.bits, mention.cue.low, mention.cue.high)
        else:
            continue
        stated.setdefault(mention.bits, {})[mention.word] = claim
    for bits, by_word in stated.items():
        low, high = (sum(claim[k] for claim in by_word.values()) for k in (2, 3))
        if len(by_word) > 1 and low <= 1:
            said = " + ".join(claims.pop(claim, "") for claim in dict.fromkeys(by_word.values()))
            claims[(QUANTITY, bits, low, min(1.0, high))] = said


def _filled(text: Scan, lexicon: Lexicon) -> list[tuple[int, tuple[float, float], str]]:
    """The classes that fill a half, a third or a quarter of the tile, its area, and the words."""
    filled = []
    rest: bool | None = None
    for mention in text.mentions:
        if mention.regions and rest is None:
            rest = any(other.rest for other in text.mentions)
        for k, (region, words) in enumerate(mention.regions):
            size = places.area(region, words, lexicon) if k == mention.fills or rest else None
            if size and not mention.negated and mention.percent is None and not mention.strength:
                filled.append((mention.bits, size, words))
    return filled


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Claims:
    """The claims of n captions as flat arrays, m claims in all.

    ``row``, ``kind``, ``bits`` (m,) integers; ``low``, ``high`` (m,) float64; ``words`` m strings.
    ``order`` (n, 7) int8: place of the class among the mentions, −1 where it is not mentioned.
    ``number_row``/``number`` every numeral; ``percent_row``/``percent`` (…, 2) intervals of
    shares, ``percent_bits`` the classes whose sum each is said to be, else 0. ``fractions``,
    ``length`` (n,) counts of fraction words and of words. ``readable`` (n,) bool is false where
    there is no text, or one in another language.
    """

    row: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    bits: npt.NDArray[np.int64]
    low: Floats
    high: Floats
    words: list[str]
    order: npt.NDArray[np.int8]
    number_row: npt.NDArray[np.int64]
    number: Floats
    percent_row: npt.NDArray[np.int64]
    percent: Floats
    percent_bits: npt.NDArray[np.int64]
    fractions: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    readable: npt.NDArray[np.bool_]


def read_claims(texts: Sequence[str | None], lexicon: Lexicon | None = None) -> Claims:
    """Read n captions; None, blank texts and texts in other languages than English are unreadable
    (their scores are missing)."""
    lexicon = lexicon or lexicons.load()
    readings: dict[str, Reading] = {}  # many captions of a set are equal
    rows: list[int] = []
    flat: list[tuple[int, int, float, float]] = []
    words: list[str] = []
    numbers: list[tuple[int, float]] = []
    percents: list[tuple[int, float, float, int]] = []
    order = np.full((len(texts), len(CLASSES)), -1, dtype=np.int8)
    counts = np.zeros((2, len(texts)), dtype=np.int64)
    readable = np.zeros(len(texts), dtype=bool)
    for i, text in enumerate(texts):
        if text is None or not text.strip(" \t\r\n\0"):
            continue
        reading = readings.get(text) or readings.setdefault(text, read(text, lexicon))
        if reading.unread:
            continue
        readable[i] = True
        counts[:, i] = reading.fraction_words, reading.words
        rows += [i] * len(reading.claims)
        flat += reading.claims
        words += reading.claims.values()
        for place, k in enumerate(reading.mentioned):
            order[i, k] = place
        numbers += [(i, number) for number in reading.numbers]
        percents += [(i, *interval) for interval in reading.percentages]
    table = np.array(flat, dtype=np.float64).reshape(-1, 4)
    numeral = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    percent = np.array(percents, dtype=np.float64).reshape(-1, 4)
    return Claims(
        row=np.array(rows, dtype=np.int64),
        kind=table[:, 0].astype(np.int64),
        bits=table[:, 1].astype(np.int64),
        low=table[:, 2],
        high=table[:, 3],
        words=words,
        order=order,
        number_row=numeral[:, 0].astype(np.int64),
        number=numeral[:, 1],
        percent_row=percent[:, 0].astype(np.int64),
        percent=percent[:, 1:3],
        percent_bits=percent[:, 3].astype(np.int64),
        fractions=counts[0],
        length=counts[1],
        readable=readable,
    )
