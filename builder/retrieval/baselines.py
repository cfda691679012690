"""Baselines that need no trained vision model: random, composition oracle, text to text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from builder.core.errors import ArasError
from builder.core.seeds import generator
from builder.land.classes import CLASSES
from builder.retrieval.ranks import Array, Floats
from builder.scores.claims import QUANTITY, read
from builder.scores.lexicon import load

TERMS = 8_192
"""Most terms of a text-to-text baseline: the most frequent ones."""

Floats32 = npt.NDArray[np.float32]


def random_vectors(names: Sequence[str], seed: int = 0, width: int = 64) -> Floats32:
    """A random unit vector per name, (n, width): equal names, equal vectors, in any order."""
    rows = [generator(seed, "random baseline", name).standard_normal(width) for name in names]
    return unit_rows(np.array(rows))


def composition_vectors(shares: npt.ArrayLike) -> Floats32:
    """(n, 7) class fractions → their square roots, unit vectors.

    The product of two is the Bhattacharyya coefficient Σ √(p·q): 1 for equal compositions. Given
    to an image and its captions alike it is the upper bound of whatever knows the composition
    and nothing else.
    """
    return unit_rows(np.sqrt(np.asarray(shares, dtype=np.float64)))


def tf_idf(documents: Sequence[str], queries: Sequence[str]) -> tuple[Array, Array]:
    """Sparse unit vectors of documents and queries: words weighted by tf · idf of the documents.

    A query without a word of theirs stands apart: it is level with every document.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = TfidfVectorizer(max_features=TERMS, token_pattern=_TOKEN)
    found = _fitted(model, documents)
    return _sparse(found), _sparse(model.transform(queries))


def bm25(
    documents: Sequence[str], queries: Sequence[str], k1: float = 1.5, b: float = 0.75
) -> tuple[Array, Array]:
    """Okapi BM25 (Robertson & Zaragoza 2009) as a product of sparse document and query vectors.

    Documents: idf · tf (k1 + 1) / (tf + k1 (1 − b + b · length / mean length)), all divided by
    one number so that the longest has length 1; queries: word counts of unit length, so that a
    document ranks short and long queries alike.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    model = CountVectorizer(max_features=TERMS, token_pattern=_TOKEN)
    found = csr_array(_fitted(model, documents), dtype=np.float64)
    tf, count = found.data, found.shape[0]
    of = np.repeat(np.arange(count), np.diff(found.indptr))
    length = np.asarray(found.sum(1))
    having = np.bincount(found.indices, minlength=found.shape[1])
    idf = np.log1p((count - having + 0.5) / (having + 0.5))[found.indices]
    size = length / max(1e-12, length.mean())
    found.data = idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * size[of]))
    longest = np.sqrt(np.bincount(of, found.data**2, count).max())
    asked = normalize(model.transform(queries).astype(np.float64))
    return _sparse(found / max(longest, 1e-12)), _sparse(asked)


def sentences(
    model: str | Path, texts: Sequence[str], device: str = "cpu", batch: int = 64
) -> tuple[Floats32, str]:
    """Unit sentence vectors by a transformers text encoder (MiniLM and its like), and its revision.

    Mean of the last hidden state over the tokens of each text. Raises ArasError when there is no
    such model.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    from builder.models import weights

    logging.disable_progress_bar()
    tokenizer, encoder = weights.load(model, AutoTokenizer, AutoModel)
    encoder = encoder.to(device).eval()
    made = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch):
            some = list(texts[start : start + batch])
            asked = tokenizer(some, padding=True, truncation=True, return_tensors="pt").to(device)
            hidden = encoder(**asked).last_hidden_state.float()
            seen = asked["attention_mask"].unsqueeze(-1)
            made.append(((hidden * seen).sum(1) / seen.sum(1).clamp(min=1)).cpu().numpy())
    return unit_rows(np.concatenate(made)), str(getattr(encoder.config, "_commit_hash", "") or "")


def unit_rows(values: Array) -> Floats32:
    """Rows of unit length, float32; a zero row stays zero."""
    length = np.sqrt((np.asarray(values, dtype=np.float64) ** 2).sum(1, keepdims=True))
    return np.ascontiguousarray(values / np.maximum(length, 1e-12), dtype=np.float32)


_TOKEN = r"(?u)\b\w+\b"


def _fitted(model: Any, documents: Sequence[str]) -> Any:
    try:
        return model.fit_transform(documents)
    except ValueError as error:
        raise ArasError(
            f"the proxy captions have no words to search ({error}); name another --proxy"
        ) from error


def _sparse(matrix: Any) -> Array:
    """CSR of float32, terms of a row in order: how `builder.retrieval.ranks` multiplies words."""
    made: Any = csr_array(matrix, dtype=np.float32)
    made.sort_indices()
    return cast(Array, made)


_LONGEST = (np.sqrt(3.0), np.sqrt(6.0))
"""Bounds of the length of an image's and of a text's row before they are padded."""


def stated_shares(texts: Sequence[str]) -> Floats:
    """Class shares (M, 7) that the percentages of each text state; NaN rows where there are none.

    What the stated classes leave of 1 is spread evenly over the others; shares that sum to more
    than 1 are scaled down. Percentages are read as `builder.scores.claims` reads them.
    """
    lexicon = load()
    found = np.full((len(texts), len(CLASSES)), np.nan)
    for row, text in zip(found, texts, strict=True):
        for (kind, bits, low, high), words in read(text, lexicon).claims.items():
            one = bits.bit_length() - 1
            numeral = kind == QUANTITY and any(letter.isdigit() for letter in words)
            if numeral and bits == 1 << one and np.isnan(row[one]):
                row[one] = (low + high) / 2
        told = ~np.isnan(row)
        if told.any():
            rest = max(0.0, 1 - row[told].sum())
            row[~told] = rest / max(1, (~told).sum())
            row /= row.sum() or 1.0
    return found


def number_vectors(
    shares: npt.ArrayLike, texts: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Unit vectors of images (N, 11) by their ``shares`` (N, 7), and of texts (M, 11).

    The product of two falls with the squared distance of the image's shares p and the stated
    ones q, since −|p − q|² = 2 p·q − |p|² − |q|². A text without percentages is level with every
    image and below every other text.
    """
    p, q = np.asarray(shares, dtype=np.float64), stated_shares(texts)
    silent = np.isnan(q).any(1)
    q[silent] = 0
    near = -np.where(silent, 2.0, (q**2).sum(1))
    images = [p, (p**2).sum(1, keepdims=True), np.ones((len(p), 1))]
    asked = [2 * q, np.where(silent, 0.0, -1.0)[:, None], near[:, None]]
    return _padded(np.hstack(images), 0), _padded(np.hstack(asked), 1)


def _padded(rows: Floats, side: int) -> npt.NDArray[np.float32]:
    """Rows over the bound of their side, made unit by a column that the other side has 0 in."""
    short = rows / _LONGEST[side]
    pad = np.zeros((len(rows), 2))
    pad[:, side] = np.sqrt(np.maximum(0.0, 1 - (short**2).sum(1)))
    return np.ascontiguousarray(np.hstack([short, pad]), dtype=np.float32)
