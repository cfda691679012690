"""Clusters of rows that repeat each other: joined pair by pair, named after their first member."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


def join(label: I64, a: I64, b: I64) -> I64:
    """Labels (n,) after joining the clusters of each pair; the smallest member names a cluster."""
    from scipy.sparse import coo_array  # slow to import: only where rows are joined
    from scipy.sparse.csgraph import connected_components

    if not len(a):
        return label
    n = len(label)
    graph = coo_array((np.ones(len(a), np.int32), (label[a], label[b])), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    smallest = np.full(component.max() + 1, n, dtype=np.int64)
    np.minimum.at(smallest, component, np.arange(n))
    return np.asarray(smallest[component][label], dtype=np.int64)


def named(ids: Sequence[str], label: I64) -> dict[str, str]:
    """id → name of its cluster, the first of its members' ids; rows that are alone are left out."""
    members: dict[int, list[str]] = {}
    shared = np.bincount(label, minlength=len(label))[label] > 1
    for i in np.flatnonzero(shared).tolist():
        members.setdefault(int(label[i]), []).append(ids[i])
    return {member: min(cluster) for cluster in members.values() for member in cluster}
