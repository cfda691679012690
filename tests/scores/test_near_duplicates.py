"""Near-duplicates: clusters against brute force, and what they do not depend on."""

import itertools
import random
import re

import numpy as np
import pyarrow as pa
from scipy.sparse.csgraph import connected_components

from builder.scores.near_duplicates import NearDuplicates, near_duplicates, shingle

LONG = "the quick brown fox jumps over the lazy dog beside a river bank in the late afternoon"


def pairs_of_words(text):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return set(itertools.pairwise(words))


def brute_force(texts, similarity=0.8):
    sets = [pairs_of_words(text) for text in texts]
    alike = np.array([[len(a & b) >= similarity * len(a | b) for b in sets] for a in sets])
    component = connected_components(alike)[1]
    return np.array([np.flatnonzero(component == c)[0] for c in component]), alike


def variations(n, seed=0):
    """Originals of thirty words, most with copies in which one to six words differ."""
    draw = random.Random(seed)
    words = [f"w{i}" for i in range(400)]
    texts = []
    while len(texts) < n:
        original = [draw.choice(words) for _ in range(30)]
        texts.append(" ".join(original))
        for changed in (1, 2, 4, 6):
            copy = list(original)
            for place in draw.sample(range(30), changed):
                copy[place] = draw.choice(words)
            texts.append(" ".join(copy))
    draw.shuffle(texts)
    return texts[:n]


def test_a_changed_word_makes_a_near_duplicate_and_the_first_names_the_cluster():
    texts = ["Something else entirely, about forests.", LONG, LONG.upper() + "!", LONG + " today"]
    assert near_duplicates(texts).tolist() == [0, 1, 1, 1]


def test_clusters_agree_with_brute_force():
    texts = variations(600)
    expected, alike = brute_force(texts)
    clusters = near_duplicates(texts)
    assert (expected != np.arange(600)).mean() > 0.2, "the case has near-duplicates"
    together = clusters[:, None] == clusters[None, :]
    assert not (together & (expected[:, None] != expected[None, :])).any(), "no false cluster"
    assert together[alike].mean() > 0.98


def test_exact_repeats_are_always_found():
    texts = variations(300) * 3
    assert near_duplicates(texts)[300:].max() < 300


def test_batches_threads_and_slices_make_no_difference():
    texts = pa.array(variations(500, seed=2))
    whole = NearDuplicates(threads=1)
    whole.add(texts)
    parts = NearDuplicates(threads=3)
    for start in range(0, 500, 77):
        parts.add(texts.slice(start, 77))
    assert np.array_equal(whole.clusters(), parts.clusters())


def test_captions_without_words_are_nobodys_duplicate():
    assert near_duplicates([None, "", "...", None, "", "..."]).tolist() == [0, 1, 2, 3, 4, 5]
    assert near_duplicates([]).tolist() == []
    assert near_duplicates(["forest", "Forest.", "water"]).tolist() == [0, 0, 2]


def test_words_do_not_run_into_the_next_caption():
    joined, sizes = shingle(pa.array(["dense for", "est here", "dense", "forest"]))
    assert sizes.tolist() == [1, 1, 1, 1]
    assert len(set(joined.tolist())) == 4
    assert near_duplicates(["ab cd", "ab", "cd", "ab cd"]).tolist() == [0, 1, 2, 0]


def test_the_similarity_is_the_threshold_asked_for():
    a = " ".join(f"w{i}" for i in range(21))  # 20 pairs
    b = " ".join([*(f"w{i}" for i in range(19)), "x", "y"])  # 18 shared, 22 together
    assert near_duplicates([a, b], similarity=18 / 22).tolist() == [0, 0]
    assert near_duplicates([a, b], similarity=18.1 / 22).tolist() == [0, 1]
