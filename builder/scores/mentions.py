"""Class mentions of a caption and the lists they form: "crop, built-up and barren areas"."""

import functools
import itertools
import operator
from dataclasses import dataclass, field
from typing import Any

from builder.land.classes import CLASSES
from builder.scores.lexicon import (
    BOUND,
    CLOSE,
    COMMA,
    COPULA,
    COVERAGE,
    DENIED,
    DETERMINER,
    DOMINATES,
    END,
    JOIN,
    MENTION,
    OF,
    OPEN,
    OTHER,
    PART,
    PART_CUE,
    PREFIX,
    SCENE,
    STRONG,
    Lexicon,
    Quantity,
)

REACH = 12
"""How many tokens a cue or a list reaches over."""

FAR = 40
"""Tokens after which a mention is no longer what a verb or a number refers to."""

_PRONOUNS = frozenset(("it", "they"))
_OF_PICTURE = frozenset(("contains", "includes", "displays", "presents", "captures", "reveals"))
_CHOICES = frozenset(("or", "nor"))

BUILT = 1 << CLASSES.index("Built-up")
_SHED = tuple(1 << CLASSES.index(name) for name in ("Tree", "Crop"))
_ADJECTIVES = ("y", "ed", "al", "ous", "an", "ic", "ing")

DERIVED, OWN = 1, 2
"""Strength of a quantity: from a dominance word or a list ("interspersed with"), or of its own."""


class Mention:
    """A class in the text, and the cues that point to it."""

    __slots__ = ("apart", "aside", "at", "bits", "choice", "cue", "dominance_at", "fills", "joined",
                 "link", "negated", "negated_after", "percent", "percent_words", "place",
                 "placed_before", "regions", "rest", "shared", "strength", "word",
                 "words")  # fmt: skip

    def __init__(self, at: int, bits: int, word: str) -> None:
        self.at, self.bits, self.word = at, bits, word
        self.place = 0  # index among the mentions
        self.link = OTHER  # how it hangs on the mention before: OTHER (not at all), COMMA or JOIN
        self.joined = False  # an article opens it, so that adjectives do not reach it
        self.apart = False  # a comma and "and" set it apart, so that a denial does not reach it
        self.choice = False  # "or" or "nor" is before it, so that a denial still reaches it
        self.cue: Quantity | None = None
        self.strength = 0
        self.shared = False  # its quantity is that of the mention before it
        self.words = ""
        self.dominance_at = -1  # token of the dominance word, shared over a list
        self.negated = ""  # the words that deny it
        self.negated_after = False
        self.aside = False  # "instead of forest": neither there nor denied
        self.percent: tuple[float, float] | None = None
        self.percent_words = ""
        self.regions: list[tuple[int, str]] = []
        self.placed_before = False  # its first region is said before it, and reaches over a list
        self.fills = -1  # index of the region that it fills
        self.rest = ""  # the words that say that it has what other shares leave over

    @property
    def denial(self) -> str:
        """The words that deny it, with its own: "no water", "water absent", "treeless"."""
        if self.negated == self.word:
            return self.word
        words = (self.word, self.negated) if self.negated_after else (self.negated, self.word)
        return " ".join(words)

    def claim(self, cue: Quantity, strength: int, words: str) -> None:
        """Give it a quantity; a later quantity of the same strength replaces an earlier."""
        if strength == OWN or self.strength < OWN:
            self.cue, self.strength, self.words = cue, strength, words


@dataclass
class Scan:
    """The tokens of a caption (with a closing END), its mentions, and the last mention read."""

    kinds: list[int]
    values: list[Any]
    words: list[str]
    mentions: list[Mention]
    at: dict[int, Mention]
    last: Mention | None = None
    read: int = -1
    """Index of the last mention that was read, whatever ended its sentence."""
    sums: list[tuple[int, tuple[float, float], str]] = field(default_factory=list)
    """Classes, their share together and its words: "trees and shrubs together cover 40 %"."""
    larger: list[tuple[int, int, int, str]] = field(default_factory=list)
    """Comparisons: classes, those they are held against (0: all others named), 1 for larger or −1
    for smaller, and the words."""
    smallest: int = 0
    """Classes that are said to be the smallest."""
    lines: frozenset[str] = frozenset()
    """Words of what divides a tile: a road, a river."""
    adverbs: frozenset[str] = frozenset()
    """Words such as "above" that name a side of what divides a tile."""
    whole: tuple[int, ...] = ()
    """Indices of the regions that are the whole tile."""
    left_out: int = 0
    """Classes of a group that are absent unless the caption names them."""
    aside_from: Mention | None = None
    """What the clause is about while something between commas is said of it."""
    shares: dict[int, Mention] = field(default_factory=dict)
    """Tokens of shares and the classes that have them, by the order of a sentence (`shares`)."""
    resumed: int = 0
    """The token from which the clause goes on after such an aside."""
    alone: list[tuple[list[Mention], str]] = field(default_factory=list)
    """Mentions that are said to be all there is, and the words."""


def scan(kinds: list[int], values: list[Any], words: list[str], lexicon: Lexicon) -> Scan:
    """The mentions of the tokens of a text, which end with an END."""
    mentions = _find(kinds, values, words, lexicon)
    at = {mention.at: mention for mention in mentions}
    return Scan(
        kinds,
        values,
        words,
        mentions,
        at,
        lines=lexicon.lines,
        adverbs=frozenset(lexicon.adverbs),
        whole=lexicon.whole,
    )


def _find(kinds: list[int], values: list[Any], words: list[str], lexicon: Lexicon) -> list[Mention]:
    mentions: list[Mention] = []
    end = -1  # the token after the last mention
    for i, kind in enumerate(kinds):
        if kind != MENTION or (i and kinds[i - 1] == PREFIX):  # not "non-vegetated"
            continue
        bits = values[i]
        is_said = end == i - 1 and kinds[end] == COPULA and words[end] != ":"
        if words[i] == "bare" and is_said and mentions[-1].bits in _SHED:
            continue  # "the trees are bare"
        if bits < DENIED and mentions:
            before = mentions[-1].bits
            if i == end:
                if bits == before or bits & (bits - 1):  # "crop fields", "tree vegetation"
                    end = i + 1
                    continue
                if before & (before - 1) or _is_modifier(words[i - 1], before, bits):
                    mentions.pop()  # "vegetation: forest", "a desert town"
            elif bits == before and words[end:i] == ["s"]:  # "the airfield's runways"
                end = i + 1
                continue
            elif before != bits and _is_figure(kinds, words, end, i, lexicon):
                mentions.pop()  # "a sea of houses"
        mention = Mention(i, bits & (DENIED - 1), words[i])
        if bits & DENIED:
            mention.negated = words[i]
        if mentions:
            mention.link, mention.joined = _link(kinds, end, i)
            mention.apart = kinds[end] == COMMA and words[end + 1] == "and"
            mention.choice = mention.joined and not _CHOICES.isdisjoint(words[end:i])
        mention.place = len(mentions)
        mentions.append(mention)
        end = i + 1
    return mentions


def _is_modifier(word: str, bits: int, head: int) -> bool:
    """Whether a class right before another only says of what kind it is: "forest road"."""
    return head == BUILT and not word.endswith(_ADJECTIVES)


def _is_figure(kinds: list[int], words: list[str], end: int, i: int, lexicon: Lexicon) -> bool:
    """Whether the class before the token ``end`` is a figure of speech for the one at ``i``."""
    if kinds[end] != OF or i - end > 4 or words[end - 1] not in lexicon.metaphors:
        return False
    return all(kind in (OTHER, DETERMINER) for kind in kinds[end + 1 : i])


def _link(kinds: list[int], start: int, stop: int) -> tuple[int, bool]:
    """How two mentions hang together over the tokens between them, and whether by an article."""
    link, article, others, depth = OTHER, False, 0, 0
    if stop - start > REACH:
        return OTHER, False
    for kind in kinds[start:stop]:
        if kind == OPEN:
            depth += 1
        elif kind == CLOSE:
            depth = max(0, depth - 1)
        elif depth or kind in (STRONG, PART_CUE, OF, SCENE, PART, BOUND):
            continue
        elif kind == COMMA:
            link = COMMA if link == OTHER else link
        elif kind == JOIN:
            link = JOIN
        elif kind == DETERMINER:
            article = link != OTHER
        elif kind == OTHER:
            others += 1
        else:
            return OTHER, False
    return (link, article) if others <= 4 else (OTHER, False)


def subjects(scan: Scan) -> list[Mention]:
    """What a verb refers to: the last mention and those joined to it ("A, B and C are …"), in
    the order of the text."""
    if scan.last is None:
        return []
    mentions = [scan.last]
    if scan.last.link == JOIN and not (scan.last.joined and _is_singular(scan)):
        index = scan.last.place
        while index and scan.mentions[index].link != OTHER:
            index -= 1
            mentions.append(scan.mentions[index])
    return mentions[::-1]


def antecedent(scan: Scan, i: int) -> Mention | None:
    """What "it" refers to after the END at ``i``: the first class of the sentence that ends there.

    "It shows …" and "it is a …" speak of the picture.
    """
    words, kinds = scan.words, scan.kinds
    if i + 3 >= len(kinds) or words[i + 1] not in _PRONOUNS:
        return None
    if kinds[i + 2] not in (COVERAGE, DOMINATES, COPULA, OTHER):
        return None
    if kinds[i + 2 : i + 4] == [COPULA, DETERMINER] or words[i + 2] in _OF_PICTURE:
        return None
    start = sentence(scan, i - 1)[0] if i else 0
    first = next((scan.at[j] for j in range(start, i) if j in scan.at), None)
    return first if first is not None and not (first.negated or first.aside) else None


def _is_singular(scan: Scan) -> bool:
    """Whether the verb after the last mention is about that alone: "…, and the lake is small"."""
    assert scan.last is not None
    after = scan.words[scan.last.at + 1 : scan.last.at + 3]
    return "is" in after or "was" in after


def sentence(scan: Scan, i: int) -> tuple[int, int]:
    """The first token of the sentence of the token ``i``, and its END, no further than `FAR`."""
    start, stop = i, i + 1
    while start > max(0, i - FAR) and scan.kinds[start - 1] != END:
        start -= 1
    while stop < min(len(scan.kinds), i + FAR) and scan.kinds[stop] != END:
        stop += 1
    return start, stop


def chain(mentions: list[Mention], first: Mention) -> list[Mention]:
    """A mention and those joined to it after it."""
    end, most = first.place + 1, min(len(mentions), first.place + REACH)
    while end < most and mentions[end].link != OTHER:
        end += 1
    return mentions[first.place : end]


def union(mentions: list[Mention]) -> int:
    """The classes of ``mentions`` as one bitmask."""
    return functools.reduce(operator.or_, (mention.bits for mention in mentions), 0)


def spread(mentions: list[Mention]) -> None:
    """Carry cues over lists: "limited crop, built-up and barren areas"."""
    for i in range(1, len(mentions)):
        mention, source = mentions[i], mentions[i - 1]
        inherits = source.placed_before and not mention.regions and not mention.rest
        if inherits and mention.link == JOIN:
            mention.regions, mention.placed_before = list(source.regions), True
        if (
            mention.link == OTHER
            or mention.strength
            or mention.negated
            or mention.dominance_at >= 0
        ):
            continue
        if mention.link == COMMA and not _closed(mentions, i):
            continue
        choice = mention.choice or (mention.link == COMMA and _ends_in_choice(mentions, i))
        if mention.joined and (source.strength == OWN or (source.negated and not choice)):
            continue
        if source.bits == mention.bits and not source.negated:
            continue
        if is_apart(source, mention) and not choice:
            continue
        mention.negated, mention.negated_after = source.negated, source.negated_after
        mention.aside = source.aside
        if mention.negated:  # "no trees or water in the south" denies both there
            source.regions.extend(mention.regions)
            mention.regions = source.regions
        mention.cue, mention.strength, mention.words = source.cue, source.strength, source.words
        mention.shared = True
        mention.dominance_at = source.dominance_at


def is_apart(source: Mention, mention: Mention) -> bool:
    """Whether the denial of the mention before does not reach over a list of two: "no crops, and
    houses"; not "no crops, roads, and houses"."""
    return bool(source.negated) and mention.apart and source.link == OTHER


def _ends_in_choice(mentions: list[Mention], i: int) -> bool:
    """Whether the list that contains mention ``i`` ends with "or": "without a river, a pond or"."""
    later = itertools.takewhile(lambda m: m.link != OTHER, mentions[i + 1 : i + 1 + REACH])
    return any(mention.choice for mention in later)


def _closed(mentions: list[Mention], i: int) -> bool:
    """Whether the comma list that contains mention ``i`` ends with "and" or "or"."""
    for later in mentions[i + 1 : i + 1 + REACH]:
        if later.link == JOIN:
            return True
        if later.link != COMMA:
            return False
    return False
