"""Doses: what they do to tiles, and how their validity is measured."""

import numpy as np
import pytest
from scipy import ndimage

from builder.core.errors import ArasError
from builder.experiments.doses import Dose, Known, given, mislabelled
from builder.experiments.mosaics import Sizes, Tiles, mosaics, picture
from builder.experiments.validity import Judge, OpenJudge, discrimination
from tests.makers.labelled_tiles import CLASSES, SIDE, labelled, small_mosaics

PIXELS, LABELS = labelled(10)
TRAIN = Known(*labelled(8, seed=1), len(CLASSES))


def dosed(kind: str, strength: float = 0.0, **rest: float) -> np.ndarray:
    dose = Dose(kind=kind, strength=strength, **rest)
    return given(dose, PIXELS, LABELS, TRAIN, np.random.default_rng(0))


@pytest.mark.parametrize(
    "kind", ["held-out", "labels", "colour", "phases", "blur", "copies", "texture", "quilt"]
)
def test_every_dose_gives_as_many_tiles_of_the_same_shape(kind):
    tiles = dosed(kind, 0.4)
    assert tiles.shape == PIXELS.shape
    assert tiles.dtype == np.uint8


def test_wrong_labels_move_tiles_to_other_classes_and_use_each_once():
    order = mislabelled(LABELS, 0.4, np.random.default_rng(0))
    assert sorted(order) == list(range(len(LABELS)))
    assert (LABELS[order] != LABELS).mean() == pytest.approx(0.4)
    assert (dosed("labels", 0.4) == PIXELS[order]).all()


def test_random_phases_keep_the_colour_and_lose_the_picture():
    field = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal((64, 64)), 3)
    field = 20 * field / field.std()
    tile = (field[..., None] + np.array([90, 100, 110])).round().astype(np.uint8)[None]
    train = Known(tile, np.array([0]), 1)
    scrambled = given(Dose(kind="phases"), tile, np.array([0]), train, np.random.default_rng(0))
    np.testing.assert_allclose(scrambled.mean((1, 2)), tile.mean((1, 2)), atol=1)
    assert abs(np.corrcoef(scrambled[0, ..., 0].ravel(), tile[0, ..., 0].ravel())[0, 1]) < 0.5
    spectra = [abs(np.fft.fft2(picture[0, ..., 1])) for picture in (scrambled, tile)]
    assert np.corrcoef(spectra[0].ravel(), spectra[1].ravel())[0, 1] > 0.99


def test_copies_are_train_tiles_of_the_class_each_about_as_often():
    tiles = dosed("copies")
    for label in range(len(CLASSES)):
        own = TRAIN.pixels[TRAIN.labels == label]
        used = [int((tiles[label == LABELS] == tile).all((1, 2, 3)).sum()) for tile in own]
        assert sum(used) == 10
        assert set(used) <= {1, 2}


def test_the_filter_keeps_of_several_draws_the_one_most_like_its_class():
    confused = Known(TRAIN.pixels, TRAIN.labels, len(CLASSES))
    plain, best = dosed("texture"), dosed("texture", keep=0.5)
    assert best.shape == plain.shape
    assert (best != plain).any()
    assert confused.tiles().pixels.shape == (len(TRAIN.labels), SIDE, SIDE, 4)


def test_a_class_without_train_tiles_cannot_be_copied():
    train = Known(TRAIN.pixels[8:], TRAIN.labels[8:], len(CLASSES))
    with pytest.raises(ArasError, match="no tile of class 0"):
        given(Dose(kind="copies"), PIXELS, LABELS, train, np.random.default_rng(0))


def test_no_tile_is_in_two_parts_and_the_tail_is_long():
    dealt = small_mosaics()
    parts = (dealt.real, dealt.held, dealt.test, dealt.judge)
    tiles = np.concatenate([part.pixels for part in parts]).reshape(-1, SIDE * SIDE * 3)
    assert len(np.unique(tiles, axis=0)) == len(tiles)
    assert dealt.counts.sum() == 40
    assert dealt.counts.max() == pytest.approx(4 * dealt.counts.min(), abs=3)


def test_arms_of_a_ratio_hold_what_they_say():
    dealt = small_mosaics()
    balanced, natural = dealt.balanced(1.0), dealt.natural(1.0)
    assert np.bincount(dealt.held.labels[balanced]).tolist() == [10] * 4
    assert (np.bincount(dealt.held.labels[natural]) == dealt.counts).all()
    assert balanced.max() == 39  # the first block
    assert len(dealt.balanced(0.5)) == 20
    with pytest.raises(ArasError, match="more held-out tiles"):
        dealt.balanced(3.0)


def test_test_scenes_are_distinct_and_hold_every_tile_once():
    dealt = small_mosaics()
    scenes = dealt.test_scenes()
    assert sorted(scenes.tiles.ravel()) == list(range(80))
    layouts = dealt.test.labels[scenes.tiles]
    assert len(np.unique(layouts, axis=0)) == len(layouts) == len(set(scenes.texts))
    nouns = [CLASSES[k].lower() for k in layouts[0]]
    assert scenes.texts[0] == (
        f"Top left {nouns[0]}; top right {nouns[1]}; bottom left {nouns[2]}; "
        f"bottom right {nouns[3]}."
    )
    np.testing.assert_allclose(scenes.shares.mean(0), 0.25)


def test_a_picture_shows_its_tiles_in_reading_order():
    tiles = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 2, 2, 3), np.uint8)
    shown = picture(tiles, np.array([[3, 1, 0, 2]]))[0, ..., 0]
    assert shown.tolist() == [[3, 3, 1, 1], [3, 3, 1, 1], [0, 0, 2, 2], [0, 0, 2, 2]]


def test_too_few_tiles_are_refused_with_the_class():
    with pytest.raises(ArasError, match=r"(Crop|Forest|Lake|Town): \d+ tiles beside"):
        mosaics(*labelled(20), CLASSES, dict.fromkeys(CLASSES, "x"), Sizes(real=40, test=4))


def test_validity_tells_perfect_tiles_from_worse_ones():
    dealt = small_mosaics()
    where = dealt.balanced(1.0)
    held = Tiles(dealt.held.pixels[where], dealt.held.labels[where])
    judge = OpenJudge(Judge(dealt.judge, dealt.test.first(10), dealt.real, held, len(CLASSES), 100))
    perfect = judge.measure(held)
    train = Known(dealt.real.pixels, dealt.real.labels, len(CLASSES))

    def of(kind: str, strength: float = 0.0):
        tiles = given(
            Dose(kind=kind, strength=strength), held.pixels, held.labels, train,
            np.random.default_rng(0),
        )  # fmt: skip
        return judge.measure(Tiles(tiles, held.labels))

    assert perfect.agreement > 0.8
    assert perfect.agreement_random > 0.8
    wrong = of("labels", 0.5)
    assert wrong.agreement == pytest.approx(perfect.agreement / 2, abs=0.2)
    assert wrong.frechet == pytest.approx(perfect.frechet, rel=1e-6)
    assert wrong.discrimination < perfect.discrimination
    assert wrong.transfer < perfect.transfer
    assert of("colour", 0.6).frechet > 3 * perfect.frechet
    copied = of("copies")
    assert copied.copies == 1
    assert perfect.copies < 0.2


def test_discrimination_is_one_half_where_labels_are_at_random():
    odds = np.random.default_rng(0).random((4000, 2))
    assert discrimination(odds, np.arange(4000) % 2) == pytest.approx(0.5, abs=0.03)
    assert discrimination(np.eye(2), np.arange(2)) == 1
