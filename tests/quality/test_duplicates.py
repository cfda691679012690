"""Equal and nearly equal images are found, all of them and no others."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from builder.models.neighbours import hamming, perceptual_hash
from builder.quality import duplicates
from builder.quality.duplicates import (
    DuplicatesSection,
    close_pairs,
    exact_clusters,
    near_clusters,
    pixel_digest,
    thumbnail,
)

RNG = np.random.default_rng(0)


def scene(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (64, 64, 3))
    smooth = ndimage.gaussian_filter(noise, (6, 6, 0))
    return np.clip(120 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "jpeg", quality=80)
    return np.asarray(Image.open(out))


def clusters(images: list[np.ndarray], **limits: float) -> tuple[list[int], list[int]]:
    exact = exact_clusters([pixel_digest(image) for image in images])
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)
    limits = {**DuplicatesSection().model_dump(), **limits}
    near = near_clusters(exact, hashes, [thumbnail(image) for image in images], **limits)
    return exact.tolist(), near.tolist()


def test_equal_pixels_are_exact_and_a_reencoded_copy_is_near():
    a, b = scene(1), scene(2)
    assert clusters([a, b, a.copy(), jpeg(a)]) == ([0, 1, 0, 3], [0, 1, 0, 0])


def test_the_shape_counts_and_the_layout_in_memory_does_not():
    image = scene(3)
    assert pixel_digest(image) == pixel_digest(np.asfortranarray(image))
    assert pixel_digest(image) != pixel_digest(image.reshape(32, 128, 3))


def test_the_same_pattern_in_another_colour_is_no_near_duplicate():
    image = scene(4)
    other = np.clip(image + np.array([30, 0, -30]), 0, 255).astype(np.uint8)
    hashes = np.array([perceptual_hash(picture) for picture in (image, other)], np.uint64)
    assert hamming(hashes[0], hashes[1]) <= 6
    assert clusters([image, other])[1] == [0, 1]


def test_a_chain_of_small_steps_is_one_cluster():
    image = scene(5).astype(int)
    steps = [np.clip(image + 3 * i, 0, 255).astype(np.uint8) for i in range(4)]
    assert clusters(steps)[1] == [0, 0, 0, 0]
    assert clusters([steps[0], steps[3]])[1] == [0, 1]


def test_thumbnails_are_block_means():
    image = np.zeros((33, 64, 3), np.uint8)
    image[:2, :4, 1] = 200  # the first block is 2 × 4 pixels; row 32 is left over
    small = np.frombuffer(thumbnail(image), np.uint8).reshape(16, 16, 3)
    assert small[0, 0].tolist() == [0, 200, 0]
    assert small.sum() == 200


@pytest.mark.parametrize("bits", [0, 2, 6])
def test_every_close_pair_is_proposed_and_no_other(bits):
    hashes = RNG.integers(0, 2**63, 300, dtype=np.uint64)
    for i in range(0, 200, 2):  # many pairs that differ in one to eight bits
        flips = RNG.choice(64, RNG.integers(0, 9), replace=False)
        hashes[i + 1] = hashes[i] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    proposed = {
        tuple(sorted(pair))
        for a, b in close_pairs(hashes, np.zeros(300), bits)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    }
    wanted = {
        (i, j)
        for i, j in itertools.combinations(range(300), 2)
        if hamming(hashes[i], hashes[j]) <= bits
    }
    assert len(wanted) > bits
    assert proposed == wanted


def test_a_bucket_beyond_the_window_is_still_one_cluster(monkeypatch):
    monkeypatch.setattr(duplicates, "WINDOW", 2)
    base = scene(6).astype(int)
    images = [np.clip(base + i % 3, 0, 255).astype(np.uint8) for i in range(3)] * 2
    for i, image in enumerate(images[3:]):
        images[3 + i] = image.copy()
        images[3 + i][0, 0, 0] ^= 1  # not equal, nearly
    assert clusters(images)[1] == [0] * 6


def test_no_images_have_no_clusters():
    assert clusters([]) == ([], [])
