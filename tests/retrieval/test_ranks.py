"""Blocked ranks equal the dense definition, whatever the tiles, shards, types and ties."""

import numpy as np
import pytest
import torch

from builder.core.errors import ArasError
from builder.retrieval import plain, ranks
from builder.retrieval import ranks as products
from builder.retrieval.ranks import Positives, best_positive, count, rank


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def scene(images=61, per_image=3, width=24, noise=1.5, seed=0):
    """Images, their texts in a shuffled order, and the owner of each text."""
    rng = np.random.default_rng(seed)
    x = unit(rng.standard_normal((images, width)))
    owner = rng.permutation(np.repeat(np.arange(images), per_image))
    y = unit(x[owner] + noise * rng.standard_normal((len(owner), width)) / np.sqrt(width))
    return x, y, owner


def dense(x, y, positive):
    """Above and level by the definition, one query at a time, in float64; positive is (N, M)."""
    scores = x.astype(np.float64) @ y.astype(np.float64).T
    out = []
    for s, p in ((scores.T, positive.T), (scores, positive)):
        above, level = [], []
        for row, right in zip(s, p, strict=True):
            bar, wrong = row[right].max(), row[~right]
            above.append((wrong > bar + 1e-6).sum())
            level.append((np.abs(wrong - bar) <= 1e-6).sum())
        out.append((np.array(above), np.array(level)))
    return out


def relation(x, y, positives):
    positive = np.zeros((len(x), len(y)), dtype=bool)
    positive[positives.images, positives.texts] = True
    return positive


def assert_same(actual, expected):
    for ranks_, (above, level) in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ranks_.above, above)
        np.testing.assert_array_equal(ranks_.level, level)


def test_three_images_by_hand():
    x = np.eye(3, dtype=np.float32)
    y = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0.6, 0.8]], dtype=np.float32)
    t2i, i2t = rank(x, y, Positives.owned([0, 1, 2]))
    assert t2i.above.tolist() == [0, 0, 0]
    t2i, i2t = rank(x, y, Positives.owned([0, 2, 1]))
    assert t2i.above.tolist() == [0, 2, 1]  # text 1 scores 0 with its image 2, others 0.6 and 0.8
    assert i2t.above.tolist() == [0, 1, 1]
    assert t2i.negatives.tolist() == [2, 2, 2]


@pytest.mark.parametrize("tile", [None, (7, 11), (64, 5), (1, 1)])
def test_ranks_equal_the_dense_definition_for_any_tile(tile):
    x, y, owner = scene()
    positives = Positives.owned(owner)
    best = best_positive(x, y, positives)
    actual = count(x, y, positives, best, tile=tile).ranks(positives)
    expected = dense(x, y, relation(x, y, positives))
    assert expected[0][0].max() > 5  # the scene is hard enough to tell
    assert_same(actual, expected)


def test_several_positives_per_text_equal_the_dense_definition():
    x, y, owner = scene(seed=3)
    rng = np.random.default_rng(1)
    more = rng.integers(0, len(x), 80), rng.integers(0, len(y), 80)
    positives = Positives.of(
        np.concatenate([owner, more[0], owner[:9]]),
        np.concatenate([np.arange(len(y)), more[1], np.arange(9)]),
    )
    assert len(positives.texts) == len(np.unique(positives.texts * 1000 + positives.images))
    assert_same(rank(x, y, positives), dense(x, y, relation(x, y, positives)))


def test_duplicates_are_ties():
    x, y, owner = scene(noise=0.7)
    x = np.concatenate([x, x[:5]])
    y = np.concatenate([y, y[owner == 3], y[:1]])
    owner = np.concatenate([owner, [61, 62, 63], [64]])
    y = np.concatenate([y, unit(np.ones((1, y.shape[1])))])
    owner = np.append(owner, 65)
    positives = Positives.owned(owner)
    actual = rank(x, y, positives)
    assert actual[0].level.max() >= 1
    assert_same(actual, dense(x, y, relation(x, y, positives)))


@pytest.mark.parametrize("width", [3, 512, 768, 1000])
@pytest.mark.parametrize("kind", ["constant", "random"])
def test_a_collapsed_model_ties_with_everything(width, kind):
    images, texts = 130, 257  # the last chunk of own scores holds one pair
    vector = np.ones(width) if kind == "constant" else np.random.default_rng(0).random(width)
    x = np.tile(unit(vector[None]), (images, 1))
    y = np.tile(unit(vector[None]), (texts, 1))
    t2i, i2t = rank(x, y, Positives.owned(np.arange(texts) % images))
    for side in (t2i, i2t):
        assert side.above.max() == 0
        np.testing.assert_array_equal(side.level, side.negatives)


@pytest.mark.parametrize("plain", [False, True])
def test_equal_vectors_score_equally_in_products_of_any_shape(plain, monkeypatch):
    if plain:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)
    for width in (384, 768, 1000):
        vector = torch.nn.functional.normalize(torch.ones(1, width))
        sizes = (1, 2, 3, 15, 16, 17, 64, 127)
        scores = [
            products.product(vector.repeat(a, 1), vector.repeat(b, 1)) for a in sizes for b in sizes
        ]
        spread = max(s.max() for s in scores) - min(s.min() for s in scores)
        assert spread < ranks.TOLERANCE


def test_counts_of_shards_add_up():
    x, y, owner = scene()
    positives = Positives.owned(owner)
    best = best_positive(x, y, positives)
    whole = count(x, y, positives, best)
    parts = [
        count(x, y, positives, best, (a, b), (c, d), tile=(8, 16))
        for a, b in ((0, 20), (20, 61))
        for c, d in ((0, 50), (50, 51), (51, 183))
    ]
    total = sum(parts[1:], parts[0])
    for name in ("image_above", "image_level", "text_above", "text_level"):
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))
    assert any((part.image_above != whole.image_above).any() for part in parts)


def test_a_memory_map_and_float16_give_the_ranks_of_their_values(tmp_path):
    x, y, owner = scene()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    half = y.astype(np.float16)
    positives = Positives.owned(owner)
    wide = half.astype(np.float32)
    assert_same(rank(mapped, half, positives), dense(x, wide, relation(x, wide, positives)))


def test_own_scores_meet_the_product_in_every_last_tile():
    # Nothing but ties: own scores that missed the product's by a bit would show as ranks.
    for texts in (1, 2, 17, 129, 513):
        x = unit(np.ones((1, 1000)))
        y = np.tile(x, (texts, 1))
        more = np.concatenate([x, x])
        t2i, _ = rank(more, y, Positives.of([0] * texts + [1], [*range(texts), 0]))
        assert t2i.level[1:].tolist() == [1] * (texts - 1)
        assert not t2i.above.any()


def test_torch_settings_are_pinned_while_counting_and_given_back(monkeypatch):
    x, y, owner = scene()
    seen = set()
    real = ranks.product

    def watched(left, right):
        seen.add((torch.get_float32_matmul_precision(), torch.get_num_threads()))
        return real(left, right)

    monkeypatch.setattr(ranks, "product", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("medium")
    try:
        rank(x, y, Positives.owned(owner))
        assert seen == {("highest", 1)}  # TF32 or bfloat16 would blur scores
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_num_threads(before)


def test_the_plain_product_gives_the_same_ranks(monkeypatch):
    x, y, owner = scene()
    expected = rank(x, y, Positives.owned(owner))
    monkeypatch.setattr(products, "_has_onednn", lambda: False)
    actual = rank(x, y, Positives.owned(owner))
    for side, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(side.above, other.above)
        np.testing.assert_array_equal(side.level, other.level)


def test_the_expected_rank_lies_amid_its_ties():
    tied = ranks.Ranks(np.array([0, 4]), np.array([0, 3]), np.array([9, 9]))
    assert tied.expected.tolist() == [1.0, 6.5]


def test_progress_counts_every_text_once():
    x, y, owner = scene()
    seen = []
    rank(x, y, Positives.owned(owner), advance=seen.append)
    assert sum(seen) == len(y)


def test_an_unusable_device_is_named():
    with pytest.raises(ArasError, match="device abacus"):
        ranks.check_device("abacus")
    ranks.check_device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_ranks_of_the_cpu():
    x, y, owner = scene(images=500, width=256)
    positives = Positives.owned(owner)
    for side, other in zip(rank(x, y, positives, "cuda"), rank(x, y, positives), strict=True):
        np.testing.assert_array_equal(side.above + side.level, other.above + other.level)


@pytest.mark.parametrize("tile", [(7, 11), (16, 24), (1024, 512)])
@pytest.mark.parametrize("collapsed", [False, True])
def test_numpy_gives_the_ranks_of_torch(collapsed, tile, monkeypatch):
    monkeypatch.setattr(plain, "_ROWS", tile[0])
    monkeypatch.setattr(plain, "_COLS", tile[1])
    x, y, owner = scene(images=40, per_image=3)
    if collapsed:
        x, y = (np.full_like(side, 1 / np.sqrt(side.shape[1])) for side in (x, y))
    y[5] = y[0]
    positives = Positives.of([*owner, 1], [*range(len(owner)), 0])
    for ours, theirs in zip(plain.rank(x, y, positives), rank(x, y, positives), strict=True):
        for part in ("above", "level", "negatives", "tied"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))


@pytest.mark.parametrize("width", [8, 768])
@pytest.mark.parametrize("alike", [0.0, 3e-7, 1e-5, 1.0])
def test_numpy_counts_what_float64_counts(width, alike):
    """Also where vectors differ by about the tolerance, and a float32 product cannot decide."""
    rng = np.random.default_rng(0)
    centre = unit(rng.standard_normal((1, width)))
    x, y = (unit(centre + alike * rng.standard_normal((n, width))) for n in (300, 900))
    owner = np.arange(len(y)) % len(x)
    positives = Positives.owned(owner)
    assert_same(plain.rank(x, y, positives), dense(x, y, relation(x, y, positives)))


def test_numpy_counts_more_images_above_than_a_byte_holds():
    angle = np.linspace(0, 1, 700)
    x = unit(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    y = np.tile(x[:1], (len(x), 1))  # all texts look like image 0
    t2i, i2t = plain.rank(x, y, Positives.owned(range(len(x))))
    assert t2i.above[-1] > 690
    assert_same((t2i, i2t), dense(x, y, np.eye(len(x), dtype=bool)))
