"""The caption lexicon: land-cover English as data, compiled once into look-up tables."""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.land.classes import CLASSES
from builder.scores import numerals
from builder.scores.lexicon_files import overlay, parse, read

Token = tuple[int, Any]
"""Kind and value; see `builder.scores.lexicon.Lexicon.tokens`."""

# What a token is to the parser (builder/scores/claims.py).
(
    OTHER, MENTION, STRONG, PART_CUE, LINK, AFTER, DOMINANT, DOMINATES, DOMINANT_USE, NO, PREFIX,
    ABSENT, REGION, COMMA, JOIN, STOP, RELATIVE, PREPOSITION, DETERMINER, COPULA, COVERAGE, SCENE,
    PART, PASSIVE, EACH, OF, OPEN, CLOSE, END, PERCENT, NUMBER, BOUND, ONLY, ALL, EXCEPT, REST,
    BEATS, THAN, FOREIGN, ORDER, EQUAL,
) = range(41)  # fmt: skip

PUNCTUATION = {
    ",": COMMA, "–": COMMA, "—": COMMA, "/": JOIN, "(": OPEN, ")": CLOSE, "[": OPEN, "]": CLOSE,
    ".": END, ";": END, "!": END, "?": END, "|": END, "\n": END, ":": COPULA,
}  # fmt: skip

_NOTHING: Token = (OTHER, None)
_ACCENTED: Token = (FOREIGN, None)


@functools.lru_cache(maxsize=65_536)
def other(word: str) -> Token:
    """The token of a word that the lexicon does not hold: a number, or nothing."""
    if word.isalpha():
        return _NOTHING if word.isascii() else _ACCENTED
    if numerals.is_fraction(word):
        return _fraction(word)
    if numerals.is_worded_percentage(word):
        return PERCENT, numerals.worded(word)
    if numerals.is_number(word):
        signed, value = numerals.number(word)
        return PERCENT if signed else NUMBER, value
    return _NOTHING


def _fraction(word: str) -> Token:
    share = numerals.fraction(word)
    return (STRONG, Quantity(word, *_around(share, 0.1), fraction=True)) if share else _NOTHING


def _around(share: float, half: float) -> tuple[float, float]:
    """The interval of about a share, narrower near 0 and 1."""
    half = min(half, share / 2, (1 - share) / 2)
    return share - half, share + half


BUILT_IN = Path(__file__).with_name("lexicon.toml")

ABSENT_BEFORE = "absent"
"""Value of a word (OTHER) that denies the class right before it: "tree-free"."""

DENIED = 1 << len(CLASSES)
"""Bit of a MENTION that denies its classes by itself: "treeless"."""


class Side(int):
    """Index of a region that a word (OTHER) names where it stands alone: "north: forest"."""


_GRAMMAR = {
    "join": JOIN,
    "stop": STOP,
    "relative": RELATIVE,
    "preposition": PREPOSITION,
    "determiner": DETERMINER,
    "copula": COPULA,
    "coverage": COVERAGE,
    "scene": SCENE,
    "part": PART,
    "passive": PASSIVE,
    "each": EACH,
    "than": THAN,
}
_QUANTITY = {
    "words": STRONG,
    "size": STRONG,
    "part": PART_CUE,
    "link": LINK,
    "after": AFTER,
    "most": STRONG,
}
_DOMINANCE = {"before": DOMINANT, "verbs": DOMINATES, "nouns": DOMINANT_USE}
_COMPARISON: dict[str, Token] = {
    "beats": (BEATS, 1),
    "beaten": (BEATS, -1),
    "last": (BEATS, 0),
    "times": (BEATS, 2),
}
_EXCLUSION: dict[str, Token] = {
    "only": (ONLY, "only"),
    "strong": (ONLY, "strong"),
    "bare": (ONLY, "bare"),
    "after": (ALL, "after"),
    "all": (ALL, "all"),
    "except": (EXCEPT, None),
    "aside": (EXCEPT, "aside"),
    "rest": (REST, None),
    "equal": (EQUAL, None),
}
_NEGATION: dict[str, Token] = {
    "before": (NO, ""),
    "aside": (NO, "aside"),
    "seeming": (NO, "seeming"),
    "missing": (NO, "missing"),
    "untrue": (NO, "untrue"),
    "prefix": (PREFIX, None),
    "suffix": (OTHER, ABSENT_BEFORE),
    "after": (ABSENT, False),
    "gone": (ABSENT, True),
}
_BRACES = re.compile(r"\{([^{}]*)\}")
_LIST = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Quantity:
    """A word's claim that a share lies in [low, high]; ``nearly_none`` claims no presence,
    ``most`` that no class is larger, ``size`` is said of things: "small fields" may fill a tile."""

    name: str
    low: float
    high: float
    fraction: bool = False
    nearly_none: bool = False
    most: bool = False
    size: bool = False


class Node:
    """A step of the phrases: the token of the one that ends here, and the words that may follow."""

    __slots__ = ("after", "token")

    def __init__(self) -> None:
        self.token: Token | None = None
        self.after: dict[str, Node] = {}

    def next(self, word: str) -> "Node":
        """The step after ``word``, made if there is none."""
        if word not in self.after:
            self.after[word] = Node()
        return self.after[word]


@dataclass(frozen=True)
class Lexicon:
    """The compiled lexicon.

    ``narrow``: words of a class whose absence says nothing of the class ("no snow"). ``adverbs``:
    words that name a region, by its index, after a class or beside what divides a tile
    ("crops above", "below the road"). ``single``: word → token. ``phrases``: the first step of all
    phrases of several words. ``groups``: class bitmask → name. ``regions``: name and box of each.
    """

    version: str
    sha256: str
    presence: float
    slack: float
    about: float
    dominant: Quantity
    regions: tuple[tuple[str, tuple[float, float, float, float]], ...]
    groups: dict[int, str]
    metaphors: frozenset[str]
    narrow: frozenset[str]
    lines: frozenset[str]
    comparatives: dict[str, int]
    adverbs: dict[str, int]
    whole: tuple[int, ...]
    single: dict[str, Token]
    phrases: Node

    def tokens(self, text: str) -> tuple[list[int], list[Any], list[str]]:
        """Kinds, values and words of the tokens of ``text``, phrases merged into one token.

        Three lists of equal length. The value is a class bitmask for MENTION, a `Quantity` for
        cues, the index into `regions` for REGION, (low, high, half-width of the rounding) for
        PERCENT and NUMBER, "more", "less" or "about" for words that bound a number, and for NO
        "aside" where it only sets its class aside ("instead of"), "seeming" where it does so before
        a "but" ("looks like"), "missing" where what follows its verb is absent,
        "untrue" where it denies a whole clause. OTHER has the
        index of a region where it is an adjective of place ("northern"), `ABSENT_BEFORE`, or None,
        as all else has.
        """
        words: list[str] = numerals.words_of(text)
        single = self.single
        tokens = [single.get(word) or other(word) for word in words]
        for i, end, token in reversed(self.phrases_in(words)):
            tokens[i:end] = [token]
            words[i:end] = [" ".join(words[i:end])]
        kinds, values = zip(*tokens, strict=True) if tokens else ((), ())
        return [*kinds], [*values], words

    def phrases_in(self, words: Sequence[str]) -> list[tuple[int, int, Token]]:
        """Phrases of two and more of ``words``, as (start, end, token); the longest wins."""
        first = self.phrases.after
        runs: list[tuple[int, int, Token]] = []
        done, last = 0, len(words)
        for i, word in enumerate(words):
            node = first.get(word)
            if node is None or i < done:
                continue
            j = i + 1
            while j < last and (node := node.after.get(words[j])) is not None:
                j += 1
                if node.token is not None:
                    done = j
                    token = node.token
            if done > i:
                runs.append((i, done, token))
        return runs


def load(path: Path | None = None) -> Lexicon:
    """The built-in lexicon, or the file ``path`` laid over it.

    Raises ArasError that names the file and the key when the file cannot be read or understood.
    """
    return _load(path, read(path) if path else "")


@functools.lru_cache(maxsize=8)
def _load(path: Path | None, text: str) -> Lexicon:
    """The lexicon by the words of its file, so that a file that changed is read again."""
    tables = parse(BUILT_IN, read(BUILT_IN))
    place = BUILT_IN
    if path is not None:
        place = path
        own = parse(path, text)
        if not isinstance(own.get("version"), str) or own["version"] == tables["version"]:
            raise ArasError(
                f'{path}: give the lexicon a version of its own, as in version = "1-harbour"'
            )
        tables = overlay(tables, own)
    try:
        return _compile(tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArasError(f"{place}: not a caption lexicon: {error}; see {BUILT_IN}") from error


def _compile(tables: dict[str, Any]) -> Lexicon:
    unknown = set(tables["classes"]) - set(CLASSES)
    if unknown:
        raise ValueError(f"[classes] has {sorted(unknown)}; the classes are {', '.join(CLASSES)}")
    quantities = {}
    for name, entry in tables["quantities"].items():
        low, high = (float(bound) for bound in entry["interval"])
        if not 0 <= low <= high <= 1:
            raise ValueError(f"[quantities.{name}] interval {[low, high]} is not inside [0, 1]")
        quantities[name] = Quantity(name, low, high, bool(entry.get("fraction")))
    regions = tuple(
        (name, tuple(map(float, entry["box"]))) for name, entry in tables["regions"].items()
    )
    for name, box in regions:
        if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise ValueError(f"[regions.{name}] box {list(box)} is not top, left, bottom, right")
    scoring = tables["scoring"]
    table: dict[tuple[str, ...], Token] = {}
    lists = tables.get("lists", {})
    for phrase, token in _entries(tables, quantities):
        for words in _expand(phrase, lists):
            table[words] = token
    for phrase in tables.get("remove", ()):
        for words in _expand(phrase, lists):
            table.pop(words, None)
    phrases = Node()
    for words, token in table.items():
        if len(words) > 1:
            node = phrases
            for word in words:
                node = node.next(word)
            node.token = token
    return Lexicon(
        version=tables["version"],
        sha256=digest_of(tables),
        presence=float(scoring["presence"]),
        slack=float(scoring["slack"]),
        about=float(scoring["about"]),
        dominant=quantities[tables["dominance"]["quantity"]],
        regions=regions,  # type: ignore[arg-type]
        groups={_bits(entry["classes"]): name for name, entry in tables["groups"].items()},
        metaphors=frozenset(tables["metaphor"]["words"]),
        narrow=frozenset(
            " ".join(words)
            for phrase in tables["neutral"]["narrow"]
            for words in _expand(phrase, lists)
        ),
        whole=tuple(k for k, (_, box) in enumerate(regions) if box == (0.0, 0.0, 1.0, 1.0)),
        lines=frozenset(tables["lines"]["words"]),
        adverbs={
            word: index
            for index, entry in enumerate(tables["regions"].values())
            for word in entry.get("adverbs", ())
        },
        comparatives=dict.fromkeys(tables["dominance"]["comparatives"], 1)
        | dict.fromkeys(tables["dominance"]["less"], -1),
        single={words[0]: token for words, token in table.items() if len(words) == 1}
        | {mark: (kind, None) for mark, kind in PUNCTUATION.items()},
        phrases=phrases,
    )


def _bits(classes: Sequence[str]) -> int:
    return sum(1 << CLASSES.index(name) for name in classes)


def _entries(
    tables: dict[str, Any], quantities: dict[str, Quantity]
) -> Iterator[tuple[str, Token]]:
    """Every phrase and what it is; a later phrase replaces an earlier phrase of the same words."""
    grammar = tables["grammar"]
    yield "of", (OF, None)
    for name, kind in _GRAMMAR.items():
        for phrase in grammar[name]:
            yield phrase, (kind, None)
    for word in tables["foreign"]["words"]:
        yield word, (FOREIGN, None)
    for key, token in _COMPARISON.items():
        for phrase in tables["dominance"][key]:
            yield phrase, token
    for bound in ("more", "less", "about"):
        for phrase in grammar[bound]:
            yield (
                phrase,
                (BOUND if phrase not in grammar["preposition"] else PREPOSITION, bound),
            )
    for key, token in _EXCLUSION.items():
        for phrase in tables["exclusion"][key]:
            yield phrase, token
    for name, entry in tables["quantities"].items():
        for key, kind in _QUANTITY.items():
            quantity = replace(quantities[name], most=key == "most", size=key == "size")
            for phrase in entry.get(key, ()):
                yield phrase, (kind, quantity)
    for phrase, quantity in _fractions(tables):
        yield phrase, (STRONG, quantity)
    for phrase, quantity in _out_of(float(tables["scoring"]["fraction"])):
        yield phrase, (STRONG, quantity)
    dominance = tables["dominance"]
    for key, kind in _DOMINANCE.items():
        for phrase in dominance[key]:
            yield phrase, (kind, quantities[dominance["quantity"]])
    for key, token in _NEGATION.items():
        for phrase in tables["negation"][key]:
            yield phrase, token
    names = list(tables["regions"])
    for phrase, order in tables["orders"].items():
        yield phrase, (ORDER, tuple(names.index(name) for name in order))
    least = quantities["negligible"]
    for phrase in tables["negation"]["nearly"]:
        nearly = Quantity("nearly none", least.low, least.high, nearly_none=True)
        yield phrase, (STRONG, nearly)
    for phrase in tables["negation"]["hardly"]:
        yield phrase, (STRONG, least)
    for index, entry in enumerate(tables["regions"].values()):
        for phrase in entry.get("sides", ()):
            yield phrase, (OTHER, Side(index))
        for phrase in entry.get("adjectives", ()):
            yield phrase, (OTHER, index)
        for phrase in entry["words"]:
            yield phrase, (REGION, index)
    for name, words in tables["classes"].items():
        for phrase in words:
            yield phrase, (MENTION, _bits([name]))
    for entry in tables["groups"].values():
        for phrase in entry["words"]:
            yield phrase, (MENTION, _bits(entry["classes"]))
    for name, words in tables["denials"].items():
        classes = tables["groups"][name]["classes"] if name in tables["groups"] else [name]
        for phrase in words:
            yield phrase, (MENTION, _bits(classes) | DENIED)
    for phrase in tables["neutral"]["words"]:
        yield phrase, (OTHER, None)


def _fractions(tables: dict[str, Any]) -> Iterator[tuple[str, Quantity]]:
    """Fraction words, alone and after a bound: "a third", "about a third", "over a third"."""
    half, least = float(tables["scoring"]["fraction"]), float(tables["scoring"]["some"])
    for phrase, share in tables["fractions"].items():
        if not 0 < share < 1:
            raise ValueError(f"[fractions] {phrase!r} is {share}, not between 0 and 1")
        around = _around(share, half)
        bounds = {"more": (share, 1.0), "less": (least, share), "about": around}
        yield phrase, Quantity(phrase, *around, fraction=True)
        for bound, interval in bounds.items():
            for word in tables["grammar"][bound]:
                yield f"{word} {phrase}", Quantity(phrase, *interval, fraction=True)


def _out_of(half: float) -> Iterator[tuple[str, Quantity]]:
    """Shares of small wholes: "three out of five", "one in every four"."""
    names = numerals.UNITS[:11]
    for some, many in itertools.combinations(range(1, 11), 2):
        for joint in ("in", "out of", "of", "in every", "out of every", "of every"):
            phrase = f"{names[some]} {joint} {names[many]}"
            yield phrase, Quantity(phrase, *_around(some / many, half), fraction=True)


def _expand(phrase: str, lists: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """``forest{|s}`` → the words of forest and of forests; ``<name>`` is one of ``lists``."""
    if unknown := set(_LIST.findall(phrase)) - set(lists):
        raise ValueError(f"the phrase {phrase!r} uses <{unknown.pop()}>, which is not in [lists]")
    parts = _BRACES.split(_LIST.sub(lambda match: lists[match[1]], phrase))
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    for choice in itertools.product(*choices):
        text = "".join(choice)
        if "{" in text or "}" in text:
            raise ValueError(f"the phrase {phrase!r} has braces inside braces")
        words = tuple(numerals.WORD.findall(text.lower()))
        if not words:
            raise ValueError(f"the phrase {phrase!r} holds no word")
        yield words
