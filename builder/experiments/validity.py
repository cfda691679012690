"""How good the tiles of a dose are, measured by models that no arm is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.experiments.mosaics import Tiles
from builder.models.neighbours import nearest
from builder.models.sets import Moments, frechet, precision_recall
from builder.quality.realism import Usual, realism
from builder.quality.statistics import pixel_statistics
from builder.retrieval.ranks import Array, Ints
from builder.retrieval.result import Part

Pixels = npt.NDArray[np.uint8]

NEAR = 0.01
"""Quantile of the distances from held-out tiles to their nearest train tile, below which a tile
counts as a copy."""


class Validity(Part):
    """Measures of a set of tiles with classes; of real tiles, what is the best that can be had."""

    tiles: int
    agreement: float
    """Share of tiles that the convolutional classifier gives their class."""
    agreement_random: float
    """The same by a linear classifier of random features."""
    discrimination: float
    """How often the classifier gives a class more to a tile of it than to another one's (AUC)."""
    frechet: float
    """Fréchet distance to real tiles in the convolutional classifier's features."""
    frechet_random: float
    """The same in random features."""
    coverage: float
    """Share of real tiles that the set comes near to (Naeem et al. 2020)."""
    realism: float
    """Mean realism, the share of real tiles that are at least as unusual for their class
    (`quality.realism`): .5 for real tiles."""
    transfer: float
    """Share of real tiles that a classifier gives their class which learnt from this set alone
    (classification accuracy score, Ravuri & Vinyals 2019)."""
    copies: float
    """Share of tiles nearer to a train tile than `NEAR` of held-out tiles are."""


MEASURES: Mapping[str, int] = {
    "agreement": 1,
    "agreement_random": 1,
    "discrimination": 1,
    "frechet": -1,
    "frechet_random": -1,
    "coverage": 1,
    "realism": 1,
    "transfer": 1,
}
"""Measure → 1 where more is better."""


@dataclass(frozen=True)
class Judge:
    """Measures doses by models that learn from ``judge`` tiles, against ``reference`` tiles; both
    are real and in no arm. Copies are of the tiles ``train``, and ``held`` show what is usual."""

    judge: Tiles
    reference: Tiles
    train: Tiles
    held: Tiles
    classes: int
    steps: int = 300
    """Of the classifier's training."""


class OpenJudge:
    """The models of a `Judge`, trained."""

    def __init__(self, source: Judge) -> None:
        from builder.models import tile_classifier
        from builder.models.towers import random_features

        judge, self.source = source.judge, source
        self.classifier = tile_classifier.train(
            judge.pixels, judge.labels, source.classes, source.steps
        )
        self.random = random_features(judge.pixels, 1)
        self.judged = self.random(judge.pixels)
        self.linear = linear(self.judged, judge.labels)
        self.real = self._features(source.reference.pixels)
        self.usual = Usual.fit(statistics(judge.pixels), self._shares(judge.labels))
        self.distances = np.sort(self._distances(source.reference))
        self.known = self.random(source.train.pixels)
        usual = nearest(self.random(source.held.pixels), self.known)[1][:, 0]
        self.near = float(np.quantile(usual, NEAR))

    def _features(self, pixels: Pixels) -> tuple[Array, Array]:
        return (self.classifier.look(pixels)[1], self.random(pixels))

    def _shares(self, labels: Ints) -> Array:
        return np.eye(self.source.classes)[labels]

    def _distances(self, tiles: Tiles) -> Array:
        own = self.usual.deviations(statistics(tiles.pixels), self._shares(tiles.labels))
        return self.usual.distances(own)

    def measure(self, tiles: Tiles) -> Validity:
        """The measures of tiles (n, h, w, 3) with the classes that are said of them (n,)."""
        probabilities, features = self.classifier.look(tiles.pixels)
        plain = self.random(tiles.pixels)
        moments = [
            frechet(Moments.of(real), Moments.of(own))
            for real, own in zip(self.real, (features, plain), strict=True)
        ]
        gaps = nearest(plain, self.known)[1][:, 0]
        return Validity(
            tiles=len(features),
            agreement=float((probabilities.argmax(1) == tiles.labels).mean()),
            agreement_random=float((self.linear.predict(plain) == tiles.labels).mean()),
            discrimination=discrimination(probabilities, tiles.labels),
            frechet=moments[0],
            frechet_random=moments[1],
            coverage=precision_recall(self.real[0], features)["coverage"],
            realism=float(realism(self._distances(tiles), self.distances).mean()),
            transfer=float(
                linear(plain, tiles.labels).score(self.judged, self.source.judge.labels)
            ),
            copies=float((gaps < self.near).mean()),
        )


def statistics(pixels: Pixels) -> Array:
    """(n, h, w, 3) → (n, d) `pixel_statistics`."""
    return np.stack([pixel_statistics(tile) for tile in pixels])


def linear(features: Array, labels: Ints) -> Any:
    """A logistic regression of labels (n,) on features (n, d)."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.01, tol=1e-2, max_iter=1000).fit(features, labels)


def discrimination(probabilities: Array, labels: Ints) -> float:
    """Mean over the classes of the AUC of their probability (n, K), own tiles against others."""
    from scipy.stats import rankdata

    areas = []
    for label in np.unique(labels):
        own = labels == label
        ranks = rankdata(probabilities[:, label])
        wins = ranks[own].sum() - own.sum() * (own.sum() + 1) / 2
        areas.append(wins / (own.sum() * (~own).sum()))
    return float(np.mean(areas))
