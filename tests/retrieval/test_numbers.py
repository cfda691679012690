"""The baseline that reads percentages: what they state, and that they find their tile."""

import numpy as np
import pytest

from builder.retrieval.benchmark import Model, run
from builder.retrieval.blind import number_vectors, stated_shares
from builder.retrieval.gallery import load
from builder.retrieval.protocol import Settings
from tests.makers.bench_release import bench_release


def test_percentages_are_shares_and_the_rest_is_spread():
    shares = stated_shares(
        [
            "The tile holds 60% cropland and 40% grassland.",
            "About 30% of the area is forest.",
            "Mostly forest with some water.",
            "",
        ]
    )
    np.testing.assert_allclose(shares[0], [0, 0, 0.4, 0.6, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(shares[1], [0.3, *[0.7 / 6] * 6], atol=1e-9)
    assert np.isnan(shares[2:]).all()


def test_the_nearest_composition_scores_highest_and_silence_is_level():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(7), 50)
    shares[7] = [0, 0, 0.4, 0.6, 0, 0, 0]
    texts = ["The tile holds 60% cropland and 40% grassland.", "A quiet place."]
    images, asked = number_vectors(shares, texts)
    for rows in (images, asked):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    score = asked @ images.T
    distance = ((shares - shares[7]) ** 2).sum(1)
    assert np.argsort(-score[0]).tolist() == np.argsort(distance).tolist()
    assert np.ptp(score[1]) < 1e-6
    assert score[1].max() < score[0].min()


def test_numbers_find_tiles_and_words_do_not(tmp_path):
    rows = load(bench_release(tmp_path, train=6, synthetic=0, test=30))
    streams = run(rows, Model("numbers"), settings=Settings(resamples=20)).result.as_json()[
        "streams"
    ]
    assert streams["numbers"]["S"]["mR"] > 90
    words = streams["words"]["S"]
    assert words["t2i"]["R@1"] == pytest.approx(100 / 30)
    assert words["optimistic"]["t2i"]["R@1"] == 100
    # Without its numbers the stream is as silent as the other.
    assert streams["numbers"]["L"]["t2i"]["R@1"] == pytest.approx(100 / 30)
