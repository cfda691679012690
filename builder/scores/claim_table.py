"""The claims of many captions as flat arrays, so that all are judged at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.landcover import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.claims import read
from builder.scores.lexicon import Lexicon

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Claims:
    """The claims of n captions as flat arrays, m claims in all.

    ``row``, ``kind``, ``bits`` (m,) integers; ``low``, ``high`` (m,) float64; ``words`` m strings.
    ``order`` (n, 7) int8: place of the class among the mentions, −1 where it is not mentioned.
    ``number_row``/``number`` every numeral; ``percent_row``/``percent`` (…, 2) intervals of
    shares, ``percent_bits`` the classes whose sum each is said to be, else 0. ``fractions``,
    ``length`` (n,) counts of fraction words and of words. ``readable`` (n,) bool is false where
    there is no text.
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
    """Read n captions; None and blank texts are unreadable (their scores are missing)."""
    lexicon = lexicon or lexicons.load()
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
        reading = read(text, lexicon)
        readable[i] = True
        counts[:, i] = reading.fraction_words, reading.words
        rows += [i] * len(reading.claims)
        flat += reading.claims
        words += reading.claims.values()
        for place, k in enumerate(reading.mentioned):
            order[i, k] = place
        numbers += [(i, number) for number in reading.numbers]
        percents += [(i, *one) for one in reading.percentages]
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
