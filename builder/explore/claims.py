"""Captions cut into pieces by what their claims are worth: what the page marks in colour."""

import functools
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from builder.land.classes import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.claims import LAYOUT, LOCAL_ABSENCE
from builder.scores.grounding import Captions
from builder.scores.lexicon import Lexicon
from builder.scores.numerals import NUMERAL, plain

PLAIN, SUPPORTED, CONTRADICTED, UNKNOWN = range(4)
"""States of a piece: claims nothing; agrees with the mask; does not; cannot be told from it."""
LEAKS = 4
"""Added to the state of a piece that holds the percentage of a class as a numeral."""

KINDS = ("presence", "absence", "quantity", "dominance", "layout", "absence there")
"""Kinds of claims in words, in the order of `builder.scores.claims`."""

_NUMBER = re.compile(NUMERAL)


class Claim(NamedTuple):
    """A claim of a caption: its kind, classes, words and state, and the share seen in per cent."""

    kind: str
    classes: str
    words: str
    state: int
    seen: float | None


class Marked(NamedTuple):
    """A caption in pieces (text, state), which joined are its text, and its claims."""

    pieces: list[tuple[str, int]]
    claims: list[Claim]


def mark(
    texts: Sequence[str | None],
    shares: npt.NDArray[np.float64],
    contradictions: Sequence[Sequence[str] | None],
    layouts: Sequence[float | None],
    lexicon: Lexicon | None = None,
) -> list[Marked]:
    """Read the claims of n captions and mark them.

    ``shares`` is (n, 7), NaN where a tile has no composition. No mask is read: whether a claim of
    layout holds follows from the release's scores ``contradictions`` and ``layouts``, and is
    unknown where it lacks them.
    """
    lexicon = lexicon or lexicons.load()
    captions = Captions.read(texts, shares, None, lexicon)
    claims, (value, seen) = captions.claims, captions.values
    by_row: list[list[Claim]] = [[] for _ in texts]
    for i, row in enumerate(claims.row.tolist()):
        kind, bits, words = int(claims.kind[i]), int(claims.bits[i]), claims.words[i]
        is_layout = kind in (LAYOUT, LOCAL_ABSENCE)
        if is_layout:
            state = _layout_state(words, contradictions[row], layouts[row])
        else:
            known = not np.isnan(value[i])
            state = (SUPPORTED if value[i] >= 0.5 else CONTRADICTED) if known else UNKNOWN
        name = lexicon.groups.get(bits) or " + ".join(
            c for k, c in enumerate(CLASSES) if bits >> k & 1
        )
        share = None if is_layout or np.isnan(seen[i]) else round(100 * float(seen[i]), 1)
        by_row[row].append(Claim(KINDS[kind], name, words, state, share))
    present = np.where(captions.present, np.rint(np.nan_to_num(shares) * 100), -1)
    return [
        Marked(_pieces(text, own, set(known.tolist())) if text else [], own)
        for text, own, known in zip(texts, by_row, present, strict=True)
    ]


def _layout_state(words: str, contradictions: Sequence[str] | None, layout: float | None) -> int:
    if contradictions and any(line.endswith(f"“{words}”") for line in contradictions):
        return CONTRADICTED
    return UNKNOWN if layout is None or contradictions is None else SUPPORTED


def _pieces(text: str, claims: Sequence[Claim], percent: set[float]) -> list[tuple[str, int]]:
    """The text cut where its state changes; a contradicted claim comes first."""
    read = plain(text)
    states = np.zeros(len(text), dtype=np.int8)
    if len(read) == len(text):  # else compatibility forms were folded: nothing can be placed
        order = {CONTRADICTED: 0, UNKNOWN: 1, SUPPORTED: 2}
        for claim in sorted(claims, key=lambda claim: order[claim.state]):
            for match in _pattern(claim.words).finditer(read):
                here = slice(*match.span())
                if not states[here].any():
                    states[here] = claim.state
                    break
        for number in _NUMBER.finditer(read):
            value = number[0].replace(",", ".")
            if value.count(".") < 2 and round(float(value)) in percent:
                end = number.end() + (read[number.end() : number.end() + 2].lstrip()[:1] == "%")
                states[number.start() : end] |= LEAKS
    if not text:
        return []
    cuts = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(text)]
    return [(text[a:b], int(states[a])) for a, b in itertools.pairwise(cuts)]


@functools.lru_cache(maxsize=4096)
def _pattern(words: str) -> re.Pattern[str]:
    """Where the words of a claim stand; "…" is a gap within a sentence."""
    parts = [re.escape(word) for word in words.replace("…", " … ").split()]
    gap = re.escape("…")
    inside = r"[\W_]*?".join(r"[^.;!?]{0,90}?" if part == gap else part for part in parts)
    return re.compile(rf"(?<!\w){inside}(?!\w)")
