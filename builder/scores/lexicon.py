"""The caption lexicon: land-cover English as data, compiled once into look-up tables."""

import functools
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ArasError
from builder.files import digest_of
from builder.landcover import CLASSES
from builder.scores import tokens as t
from builder.scores.tokens import Token

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("lexicon.toml")

ABSENT_BEFORE = "absent"
"""Value of a word (OTHER) that denies the class right before it: "tree-free"."""

_GRAMMAR = {
    "join": t.JOIN,
    "stop": t.STOP,
    "relative": t.RELATIVE,
    "preposition": t.PREPOSITION,
    "determiner": t.DETERMINER,
    "copula": t.COPULA,
    "coverage": t.COVERAGE,
    "scene": t.SCENE,
    "part": t.PART,
    "passive": t.PASSIVE,
    "each": t.EACH,
}
_QUANTITY = {"words": t.STRONG, "part": t.PART_CUE, "link": t.LINK, "after": t.AFTER}
_DOMINANCE = {"before": t.DOMINANT, "verbs": t.DOMINATES, "nouns": t.DOMINANT_USE}
_NEGATION: dict[str, Token] = {
    "before": (t.NO, False),
    "aside": (t.NO, True),
    "prefix": (t.PREFIX, None),
    "suffix": (t.OTHER, ABSENT_BEFORE),
    "after": (t.ABSENT, None),
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
        PERCENT and NUMBER, "more", "less" or "about" for words that bound one, and for NO whether
        it only sets its class aside ("instead of"). OTHER has the index of a region where it is an
        adjective of place ("northern"), `ABSENT_BEFORE`, or None, as all else has.
        """
        words: list[str] = t.TOKEN.findall(t.plain(text))
        single = self.single
        tokens = [single.get(word) or t.other(word) for word in words]
        for i, end, token in reversed(self.phrases_in(words)):
            tokens[i:end] = [token]
            words[i:end] = [" ".join(words[i:end])]
        return [kind for kind, _ in tokens], [value for _, value in tokens], words

    def phrases_in(self, words: Sequence[str]) -> list[tuple[int, int, Token]]:
        """Phrases of two and more of ``words``, as (start, end, token); the longest wins."""
        phrases = self.phrases
        done = 0
        found: list[tuple[int, int, Token]] = []
        for i in [i for i, word in enumerate(words[:-1]) if word in phrases]:
            following = phrases[words[i]].get(words[i + 1])
            if following is None or i < done:
                continue
            for rest, token in following:
                end = i + 2 + len(rest)
                if words[i + 2 : end] == rest:
                    found.append((i, end, token))
                    done = end
                    break
        return found


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
        | {mark: (kind, None) for mark, kind in t.PUNCTUATION.items()},
        phrases=phrases,
    )


def _bits(classes: Sequence[str]) -> int:
    return sum(1 << CLASSES.index(one) for one in classes)


def _entries(
    tables: dict[str, Any], quantities: dict[str, Quantity]
) -> Iterator[tuple[str, Token]]:
    """Every phrase and what it is; a later one replaces an earlier one of the same words."""
    grammar = tables["grammar"]
    yield "of", (t.OF, None)
    for name, kind in _GRAMMAR.items():
        for phrase in grammar[name]:
            yield phrase, (kind, None)
    for bound in ("more", "less", "about"):
        for phrase in grammar[bound]:
            yield (
                phrase,
                (t.BOUND if phrase not in grammar["preposition"] else t.PREPOSITION, bound),
            )
    for name, entry in tables["quantities"].items():
        for key, kind in _QUANTITY.items():
            for phrase in entry.get(key, ()):
                yield phrase, (kind, quantities[name])
    for phrase, quantity in _fractions(tables):
        yield phrase, (t.STRONG, quantity)
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
        yield phrase, (t.STRONG, nearly)
    for index, entry in enumerate(tables["regions"].values()):
        for phrase in entry.get("adjectives", ()):
            yield phrase, (t.OTHER, index)
        for phrase in entry["words"]:
            yield phrase, (t.REGION, index)
    for name, words in tables["classes"].items():
        for phrase in words:
            yield phrase, (t.MENTION, _bits([name]))
    for entry in tables["groups"].values():
        for phrase in entry["words"]:
            yield phrase, (t.MENTION, _bits(entry["classes"]))
    for phrase in tables["neutral"]["words"]:
        yield phrase, (t.OTHER, None)


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
    parts = _BRACES.split(_LIST.sub(lambda found: lists[found[1]], phrase))
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    for choice in itertools.product(*choices):
        words = tuple(t.WORD.findall("".join(choice).lower()))
        if not words:
            raise ValueError(f"the phrase {phrase!r} holds no word")
        yield words
