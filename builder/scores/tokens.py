"""Tokens of a caption: one regular expression, the kinds of tokens, and how numbers are read."""

import functools
import re
import unicodedata
from typing import Any

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
"""A number in digits, separators of thousands and of decimals included, for whoever masks them."""

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
