"""List metrics by hand, against scikit-learn, and under ties."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from builder.retrieval import metrics
from builder.retrieval.ranks import Positives, rank
from builder.scores import relevance
from tests.retrieval.test_ranks import scene, unit


def line(scores):
    """One query and a gallery whose scores with it are ``scores``."""
    s = np.array(scores, dtype=np.float64)
    gallery = np.stack([s, np.sqrt(1 - s**2)], axis=1).astype(np.float32)
    return np.array([[1.0, 0.0]], dtype=np.float32), gallery


def grades(values):
    import torch

    return lambda index: torch.tensor([values], dtype=torch.float32).expand(len(index), -1)


def test_average_precision_at_r_by_hand():
    query, gallery = line([0.9, 0.8, 0.7, 0.6, 0.5])
    result = metrics.lists(query, gallery, grades([1, 0, 1, 1, 0]), np.array([0]))
    assert result.average_precision[0] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert result.ranks.above[0] == 0
    assert result.ranks.negatives[0] == 2


def test_ndcg_by_hand_with_the_chance_level_taken_off():
    query, gallery = line([0.9, 0.8, 0.7])
    result = metrics.lists(query, gallery, grades([0.5, 1.0, 0.2]), np.array([0]), base=0.2)
    weight = 1 / np.log2([2, 3, 4])
    assert result.ndcg[0] == pytest.approx(
        np.dot([0.3, 0.8, 0.0], weight) / np.dot([0.8, 0.3, 0.0], weight)
    )


def test_ndcg_equals_scikit_learn_over_blocks_of_queries(monkeypatch):
    x, y, owner = scene(images=70, per_image=2)
    share = np.random.default_rng(0).dirichlet([0.4] * 7, 70).astype(np.float32)
    overlap = metrics.by_composition(share[owner], share)
    monkeypatch.setattr(metrics, "_BLOCK", 70 * 9)  # nine queries at a time
    index = np.arange(0, 140, 3)
    result = metrics.lists(y, x, overlap, index)
    truth = np.minimum(share[owner][index][:, None], share[None]).sum(2)
    for row, query in enumerate(index):
        expected = ndcg_score(truth[row : row + 1], (y[query] @ x.T)[None], k=10)
        assert result.ndcg[row] == pytest.approx(expected, abs=1e-5)


def test_ranks_and_precision_equal_the_sorted_dense_matrix():
    x, y, owner = scene(images=50, per_image=4)
    positives = Positives.owned(owner)
    result = metrics.lists(x, y, metrics.by_pairs(positives, "images", len(y)), np.arange(50))
    order = np.argsort(-(x.astype(np.float64) @ y.T.astype(np.float64)), axis=1)
    hit = owner[order] == np.arange(50)[:, None]
    first = hit.argmax(1)
    np.testing.assert_array_equal(result.ranks.above, first)
    top = hit[:, :4]
    expected = (top * (top.cumsum(1) / np.arange(1, 5))).sum(1) / 4
    np.testing.assert_allclose(result.average_precision, expected)


def test_pairs_serve_both_directions():
    positives = Positives.of([0, 0, 1, 2], [0, 2, 1, 1])
    of_images = metrics.by_pairs(positives, "images", 3)(np.array([0, 2]))
    of_texts = metrics.by_pairs(positives, "texts", 3)(np.array([1]))
    assert of_images.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert of_texts.tolist() == [[0, 1, 1]]


def test_a_collapsed_model_earns_chance_in_lists():
    n = 400
    x = np.tile(unit(np.ones((1, 8))), (n, 1))
    relevance = metrics.by_pairs(Positives.owned(np.arange(n) % 20), "texts", n)
    # Each of 400 queries has one positive among the first 20 of 400 items.
    result = metrics.lists(x, x, relevance, np.arange(n))
    np.testing.assert_allclose(result.average_precision, 1 / n)
    assert result.ranks.level.min() == n - 1


def test_scores_that_differ_by_rounding_alone_are_ties_in_lists():
    n = 400
    # Item 7 is the positive of every query and leads by a ten-millionth: luck, not skill.
    gallery = np.tile(np.array([[1.0, 0.5]], dtype=np.float32), (n, 1))
    gallery[7, 0] += 1.2e-7
    query = np.array([[1.0, 0.0]], dtype=np.float32)
    relevance = metrics.by_pairs(Positives.of([0] * 2, [7, 7]), "images", n)
    result = metrics.lists(query, gallery, relevance, np.array([0]))
    assert result.average_precision[0] == 1 / n
    assert result.ranks.level[0] == n - 1


def tied_scene(seed, levels):
    """Twelve unit vectors of ``levels`` different scores with the query, and grades."""
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.linspace(0.1, 0.9, levels), 12)
    return scores, rng.choice([0.0, 0.3, 1.0], 12, p=[0.4, 0.2, 0.4])


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_ties_earn_the_mean_over_all_their_orders(seed, levels):
    """Against the plain definitions over 4,000 random orders of the gallery."""
    scores, grade = tied_scene(seed, levels)
    grade[0] = 1.0  # every query has a positive
    query, gallery = line(scores)
    result = metrics.lists(query, gallery, grades(grade), np.array([0]), base=0.1)
    rng, many = np.random.default_rng(9), int((grade == 1).sum())
    weight = 1 / np.log2(np.arange(10) + 2)
    ideal = (np.sort(grade - 0.1)[::-1][:10] * weight).sum()
    precision, gain = [], []
    for _ in range(4_000):
        shuffled = rng.permutation(12)
        order = shuffled[np.argsort(-scores[shuffled], kind="stable")]
        hit = (grade[order] == 1)[:many]
        precision.append((hit * hit.cumsum() / np.arange(1, many + 1)).sum() / many)
        gain.append(((grade[order] - 0.1)[:10] * weight).sum() / ideal)
    assert result.average_precision[0] == pytest.approx(np.mean(precision), abs=0.02)
    assert result.ndcg[0] == pytest.approx(np.mean(gain), abs=0.02)


def test_with_one_positive_the_mean_average_precision_is_recall_at_one_under_ties_too():
    rng = np.random.default_rng(0)
    vectors = unit(rng.integers(0, 2, (90, 4)) + 0.1)  # sixteen different ones
    owner = np.arange(90)
    relevance = metrics.by_pairs(Positives.owned(owner), "texts", 90)
    result = metrics.lists(vectors, vectors, relevance, owner)
    recall = metrics.credit(rank(vectors, vectors, Positives.owned(owner))[0], 1)
    assert 0 < recall.mean() < 0.5
    np.testing.assert_array_equal(result.average_precision, recall)


def test_positives_that_tie_share_the_first_place_in_composition_lists():
    """All scores equal: the first of 3 positives among 6 items is among the first k by chance."""
    query, gallery = line([0.5] * 6)
    result = metrics.lists(query, gallery, grades([1, 1, 1, 0, 0, 0]), np.array([0]))
    assert metrics.credit(result.ranks, 1)[0] == pytest.approx(3 / 6)


def test_overlap_of_compositions():
    p = np.array([[0.5, 0.5, 0.0]], dtype=np.float32)
    q = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(metrics.similarity(p, q), [[1.0, 0.5, 0.0]], atol=1e-7)


def test_chance_is_the_mean_over_all_pairs_of_different_images():
    p = np.random.default_rng(0).dirichlet([0.3] * 7, 40)
    pairs = [np.minimum(p[i], p[j]).sum() for i in range(40) for j in range(i)]
    assert relevance.chance(p) == pytest.approx(np.mean(pairs))
    assert relevance.chance(p[:1]) == 0


def test_near_equal_compositions_are_positives():
    share = np.array([[1.0, 0.0], [0.96, 0.04], [0.94, 0.06], [0.0, 1.0]], dtype=np.float32)
    query, gallery = line([0.5, 0.9, 0.8, 0.7])
    overlap = metrics.by_composition(share[:1], share)
    result = metrics.lists(query, gallery, overlap, np.array([0]), positive=relevance.POSITIVE)
    assert result.ranks.above[0] == 0  # item 1 overlaps by 0.96
    assert result.ranks.negatives[0] == 2
