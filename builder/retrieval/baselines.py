"""Every baseline of a retrieval benchmark, by name: what it shows, needs and answers.

To add a baseline, write a function from what `Question` holds to vectors in a file of its own, and
a line in `BASELINES`. The command's help, the facts in a result and the marks on a leaderboard
follow from it. This module stays free of heavy imports, for `--help`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from builder.models.encoders import EncoderFacts
from builder.retrieval import blind
from builder.retrieval.blind import TERMS, bm25, sentences, tf_idf

if TYPE_CHECKING:
    from builder.retrieval.gallery import Gallery, Texts
    from builder.retrieval.protocol import Settings
    from builder.retrieval.result import VectorFile

ORACLE, BASELINE = "oracle", "baseline"
"""Roles: an oracle knows what no model is given, and bounds those that know less."""


@dataclass(frozen=True)
class Question:
    """What a baseline is asked: the gallery's rows, and the captions that search them.

    ``texts`` holds the captions of ``asked`` and, behind them, those with numbers removed.
    ``documents`` are the captions of the proxy stream by row, empty where a caption is missing;
    ``name`` is what follows the colon in a spec such as sentence:NAME.
    """

    rows: "Gallery"
    asked: "Texts"
    texts: Sequence[str]
    documents: Sequence[str]
    name: str
    settings: "Settings"


class VectorFacts(EncoderFacts, total=False):
    """What a result says of vectors beside the name of the model; see `result.ModelFacts`."""

    role: str
    model: str
    terms_at_most: int
    files: tuple["VectorFile", ...]
    vectors: dict[str, "VectorFile"]


@dataclass(frozen=True)
class Vectors:
    """Unit vectors of images (N, d) and of texts: one per caption asked or, from a model that reads
    captions, per text of the question. ``facts`` go into the result, ``notes`` to the reader.
    """

    images: npt.NDArray[Any]
    texts: npt.NDArray[Any]
    facts: VectorFacts = field(default_factory=VectorFacts)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Baseline:
    """``proxy``: it searches the captions of stream --proxy in the images' place; ``named``: its
    spec ends with the name of a model."""

    description: str
    answer: Callable[[Question], Vectors]
    role: str = BASELINE
    proxy: bool = False
    named: bool = False


def _composition(question: Question) -> Vectors:
    images = blind.composition_vectors(question.rows.shares)
    return Vectors(images, images[question.asked.owner])


def _random(question: Question) -> Vectors:
    seed = question.settings.seed
    images, texts = question.rows.ids, question.asked.ids
    return Vectors(blind.random_vectors(images, seed), blind.random_vectors(texts, seed))


def _sentence(question: Question) -> Vectors:
    both, revision = sentences(
        question.name,
        [*question.documents, *question.texts],
        question.settings.device,
        question.settings.batch,
    )
    n = len(question.documents)
    return Vectors(both[:n], both[n:], {"source": "transformers", "revision": revision})


_TERMS: VectorFacts = {"terms_at_most": TERMS}

BASELINES: dict[str, Baseline] = {
    "random": Baseline("one draw of chance, whose exact value is in every result", _random),
    "composition": Baseline(
        "knows every tile's class shares: the bound of models that know no more",
        _composition,
        role=ORACLE,
    ),
    "numbers": Baseline(
        "reads the percentages in captions, never an image: what they reveal",
        lambda question: Vectors(*blind.number_vectors(question.rows.shares, question.texts)),
    ),
    "bm25": Baseline(
        "searches the captions of stream --proxy instead of the images, by BM25",
        lambda question: Vectors(*bm25(question.documents, question.texts), _TERMS),
        proxy=True,
    ),
    "tfidf": Baseline(
        "the same, by tf-idf",
        lambda question: Vectors(*tf_idf(question.documents, question.texts), _TERMS),
        proxy=True,
    ),
    "sentence": Baseline(
        "the same, by a sentence encoder (MiniLM): a folder or a Hub name",
        _sentence,
        proxy=True,
        named=True,
    ),
}


def find(spec: str) -> Baseline | None:
    """The baseline that a model's spec names; None for a model."""
    name, colon, _ = spec.partition(":")
    baseline = BASELINES.get(name)
    return baseline if baseline and baseline.named == bool(colon) else None


def listing() -> list[tuple[str, str]]:
    """What a user writes for each baseline, and its description."""
    return [
        (f"{name}:NAME" if baseline.named else name, baseline.description)
        for name, baseline in BASELINES.items()
    ]
