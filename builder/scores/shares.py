"""Which class has which share where a sentence gives them in turn: "a tenth is road, a fifth wood".

Most sentences with shares name classes and shares in turn, whatever is between them. Where they do
not (a share of several classes, classes without one), the words right beside a share decide
(cues.py, percentages.py).
"""

import itertools

from builder.scores.cues import is_of_class
from builder.scores.lexicon import (
    ALL,
    EACH,
    END,
    EXCEPT,
    NO,
    OF,
    PERCENT,
    PREPOSITION,
    REST,
    STOP,
    STRONG,
)
from builder.scores.mentions import Mention, Scan

_SHARES = frozenset((STRONG, PERCENT))
_LOCAL = frozenset((EACH, EXCEPT, NO))
"""Tokens of sentences that are read by the words beside a share."""

_BESIDE = frozenset(("of", "by", "with", "under", "at", "in"))


def align(scan: Scan) -> None:
    """Give each explicit share of a sentence its class, where the sentence leaves no doubt."""
    kinds = scan.kinds
    stated = [i for i, kind in enumerate(kinds) if kind in _SHARES and _is_share(scan, i)]
    while stated:
        start = stop = stated[0]
        while start and kinds[start - 1] != END:
            start -= 1
        while kinds[stop] != END:
            stop += 1
        within = [i for i in stated if i < stop]
        stated = stated[len(within) :]
        if _LOCAL.isdisjoint(kinds[start:stop]):
            _align(scan, within, [m for m in scan.mentions if start <= m.at < stop])


def _align(scan: Scan, shares: list[int], mentions: list[Mention]) -> None:
    """Align the shares of a sentence: "S M S M", "M S M S", "M M S S" or a single pair."""
    if len(shares) != len(mentions) or any(m.negated for m in mentions):
        return
    if len(shares) == 1:
        aligned = _is_beside(scan, shares[0], mentions[0].at)
    else:
        is_share = [at in shares for at in sorted((*shares, *(m.at for m in mentions)))]
        in_turn = all(a != b for a, b in itertools.pairwise(is_share))
        first = is_share[: len(shares)]
        after = mentions[-1].at + 1
        in_lists = not any(first) and (scan.words[after] == ":" or after in shares)
        aligned = in_turn or in_lists
    if aligned:
        scan.shares.update(zip(shares, mentions, strict=True))


def _is_share(scan: Scan, i: int) -> bool:
    """Whether the token at ``i`` is an explicit share of the tile."""
    value = scan.values[i]
    if scan.kinds[i] == STRONG:
        return bool(value.fraction and not value.most) and not is_of_class(scan, i)
    return scan.kinds[i] == PERCENT


def _is_beside(scan: Scan, share: int, at: int) -> bool:
    """Whether nothing between a share and the only class of its sentence parts them."""
    low, high = sorted((share, at))
    for j in range(low + 1, high):
        kind = scan.kinds[j]
        if kind == ALL and scan.kinds[j - 1] == OF:
            continue  # "half of everything you see is sea"
        if kind in (STOP, REST, ALL) or (kind == PREPOSITION and scan.words[j] not in _BESIDE):
            return False
    return True
