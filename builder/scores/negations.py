"""Denied classes of a caption: "no water", "looks like a desert, but", "it is not true that"."""

from builder.scores import mentions
from builder.scores.cues import ahead
from builder.scores.lexicon import (
    ABSENT,
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
    PART,
    PART_CUE,
    PERCENT,
    PREPOSITION,
    REGION,
    SCENE,
    STOP,
    STRONG,
    Lexicon,
)
from builder.scores.mentions import Mention, Scan, sentence

_HALF_DENIED = frozenset(("not", "never"))
_RANKS = frozenset((DOMINANT, DOMINANT_USE, DOMINATES))
_IN_LIST = frozenset((OTHER, COMMA, JOIN, DETERMINER))
_YIELDS = frozenset(("while", "although", "though"))
_ALSO = frozenset(("so", "as", "neither", "nor"))
_UNREAL = ("if there were", "if there was", "if there had been", "had there been")
_SEEN = frozenset(
    ("visible", "present", "seen", "found", "shown", "there", "here", "left", "depicted",
     "included", "apparent", "part", "evident", "detected", "detectable", "discernible",
     "identifiable", "noticeable", "observed", "recorded", "spotted",
     "survive", "survives", "survived", "remained", "recognisable", "recognizable")
)  # fmt: skip
_SOMEWHERE = frozenset(("to", "anywhere", "near", "nearby", "in", "within", "on", "at"))
_TURNS = frozenset(("but", "yet", "actually", "however", "fact", "really", "though"))


def deny(scan: Scan, i: int, lexicon: Lexicon) -> None:
    """Attach the denial at ``i`` to the class that it introduces."""
    value, words = scan.values[i], scan.words
    if value == "untrue" or is_denied(scan, i):
        return
    if value == "missing":
        _missing(scan, i)
        return
    if words[i] == "neither":
        _neither(scan, i)
        return
    if words[i] == "none of" and _none_of(scan, i):
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


def _missing(scan: Scan, i: int) -> None:
    """Attach "the only thing missing from this scene is a beach"."""
    verbs = [j for j in range(i + 1, sentence(scan, i)[1]) if scan.kinds[j] == COPULA]
    target = ahead(scan, verbs[0], adverb=True) if verbs else None
    for mention in mentions.chain(scan.mentions, target) if target is not None else []:
        mention.negated = scan.words[i]


def _none_of(scan: Scan, i: int) -> bool:
    """Attach "none of the fields has been built on", "none of the lakes has a jetty", where the
    fields and lakes are there; not "none of the fields is visible". Whether it is attached."""
    kinds, words = scan.kinds, scan.words
    target = ahead(scan, i)
    if target is None or {SCENE, COPULA} & {*kinds[i : target.at]}:
        return False
    verb, stop = target.at + 1, sentence(scan, i)[1]
    if kinds[verb] == ABSENT:
        return True  # "none of the trees has been felled"
    has = words[verb] in ("has", "have")
    if not (has or kinds[verb] == COPULA) or not _SEEN.isdisjoint(words[verb:stop]):
        return False
    if kinds[verb + 1] in (END, COMMA):
        return False
    last = next((j for j in range(verb + 1, stop) if kinds[j] not in (OTHER, COPULA)), stop)
    if has and kinds[verb + 1] in (DETERMINER, MENTION):
        owned = ahead(scan, verb)
        if owned is not None:
            owned.negated = "none of …"
    elif last in scan.at:  # "none of the meadows has been ploughed"
        scan.at[last].aside = True
    return True


def also(scan: Scan, i: int) -> None:
    """Attach what is absent too after the ABSENT at ``i``: "water is absent, so are crops"."""
    kinds, words, j = scan.kinds, scan.words, i + 1
    while kinds[j : j + 1] in ([COMMA], [JOIN], [END]) and words[j] != "nor" and j < i + 3:
        j += 1
    if words[j : j + 1] == [] or words[j] not in _ALSO:
        return
    verb = j + 2 if words[j + 1] in ("too", "also") else j + 1
    if kinds[verb] != COPULA:
        return
    target = ahead(scan, verb, adverb=True)
    for mention in mentions.chain(scan.mentions, target) if target is not None else []:
        mention.negated, mention.negated_after = words[i], True


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
    if len(cues) == 1 and scan.kinds[i + 1] == COPULA:
        cues = [i + 1]  # "no trees, and neither are there fields"
    if not _RANKS.isdisjoint(scan.kinds[cues[-1] : stop]):
        return
    last = ahead(scan, cues[-1])
    if last is not None and scan.kinds[last.at + 1] == COPULA and len(cues) > 1:
        said = scan.words[last.at + 2 : stop]
        if (
            said
            and ABSENT not in scan.kinds[last.at : stop]
            and (_SEEN | _SOMEWHERE).isdisjoint(said)
        ):
            return  # "neither the lake nor the forest is large"
    for j in cues:
        target = ahead(scan, j, adverb=scan.kinds[j] == COPULA)
        if target is not None:
            target.negated = "neither" + ("" if target.at == j + 1 else " …")


def subjects(scan: Scan, i: int) -> list[Mention]:
    """What the word at ``i`` says is absent: "trees are absent", "some water, but none seen"."""
    start = sentence(scan, i)[0]
    if is_counterfactual(scan, i) or (scan.values[i] and _is_partial(scan)):
        return []
    if scan.values[i] and not _becomes(scan, i, start):
        return []
    if "none of" in scan.words[start:i]:
        return []  # "none of the lakes has dried up"
    if i and scan.words[i].startswith("none") and scan.kinds[i - 1] == STOP:
        return [scan.at[j] for j in range(start, i) if j in scan.at][:1]
    if scan.kinds[i + 1] == COPULA and (i == 0 or scan.kinds[i - 1] in (END, COMMA)):
        target = ahead(scan, i + 1, adverb=True)
        return [target] if target is not None else []  # "absent are trees"
    if i > 1 and scan.kinds[i - 1] == OTHER and scan.kinds[i - 2] == DETERMINER:
        return []  # "the sky cannot be seen"
    return mentions.subjects(scan)


def _becomes(scan: Scan, i: int, start: int) -> bool:
    """Whether the class before ``i`` gives way, to a class where the words ask for one: "the field
    became a pond"; not "the river turned into the valley"."""
    before = [scan.at[j] for j in range(start, i) if j in scan.at]
    into = scan.words[i].endswith((" into", " to", " a", " an"))
    named = not into or ahead(scan, i, adverb=True) is not None
    return named and not (before and before[-1].aside)


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
    if is_counterfactual(scan, i):
        return True
    start = sentence(scan, i)[0]
    return any(value == "untrue" for value in scan.values[start:i] if type(value) is str)


def is_counterfactual(scan: Scan, i: int) -> bool:
    """Whether what is denied at ``i`` would be so only if something were there: "if there were
    trees, one could not see the quarry"."""
    before = scan.words[sentence(scan, i)[0] : i]
    return any(word.startswith(_UNREAL) for word in before)


def _is_partial(scan: Scan) -> bool:
    """Whether the clause is about a part of its class: "half of the forest was cleared"."""
    if scan.last is None:
        return False
    before = range(max(0, scan.last.at - 3), scan.last.at)
    parts = (PART, STRONG, PART_CUE, PERCENT)
    return any(
        scan.kinds[j] in parts and (scan.kinds[j + 1] == OF or scan.words[j].endswith(" of"))
        for j in before
    )


def _is_next_phrase(scan: Scan, i: int, target: Mention) -> bool:
    """Whether a verb is between "no" and the class: "no clouds obscure the sea"."""
    between = scan.kinds[i + 1 : target.at]
    if scan.words[i] != "no" or DETERMINER not in between:
        return False
    return OTHER in between[: between.index(DETERMINER)] and not {COMMA, END, STOP} & {*between}
