"""Neighbours are exact in any blocking; hashes forgive small changes only."""

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.models import neighbours


@pytest.mark.parametrize("block", [7, 64, 10_000])
def test_neighbours_are_those_of_a_plain_search_in_any_blocking(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((150, 9)).astype(np.float32)
    gallery = rng.standard_normal((210, 9)).astype(np.float32)
    gap = np.linalg.norm(queries[:, None].astype(float) - gallery[None].astype(float), axis=2)
    expected = np.argsort(gap, axis=1, kind="stable")[:, :4]
    places, distances = neighbours.nearest(queries, gallery, 4)
    assert (places == expected).all()
    assert distances == pytest.approx(np.take_along_axis(gap, expected, axis=1))


def test_a_row_is_its_own_neighbour_at_distance_zero_even_far_from_the_origin():
    rows = np.random.default_rng(1).standard_normal((50, 6)).astype(np.float32) + 1_000
    places, distances = neighbours.nearest(rows, rows, 1)
    assert (places[:, 0] == np.arange(50)).all()
    assert (distances == 0).all()


def test_equal_rows_come_in_their_order():
    gallery = np.ones((5, 3), dtype=np.float32)
    places, _ = neighbours.nearest(gallery[:1], gallery, 3)
    assert places.tolist() == [[0, 1, 2]]


def test_a_small_gallery_is_refused():
    with pytest.raises(ArasError, match="only 2 rows"):
        neighbours.nearest(np.zeros((1, 2)), np.zeros((2, 2)), 3)


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(0, 255, (8, 8, 3))
    return np.kron(coarse, np.ones((32, 32, 1))).astype(np.uint8)


def test_a_hash_forgives_brightness_and_noise_but_not_another_scene():
    image = scene(0)
    noisy = image.astype(float) * 0.8 + np.random.default_rng(1).normal(10, 3, image.shape)
    a, b, c = (
        np.uint64(neighbours.perceptual_hash(np.clip(x, 0, 255).astype(np.uint8)))
        for x in (image, noisy, scene(2))
    )
    near, far = (int(neighbours.hamming(np.array([a]), np.array([x]))[0]) for x in (b, c))
    assert near <= 6 < 16 < far


def test_hamming_counts_bits():
    a = np.array([0, 2**63], dtype=np.uint64)
    b = np.array([0b1011, 2**63 + 1], dtype=np.uint64)
    assert neighbours.hamming(a, b).tolist() == [3, 1]


@pytest.mark.parametrize("block", [7, 10_000])
def test_the_nearest_hash_is_that_of_a_plain_search_in_any_blocking(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    rng = np.random.default_rng(2)
    queries, gallery = (rng.integers(0, 2**63, n, dtype=np.uint64) for n in (70, 90))
    gallery[50] = gallery[20]  # of equal ones the first
    queries[3] = gallery[50]
    differ = neighbours.hamming(queries[:, None], gallery[None])
    places, bits = neighbours.nearest_hash(queries, gallery)
    assert places.tolist() == differ.argmin(axis=1).tolist()
    assert bits.tolist() == differ.min(axis=1).tolist()
    assert (places[3], bits[3]) == (20, 0)


def test_an_empty_gallery_of_hashes_is_refused():
    with pytest.raises(ArasError, match="gallery is empty"):
        neighbours.nearest_hash(np.zeros(1, np.uint64), np.zeros(0, np.uint64))
