"""Figures of the images of a release: distributions of their measures, and telling examples."""

from typing import Any

import numpy as np

from builder.report.gather import Images
from builder.report.streams import histogram

BINS = 24
SHOWN = 4
"""Tiles shown at either end of a measure, and clusters of near-duplicates."""
ENDS = ("realism", "mask_agreement")
"""Measures whose lowest and highest synthetic tiles are shown."""


def distributions(images: Images) -> dict[str, Any]:
    """For each measure its bins and, for real test and synthetic tiles, mean and histogram.

    Bins reach from the least to the 99th percentile of what is shown; a measure that no tile has
    is left out.
    """
    parts = np.array(images.parts)
    shown = {"real test": parts == "real test", "synthetic": np.char.startswith(parts, "synthetic")}
    told: dict[str, Any] = {}
    for name, column in images.measures.items():
        values = np.array(column, dtype=float)
        found = {part: values[mask] for part, mask in shown.items()}
        found = {part: v[~np.isnan(v)] for part, v in found.items()}
        found = {part: v for part, v in found.items() if len(v)}
        if not found:
            continue
        every = np.concatenate(list(found.values()))
        low, high = float(every.min()), float(np.percentile(every, 99))
        bins = np.linspace(low, high if high > low else low + 1, BINS + 1)
        told[name] = {
            "bins": [round(float(edge), 6) for edge in bins],
            "parts": {
                part: {
                    "images": len(v),
                    "mean": round(float(v.mean()), 4),
                    "histogram": histogram(v.tolist(), bins),
                }
                for part, v in found.items()
            },
        }
    return told


def ends(images: Images) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Synthetic tiles with the lowest and the highest value of each of `ENDS`."""
    drawn = [i for i, part in enumerate(images.parts) if part.startswith("synthetic")]
    told: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in ENDS:
        values = images.measures[name]
        known = [(values[i], images.ids[i]) for i in drawn if values[i] is not None]
        known.sort(key=lambda one: (one[0], one[1]))
        if known:
            some = min(SHOWN, (len(known) + 1) // 2)
            told[name] = {
                "lowest": [{"id": one, "value": value} for value, one in known[:some]],
                "highest": [{"id": one, "value": value} for value, one in known[::-1][:some]],
            }
    return told


def repeated(images: Images) -> list[list[str]]:
    """Two ids of each of the first clusters of near-duplicates."""
    members: dict[str, list[str]] = {}
    for one, cluster in zip(images.ids, images.clusters, strict=True):
        if cluster is not None:
            members.setdefault(cluster, []).append(one)
    found = [sorted(some)[:2] for some in members.values() if len(some) > 1]
    return sorted(found)[:SHOWN]
