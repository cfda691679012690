"""Comparisons of a caption: "the forest exceeds the fields", "more lake than forest"."""

from builder.scores.cues import ahead
from builder.scores.lexicon import COPULA, COVERAGE, END, NUMBER, PERCENT, STRONG, Lexicon
from builder.scores.mentions import Mention, Scan, chain, sentence, subjects, union

_WINDOW = 8
"""How many tokens before "than" its comparative may stand."""


def beats(scan: Scan, i: int) -> None:
    """Attach "exceeds" (1), "is dwarfed by" (−1), "twice as much … as" (2), "comes last" (0)."""
    sign = scan.values[i]
    if sign == 0:
        scan.smallest |= union(subjects(scan))
    elif sign == 2:
        _times(scan, i)
    elif sign == 1 and scan.words[i + 1] in ("everything", "anything", "all", "all else"):
        if scan.last is not None:  # "houses outnumber everything"
            scan.larger.append((union(subjects(scan)), 0, sign, scan.words[i]))
    else:
        _compare(scan, subjects(scan), ahead(scan, i, adverb=True), sign, i)


def than(scan: Scan, i: int, lexicon: Lexicon) -> None:
    """Attach "more A than B", "A takes less space than B"."""
    if scan.kinds[i + 1] in (PERCENT, NUMBER, STRONG):
        return
    start = max(0, i - _WINDOW)
    for j in range(i, start - 1, -1):
        if scan.kinds[j] == END:
            return
        sign = lexicon.comparatives.get(scan.words[j].partition(" ")[0], 0)
        if sign:
            between = [scan.at[k] for k in range(j, i) if k in scan.at]
            left = between[-1:] or subjects(scan)
            _compare(scan, left, ahead(scan, i, adverb=True), sign, i)
            return


def more(scan: Scan, i: int, lexicon: Lexicon) -> None:
    """Attach a comparative before the END at ``i``: "the forest covers slightly more"."""
    before = scan.kinds[max(0, i - 4) : i]
    sign = lexicon.comparatives.get(scan.words[i - 1], 0)
    if sign and (COVERAGE in before or COPULA in before) and scan.last:
        scan.larger.append((union(subjects(scan)), 0, sign, scan.words[i - 1]))


def _times(scan: Scan, i: int) -> None:
    """ "twice as much A as B"; "A is twice as large as B"."""
    after = [j for j in range(i + 1, min(i + 10, sentence(scan, i)[1])) if j in scan.at]
    if len(after) > 1 and "as" in scan.words[after[0] : after[1]]:
        _compare(scan, [scan.at[after[0]]], scan.at[after[1]], 1, i)
    elif after and scan.last:
        _compare(scan, subjects(scan), scan.at[after[0]], 1, i)


def _compare(scan: Scan, left: list[Mention], right: Mention | None, sign: int, i: int) -> None:
    if not left or right is None or right in left:
        return
    words = scan.words[i]
    listed = chain(scan.mentions, right)  # up to an article: "than forest, and some houses"
    stop = next((k for k, mention in enumerate(listed) if k and mention.joined), len(listed))
    scan.larger.append((union(left), union(listed[:stop]), sign, words))


def largest(scan: Scan) -> tuple[int, str]:
    """The class that beats all others that the caption names, directly or by way of others, and
    the words that say so; 0 for none."""
    if not scan.larger:
        return 0, ""
    named = union([m for m in scan.mentions if not m.negated and not m.aside])
    pairs: list[tuple[int, int, str]] = []
    for left, right, sign, words in scan.larger:
        right = right or named & ~left
        pairs.append((left, right, words) if sign > 0 else (right, left, words))
    pairs = list(dict.fromkeys(pairs))
    losers = scan.smallest
    for _, right, _ in pairs:
        losers |= right
    for left, right, words in pairs:
        if left & (left - 1) or left & losers:
            continue
        below = right
        for _ in pairs:
            for a, b, _words in pairs:
                below |= b if not a & ~(below | left) else 0
        if not named & ~(left | below | scan.smallest):
            return left, words
    return 0, ""
