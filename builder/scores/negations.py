"""Denied classes of a caption: "no water", "looks like a desert, but", "it is not true that"."""

from builder.scores import mentions
from builder.scores.cues import ahead
from builder.scores.lexicon import (
    COMMA,
    COPULA,
    DETERMINER,
    DOMINANT,
    DOMINANT_USE,
    DOMINATES,
    END,
    EXCEPT,
    JOIN,
    MENTION,
    NO,
    OF,
    OTHER,
    PREPOSITION,
    REGION,
    STOP,
    Lexicon,
)
from builder.scores.mentions import Mention, Scan, sentence

_HALF_DENIED = frozenset(("not", "never"))
_RANKS = frozenset((DOMINANT, DOMINANT_USE, DOMINATES))
_IN_LIST = frozenset((OTHER, COMMA, JOIN, DETERMINER))
_YIELDS = frozenset(("while", "although", "though"))
_TURNS = frozenset(("but", "yet", "actually", "however", "fact", "really", "though"))


def deny(scan: Scan, i: int, lexicon: Lexicon) -> None:
    """Attach the denial at ``i`` to the class that it introduces."""
    value, words = scan.values[i], scan.words
    if value == "untrue" or is_denied(scan, i):
        return
    if words[i] == "neither":
        _neither(scan, i)
        return
    target = ahead(scan, i) or _listed(scan, i)
    if target is None or _is_next_phrase(scan, i, target):
        return
    if value == "seeming":
        start, stop = sentence(scan, i)
        opens = _YIELDS.isdisjoint(words[start:i])
        if opens and _TURNS.isdisjoint(words[target.at : min(stop, target.at + 12)]):
            return
    after = scan.kinds[target.at + 1 : target.at + 3]
    if after[0] == EXCEPT and (
        after[1] in (PREPOSITION, REGION) or words[target.at + 1].startswith("except ")
    ):
        return  # "no trees except along the river"
    gap = "" if target.at == i + 1 else " …"
    for mention in _alternatives(scan, target):
        mention.negated = words[i] + (gap if mention is target else " …")
        mention.aside = bool(value) or words[mention.at] in lexicon.narrow


def _alternatives(scan: Scan, first: Mention) -> list[Mention]:
    """A denied class and those listed with it up to "or": "no roads, houses or other traces"."""
    listed = [first]
    for j in range(first.at + 1, sentence(scan, first.at)[1]):
        if scan.words[j] in ("or", "nor"):
            return listed
        if j in scan.at:
            listed.append(scan.at[j])
        elif scan.kinds[j] not in _IN_LIST or scan.words[j] == "and":
            break
    return [first]


def _listed(scan: Scan, i: int) -> Mention | None:
    """The first class of a list that is denied as a whole: "without paths, walls or water"."""
    start, choice = 0, False
    for j in range(i + 1, sentence(scan, i)[1]):
        if scan.kinds[j] == MENTION:
            start = start or j
        elif scan.kinds[j] not in _IN_LIST:
            break
        choice |= scan.words[j] in ("or", "nor")
    return scan.at.get(start) if choice else None


def _neither(scan: Scan, i: int) -> None:
    """Attach "neither grass on its floor nor bushes on its rim"; not "neither forest nor field
    prevails"."""
    stop = sentence(scan, i)[1]
    if scan.kinds[i + 1] == OF:  # "neither of the lakes has a jetty"
        has = [j for j in range(i, stop) if scan.words[j] in ("has", "have", "contains")]
        target = ahead(scan, has[0]) if has else None
        if target is not None:
            target.negated = "neither …"
        return
    cues = [i, *(j for j in range(i, stop) if scan.words[j] == "nor")]
    if not _RANKS.isdisjoint(scan.kinds[cues[-1] : stop]):
        return
    for j in cues:
        target = ahead(scan, j)
        if target is not None:
            target.negated = "neither" + ("" if target.at == j + 1 else " …")


def subjects(scan: Scan, i: int) -> list[Mention]:
    """What the word at ``i`` says is absent: "trees are absent", "some water, but none seen"."""
    start = sentence(scan, i)[0]
    if i and scan.words[i].startswith("none") and scan.kinds[i - 1] == STOP:
        return [scan.at[j] for j in range(start, i) if j in scan.at][:1]
    if scan.kinds[i + 1] == COPULA and (i == 0 or scan.kinds[i - 1] in (END, COMMA)):
        target = ahead(scan, i + 1, adverb=True)
        return [target] if target is not None else []  # "absent are trees"
    if i > 1 and scan.kinds[i - 1] == OTHER and scan.kinds[i - 2] == DETERMINER:
        return []  # "the sky cannot be seen"
    return mentions.subjects(scan)


def is_denied(scan: Scan, i: int) -> bool:
    """Whether the denial at ``i`` is denied or denies one itself: "not entirely free of trees",
    "it is not true that there are no trees"."""
    kinds, words = scan.kinds, scan.words
    if kinds[i + 1] == NO and not scan.values[i + 1] and words[i].startswith("not"):
        return True
    if i and words[i - 1].startswith(("not ", "far from ")):
        return True
    if words[i] == "not" and kinds[i + 1] == OF:  # "free of trees, but not of hedges"
        return True
    before = i - 1 if i and kinds[i - 1] == OTHER and words[i - 1].endswith("ly") else i
    if before and (words[before - 1] in _HALF_DENIED or words[before - 1].endswith("n't")):
        return kinds[before - 1] in (NO, OTHER)
    start = sentence(scan, i)[0]
    return any(value == "untrue" for value in scan.values[start:i] if type(value) is str)


def _is_next_phrase(scan: Scan, i: int, target: Mention) -> bool:
    """Whether a verb is between "no" and the class: "no clouds obscure the sea"."""
    between = scan.kinds[i + 1 : target.at]
    if scan.words[i] != "no" or DETERMINER not in between:
        return False
    return OTHER in between[: between.index(DETERMINER)] and not {COMMA, END, STOP} & {*between}
