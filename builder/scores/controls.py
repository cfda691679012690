"""Control captions: what a model scores on them shows how much it reads the words."""

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.fields import Count, Section
from builder.scores import lexicon as lexicons
from builder.scores.grounding import shares_of
from builder.scores.lexicon import MENTION, Lexicon
from builder.scores.numerals import NUMERAL, TOKEN


class ControlsSection(Section):
    rows: Count = 1_000


_NUMBER = re.compile(NUMERAL)

MASKED_DIGITS = "#"
MASKED_CLASS = "land"


def shuffled(ids: Sequence[str], texts: Sequence[str | None], *, seed: int = 0) -> list[str | None]:
    """Each row's text from another row with another text; None where there is no other.

    Rows are in the order of a hash of ``seed`` and id, and each takes the text of the next whose
    text differs: the result depends on the set of rows, not on their order.
    """
    order = [i for i in _order(ids, seed) if texts[i] is not None]
    given: list[str | None] = [None] * len(texts)
    n = len(order)
    differs = [texts[order[at]] != texts[order[(at + 1) % n]] for at in range(n)]
    if not any(differs):
        return given
    last = max(at for at in range(n) if differs[at])
    for step in range(n):  # backwards from a row whose next differs
        at = (last - step) % n
        i, after = order[at], order[(at + 1) % n]
        given[i] = texts[after] if differs[at] else given[after]
    return given


def wrong_class(
    ids: Sequence[str],
    texts: Sequence[str | None],
    compositions: npt.ArrayLike,
    *,
    seed: int = 0,
    candidates: int = 16,
) -> list[str | None]:
    """Each row's text from a tile of other classes; None where there is no other text.

    Among the next ``candidates`` rows, in the order of `shuffled`, whose dominant class differs,
    the tile with the least overlap of compositions, Σ min(p, q). ``compositions`` is (n, 7).
    """
    shares = shares_of(compositions, len(texts))
    order = [i for i in _order(ids, seed) if texts[i] is not None and not np.isnan(shares[i]).any()]
    given: list[str | None] = [None] * len(texts)
    if not order:
        return given
    ranked = np.array(order)
    leading = shares[ranked].argmax(axis=1)
    others = {k: np.flatnonzero(leading != k) for k in np.unique(leading).tolist()}
    for place, i in enumerate(order):
        pool = others[int(leading[place])]
        if len(pool):
            start = np.searchsorted(pool, place)
            some = ranked[pool[(start + np.arange(min(candidates, len(pool)))) % len(pool)]]
            overlap = np.minimum(shares[i], shares[some]).sum(axis=1)
            others_first = (texts[j] for j in some[overlap.argsort(kind="stable")])
            given[i] = next((text for text in others_first if text != texts[i]), None)
    return given


def digits_masked(text: str) -> str:
    """``text`` with each number as one ``#``, whatever its length."""
    return _NUMBER.sub(MASKED_DIGITS, text)


def classes_masked(text: str, lexicon: Lexicon | None = None) -> str:
    """``text`` with every phrase of the lexicon that names land cover as the word ``land``."""
    lexicon = lexicon or lexicons.load()
    pieces: list[str] = []
    end = 0
    for start, stop in _class_spans(text, lexicon):
        pieces += [text[end:start], MASKED_CLASS]
        end = stop
    return "".join([*pieces, text[end:]])


def control_captions(
    ids: Sequence[str],
    texts: Sequence[str | None],
    compositions: npt.ArrayLike,
    *,
    seed: int = 0,
    lexicon: Lexicon | None = None,
) -> pa.Table:
    """The controls of a caption stream: columns id, control, text, ordered by control and row.

    Controls are those of `columns.CONTROLS`. A row is left out of a control that gives it no text
    or its own: one without a number of ``digits_masked``, one without another row to take words
    from of ``shuffled``. A row without a caption has only the ``empty`` one.
    """
    lexicon = lexicon or lexicons.load()

    def each(mask: Callable[[str], str]) -> list[str | None]:
        return [None if text is None else mask(text) for text in texts]

    controls: dict[str, list[str | None]] = {
        "shuffled": shuffled(ids, texts, seed=seed),
        "wrong_class": wrong_class(ids, texts, compositions, seed=seed),
        "digits_masked": each(digits_masked),
        "classes_masked": each(lambda text: classes_masked(text, lexicon)),
        "empty": [""] * len(texts),
    }
    rows = [
        (id_, name, text)
        for name, column in controls.items()
        for id_, own, text in zip(ids, texts, column, strict=True)
        if text is not None and text != own
    ]
    names = ("id", "control", "text")
    return pa.table(
        {name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)}
    )


def _order(ids: Sequence[str], seed: int) -> list[int]:
    keys = [hashlib.sha256(f"{seed}\0{id_}".encode()).digest() for id_ in ids]
    return sorted(range(len(ids)), key=keys.__getitem__)


def _class_spans(text: str, lexicon: Lexicon) -> list[tuple[int, int]]:
    """Where the class phrases are in ``text``; plain lower case, so that places hold."""
    lower = text.lower() if len(text.lower()) == len(text) else text
    words = list(TOKEN.finditer(lower))
    tokens = [(lexicon.single.get(word.group()), word.start(), word.end()) for word in words]
    for i, end, token in reversed(lexicon.phrases_in([word.group() for word in words])):
        tokens[i:end] = [(token, tokens[i][1], tokens[end - 1][2])]
    return [(start, end) for token, start, end in tokens if token and token[0] == MENTION]
