"""Subsets are stable, keep the proportions of the splits, and survive the trip to a file."""

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.land.classes import CLASSES
from builder.tiles import subsets
from builder.tiles.subsets import Rows


def make_rows(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    pixels = rng.dirichlet([5, 0.2, 8, 3, 0.3, 0.8, 0.4], n) * 65536
    return Rows(
        [f"real/N36E028_{i // 46:03d}_{i % 46:03d}" for i in range(n)],
        rng.choice(3, n, p=(0.8, 0.1, 0.1)),
        np.rint(pixels).astype(np.int64),
        rng.uniform((26, 36), (44, 42), (n, 2)),
        ["b"] * n,
    )


def test_a_natural_subset_keeps_the_proportions_of_the_splits():
    rows = make_rows(2_000)
    chosen = subsets.choose(rows, "mini", 500, "natural").positions
    assert len(set(chosen)) == len(chosen)
    whole = np.bincount(rows.splits) * 500 / 2_000
    assert (np.abs(np.bincount(rows.splits[chosen]) - whole) < 1).all()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 101, 499, 999])
@pytest.mark.parametrize("target", ["natural", "uniform"])
def test_a_subset_has_exactly_the_rows_asked_for(size, target):
    rows = make_rows(1_000)
    assert len(set(subsets.choose(rows, "mini", size, target).positions)) == size


def test_what_is_left_by_rounding_down_goes_to_the_largest_remainders():
    counts = np.array([80_192, 10_024, 10_024])
    assert subsets.largest_remainder(counts, 1_000).tolist() == [800, 100, 100]
    assert subsets.largest_remainder(np.array([5, 3, 3]), 4).tolist() == [2, 1, 1]
    assert subsets.largest_remainder(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]


def test_a_natural_subset_of_a_larger_release_keeps_its_rows_that_are_still_among_the_first():
    small, large = make_rows(1_000), make_rows(1_000)
    extra = Rows(
        large.ids[:900], large.splits[:900], large.pixels[:900], large.places[:900], ["b"] * 900
    )
    a = {small.ids[i] for i in subsets.choose(small, "mini", 300, "natural").positions}
    b = {extra.ids[i] for i in subsets.choose(extra, "mini", 270, "natural").positions}
    assert len(a & b) > 0.95 * len(b)


def test_another_name_chooses_other_rows_and_the_same_name_the_same():
    rows = make_rows(1_000)
    first, again, other = (
        subsets.choose(rows, n, 100, "natural").positions for n in ("a", "a", "b")
    )
    assert (first == again).all()
    assert set(first) != set(other)


def test_a_balanced_subset_is_nearer_to_uniform_and_takes_no_row_twice():
    rows = make_rows(4_000)
    chosen = subsets.choose(rows, "balanced", 400, "uniform").positions
    assert len(set(chosen)) == len(chosen) == 400

    def shares(places: np.ndarray) -> np.ndarray:
        return rows.pixels[places].sum(axis=0) / rows.pixels[places].sum()

    before, after = shares(np.arange(4_000)), shares(chosen)
    scarce = before < 1 / len(CLASSES)
    assert (after[scarce] > 1.2 * before[scarce]).all()
    assert np.linalg.norm(after - 1 / 7) < np.linalg.norm(before - 1 / 7)


def test_a_class_that_a_split_does_not_hold_is_left_out_of_its_target_and_told():
    rows = make_rows(3_000)
    validation, shrub = rows.splits == 1, CLASSES.index("Shrub")
    rows.pixels[validation, 0] += rows.pixels[validation, shrub]
    rows.pixels[validation, shrub] = 0
    chosen = subsets.choose(rows, "balanced", 600, "uniform")
    assert len(chosen.positions) == 600
    assert {split for split, note in chosen.notes.items() if note.absent} == {"validation"}
    assert chosen.notes["validation"].absent == ("Shrub",)
    part = rows.take(chosen.positions)
    there = np.delete(np.arange(len(CLASSES)), shrub)
    for split in (0, 1):
        before, after = (
            chosen_rows.pixels[chosen_rows.splits == split].sum(axis=0)
            / chosen_rows.pixels[chosen_rows.splits == split].sum()
            for chosen_rows in (rows, part)
        )
        assert after[there].min() > before[there].min()


def test_a_target_that_no_draw_meets_gives_the_nearest_shares_and_says_which_classes_are_short():
    chosen = subsets.choose(make_rows(500), "balanced", 250, "uniform")
    assert len(chosen.positions) == 250
    for note in chosen.notes.values():
        assert {"Shrub", "Built-up"} & set(note.short)


def test_a_target_of_absent_classes_alone_names_subset_split_and_class():
    rows = make_rows(200)
    rows.pixels[:, CLASSES.index("Water")] = 0
    with pytest.raises(ArasError, match=r"\[subsets\.wet\], split train: .*Water=1.* no row holds"):
        subsets.choose(rows, "wet", 50, "Water=1")


def test_a_subset_as_large_as_the_release_is_the_release():
    rows = make_rows(50)
    assert (subsets.choose(rows, "mini", 1_000, "natural").positions == np.arange(50)).all()


def test_what_is_written_is_read_back_with_the_same_digest(tmp_path):
    path = tmp_path / "mini.csv"
    file = subsets.write(path, ["real/b", "real/a"], [0, 2])
    members = subsets.read(path)
    assert members == {"real/b": "train", "real/a": "test"}
    assert (file.rows, file.digest) == (2, subsets.digest(members.items()))
    assert path.read_bytes() == b"id,split\nreal/b,train\nreal/a,test\n"


def test_the_digest_does_not_depend_on_the_order_but_on_the_split():
    pairs = [("a", "train"), ("b", "test")]
    assert subsets.digest(pairs) == subsets.digest(reversed(pairs))
    assert subsets.digest(pairs) != subsets.digest([("a", "train"), ("b", "train")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id\nreal/a\n", "first line"),
        ("id,split\nreal/a,dev\n", "line 2"),
        ("id,split\nreal/a,train\nreal/a,test\n", "line 3: real/a is listed twice"),
    ],
)
def test_a_file_that_is_not_one_of_ids_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ArasError, match=words):
        subsets.read(path)


def test_ids_of_another_release_are_refused():
    with pytest.raises(ArasError, match="another release"):
        subsets.apply(make_rows(5), {"real/elsewhere": "train"})


def test_applying_a_file_of_ids_takes_its_rows_in_its_splits():
    rows = make_rows(5)
    taken = subsets.apply(rows, {rows.ids[3]: "test", rows.ids[1]: "train"})
    assert taken.ids == [rows.ids[1], rows.ids[3]]
    assert taken.splits.tolist() == [0, 2]
    assert (taken.pixels == rows.pixels[[1, 3]]).all()
