"""The caption lexicon: land-cover English as data, compiled once into look-up tables."""

import functools
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.land.classes import CLASSES

Token = tuple[int, Any]
"""Kind and value; see `builder.scores.lexicon.Lexicon.tokens`."""

# What a token is to the parser (builder/scores/claims.py).
(
    OTHER, MENTION, STRONG, PART_CUE, LINK, AFTER, DOMINANT, DOMINATES, DOMINANT_USE, NO, PREFIX,
    ABSENT, REGION, COMMA, JOIN, STOP, RELATIVE, PREPOSITION, DETERMINER, COPULA, COVERAGE, SCENE,
    PART, PASSIVE, EACH, OF, OPEN, CLOSE, END, PERCENT, NUMBER, BOUND,
) = range(32)  # fmt: skip

PUNCTUATION = {
    ",": COMMA, "–": COMMA, "—": COMMA, "/": JOIN, "(": OPEN, ")": CLOSE, "[": OPEN, "]": CLOSE,
    ".": END, ";": END, "!": END, "?": END, "|": END, "\n": END, ":": COPULA,
}  # fmt: skip

NUMERAL = r"\d+(?:[.,]\d+)*"
"""A number in digits, separators of thousands and of decimals included, for masking."""

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {
    **{word: i for i, word in enumerate(_UNITS)},
    **{word: 10 * (i + 2) for i, word in enumerate(_TENS)},
}

_NUMBER = r"\d+(?:[.,]\d+)?"
_SIGN = r"(?:%|percent\b|per\s?cent\b|pct\b)"
_WORDED = "|".join(sorted((*_NUMBER_WORDS, "hundred"), key=len, reverse=True))
TOKEN = re.compile(
    rf"between\s{_NUMBER}\s?{_SIGN}?\sand\s{_NUMBER}\s?{_SIGN}"
    rf"|{_NUMBER}(?:\s?%?\s?(?:-|–|to)\s?{_NUMBER})?\s?{_SIGN}"
    rf"|{_NUMBER}"
    rf"|(?:(?:{_WORDED})[\s-])+per\s?cent\b"
    r"|[^\W\d_]+(?:'t\b)?"
    r"|[,–—/()\[\];!?|:&<>~≈≤≥]"
    r"|\.(?!\d)"
    r"|\n(?=\s*(?:\n|[-*#•]|\d+[.)]\s))"
)
"""One pass over a caption in lower case: percentages and ranges, numbers, words, punctuation."""

WORD = re.compile(r"[^\W\d_]+(?:'t\b)?|[&<>~≈≤≥]")
"""The words of a phrase of the lexicon."""

_NOTHING: Token = (OTHER, None)


def plain(text: str) -> str:
    """Lower case, compatibility forms folded (full-width digits, NBSP), NULs as spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return text.replace("\0", " ").lower()


def other(word: str) -> Token:
    """The token of a word that the lexicon does not hold: a number, or nothing."""
    if word[0].isdigit() or word.startswith("between "):
        return _number(word)
    if word.endswith("cent") and not word.isalpha():
        return _worded(word)
    return _NOTHING


@functools.lru_cache(maxsize=4096)
def _number(word: str) -> Token:
    """Value(s) of a token in digits, with the half-width of their rounding."""
    numbers = [part.replace(",", ".") for part in re.findall(_NUMBER, word)]
    decimals = max(len(part.partition(".")[2]) for part in numbers)
    low, high = sorted((float(numbers[0]), float(numbers[-1])))
    return NUMBER if word[-1].isdigit() else PERCENT, (low, high, 0.5 * 10.0**-decimals)


def _worded(word: str) -> Token:
    """The value of a percentage in words; "one hundred" is a product, "twenty-five" a sum."""
    value = 0.0
    for part in re.findall(r"[a-z]+", word):
        value = 100 * max(value, 1) if part == "hundred" else value + _NUMBER_WORDS.get(part, 0)
    return PERCENT, (value, value, 0.5)


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("lexicon.toml")

ABSENT_BEFORE = "absent"
"""Value of a word (OTHER) that denies the class right before it: "tree-free"."""

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
}
_QUANTITY = {"words": STRONG, "part": PART_CUE, "link": LINK, "after": AFTER}
_DOMINANCE = {"before": DOMINANT, "verbs": DOMINATES, "nouns": DOMINANT_USE}
_NEGATION: dict[str, Token] = {
    "before": (NO, False),
    "aside": (NO, True),
    "prefix": (PREFIX, None),
    "suffix": (OTHER, ABSENT_BEFORE),
    "after": (ABSENT, None),
}
_BRACES = re.compile(r"\{([^{}]*)\}")
_LIST = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Quantity:
    """A word's claim that a share lies in [low, high]; ``nearly_none`` claims no presence."""

    name: str
    low: float
    high: float
    fraction: bool = False
    nearly_none: bool = False


@dataclass(frozen=True)
class Lexicon:
    """The compiled lexicon.

    ``single``: word → token. ``phrases``: first word → second word → (words after, token), the
    longest first. ``groups``: class bitmask → name. ``regions``: name and box of each region.
    """

    version: str
    sha256: str
    presence: float
    slack: float
    about: float
    dominant: Quantity
    regions: tuple[tuple[str, tuple[float, float, float, float]], ...]
    groups: dict[int, str]
    single: dict[str, Token]
    phrases: dict[str, dict[str, tuple[tuple[list[str], Token], ...]]]

    def tokens(self, text: str) -> tuple[list[int], list[Any], list[str]]:
        """Kinds, values and words of the tokens of ``text``, phrases merged into one token.

        Three lists of equal length. The value is a class bitmask for MENTION, a `Quantity` for
        cues, the index into `regions` for REGION, (low, high, half-width of the rounding) for
        PERCENT and NUMBER, "more", "less" or "about" for words that bound a number, and for NO
        whether it only sets its class aside ("instead of"). OTHER has the index of a region where
        it is an adjective of place ("northern"), `ABSENT_BEFORE`, or None, as all else has.
        """
        words: list[str] = TOKEN.findall(plain(text))
        single = self.single
        tokens = [single.get(word) or other(word) for word in words]
        for i, end, token in reversed(self.phrases_in(words)):
            tokens[i:end] = [token]
            words[i:end] = [" ".join(words[i:end])]
        return [kind for kind, _ in tokens], [value for _, value in tokens], words

    def phrases_in(self, words: Sequence[str]) -> list[tuple[int, int, Token]]:
        """Phrases of two and more of ``words``, as (start, end, token); the longest wins."""
        phrases = self.phrases
        done = 0
        runs: list[tuple[int, int, Token]] = []
        for i in [i for i, word in enumerate(words[:-1]) if word in phrases]:
            following = phrases[words[i]].get(words[i + 1])
            if following is None or i < done:
                continue
            for rest, token in following:
                end = i + 2 + len(rest)
                if words[i + 2 : end] == rest:
                    runs.append((i, end, token))
                    done = end
                    break
        return runs


def load(path: Path | None = None) -> Lexicon:
    """The built-in lexicon, or the file ``path`` laid over it.

    Raises ArasError that names the file and the key when the file cannot be read or understood.
    """
    return _load(path, _read(path) if path else "")


@functools.lru_cache(maxsize=8)
def _load(path: Path | None, text: str) -> Lexicon:
    """The lexicon by the words of its file, so that a file that changed is read again."""
    tables = _parse(BUILT_IN, _read(BUILT_IN))
    place = BUILT_IN
    if path is not None:
        place = path
        own = _parse(path, text)
        if not isinstance(own.get("version"), str) or own["version"] == tables["version"]:
            raise ArasError(
                f'{path}: give the lexicon a version of its own, as in version = "1-harbour"'
            )
        tables = _overlay(tables, own)
    try:
        return _compile(tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArasError(f"{place}: not a caption lexicon: {error}; see {BUILT_IN}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArasError(f"{path}: no such lexicon; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{path}: cannot read the lexicon: {error}") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArasError(f"{path}: cannot read the lexicon: {error}") from error


def _overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _overlay(old, value)
        elif isinstance(old, list) and isinstance(value, list) and key not in ("interval", "box"):
            merged[key] = old + value
        else:
            merged[key] = value
    return merged


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
    phrases: dict[str, dict[str, tuple[tuple[list[str], Token], ...]]] = {}
    for words in sorted(table, key=len, reverse=True):
        if len(words) > 1:
            seconds = phrases.setdefault(words[0], {})
            seconds[words[1]] = (*seconds.get(words[1], ()), ([*words[2:]], table[words]))
    return Lexicon(
        version=tables["version"],
        sha256=digest_of(tables),
        presence=float(scoring["presence"]),
        slack=float(scoring["slack"]),
        about=float(scoring["about"]),
        dominant=quantities[tables["dominance"]["quantity"]],
        regions=regions,  # type: ignore[arg-type]
        groups={_bits(entry["classes"]): name for name, entry in tables["groups"].items()},
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
    for bound in ("more", "less", "about"):
        for phrase in grammar[bound]:
            yield (
                phrase,
                (BOUND if phrase not in grammar["preposition"] else PREPOSITION, bound),
            )
    for name, entry in tables["quantities"].items():
        for key, kind in _QUANTITY.items():
            for phrase in entry.get(key, ()):
                yield phrase, (kind, quantities[name])
    for phrase, quantity in _fractions(tables):
        yield phrase, (STRONG, quantity)
    dominance = tables["dominance"]
    for key, kind in _DOMINANCE.items():
        for phrase in dominance[key]:
            yield phrase, (kind, quantities[dominance["quantity"]])
    for key, token in _NEGATION.items():
        for phrase in tables["negation"][key]:
            yield phrase, token
    least = quantities["negligible"]
    for phrase in tables["negation"]["nearly"]:
        nearly = Quantity("nearly none", least.low, least.high, nearly_none=True)
        yield phrase, (STRONG, nearly)
    for index, entry in enumerate(tables["regions"].values()):
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
    for phrase in tables["neutral"]["words"]:
        yield phrase, (OTHER, None)


def _fractions(tables: dict[str, Any]) -> Iterator[tuple[str, Quantity]]:
    """Fraction words, alone and after a bound: "a third", "about a third", "over a third"."""
    half, least = float(tables["scoring"]["fraction"]), float(tables["scoring"]["some"])
    for phrase, share in tables["fractions"].items():
        if not 0 < share < 1:
            raise ValueError(f"[fractions] {phrase!r} is {share}, not between 0 and 1")
        around = (max(0.0, share - half), min(1.0, share + half))
        bounds = {"more": (share, 1.0), "less": (least, share), "about": around}
        yield phrase, Quantity(phrase, *around, fraction=True)
        for bound, interval in bounds.items():
            for word in tables["grammar"][bound]:
                yield f"{word} {phrase}", Quantity(phrase, *interval, fraction=True)


def _expand(phrase: str, lists: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """``forest{|s}`` → the words of forest and of forests; ``<name>`` is one of ``lists``."""
    if unknown := set(_LIST.findall(phrase)) - set(lists):
        raise ValueError(f"the phrase {phrase!r} uses <{unknown.pop()}>, which is not in [lists]")
    parts = _BRACES.split(_LIST.sub(lambda match: lists[match[1]], phrase))
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    for choice in itertools.product(*choices):
        words = tuple(WORD.findall("".join(choice).lower()))
        if not words:
            raise ValueError(f"the phrase {phrase!r} holds no word")
        yield words
