import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES, count_pixels
from builder.synthesis.transforms import (
    DIHEDRAL,
    Transform,
    apply,
    choose,
    mosaic,
    parse,
    symmetries,
    variants,
)


def mask(seed=0, size=8):
    return np.random.default_rng(seed).integers(0, 7, (size, size), dtype=np.uint8)


SMALL = np.array([[0, 1], [2, 3]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("identity", [[0, 1], [2, 3]]),
        ("rot90", [[1, 3], [0, 2]]),
        ("rot180", [[3, 2], [1, 0]]),
        ("rot270", [[2, 0], [3, 1]]),
        ("flip-lr", [[1, 0], [3, 2]]),
        ("flip-lr+rot90", [[0, 2], [1, 3]]),
        ("flip-lr+rot180", [[2, 3], [0, 1]]),
        ("flip-lr+rot270", [[3, 1], [2, 0]]),
    ],
)
def test_flips_and_turns_put_each_pixel_in_its_place(text, result):
    np.testing.assert_array_equal(apply(parse(text), SMALL), result)


def test_flips_and_turns_leave_the_composition_as_it_is():
    layout = mask()
    seen = set()
    for transform in DIHEDRAL:
        turned = apply(transform, layout)
        np.testing.assert_array_equal(count_pixels(turned), count_pixels(layout))
        assert turned.flags.c_contiguous
        assert turned.dtype == np.uint8
        seen.add(turned.tobytes())
    assert len(seen) == 8


def test_a_crop_is_a_window_of_the_mosaic_at_its_offset():
    tiles = [mask(seed) for seed in range(4)]
    area = mosaic(*tiles)
    np.testing.assert_array_equal(area[:8, 8:], tiles[1])
    np.testing.assert_array_equal(area[8:, :8], tiles[2])
    cut = apply(parse("crop:3,5"), tiles[0], mosaic=area)
    np.testing.assert_array_equal(cut, area[3:11, 5:13])
    np.testing.assert_array_equal(apply(parse("crop:8,8"), tiles[0], mosaic=area), tiles[3])


def blocks(seed):
    """(8, 8) classes in blocks of 2 × 2 pixels."""
    return np.kron(mask(seed, 4), np.ones((2, 2), dtype=np.uint8))


def test_recombination_pastes_the_other_layouts_regions_and_nothing_else():
    below, other = blocks(0), blocks(1)
    transform = parse("recombine:real/N36E028_005_025:Built-up,Water")
    result = apply(transform, below, other=other)
    pasted = (other == 4) | (other == 6)
    np.testing.assert_array_equal(result[pasted], other[pasted])
    np.testing.assert_array_equal(result[~pasted], below[~pasted])
    before, given, after = count_pixels(below), count_pixels(other), count_pixels(result)
    named = np.array([name in ("Built-up", "Water") for name in CLASSES])
    assert (after[named] >= given[named]).all()
    assert (after[~named] <= before[~named]).all()


def test_recombination_leaves_no_single_pixels_of_patches_that_it_cuts():
    below = np.full((6, 6), 2, dtype=np.uint8)
    below[0, 0] = 3  # a patch of one pixel, and whole: it stays
    other = np.zeros((6, 6), dtype=np.uint8)
    other[1:, 1:] = 4
    other[3, 3] = 0  # a hole through which one pixel of the large patch would show
    other[5, 4:] = 0  # and one through which two pixels show, which stay
    expected = below.copy()
    expected[1:, 1:] = 4
    expected[5, 4:] = 2
    result = apply(parse("recombine:a:Built-up"), below, other=other)
    np.testing.assert_array_equal(result, expected)


def test_a_pixel_that_is_cut_off_takes_the_pasted_class_beside_it():
    below = np.full((3, 3), 2, dtype=np.uint8)
    other = np.array([[0, 6, 6], [1, 1, 6], [6, 6, 6]], dtype=np.uint8)
    result = apply(parse("recombine:a:Shrub,Water"), below, other=other)
    np.testing.assert_array_equal(result, [[1, 6, 6], [1, 1, 6], [6, 6, 6]])


def test_no_other_class_gains_by_a_recombination_of_noise():
    below, other = mask(0, 64), mask(1, 64)
    result = apply(parse("recombine:a:Tree,Water"), below, other=other)
    gained = result != below
    assert set(np.unique(result[gained])) <= {0, 6}
    pasted = (other == 0) | (other == 6)
    np.testing.assert_array_equal(result[pasted], other[pasted])


def test_steps_apply_in_the_order_in_which_they_are_written():
    tiles = [blocks(seed) for seed in range(4)]
    other = blocks(9)
    transform = parse("crop:2,6+recombine:real/a:Tree+flip-lr+rot90")
    cut = mosaic(*tiles)[2:10, 6:14]
    expected = np.rot90(np.fliplr(np.where(other == 0, other, cut)))
    result = apply(transform, tiles[0], mosaic=mosaic(*tiles), other=other)
    np.testing.assert_array_equal(result, expected)


def test_the_layout_given_is_not_written_to():
    layout, other = mask(0), mask(1)
    kept = layout.copy()
    for text in ("identity", "rot90", "recombine:x:Tree,Shrub"):
        result = apply(parse(text), layout, other=other)
        assert result is not layout or text == "identity"
    np.testing.assert_array_equal(layout, kept)


@pytest.mark.parametrize(
    "transform",
    [
        *DIHEDRAL,
        Transform(crop=(0, 0)),
        Transform(crop=(64, 128), flip=True, turns=3),
        Transform(other="real/N36E028_005_025", classes=("Built-up",)),
        Transform(other="odd:id+with, signs/%", classes=("Shrub", "Water"), turns=2),
        Transform((1, 2), "a", ("Tree",), True, 1),
    ],
)
def test_a_transforms_text_reads_back_as_the_same_transform(transform):
    assert parse(str(transform)) == transform


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rot45",
        "rot90+flip-lr",
        "rot90+rot90",
        "identity+rot90",
        "crop:1",
        "crop:1,-2",
        "crop:1,2,3",
        "crop:01,2",
        "crop:²,1",
        "recombine:real/a",
        "recombine:real/a:",
        "recombine::Tree",
        "recombine:real/a:Lava",
        "recombine:real/a:Water,Tree",
        "recombine:real/a:Tree,Tree",
        "flip-lr+",
    ],
)
def test_a_text_that_is_no_transform_is_refused(text):
    with pytest.raises(ArasError) as error:
        parse(text)
    assert repr(text) in str(error.value)


def test_a_crop_without_its_mosaic_or_beyond_it_is_refused():
    layout = mask()
    area = mosaic(layout, mask(1), mask(2), mask(3))
    with pytest.raises(ArasError, match=r"crop:1,1 needs a mosaic of 16 × 16 pixels.*got none"):
        apply(parse("crop:1,1"), layout)
    with pytest.raises(ArasError, match=r"got \(8, 8\)"):
        apply(parse("crop:1,1"), layout, mosaic=layout)
    with pytest.raises(ArasError, match="upper-left quarter is not the tile"):
        apply(parse("crop:1,1"), mask(4), mosaic=area)
    with pytest.raises(ArasError, match="offsets go from 0 to 8"):
        apply(parse("crop:9,1"), layout, mosaic=area)


def test_a_recombination_without_its_other_mask_is_refused():
    with pytest.raises(ArasError, match="needs the mask of real/b, 8 × 8 pixels; got none"):
        apply(parse("recombine:real/b:Tree"), mask())
    with pytest.raises(ArasError, match=r"got \(4, 4\)"):
        apply(parse("recombine:real/b:Tree"), mask(), other=mask(size=4))


def test_symmetric_masks_look_the_same_under_some_turns():
    assert symmetries(mask()) == 8
    assert symmetries(np.full((4, 4), 2, np.uint8)) == 1
    half = np.zeros((4, 4), np.uint8)
    half[:2] = 1
    assert symmetries(half) == 4


def test_repeats_begin_with_the_layout_itself_then_its_seven_turns():
    first = [choose(3, "real/a", k, mask()) for k in range(8)]
    assert first[0] == Transform()
    assert set(first) == set(DIHEDRAL)
    assert [choose(3, "real/a", k, mask()) for k in range(8)] == first
    orders = {tuple(choose(3, f"real/{name}", k, mask()) for k in range(8)) for name in "abcdef"}
    assert len(orders) > 3
    assert any(choose(4, "real/a", k, mask()) != first[k] for k in range(8))


def test_repeats_look_different_as_far_as_the_mask_has_different_turns():
    half = np.zeros((4, 4), np.uint8)
    half[:2] = 1
    for name in "abcdefgh":
        chosen = [choose(0, name, k, half) for k in range(8)]
        assert set(chosen) == set(DIHEDRAL)
        assert (
            len({apply(transform, half).tobytes() for transform in chosen[:4]})
            == symmetries(half)
            == 4
        )


def test_the_repeats_of_a_variant_keep_its_change_and_its_composition():
    layout, other = mask(0), mask(1)
    base = parse("recombine:real/b:Water")
    chosen = [choose(3, "real/a", k, apply(base, layout, other=other), base=base) for k in range(8)]
    assert chosen[0] == base
    assert len(set(chosen)) == 8
    counted = count_pixels(apply(base, layout, other=other))
    for transform in chosen:
        assert (transform.other, transform.classes) == ("real/b", ("Water",))
        np.testing.assert_array_equal(count_pixels(apply(transform, layout, other=other)), counted)


@pytest.mark.parametrize("repeat", [-1, 8])
def test_a_ninth_repeat_is_refused_with_the_way_out(repeat):
    with pytest.raises(
        ArasError, match=rf"repeat {repeat} of layout real/a \(rot90\).*expected 0 to 7"
    ):
        choose(0, "real/a", repeat, mask(), base=parse("rot90"))


def test_variants_are_the_layout_then_all_its_crops_and_recombinations():
    donors = [("real/b", "Water"), ("real/c", "Shrub")]
    assert variants(0, "real/a") == (Transform(),)
    transforms = variants(0, "real/a", crops=True, donors=donors)
    assert transforms[0] == Transform()
    assert len(set(transforms)) == len(transforms) == 1 + 21 + 2
    assert {(t.other, *t.classes) for t in transforms if t.other} == set(donors)
    assert variants(0, "real/a", crops=True, donors=donors) == transforms
    assert variants(1, "real/a", crops=True, donors=donors) != transforms


def test_the_order_of_donors_and_the_layout_itself_among_them_change_nothing():
    donors = [("b", "Shrub"), ("c", "Water"), ("d", "Water")]
    choices = variants(1, "a", donors=donors)
    assert variants(1, "a", donors=[*donors[::-1], ("a", "Water"), donors[0]]) == choices
    assert len(variants(1, "b", donors=donors)) == 3


def test_crops_among_variants_show_no_whole_tile_and_can_be_applied():
    area = mosaic(*(mask(seed, 64) for seed in range(4)))
    whole = {area[r : r + 64, c : c + 64].tobytes() for r in (0, 64) for c in (0, 64)}
    crops = variants(5, "real/a", crops=True, size=64)[1:]
    seen = {apply(transform, area[:64, :64], mosaic=area).tobytes() for transform in crops}
    assert len(seen) == 21
    assert not seen & whole
