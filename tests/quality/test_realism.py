"""Realism against its definition, written out ball by ball."""

import numpy as np
import pytest

from builder.quality.realism import MOST, Manifold

RNG = np.random.default_rng(3)
REAL = RNG.standard_normal((60, 5)).astype(np.float32)


def by_definition(real: np.ndarray, query: np.ndarray, own: int, k: int) -> float:
    """Kynkäänniemi et al. (2019), equation 3, over the balls up to the median radius."""
    gaps = np.linalg.norm(real[:, None].astype(float) - real[None], axis=2)
    radii = np.sort(gaps, axis=1)[:, k]
    best = 0.0
    for i, centre in enumerate(real):
        if i != own and radii[i] <= np.median(radii):
            best = max(best, radii[i] / np.linalg.norm(query.astype(float) - centre))
    return best


@pytest.mark.parametrize("k", [1, 3])
def test_realism_is_the_papers(k):
    queries = RNG.standard_normal((20, 5)).astype(np.float32) * 1.5
    realism = Manifold.of(REAL, k).realism(queries, np.full(20, -1))
    assert realism == pytest.approx(
        [by_definition(REAL, query, -1, k) for query in queries], rel=1e-5
    )


def test_a_real_image_does_not_vouch_for_itself():
    realism = Manifold.of(REAL, 3).realism(REAL, np.arange(60))
    assert realism == pytest.approx([by_definition(REAL, q, i, 3) for i, q in enumerate(REAL)])
    assert (realism < 20).all()


def test_a_copy_has_the_largest_realism_and_a_far_point_next_to_none():
    manifold = Manifold.of(REAL, 3)
    inside = REAL[manifold.numbers[0]]
    realism = manifold.realism(np.stack([inside, np.full(5, 1e4, np.float32)]), np.full(2, -1))
    assert realism[0] == MOST
    assert realism[1] < 1e-3


def test_too_few_real_images_make_no_manifold():
    assert Manifold.of(REAL[:3], 3) is None
