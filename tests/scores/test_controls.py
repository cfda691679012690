"""Control captions: each row gets the wrong words in a known way."""

import numpy as np

from builder.scores.controls import (
    classes_masked,
    control_captions,
    digits_masked,
    shuffled,
    wrong_class,
)

IDS = [f"real/{i}" for i in range(30)]
TEXTS = [f"Caption {i} of forest." for i in range(30)]
SHARES = np.eye(7)[[0, 0, 2, 3, 0, 2] * 5]


def test_shuffled_gives_every_text_to_exactly_one_other_row():
    given = shuffled(IDS, TEXTS)
    assert sorted(given) == sorted(TEXTS)
    assert all(own != other for own, other in zip(TEXTS, given, strict=True))


def test_shuffled_depends_on_seed_and_ids_but_not_on_the_order_of_rows():
    backwards = shuffled(IDS[::-1], TEXTS[::-1])[::-1]
    assert backwards == shuffled(IDS, TEXTS)
    assert shuffled(IDS, TEXTS, seed=1) != shuffled(IDS, TEXTS, seed=0)


def test_wrong_class_comes_from_another_dominant_class():
    given = wrong_class(IDS, TEXTS, SHARES)
    donor = [TEXTS.index(text) for text in given]
    assert (SHARES.argmax(axis=1) != SHARES[donor].argmax(axis=1)).all()
    assert given == wrong_class(IDS[::-1], TEXTS[::-1], SHARES[::-1])[::-1]


def test_rows_that_cannot_be_exchanged_have_no_text():
    assert shuffled(["a", "b"], ["x", None]) == [None, None]
    assert wrong_class(["a", "b"], ["x", "y"], SHARES[:2]) == [None, None]


def test_a_number_becomes_one_mark_whatever_its_length():
    assert digits_masked("7%, 86% and 12.5%") == "#%, #% and #%"


def test_every_class_word_becomes_the_same_word():
    masked = classes_masked("Dense forest (86%) and BUILT-UP areas by a river valley; Crop fields.")
    assert masked == "Dense land (86%) and land areas by a river valley; land."


def test_shuffled_takes_the_next_text_that_differs():
    texts = ["a", "a", "b", "a", None, "a"]
    for seed in range(9):
        given = shuffled(IDS[:6], texts, seed=seed)
        assert [given[i] for i in (0, 1, 3, 5)] == ["b"] * 4
        assert (given[2], given[4]) == ("a", None)
    assert shuffled(IDS[:3], ["same"] * 3) == [None] * 3


def test_a_tile_of_other_classes_with_the_same_words_gives_none():
    assert wrong_class(IDS[:3], ["same"] * 3, SHARES[[0, 2, 3]]) == [None] * 3


def test_every_row_of_a_control_differs_from_the_caption():
    texts = ["No number here.", "Words of 5 % alone.", "A quiet morning."] * 10
    rows = control_captions(IDS, texts, SHARES).to_pylist()
    own = dict(zip(IDS, texts, strict=True))
    assert all(row["text"] != own[row["id"]] for row in rows)
    assert {own[row["id"]] for row in rows if row["control"] == "digits_masked"} == {texts[1]}
    assert not [row for row in rows if row["control"] == "classes_masked"]


def test_the_table_holds_every_control_that_a_row_can_have():
    table = control_captions(IDS, [*TEXTS[:-1], None], SHARES)
    assert table.column_names == ["id", "control", "text"]
    assert table.num_rows == 5 * (len(IDS) - 1) + 1
    rows = table.to_pylist()
    assert list(dict.fromkeys(row["control"] for row in rows)) == [
        "shuffled", "wrong_class", "digits_masked", "classes_masked", "empty",
    ]  # fmt: skip
    assert {row["text"] for row in rows if row["control"] == "empty"} == {""}
    assert [row["text"] for row in rows if row["id"] == IDS[-1]] == [""]
