"""The dose–response experiment on a release: scenes of its real tiles, and its synthetic tiles as a
dose."""

from pathlib import Path

import numpy as np

from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.experiments.dose_response import Material
from builder.experiments.doses import Known
from builder.experiments.imbalance import SetFacts
from builder.experiments.mosaics import Mosaics, Sizes, Tiles, deal
from builder.experiments.rows import train_rows, train_table
from builder.land.pictures import decode_png
from builder.models.clip import shrink
from builder.release.gaps import MIN_KM
from builder.retrieval import gallery
from builder.retrieval.ranks import Floats, Ints

SIDE = 64
"""Pixels per side that a tile is shrunk to; a scene has 2 × 2."""
PURE = 0.5
"""Least share of a class of a tile that stands for it."""
FACTOR = 10.0
"""Tiles of the largest class of the train part per tile of the smallest."""
FEWEST = 4
"""Least tiles of a class that each part needs."""


def release_material(
    release: Path, out: Path, min_km: float = MIN_KM, near: str = "refuse"
) -> Material:
    """Scenes of the real tiles of a release, each of the class that has most of it.

    Train tiles are dealt to a part with a long tail, to held-out tiles and to those that measure
    doses; test scenes are of test tiles. Raises ArasError where classes have too few tiles.
    """
    table = train_table(release)
    rows = train_rows(release, table, FEWEST)
    tested = gallery.load(release, min_km=min_km, near=near)
    names = tuple(rows.classes)
    train = _tiles(release, rows.ids, rows.shares, "train")
    test = _tiles(release, tested.ids, tested.shares, "test")
    synthetic = rows.is_synthetic[train[1]]
    labels, pixels = train[0].labels, train[0].pixels
    real = Tiles(pixels[~synthetic], labels[~synthetic])
    mosaics = _dealt(release, real, test[0], names)
    kept = [names.index(name) for name in mosaics.classes]
    own = Tiles(pixels[synthetic], labels[synthetic]).only(kept)
    facts = SetFacts(
        name=f"scenes of {tested.facts.name}",
        version=tested.facts.version or "",
        content_sha256=digest_of([tested.facts.content_sha256, SIDE, PURE, FACTOR]),
    )
    limits = (
        "Scenes are put together of tiles, each standing for the class that has most of it: "
        "harder tiles of several classes are not in them.",
    )
    known = Known(own.pixels, own.labels, len(kept))
    return Material(facts, mosaics, out, "S", limits, known)


def _tiles(release: Path, ids: list[str], shares: Floats, split: str) -> tuple[Tiles, Ints]:
    """The tiles that one class has most of, shrunk, and their rows."""
    rows = np.flatnonzero(shares.max(1) >= PURE)
    asked = [ids[row] for row in rows]
    pixels = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    for where, data in gallery.pictures(release, asked, split):
        for place, png in zip(where, data, strict=True):
            pixels[place] = shrink(decode_png(png, asked[place]), SIDE)
    return Tiles(pixels, shares[rows].argmax(1)), rows


def _dealt(release: Path, real: Tiles, test: Tiles, names: tuple[str, ...]) -> Mosaics:
    """As many real tiles with a long tail as every class has held-out ones for."""
    counts, tested = (np.bincount(part.labels, minlength=len(names)) for part in (real, test))
    kept = np.flatnonzero((counts >= 3 * FEWEST) & (tested >= FEWEST))
    if len(kept) < 3:
        raise ArasError(
            f"{release}: {len(kept)} classes have {3 * FEWEST} real train tiles and {FEWEST} test "
            f"tiles that they fill to {PURE:.0%}; the experiment needs three"
        )
    real, test = real.only(kept.tolist()), test.only(kept.tolist())
    each = int(tested[kept].min())
    for total in range(int(counts.sum()), 0, -1):
        sizes = Sizes(
            real=total, factor=FACTOR, ratio=1.0, judge=FEWEST, test=each * len(kept) // 4
        )
        wanted = sizes.counts(len(kept), np.argsort(-counts[kept], kind="stable"))
        if (wanted < 2).any():
            break
        needed = wanted + np.maximum(wanted, round(total / len(kept))) + FEWEST
        if (needed <= counts[kept]).all():
            labels = tuple(names[k] for k in kept)
            nouns = {name: name.lower() for name in labels}
            return deal(real, test.first(each), labels, nouns, sizes, wanted)
    raise ArasError(f"{release}: too few real train tiles of the rarest classes for a long tail")
