"""Captions in pieces: what each claim is worth, in its place in the text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builder.explore.claims import CONTRADICTED, LEAKS, PLAIN, SUPPORTED, UNKNOWN, mark
from builder.land.classes import CLASSES
from tests.makers.fuzz import tries


def shares(**parts: float) -> np.ndarray:
    names = [name.lower().replace("-", "_") for name in CLASSES]
    return np.array([[parts.get(name, 0.0) for name in names]])


def states(text: str, of: np.ndarray, contradictions=(), layout=None) -> dict[str, int]:
    (marked,) = mark([text], of, [contradictions], [layout])
    assert "".join(piece for piece, _ in marked.pieces) == text
    return {piece: state for piece, state in marked.pieces if state != PLAIN}


def test_claims_are_marked_where_they_stand() -> None:
    seen = states("Mostly forest, with a lake. No crops.", shares(tree=0.9, crop=0.1))
    assert seen["forest"] == SUPPORTED
    assert seen["lake"] == CONTRADICTED
    assert seen["No crops"] == CONTRADICTED


def test_a_number_that_is_the_share_of_a_class_leaks() -> None:
    seen = states("Trees cover 73% of it, 15 houses stand by.", shares(tree=0.73, crop=0.27))
    (leaking,) = [piece for piece, state in seen.items() if state & LEAKS]
    assert leaking.startswith("73")
    assert not any("15" in piece for piece in seen)


def test_a_layout_is_judged_by_the_scores_of_the_release() -> None:
    text, of = "Forest lies in the north.", shares(tree=0.5, crop=0.5)
    assert states(text, of)["in the north"] == UNKNOWN
    assert states(text, of, layout=1.0)["in the north"] == SUPPORTED
    line = "Tree 3 % of it there, but “in the north”"
    assert states(text, of, [line], 0.1)["in the north"] == CONTRADICTED


def test_repeated_words_are_marked_once_for_each_claim() -> None:
    text = "Forest is in the north; water is in the north."
    (marked,) = mark([text], shares(tree=0.5, water=0.5), [[]], [1.0])
    assert [piece for piece, state in marked.pieces if state == SUPPORTED].count(
        "in the north"
    ) == 2


def test_without_a_composition_nothing_can_be_checked() -> None:
    (marked,) = mark(["Forest and water."], np.full((1, 7), np.nan), [None], [None])
    assert {claim.state for claim in marked.claims} == {UNKNOWN}


WORDS = ("forest", "№", "ﬁeld", "50 %", "İ", "no", "water", "😀", "\0", "north", "…", "(", "1,5")


@tries(60)
@given(st.lists(st.sampled_from(WORDS)).map(" ".join) | st.text(), st.integers(0, 99))
def test_any_text_is_cut_into_pieces_that_are_the_text(text: str, seed: int) -> None:
    of = np.random.default_rng(seed).dirichlet(np.ones(7), 1)
    (marked,) = mark([text], of, [[]], [1.0])
    assert "".join(piece for piece, _ in marked.pieces) == text
