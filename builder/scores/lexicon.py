"""The caption lexicon: land-cover English as data, compiled once into look-up tables."""

import functools
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ArasError
from builder.files import digest_of
from builder.landcover import CLASSES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("lexicon.toml")

# What a token is to the parser (builder/scores/claims.py).
(
    OTHER, MENTION, STRONG, PART_CUE, LINK, AFTER, DOMINANT, DOMINATES, DOMINANT_USE, NO, PREFIX,
    ABSENT, REGION, COMMA, JOIN, STOP, RELATIVE, PREPOSITION, DETERMINER, COPULA, COVERAGE, SCENE,
    PART, PASSIVE, EACH, OF, OPEN, CLOSE, END, PERCENT, NUMBER, BOUND,
) = range(32)  # fmt: skip

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
_NEGATION = {"before": NO, "prefix": PREFIX, "after": ABSENT}
_PUNCTUATION = {
    ",": COMMA, "–": COMMA, "—": COMMA, "/": JOIN, "(": OPEN, ")": CLOSE, "[": OPEN, "]": CLOSE,
    ".": END, ";": END, "!": END, "?": END, "|": END, "\n": END, ":": COPULA,
}  # fmt: skip

_UNITS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = {
    **{word: i + 1 for i, word in enumerate(_UNITS)},
    **{word: 10 * (i + 2) for i, word in enumerate(_TENS)},
    "hundred": 100,
}

_NUMBER = r"\d+(?:[.,]\d+)?"
_WORDED = "|".join(sorted(NUMBER_WORDS, key=len, reverse=True))
TOKEN = re.compile(
    rf"{_NUMBER}(?:\s?%?\s?(?:-|–|to)\s?{_NUMBER})?\s?(?:%|percent\b|per\s?cent\b|pct\b)"
    rf"|{_NUMBER}"
    rf"|(?:(?:{_WORDED})[\s-])+per\s?cent\b"
    r"|[^\W\d_]+(?:['’]t\b)?"
    r"|[,–—/()\[\];!?|:&<>~≈≤≥]"
    r"|\.(?!\d)"
    r"|\n(?=\s*(?:\n|[-*#•]|\d+[.)]\s))"
)
"""One pass over a caption in lower case: percentages and ranges, numbers, words, punctuation."""

_WORD = re.compile(r"[^\W\d_]+(?:['’]t\b)?|[&<>~≈≤≥]")
_BRACES = re.compile(r"\{([^{}]*)\}")

Token = tuple[int, Any]


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
        PERCENT and NUMBER, "more", "less" or "about" for words that bound one, else None.
        """
        words: list[str] = TOKEN.findall(_plain(text))
        single, phrases = self.single, self.phrases
        tokens = [single.get(word) or _other(word) for word in words]
        starts = [i for i, word in enumerate(words) if word in phrases]
        done = 0
        merged: list[tuple[int, int, Token]] = []
        for i in starts:
            if i < done or i + 1 == len(words):
                continue
            for rest, token in phrases[words[i]].get(words[i + 1], ()):
                end = i + 2 + len(rest)
                if words[i + 2 : end] == rest:
                    merged.append((i, end, token))
                    done = end
                    break
        for i, end, token in reversed(merged):
            tokens[i:end] = [token]
            words[i:end] = [" ".join(words[i:end])]
        return [kind for kind, _ in tokens], [value for _, value in tokens], words


@functools.lru_cache(maxsize=8)
def load(path: Path | None = None) -> Lexicon:
    """The built-in lexicon, or the file ``path`` laid over it.

    Raises ArasError that names the file and the key when the file cannot be read or understood.
    """
    tables = _read(BUILT_IN)
    place = BUILT_IN
    if path is not None:
        place = path
        own = _read(path)
        if not isinstance(own.get("version"), str) or own["version"] == tables["version"]:
            raise ArasError(
                f'{path}: give the lexicon a version of its own, as in version = "1-harbour"'
            )
        tables = _overlay(tables, own)
    try:
        return _compile(tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArasError(f"{place}: not a caption lexicon: {error}; see {BUILT_IN}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
    groups = {
        sum(1 << CLASSES.index(one) for one in entry["classes"]): name
        for name, entry in tables["groups"].items()
    }
    scoring = tables["scoring"]
    table: dict[tuple[str, ...], Token] = {}
    for phrase, token in _entries(tables, quantities):
        for one in _expand(phrase):
            words = tuple(_WORD.findall(one.lower()))
            if not words:
                raise ValueError(f"the phrase {phrase!r} holds no word")
            table[words] = token
    for phrase in tables.get("remove", ()):
        for one in _expand(phrase):
            table.pop(tuple(_WORD.findall(one.lower())), None)
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
        groups=groups,
        single={words[0]: token for words, token in table.items() if len(words) == 1}
        | {mark: (kind, None) for mark, kind in _PUNCTUATION.items()},
        phrases=phrases,
    )


def _entries(
    tables: dict[str, Any], quantities: dict[str, Quantity]
) -> Iterator[tuple[str, Token]]:
    """Every phrase and what it is; a later one replaces an earlier one of the same words."""
    grammar = tables["grammar"]
    yield "of", (OF, None)
    for name, kind in _GRAMMAR.items():
        for phrase in grammar[name]:
            yield phrase, (kind, None)
    for bound in ("more", "less", "about"):
        for phrase in grammar[bound]:
            yield phrase, (BOUND if phrase not in grammar["preposition"] else PREPOSITION, bound)
    for name, entry in tables["quantities"].items():
        for key, kind in _QUANTITY.items():
            for phrase in entry.get(key, ()):
                yield phrase, (kind, quantities[name])
    dominance = tables["dominance"]
    for key, kind in (("before", DOMINANT), ("verbs", DOMINATES), ("nouns", DOMINANT_USE)):
        for phrase in dominance[key]:
            yield phrase, (kind, quantities[dominance["quantity"]])
    for key, kind in _NEGATION.items():
        for phrase in tables["negation"][key]:
            yield phrase, (kind, None)
    least = quantities["negligible"]
    for phrase in tables["negation"]["nearly"]:
        nearly = Quantity("nearly none", least.low, least.high, nearly_none=True)
        yield phrase, (STRONG, nearly)
    for index, entry in enumerate(tables["regions"].values()):
        for phrase in entry["words"]:
            yield phrase, (REGION, index)
    for name, words in tables["classes"].items():
        for phrase in words:
            yield phrase, (MENTION, 1 << CLASSES.index(name))
    for entry in tables["groups"].values():
        bits = sum(1 << CLASSES.index(one) for one in entry["classes"])
        for phrase in entry["words"]:
            yield phrase, (MENTION, bits)
    for phrase in tables["neutral"]["words"]:
        yield phrase, (OTHER, None)


def _expand(phrase: str) -> Iterator[str]:
    """``forest{|s}`` → forest, forests."""
    parts = _BRACES.split(phrase)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    for choice in itertools.product(*choices):
        yield "".join(choice)


def _plain(text: str) -> str:
    """Lower case, compatibility forms folded (full-width digits, NBSP), NULs as spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.replace("\0", " ").lower()


_NOTHING: Token = (OTHER, None)


def _other(word: str) -> Token:
    """The token of a word that the lexicon does not hold: a number, or nothing."""
    if word[0].isdigit():
        return _number(word)
    if word.endswith("cent") and not word.isalpha():
        return _worded(word)
    return _NOTHING


@functools.lru_cache(maxsize=4096)
def _number(word: str) -> Token:
    """Value(s) of a token that starts with a digit, with the half-width of their rounding."""
    numbers = [part.replace(",", ".") for part in re.findall(_NUMBER, word)]
    decimals = max(len(part.partition(".")[2]) for part in numbers)
    low, high = sorted((float(numbers[0]), float(numbers[-1])))
    return NUMBER if word[-1].isdigit() else PERCENT, (low, high, 0.5 * 10.0**-decimals)


def _worded(word: str) -> Token:
    value = float(sum(NUMBER_WORDS.get(part, 0) for part in re.findall(r"[a-z]+", word)))
    return PERCENT, (value, value, 0.5)
