"""The words, numbers and marks of a caption: numbers in digits, in words and as fractions."""

import functools
import re
import unicodedata

NUMERAL = r"\d+(?:[.,]\d+)*"
"""A number in digits, separators of thousands and of decimals included, for masking."""

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {
    **{word: i for i, word in enumerate(UNITS)},
    **{word: 10 * (i + 2) for i, word in enumerate(_TENS)},
}

_NUMBER = r"(?:\d+(?:[.,]\d+)?|(?<!\w)[.,]\d+)"
_SIGN = r"(?:%|percent\b|per\s?cent\b|pct\b)"
_WORDED = "|".join(sorted((*_NUMBER_WORDS, "hundred"), key=len, reverse=True))
_DIGITS = "|".join(UNITS[1:10])
TOKEN = re.compile(
    r"[acdgijklmpqruvwxy][^\W\d_]*(?:'t\b)?"  # no number word begins so: most words end here
    rf"|between\s{_NUMBER}\s?{_SIGN}?\sand\s{_NUMBER}\s?{_SIGN}"
    r"|(?<![\d./])[1-9]\s?[/⁄]\s?(?:[2-9]|1\d|20)(?!\d|/|%|\.\d)"
    rf"|{_NUMBER}(?:\s?%?\s?(?:-|–|to)\s?{_NUMBER})?\s?{_SIGN}"
    rf"|{_NUMBER}"
    rf"|(?:(?:{_WORDED}|odd)[\s-])+per\s?cent\b"
    rf"|(?:{'|'.join(_TENS)})-(?:{_DIGITS})\b"
    r"|[^\W\d_]+(?:'t\b)?"
    r"|[,–—/()\[\];!?|:&<>~≈≤≥+]"
    r"|(?<!approx)(?<!\bca)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)\.(?!\d|g\b|e\b)"
    r"|\n(?=\s*(?:\n|[-*#•]|\d+[.)]\s))"
)
"""One pass over a caption in lower case: percentages and ranges, numbers, words, punctuation."""

WORD = re.compile(r"[^\W\d_]+(?:'t\b)?|[&<>~≈≤≥+]")
"""The words of a phrase of the lexicon."""

_OF_A_HUNDRED = re.compile(r"\b(\d+) (?:out )?of (?:every |a )?100\b")
_SMALL = re.compile(r"\b(\d) (?:in|of|out of) (?:every )?([2-9]|10)\b(?!\s?%|[.,]\d)(?! per)")
_IS = re.compile(r"\b(it|there|here|that)'s\b")
_EVEN = re.compile(r"\b50\s?[/:-]\s?50\b(?!\s?%)")
_RATIO = re.compile(r"(?<=\d):(?=\d)")


def plain(text: str) -> str:
    """Lower case, compatibility forms folded (full-width digits, NBSP), NULs as spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return text.replace("\0", " ").lower()


def words_of(text: str) -> list[str]:
    """The tokens of a text; a ratio ("50:50") is a list of numbers, "70 of 100" a percentage."""
    text = plain(text)
    if "'s" in text:
        text = _IS.sub(r"\1 is", text)
    if "50" in text:
        text = _EVEN.sub("fifty fifty", text)
    if " of " in text or " in " in text:
        text = _SMALL.sub(r"\1/\2 ", text)
    if "100" in text:
        text = _OF_A_HUNDRED.sub(r"\1 % ", text)
    return TOKEN.findall(_RATIO.sub("/", text) if ":" in text else text)


def is_number(word: str) -> bool:
    """Whether a token that is no word of the lexicon is a number."""
    return word[0].isdigit() or word[0] in ".," or "-" in word or word.startswith("between ")


def is_fraction(word: str) -> bool:
    """Whether it is a fraction in digits: "1/3"."""
    return "/" in word or "⁄" in word


def is_worded_percentage(word: str) -> bool:
    return word.endswith("cent") and not word.isalpha() and not _is_signed(word)


@functools.lru_cache(maxsize=4096)
def number(word: str) -> tuple[bool, tuple[float, float, float]]:
    """Whether it is a percentage, and its value(s) with the half-width of their rounding."""
    if not word[-1].isdigit() and "-" in word and word[-1].isalpha() and not _is_signed(word):
        value = float(_sum(word))
        return False, (value, value, 0.5)
    numbers = [part.replace(",", ".") for part in re.findall(_NUMBER, word)]
    decimals = max(len(part.partition(".")[2]) for part in numbers)
    low, high = sorted((float(numbers[0]), float(numbers[-1])))
    return not word[-1].isdigit(), (low, high, 0.5 * 10.0**-decimals)


def _is_signed(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _sum(word: str) -> int:
    """ "twenty-five" is a sum, "one hundred" a product."""
    value = 0
    for part in re.findall(r"[a-z]+", word):
        value = 100 * max(value, 1) if part == "hundred" else value + _NUMBER_WORDS.get(part, 0)
    return value


def worded(word: str) -> tuple[float, float, float]:
    """The value of a percentage in words; "eighty-odd percent" may be nearly ninety."""
    value = float(_sum(word))
    return value, value + (9 if "odd" in word else 0), 0.5


@functools.lru_cache(maxsize=512)
def fraction(word: str) -> float:
    """The share of a fraction in digits, 0 where it is none: "1/3"."""
    over, under = re.findall(r"\d+", word)
    return float(over) / float(under) if float(over) < float(under) else 0.0
