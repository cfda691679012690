"""Realism: how usual a tile's pixel statistics are among real tiles of like composition."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.store import Store
from builder.land.columns import SPLITS
from builder.land.pictures import per_class
from builder.models.neighbours import matrix
from builder.models.sets import Moments
from builder.quality.statistics import FEATURES
from builder.steps.stage import Maker, Output, Scan, Stage

TRAIN = SPLITS.index("train")
FOLDS = 5
"""Fits, each to the train tiles of the other folds, so that no tile is measured by a fit to it."""
LEAST = 20
"""Train tiles below which nothing is fitted."""
HELD_OUT = 10
"""Validation and test tiles below which train tiles tell what is usual too."""
RIDGE = 1.0
"""Tiles by which the regression on class shares is drawn to no dependence."""
SMALL = 1e-3
"""Variance that every statistic has at least, so that one that never varies does not decide."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Usual:
    """Statistics of real tiles as a linear function of class shares, and how tiles deviate from it.

    ``mean`` (d,), ``shares`` (c,) and ``slopes`` (c, d) give what is expected of a composition,
    ``whitening`` (d, d) turns deviations into independent ones of variance 1.
    """

    mean: Floats
    shares: Floats
    slopes: Floats
    whitening: Floats

    @classmethod
    def of(cls, joint: Moments) -> "Usual":
        """From moments of (statistics, class shares) of real tiles, (d + c,) each.

        Ridge regression; the covariance of its residuals is shrunk to the diagonal (oracle
        approximating shrinkage, Chen et al. 2010, of the correlations).
        """
        d, scatter = len(FEATURES), joint.scatter
        own, cross, of_shares = scatter[:d, :d], scatter[d:, :d], scatter[d:, d:]
        ridge = RIDGE * np.trace(of_shares) / max(joint.n, 1) + 1e-9
        slopes = np.linalg.solve(of_shares + ridge * np.eye(len(of_shares)), cross)
        rest = own - slopes.T @ cross - cross.T @ slopes + slopes.T @ of_shares @ slopes
        covariance = rest / joint.n
        scale = np.sqrt(np.diag(covariance).clip(0) + SMALL)
        related = covariance / np.outer(scale, scale)
        np.fill_diagonal(related, 1.0)
        values, vectors = np.linalg.eigh(_shrunk(related, joint.n))
        return cls(
            mean=joint.mean[:d],
            shares=joint.mean[d:],
            slopes=slopes,
            whitening=vectors / np.sqrt(values.clip(1e-6)) / scale[:, None],
        )

    @classmethod
    def fit(cls, statistics: npt.ArrayLike, shares: npt.ArrayLike) -> "Usual":
        """From statistics (n, d) and class shares (n, c) of real tiles."""
        return cls.of(Moments.of(np.concatenate([statistics, shares], axis=1)))

    def deviations(self, statistics: npt.ArrayLike, shares: npt.ArrayLike) -> Floats:
        """(n, d) differences of ``statistics`` (n, d) from what is expected of class ``shares``
        (n, c), in the units of `statistics.FEATURES`."""
        expected = self.mean + (np.asarray(shares, np.float64) - self.shares) @ self.slopes
        return np.asarray(np.asarray(statistics, np.float64) - expected)

    def distances(self, deviations: Floats) -> Floats:
        """(n,) Mahalanobis distances over √d: about 1 for tiles like those of the fit."""
        return np.asarray(np.sqrt(np.square(deviations @ self.whitening).mean(axis=1)))


def _shrunk(related: Floats, n: int) -> Floats:
    """A correlation matrix (d, d) of n tiles, drawn to the identity."""
    d = len(related)
    square, trace = float(np.square(related).sum()), float(np.trace(related)) ** 2
    rest = (n + 1 - 2 / d) * (square - trace / d)
    share = 1.0 if rest <= 0 else min(1.0, ((1 - 2 / d) * square + trace) / rest)
    return (1 - share) * related + share * np.eye(d)


def realism(distances: npt.ArrayLike, held_out: npt.ArrayLike) -> Floats:
    """(n,) share of real tiles that are at least as unusual, from 1 down to next to 0.

    ``held_out`` (m,) are the distances of real tiles, sorted. The tile itself counts (as in
    conformal prediction), so that m real tiles of the same kind come out evenly from 1 / (m + 1)
    to 1; beyond the farthest real tile the value goes on falling as its distance over the tile's.
    """
    own, real = np.asarray(distances, np.float64), np.asarray(held_out, np.float64)
    n = len(real)
    share = (n - np.searchsorted(real, own, side="left") + 1) / (n + 1)
    beyond = real[-1] / np.maximum(own, 1e-12) / (n + 1)
    return np.where(own > real[-1], beyond, share)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Fits by fold, and the sorted distances of held-out real tiles."""

    fits: tuple[Usual, ...]
    held_out: npt.NDArray[np.float32]


def fold_of(ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """(n,) the fold of each row, by its id."""
    return np.array([zlib.crc32(row.encode()) % FOLDS for row in ids], dtype=np.int64)


@dataclass(frozen=True)
class Realism(Stage):
    """``realism`` of every tile, and as a working column its ``deviations``: see `Usual`.

    Fitted to real train tiles, in `FOLDS` folds; validation and test tiles say how unusual a real
    tile may be. Null where there are fewer than `LEAST` train tiles.
    """

    version = 2

    light = True
    needs = ("id", "statistics", "pixels")
    surveys = ("id", "split", "statistics", "pixels")
    surveyed = ("real",)
    adds = ("realism", "deviations")

    def survey(self, scan: Scan) -> Fitted | None:
        folds: list[Moments | None] = [None] * FOLDS
        for _, table in scan(self.surveys):
            _add_moments(folds, _of_split(table, train=True))
        whole = [fold for fold in folds if fold is not None]
        if len(whole) < FOLDS or sum(fold.n for fold in whole) < LEAST:
            return None
        fits = []
        for i in range(FOLDS):
            first, *rest = whole[:i] + whole[i + 1 :]
            for fold in rest:
                first = first.merge(fold)
            fits.append(Usual.of(first))
        far: list[list[float]] = [[], []]
        for _, table in scan(self.surveys):
            for train in (False, True):
                far[train] += _measure(_of_split(table, train), tuple(fits))[1].tolist()
        if len(far[False]) < HELD_OUT:
            far[False] += far[True]
        return Fitted(tuple(fits), np.sort(np.array(far[False], dtype=np.float32)))

    def open(self, store: Store, survey: Fitted | None) -> Maker:
        kinds = (pa.float32(), pa.list_(pa.float32()))

        def make(table: pa.Table) -> Output:
            n = table.num_rows
            columns = [pa.nulls(n, kind) for kind in kinds]
            if survey is not None and n:
                deviations, distances = _measure(table, survey.fits)
                values = realism(distances.astype(np.float32), survey.held_out)
                rows = list(deviations.astype(np.float32))
                columns = [pa.array(values, kinds[0]), pa.array(rows, kinds[1])]
            return Output(pa.table(dict(zip(self.adds, columns, strict=True))))

        return make


def _of_split(table: pa.Table, train: bool) -> pa.Table:
    splits = table.column("split").to_pylist()
    chosen = [split is not None and (split == TRAIN) == train for split in splits]
    return table.filter(pa.array(chosen, pa.bool_()))


def class_shares(table: pa.Table) -> Floats:
    """(n, 7) share of each class in the pixels of each row."""
    counts = per_class(table.column("pixels")).astype(np.float64)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True).clip(1))


def _add_moments(folds: list[Moments | None], table: pa.Table) -> None:
    if not table.num_rows:
        return
    joint = np.concatenate([matrix(table.column("statistics")), class_shares(table)], axis=1)
    numbers = fold_of(table.column("id").to_pylist())
    for i in np.unique(numbers):
        own, before = Moments.of(joint[numbers == i]), folds[i]
        folds[i] = own if before is None else before.merge(own)


def _measure(table: pa.Table, fits: Sequence[Usual]) -> tuple[Floats, Floats]:
    """Deviations (n, d) and distances (n,) of rows, each by the fit of its fold."""
    n = table.num_rows
    deviations, distances = np.zeros((n, len(FEATURES))), np.zeros(n)
    if not n:
        return deviations, distances
    statistics, shares = matrix(table.column("statistics")), class_shares(table)
    numbers = fold_of(table.column("id").to_pylist())
    for i, fit in enumerate(fits):
        own = numbers == i
        deviations[own] = fit.deviations(statistics[own], shares[own])
        distances[own] = fit.distances(deviations[own])
    return deviations, distances
