"""What a caption says of all the rest: "only", "everything except", "the remainder"."""

from builder.scores.cues import ahead
from builder.scores.lexicon import (
    ABSENT,
    ALL,
    COMMA,
    COPULA,
    COVERAGE,
    DETERMINER,
    END,
    EXCEPT,
    JOIN,
    MENTION,
    OF,
    OTHER,
    PART,
    PASSIVE,
    PERCENT,
    PREPOSITION,
    REGION,
    REST,
    SCENE,
    STOP,
    STRONG,
    Quantity,
    Side,
)
from builder.scores.mentions import OWN, Mention, Scan, chain, sentence, subjects, union

EVERY = (1 << 7) - 1
"""All classes."""

ALONE, NEARLY = (0.95, 1.0), (0.90, 1.0)
"""Share of a class that is all there is, and of one that is all but for something small."""

_MOST = ("almost", "nearly", "practically", "virtually")
_MOST_OF_IT = 0.85
_THERE = frozenset(("can", "present", "represented", "occurs", "exists", "found", "visible"))
_CLASSES = frozenset(("class", "classes", "types", "categories"))
_EVERY = frozenset(("all", "every"))
_CLOSES = frozenset((END, STOP, EXCEPT, ALL))
_FILLER = frozenset((OF, OTHER, PASSIVE, PART, JOIN))
_LITTLE = frozenset(("one", "single", "lone", "handful", "couple", "solitary", "tiny", "small"))
_SPREADS = frozenset(("throughout", "everywhere"))
_THINGS = frozenset(("they", "these", "those"))
_COUNTS = frozenset(("one", "two", "three", "four", "five", "six"))
_PARTED = frozenset(("divided", "split", "surrounded", "separated", "crossed", "bounded"))
_WITH = frozenset(("with", "the", "has", "have"))


def only(scan: Scan, i: int) -> None:
    """Attach "only grass", "nothing but trees", "grass only", "everything is grass"."""
    kinds, words, value, last = scan.kinds, scan.words, scan.values[i], scan.last
    closes = kinds[i + 1] in (END, EXCEPT, STOP, COMMA) or words[i].startswith("everywhere ")
    if value == "after":
        begins = sentence(scan, i)[0]
        apart = last is None or last.at < i - 1 or STOP in kinds[max(begins, i - 5) : i]
        spreads = words[i] in _SPREADS and apart
        follows = closes or kinds[i + 1] == PREPOSITION
        if last is not None and follows and last.at >= i - 2 and not spreads:
            _exclude(scan, subjects(scan), i)
            if words[i] == "throughout":
                last.regions += [(k, "throughout") for k in scan.whole]
        return
    if value == "bare":  # "zero roads, all forest"
        begins = sentence(scan, i)[0]
        of_class = i and kinds[i - 1] == COPULA and any(j in scan.at for j in range(begins, i))
        of_things = i > 1 and words[i - 2] in _THINGS
        opens = i == 0 or kinds[i - 1] in (END, COMMA, COPULA)
        if opens and i + 1 in scan.at:
            listed = chain(scan.mentions, scan.at[i + 1])
            closes = kinds[listed[-1].at + 1] in (END, COMMA) or words[listed[-1].at + 1] == "here"
            if closes and not of_things and not (of_class and _is_about(scan, i)):
                _exclude(scan, listed, i)
        elif i and words[i - 1] == ":" and words[i + 1 : i + 3] == ["of", "it"] and last:
            _exclude(scan, [last], i)
        return
    if value == "all" and i and kinds[i - 1] == OF:
        return  # "half of everything"
    if value == "all" and i and words[i - 1] == ":" and kinds[i + 1] == END and last is not None:
        _exclude(scan, [last], i)  # "grass: all of it"
        return
    strong = value != "only"
    if not strong and _is_absent(scan, i):
        return  # "only water is missing"
    verb = (COPULA, COVERAGE, PASSIVE, MENTION, EXCEPT, OTHER)
    if words[i].startswith(("the whole", "the entire")) and kinds[i + 1] not in verb:
        return
    if not strong and kinds[i + 1] in (END, EXCEPT) and last is not None and last.at == i - 1:
        _exclude(scan, subjects(scan), i)
    elif strong or not i or (words[i - 1] not in _WITH and words[i + 1] not in _COUNTS):
        target = _next(scan, i, strong)
        if target is not None:
            _exclude(scan, chain(scan.mentions, target), i)
    elif words[i - 1] == "the":  # "the only vegetation is …"
        group = scan.values[i + 1] if kinds[i + 1] == MENTION else 0
        scan.left_out |= group if group & (group - 1) else 0


def _is_about(scan: Scan, i: int) -> bool:
    """Whether "all" after a verb speaks of the class before it: "the roads are all paved"."""
    return scan.last is not None and not {COMMA, STOP} & {*scan.kinds[scan.last.at : i]}


def _is_absent(scan: Scan, i: int) -> bool:
    """Whether the list after "only" is said to be absent."""
    target = ahead(scan, i)
    if target is None:
        return False
    after = chain(scan.mentions, target)[-1].at + 1
    return ABSENT in scan.kinds[after : after + 2]


def nothing_but(scan: Scan, i: int) -> bool:
    """Attach "nothing here but dunes", "no land cover other than grass"; whether it is said."""
    if scan.words[i] not in ("no", "nothing", "none of", "none"):
        return False
    if scan.words[i] == "nothing" and scan.kinds[i + 1] in (END, COMMA):
        before = [j for j in range(sentence(scan, i)[0], i) if scan.kinds[j] == EXCEPT]
        target = _next(scan, before[0], True) if before else None
        if target is not None:  # "aside from water there is nothing"
            scan.alone.append((chain(scan.mentions, target), scan.words[before[0]]))
        return target is not None
    for j in range(i + 1, min(i + 7, len(scan.kinds))):
        kind = scan.kinds[j]
        if kind == EXCEPT or (kind == STOP and scan.words[j] == "but"):
            target = _next(scan, j, True)
            if target is not None:
                scan.alone.append(
                    (chain(scan.mentions, target), f"{scan.words[i]} … {scan.words[j]}")
                )
            return target is not None
        if kind in (MENTION, END, COMMA):
            return False
    return False


def equal(scan: Scan, i: int) -> None:
    """Attach "share the tile evenly", "equal parts of" to all classes of a list."""
    target = None if scan.kinds[i + 1] == END else ahead(scan, i, adverb=True)
    listed = chain(scan.mentions, target) if target else subjects(scan)
    size = len({mention.bits for mention in listed})
    read = scan.mentions[: scan.read + 1]
    others = union([m for m in read if not m.negated]) & ~union(listed)
    if size > 1 and not others:
        for mention in listed:
            share = Quantity(scan.words[i], 1 / size - 0.05, 1 / size + 0.05, fraction=True)
            mention.claim(share, OWN, scan.words[i])


def scene_except(scan: Scan, i: int) -> None:
    """Attach "apart from a barn, the tile is grass", "the barn aside, it is grass"."""
    kinds = scan.kinds
    _, stop = sentence(scan, i)
    whole = scan.words[i].startswith("everything ")
    opens = whole or (i and scan.words[i - 1] == "everything")
    target = _next(scan, i, True) if opens else None
    if target is not None:
        listed = chain(scan.mentions, target)
        verb = listed[-1].at + 1
        before = kinds[max(0, i - (1 if whole else 2))] if i else END
        holds = COPULA not in kinds[i:stop] and before not in (END, COMMA, ALL)
        if kinds[verb] == ABSENT:  # "everything except water is missing"
            kinds[verb] = OTHER
            scan.alone.append((listed, scan.words[i]))
            return
        if holds and before == COVERAGE:  # "forest covers everything but the lake"
            _exclude(scan, subjects(scan), i)
            return
        if holds or not _THERE.isdisjoint(scan.words[verb : verb + 3]):
            for mention in listed:
                mention.negated = scan.words[i]  # "a tile with everything but forest"
            return
        filling = _next(scan, verb, True) if whole and kinds[verb] == COPULA else None
        if filling is not None:  # "everything but the lake is forest"
            _exclude(scan, chain(scan.mentions, filling), i)
            return
    if not _CLASSES.isdisjoint(scan.words[i:stop]) and not _EVERY.isdisjoint(scan.words[i:stop]):
        target = _next(scan, i, True)
        for mention in chain(scan.mentions, target) if target is not None else []:
            mention.negated = scan.words[i]  # "except for water, all classes are present"
        return
    if REST in kinds[i:stop] or ALL in kinds[i:stop] or STRONG in kinds[i:stop]:
        return
    for j in range(i + 1, stop):
        if kinds[j : j + 2] == [SCENE, COPULA]:
            target = _next(scan, j + 1, True)
            if target is not None:
                _exclude(scan, chain(scan.mentions, target), i)
            return


def _next(scan: Scan, i: int, strong: bool) -> Mention | None:
    """The mention right after "only", with nothing but adjectives between."""
    others, start = 0, i + 1
    if strong and EXCEPT in scan.kinds[i + 1 : i + 3]:  # "everything bar the road is lawn"
        verbs = [j for j in range(i, sentence(scan, i)[1]) if scan.kinds[j] == COPULA]
        start = verbs[0] if verbs else start
    for j in range(start, min(start + 8, len(scan.kinds))):
        kind = scan.kinds[j]
        if kind == MENTION:
            return scan.at.get(j) or scan.at.get(j + 1)
        if kind == OTHER:
            others += 1
            hedged = not strong and scan.words[j].endswith("ly")  # "only partly wooded"
            if others > 3 or hedged or scan.words[j] in _PARTED:
                return None
        elif not (strong and kind in (DETERMINER, COPULA, COVERAGE, PREPOSITION, SCENE, *_FILLER)):
            return None
    return None


def _exclude(scan: Scan, listed: list[Mention], i: int) -> None:
    """All classes but these, and others that the caption names, are absent; not where the
    sentence speaks of a part of the tile."""
    listed = [mention for mention in listed if not mention.negated]
    if not listed:
        return
    start, stop = sentence(scan, i)
    local = REGION in scan.kinds[start:stop] or any(
        isinstance(value, Side) for value in scan.values[start:stop]
    )
    local |= scan.words[start] == "beyond"
    everywhere = EXCEPT in scan.kinds[start:stop] or scan.words[i].startswith("everywhere ")
    if everywhere or not local:
        scan.alone.append((listed, scan.words[i]))


def rest(scan: Scan, i: int) -> None:
    """Attach "the rest is water", "trees elsewhere"."""
    target = None
    if scan.kinds[i + 1] != END:
        target = ahead(scan, i, adverb=True) or _after_verb(scan, i)
    target = target or scan.last
    if target is not None and not target.negated:
        target.rest = scan.words[i]


def _after_verb(scan: Scan, i: int) -> Mention | None:
    """The mention after the verb or colon of "the rest": "the remainder, however, is water"."""
    for j in range(i + 1, min(i + 8, len(scan.kinds))):
        kind = scan.kinds[j]
        if kind == MENTION:
            return scan.at.get(j)
        if kind in (END, STOP) and scan.words[j] != "as":
            return None
    return None


def alone(scan: Scan) -> tuple[int, list[tuple[int, tuple[float, float], str]], str]:
    """Classes that the caption leaves out as a whole, shares of those that are all there is, and
    the words that say so."""
    for mention in scan.mentions:  # "entirely covered by forest"
        if mention.cue and mention.cue.name == "all" and not (mention.negated or mention.regions):
            scan.alone.append(([mention], mention.words))
    if not scan.alone and not scan.left_out:
        return 0, [], ""
    named = union([m for m in scan.mentions if not m.negated and not m.aside])
    shares = []
    little = EXCEPT in scan.kinds and not (_LITTLE | scan.lines).isdisjoint(scan.words)
    for listed, words in scan.alone:
        bits = union(listed)
        others = named & ~bits
        single = not bits & (bits - 1)
        if single and not others and not any(m.strength or m.percent for m in listed):
            shares.append((bits, ALONE, words))
        elif single and little:
            shares.append((bits, NEARLY, words))
    if not scan.alone:
        named = union([m for m in scan.mentions if not m.bits & (m.bits - 1) and not m.aside])
        return scan.left_out & ~named, [], "the only"
    return EVERY & ~named, shares, scan.alone[0][1]


def remainder(scan: Scan, explicit: list[tuple[int, float, float]]) -> None:
    """Give the class that has the rest what the shares of the others leave over."""
    mentions = [m for m in scan.mentions if m.rest]
    if len({m.bits for m in mentions}) != 1 or not explicit:
        return
    named = union([m for m in scan.mentions if not m.negated and not m.aside])
    target = mentions[0]
    group = chain(scan.mentions, target)
    if named & ~union(group) & ~union_of(explicit) or target.percent or target.strength:
        return
    low = 1 - sum(high for _, _, high in explicit) - _of_unknown(scan, len(explicit))
    if target.rest.startswith(_MOST):  # "nearly all else is heather"
        low *= _MOST_OF_IT
    high = 1 - sum(low for _, low, _ in explicit)
    if high > 0:
        scan.sums.append((union(group), (max(0.0, low), min(1.0, high)), target.rest))


def _of_unknown(scan: Scan, known: int) -> float:
    """The most that things without a class can have: "half is roof, bins a quarter, the rest lake".

    ``known`` shares have a class; where the text states more, those that leave the most.
    """
    stated: list[float] = [
        value.high if kind == STRONG else value[1] / 100
        for kind, value in zip(scan.kinds, scan.values, strict=True)
        if kind == PERCENT or (kind == STRONG and value.fraction and not value.most)
    ]
    return sum(sorted(stated)[: max(0, len(stated) - known)])


def union_of(shares: list[tuple[int, float, float]]) -> int:
    bits = 0
    for more, _, _ in shares:
        bits |= more
    return bits
