"""Cues of a caption ("limited", "dominates", "no") and the mention that each is about."""

from builder.scores.lexicon import (
    ABSENT,
    AFTER,
    BEATS,
    BOUND,
    CLOSE,
    COMMA,
    COPULA,
    COVERAGE,
    DETERMINER,
    DOMINANT,
    DOMINANT_USE,
    DOMINATES,
    EACH,
    END,
    EXCEPT,
    FOREIGN,
    JOIN,
    MENTION,
    OF,
    ONLY,
    OPEN,
    OTHER,
    PART,
    PART_CUE,
    PASSIVE,
    PERCENT,
    PREPOSITION,
    RELATIVE,
    SCENE,
    STOP,
    STRONG,
    THAN,
    Quantity,
)
from builder.scores.mentions import (
    DERIVED,
    OWN,
    REACH,
    Mention,
    Scan,
    chain,
    sentence,
    subjects,
    union,
)
from builder.scores.percentages import SHOWS, is_sum

_CLAUSE = frozenset((END, COMMA, JOIN, STOP, PREPOSITION, OPEN))
_TRANSPARENT = frozenset((OF, PERCENT, BOUND, STRONG, PART_CUE, DOMINANT, CLOSE, ONLY))
_OPENINGS = frozenset((END, JOIN, COMMA, STOP))
_ARTICLES = frozenset(("a", "an"))
_VERBS = frozenset((COPULA, COVERAGE, MENTION, OPEN))
_OF_SCENE = frozenset((OF, DETERMINER, SCENE, PART))
_HERE = frozenset(("here", "there", "shown", "visible", "depicted", "s"))
_INSIDE = frozenset(("in", "over", "across", "on"))
_ASIDES = frozenset(("with", "including", "featuring", "surrounded by", "bordered"))
_ADVERBS = frozenset(
    ("very", "only", "quite", "relatively", "fairly", "rather", "extremely", "mostly", "just",
     "still", "also", "between")
)  # fmt: skip


def ahead(scan: Scan, i: int, *, adverb: bool = False) -> Mention | None:
    """The mention that the cue at ``i`` introduces, if it does.

    An adverb ("predominantly", "entirely covered by") reaches over other adjectives and commas.
    """
    kinds = scan.kinds
    others, noun, listed = 0, False, False
    for j in range(i + 1, min(i + 1 + REACH, len(kinds) - 1)):
        kind, after = kinds[j], kinds[j + 1]
        if kind == MENTION:
            return scan.at.get(j) or scan.at.get(j + 1)
        if kind in (OTHER, FOREIGN):
            others += 1
        elif kind in _TRANSPARENT:
            continue
        elif kind in (COMMA, JOIN):
            if others and not adverb and scan.words[j] not in ("or", "nor") and after != OF:
                return None
            listed = True
        elif kind == DETERMINER:
            if listed and not adverb:
                return None
        elif kind in (SCENE, PART):  # "a small area of …", "half of the tile is …"
            if adverb and j == i + 1 and scan.words[j].startswith("feature"):
                continue  # "predominantly features forest"
            noun = True
            if scan.words[j + 1] in _HERE or (after == COMMA and scan.words[i - 1] in _INSIDE):
                continue  # "most land here is", "in the majority of the image, there is"
            if after not in (OF, OPEN, PASSIVE, COPULA, SCENE, PART, STOP) and not (
                (adverb or scan.words[j] == "land") and after == MENTION
            ):
                return None
        elif kind == STOP and scan.words[j] in SHOWS and (noun or (adverb and j == i + 1)):
            continue  # "mainly shows farmland", "half of the image shows a lake"
        elif kind in (COPULA, PASSIVE):
            adverbial = kind == PASSIVE and adverb  # "entirely composed of sand"
            noun = noun or (adverb and kinds[j - 1] == DETERMINER)  # "this is", "there is"
            noun = noun or (adverb and scan.words[j - 1] == "there")
            is_share = isinstance(scan.values[i], Quantity) and scan.values[i].fraction
            if not (noun or adverbial or (j == i + 1 and (is_share or after == MENTION))):
                return None
        elif kind == PREPOSITION:
            under = scan.words[j] == "under" and (kinds[j - 1] == COPULA or j == i + 1)
            leaves = scan.words[j] == "for" or scan.words[i - 1].startswith("leav")
            if kinds[j - 1] != PASSIVE and not under and (j > i + 1 or not leaves):
                return None
        elif kind == OPEN:  # "a small percentage (2%) of barren land"
            if kinds[j + 1 : j + 4] != [PERCENT, CLOSE, OF]:
                return None
        else:
            return None
    return None


def quantity(scan: Scan, i: int) -> None:
    """Attach "limited", "patches of", "interspersed with", "more than half"."""
    kinds, cue = scan.kinds, scan.values[i]
    strength = OWN if kinds[i] == STRONG else DERIVED
    at, after = _before(scan, i), kinds[i + 1]
    before = kinds[at]
    if after in (ABSENT, THAN) or (cue.most and _is_part(scan, i)) or is_of_class(scan, i):
        return  # "entirely absent", "most of the trees", "half of the houses"
    if i in scan.shares:
        scan.shares[i].claim(cue, OWN, scan.words[i])
        return
    if cue.name == "few" and after == STRONG and scan.values[i + 1].size:
        return  # "a few large fields"
    if cue.low >= 0.8 and (after == STOP or (after == OTHER and scan.words[i - 1] in _ARTICLES)):
        return  # "totally surrounded by", "a fully equipped harbour"
    flat = after == OTHER and not scan.words[i + 1].endswith(("ed", "ed by", "ed with", "ed in"))
    if cue.name == "all" and flat and " " not in scan.words[i + 1]:
        return  # "completely flat"
    ends = after in _CLAUSE or after == CLOSE
    ends = ends and scan.words[i + 1] != "under"
    predicate = kinds[i] == AFTER or (before in _VERBS and ends)
    if cue.fraction and EACH in (before, after, kinds[at - 1]):
        verb = i + 2 if kinds[i + 2] == COPULA else i + 1
        first = (
            ahead(scan, verb, adverb=True) if after == EACH else None
        )  # "a fifth each is trees and grass"
        for mention in chain(scan.mentions, first) if first else []:
            mention.claim(cue, strength, scan.words[i])
        if first:
            return
        for mention in _of_each(scan):
            mention.claim(cue, strength, scan.words[i])
        return
    target = None if predicate else ahead(scan, i, adverb=cue.low >= 0.8)
    if (
        target
        and cue.size
        and _is_plural(target.word)
        and not {SCENE, PART} & {*kinds[i : target.at]}
    ):
        return  # "small fields"
    if target and not cue.fraction and cue.low >= 0.1 and target.word in scan.lines:
        return  # "extensive roads", "a large river"
    if predicate and scan.words[i + 1] == "in" and MENTION in kinds[i + 2 : i + 4]:
        return  # "trees are sparse in the town"
    claimed: list[Mention] = []
    if target:
        claimed = [target]
    elif (cue.fraction or cue.low >= 0.5) and is_sum(scan, at, i):
        scan.sums.append((union(subjects(scan)), (cue.low, cue.high), scan.words[i]))
    elif (cue.low >= 0.8 or scan.words[i].endswith("ly")) and after == OTHER:
        return  # "a fully equipped harbour", "the town is moderately dense"
    elif kinds[i - 1] == OPEN and after == CLOSE and scan.last:
        claimed = [scan.last]  # "trees (minor)"
    elif cue.most and (before in _OPENINGS or (scan.words[i] == "most" and after != CLOSE)):
        return
    elif cue.fraction and before == PREPOSITION and scan.words[at] in ("over", "to", "across"):
        claimed = subjects(scan)
    elif predicate or before in (COPULA, COVERAGE, DOMINATES) or after == PREPOSITION or cue.most:
        claimed = [
            mention
            for mention in subjects(scan)
            if not mention.strength or (mention is scan.last and mention.strength < strength)
        ]
    for mention in claimed:
        mention.shared = mention is not claimed[0]
        if cue.size and mention.at < i and _is_plural(scan.words[mention.at]):
            continue  # "the fields are small"
        mention.claim(cue, strength, scan.words[i])
        if cue.most and len(claimed) == 1:
            mention.dominance_at = i


def _is_plural(word: str) -> bool:
    """Whether a word names several things: "fields", not "grass"."""
    return word.endswith("s") and not word.endswith("ss")


def is_of_class(scan: Scan, i: int) -> bool:
    """Whether the share at ``i`` is one of a class, not of the tile: "half of the houses"."""
    if scan.kinds[i + 1] != OF or scan.kinds[i + 2] != DETERMINER:
        return False
    j = i + 3
    while scan.kinds[j] == OTHER:
        j += 1
    return scan.kinds[j] == MENTION and scan.kinds[j + 1] not in (SCENE, PART)


def _is_part(scan: Scan, i: int) -> bool:
    """Whether "most" speaks of a part of a class, not of the tile: "most of the trees"."""
    if scan.words[i] == "most":
        opens = i == 0 or scan.kinds[i - 1] in (*_OPENINGS, DETERMINER, COPULA, COVERAGE)
        return scan.kinds[i + 1] not in ((CLOSE, COPULA, SCENE) if opens else (CLOSE,))
    if not scan.words[i].endswith(" of"):
        return False
    if scan.kinds[i + 1] == RELATIVE:  # "most of which"
        return True
    for kind in scan.kinds[i + 1 : i + 6]:
        if kind in (MENTION, SCENE):
            return kind == MENTION
        if kind not in (DETERMINER, OTHER):
            return False
    return False


def _of_each(scan: Scan) -> list[Mention]:
    """What "each" refers to: the list before it, or all that was named before."""
    if scan.last is not None:
        first = scan.last.place
        while first and scan.mentions[first].link != OTHER:
            first -= 1
        return scan.mentions[first : scan.last.place + 1]
    return [m for m in scan.mentions if m.place <= scan.read and not m.strength]


def dominance(scan: Scan, i: int) -> None:
    """Attach "predominantly", "dominates", "the main land use"."""
    kinds, words, last = scan.kinds, scan.words, scan.last
    leading: list[Mention | None] = []
    if (
        words[i] in ("lead", "leads")
        and kinds[i + 1] not in (END, COMMA)
        and words[i + 1] != "with"
    ):
        return  # "a road leads to the farm"
    begins = sentence(scan, i)[0]
    if BEATS in kinds[begins:i] and scan.words[i - 1] == "as":
        return  # "forest edges out fields as the largest class"
    if scan.words[i].startswith("more than ") and i == begins and kinds[i + 1] == COMMA:
        leading = [ahead(scan, i, adverb=True)]  # "more than anything else, it is a forest"
    elif kinds[i] == DOMINATES:
        between = kinds[max(last.at, scan.resumed) : i] if last else []
        if last and (STOP not in between or kinds[i - 1] == RELATIVE):
            leading = [
                mention for mention in subjects(scan) if mention is last or not mention.strength
            ]
    elif kinds[i] == DOMINANT_USE:
        j = i + 1
        while kinds[j] in _OF_SCENE or (kinds[j] == PREPOSITION and SCENE in kinds[j : j + 3]):
            j += 1
        if kinds[j] in (COPULA, COVERAGE, PASSIVE) or scan.words[j] in SHOWS:
            leading = [ahead(scan, j, adverb=True)]
        elif kinds[j] != MENTION:
            ends = kinds[i + 1] != OTHER or scan.words[i + 1] in _HERE
            leading = list(subjects(scan)) if ends else []
    elif kinds[i - 1] == OPEN and kinds[i + 1] == CLOSE and last:
        leading = [last]  # "forest (dominant)"
    elif kinds[i + 1] != OF or last is None or last.at != i - 1:  # not "woods mainly of oak"
        leading = [ahead(scan, i, adverb=True)]
        if (
            leading == [None]
            and kinds[_before(scan, i)] == COPULA
            and scan.words[i].endswith("dominant")
        ):
            leading = list(subjects(scan))
        apposed = last is not None and last.at == i - 2 and kinds[i - 1] == COMMA
        said = last is not None and (apposed or COPULA in kinds[last.at : i])
        first = leading[0]
        if said and last and first and first is not last and first.bits == last.bits:
            return  # "the trees are mostly oaks"
    for mention in leading:
        if mention is not None:
            mention.dominance_at = i
            mention.claim(scan.values[i], DERIVED, scan.words[i])


def not_dominant(scan: Scan, i: int) -> int:
    """Attach "is not dominant", "does not dominate"; the place of the denied word, −1 for none.

    A class that is not dominant is still present; "not dominated by forest" speaks of what follows.
    """
    kinds = scan.kinds
    at = i + 2 if kinds[i + 1] == DETERMINER else i + 1
    said = i > 0 and kinds[i - 1] == COPULA
    if not (
        kinds[at] == DOMINATES
        or (said and kinds[at] == DOMINANT_USE)
        or (said and kinds[at] == DOMINANT and kinds[at + 1] in _CLAUSE)
    ):
        return -1
    for mention in subjects(scan):
        cue = Quantity("not dominant", 0.0, scan.values[at].low)
        mention.claim(cue, OWN, f"{scan.words[i]} {scan.words[at]}")
    stop = sentence(scan, i)[1]
    if kinds[at + 1] in (COMMA, STOP) and kinds[stop - 1] == COPULA and stop - 2 in scan.at:
        scan.at[stop - 2].dominance_at = at  # "water is not dominant, trees are"
    return at


def parenthesis(scan: Scan, i: int) -> None:
    """Go back to the subject after what is said between commas: "the park, with its ponds, is"."""
    after, word = scan.kinds[i + 1], scan.words[i + 1]
    if after in (COPULA, COVERAGE, DOMINATES, ABSENT) and scan.aside_from is not None:
        if sentence(scan, i)[0] <= scan.aside_from.at:
            scan.last, scan.resumed = scan.aside_from, i
        scan.aside_from = None
    elif (
        after in (RELATIVE, EXCEPT) or word in _ASIDES or (after == OTHER and word.endswith("ing"))
    ):
        scan.aside_from = scan.last


def _before(scan: Scan, i: int) -> int:
    """The token before ``i``, articles, bounds and adverbs skipped; −1, an END, for none."""
    j = i - 1
    while (
        j >= 0 and i - j < 4 and (scan.kinds[j] in (DETERMINER, BOUND) or scan.words[j] in _ADVERBS)
    ):
        j -= 1
    return j
