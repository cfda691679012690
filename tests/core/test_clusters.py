"""Clusters are joined in chains and named after their first member."""

import numpy as np

from builder.core.clusters import join, named


def test_pairs_join_whole_clusters_under_their_smallest_member():
    label = join(np.arange(6), np.array([4, 1]), np.array([3, 2]))
    assert label.tolist() == [0, 1, 1, 3, 3, 5]
    assert join(label, np.array([4]), np.array([2])).tolist() == [0, 1, 1, 1, 1, 5]
    assert join(label, np.array([], int), np.array([], int)).tolist() == label.tolist()


def test_a_cluster_has_the_first_of_its_ids_and_loners_have_none():
    ids = ["d", "b", "c", "a"]
    assert named(ids, np.array([0, 1, 0, 1])) == {"d": "c", "c": "c", "b": "a", "a": "a"}
    assert named(ids, np.arange(4)) == {}
    assert named([], np.zeros(0, int)) == {}
