"""Leakage: models that recover composition or source from words, and find nothing in noise."""

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.scores import leakage
from builder.scores.leakage import source_leak, source_sentence, structural_leakage, without_digits

WORDS = ("forest", "shrubs", "grass", "crops", "houses", "rock", "water")


def tiles(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(7, 0.3), n)


def test_digits_and_their_percent_signs_are_removed():
    text = "Grass (86%), water 12.5 % and 1,000 trees"
    assert without_digits(text).split() == ["Grass", "(),", "water", "and", "trees"]


def test_words_that_follow_the_composition_give_it_away_without_any_digit():
    shares = tiles(400)
    leading = [" ".join(WORDS[k] for k in np.argsort(-p)[:2]) + " 57%" for p in shares]
    leakage = structural_leakage(leading, shares, image_features=shares)
    assert leakage.r2_text > 0.6
    assert leakage.r2_image > 0.99


def test_words_at_random_give_nothing_away():
    shares = tiles(400)
    draw = np.random.default_rng(1)
    texts = [" ".join(draw.choice(WORDS, 2)) for _ in shares]
    assert structural_leakage(texts, shares).r2_text < 0.05


def test_numbers_alone_give_nothing_away():
    shares = tiles(200)
    texts = [" ".join(f"{100 * x:.0f}%" for x in p) + " of land" for p in shares]
    assert structural_leakage(texts, shares).r2_text < 0.05


def test_captions_of_one_tile_do_not_stand_on_both_sides_of_a_fold():
    # Every tile has a name of its own in its captions: only a leaky fold could use it.
    shares = np.repeat(tiles(60), 4, axis=0)
    names = np.repeat([f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)], 4)
    texts = [f"Landscape {name * 3}" for name in names]
    apart = structural_leakage(texts, shares, groups=list(names))
    mixed = structural_leakage(texts, shares)
    assert mixed.r2_text > 0.5 > 0.1 > apart.r2_text


def test_a_large_set_is_measured_on_a_draw_of_it(monkeypatch):
    shares = tiles(600)
    texts = [" ".join(WORDS[k] for k in np.argsort(-p)[:3]) for p in shares]
    whole = structural_leakage(texts, shares, shares)
    monkeypatch.setattr(leakage, "MOST", 300)
    drawn = structural_leakage(texts, shares, shares)
    assert (whole.n, drawn.n) == (600, 300)
    assert drawn.r2_text == pytest.approx(whole.r2_text, abs=0.1)
    assert drawn.r2_image > 0.99
    assert structural_leakage(texts, shares, seed=1).r2_text != drawn.r2_text


def test_captions_of_one_tile_tell_its_source_on_one_side_of_a_fold_only():
    draw = np.random.default_rng(3)
    names = np.repeat([f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)], 4)
    source = np.repeat(draw.random(60) < 0.5, 4)
    texts = [f"Landscape {name * 3}" for name in names]
    assert source_leak(texts, source).auc > 0.95
    assert source_leak(texts, source, groups=list(names)).auc < 0.6
    few = source_leak(texts[:40], source[:40], groups=list(names[:40]))
    assert few.auc is None  # ten tiles, in forty captions


def test_an_opening_formula_tells_the_source_and_is_listed():
    texts = ["This satellite image shows forest"] * 40 + ["Forest covers the scene"] * 40
    leak = source_leak(texts, [True] * 40 + [False] * 40)
    assert leak.auc == 1
    assert "satellite" in dict(leak.telling["synthetic"])
    assert "scene" in dict(leak.telling["real"])


@pytest.mark.parametrize(
    ("marked", "mark"),
    [
        (str.lower, "^a"),
        (str.upper, "FOREST"),
        (lambda text: text.rstrip("."), "grass$"),
        (lambda text: text.replace(" and ", ", "), "forest ,"),
    ],
)
def test_case_and_punctuation_tell_the_source_too(marked, mark):
    texts = ["A tile of Forest and grass.", "A scene of shrubs near forest and grass."] * 20
    leak = source_leak([*texts, *map(marked, texts)], [False] * 40 + [True] * 40)
    assert leak.auc == 1
    assert mark in dict(leak.telling["synthetic"])


def test_a_stream_that_gives_its_source_away_is_named_and_no_other():
    texts = ["This satellite image shows forest"] * 40 + ["Forest covers the scene"] * 40
    leak = source_leak(texts, [True] * 40 + [False] * 40)
    sentence = source_sentence("full", leak)
    assert sentence.startswith("Stream full gives its source away: ")
    assert "AUC 1.00" in sentence
    assert any(f"“{word}”" in sentence for word, _ in leak.telling["synthetic"][:3])
    draw = np.random.default_rng(0)
    same = [" ".join(draw.choice(WORDS, 4)) for _ in range(600)]
    assert source_sentence("full", source_leak(same, draw.random(600) < 0.5)) is None
    assert source_sentence("full", None) is None


def test_the_same_words_on_both_sides_leak_no_source():
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 4)) for _ in range(600)]
    assert source_leak(texts, draw.random(600) < 0.5).auc == pytest.approx(0.5, abs=0.08)


def test_too_few_captions_give_no_number():
    assert source_leak(["a forest"] * 9, [True] * 8 + [False]).auc is None
    assert structural_leakage(["a forest"] * 9, tiles(9)).r2_text is None


def test_the_models_are_deterministic():
    shares = tiles(100)
    texts = [" ".join(WORDS[k] for k in np.argsort(-p)[:3]) for p in shares]
    source = shares[:, 0] > 0.2
    assert structural_leakage(texts, shares, seed=4) == structural_leakage(texts, shares, seed=4)
    assert source_leak(texts, source, seed=4) == source_leak(texts, source, seed=4)


def test_lengths_that_differ_are_an_error():
    with pytest.raises(ArasError, match="2 texts, but compositions has 3 rows"):
        structural_leakage(["a", "b"], tiles(3))
