"""Baselines that read class shares or captions and never an image.

Some search the captions of another stream in the images' place.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.core.seeds import generator
from builder.land.classes import CLASSES
from builder.scores.claims import QUANTITY, read
from builder.scores.lexicon import load

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]


def random_vectors(names: Sequence[str], seed: int = 0, width: int = 64) -> Floats32:
    """A random unit vector per name, (n, width): equal names, equal vectors, in any order."""
    rows = [generator(seed, "random baseline", name).standard_normal(width) for name in names]
    return unit_rows(np.array(rows))


def composition_vectors(shares: npt.ArrayLike) -> Floats32:
    """(n, 7) class fractions → their square roots, unit vectors.

    The product of two is the Bhattacharyya coefficient Σ √(p·q): 1 for equal compositions. Given
    to an image and its captions alike it is the upper bound of any model that knows the composition
    and nothing else.
    """
    return unit_rows(np.sqrt(np.asarray(shares, dtype=np.float64)))


def unit_rows(values: npt.ArrayLike) -> Floats32:
    """Rows of unit length, float32; a zero row stays zero."""
    array = np.asarray(values)
    length = np.sqrt((array.astype(np.float64) ** 2).sum(1, keepdims=True))
    return np.ascontiguousarray(array / np.maximum(length, 1e-12), dtype=np.float32)


_LONGEST = (np.sqrt(3.0), np.sqrt(6.0))
"""Bounds of the length of an image's and of a text's row before they are padded."""


def stated_shares(texts: Sequence[str]) -> Floats:
    """Class shares (M, 7) that the percentages of each text state; NaN rows where there are none.

    What the stated classes leave of 1 is spread evenly over the others; shares that sum to more
    than 1 are scaled down. Percentages are read as `builder.scores.claims` reads them.
    """
    lexicon = load()
    shares = np.full((len(texts), len(CLASSES)), np.nan)
    for row, text in zip(shares, texts, strict=True):
        for (kind, bits, low, high), words in read(text, lexicon).claims.items():
            number = bits.bit_length() - 1
            numeral = kind == QUANTITY and any(letter.isdigit() for letter in words)
            if numeral and bits == 1 << number and np.isnan(row[number]):
                row[number] = (low + high) / 2
        stated = ~np.isnan(row)
        if stated.any():
            rest = max(0.0, 1 - row[stated].sum())
            row[~stated] = rest / max(1, (~stated).sum())
            row /= row.sum() or 1.0
    return shares


def number_vectors(shares: npt.ArrayLike, texts: Sequence[str]) -> tuple[Floats32, Floats32]:
    """Unit vectors of images (N, 11) by their ``shares`` (N, 7), and of texts (M, 11).

    The product of two falls with the squared distance of the image's shares p and the stated
    shares q, since −|p − q|² = 2 p·q − |p|² − |q|². A text without percentages is level with every
    image and below every other text.
    """
    p, q = np.asarray(shares, dtype=np.float64), stated_shares(texts)
    silent = np.isnan(q).any(1)
    q[silent] = 0
    near = -np.where(silent, 2.0, (q**2).sum(1))
    images = [p, (p**2).sum(1, keepdims=True), np.ones((len(p), 1))]
    asked = [2 * q, np.where(silent, 0.0, -1.0)[:, None], near[:, None]]
    return _padded(np.hstack(images), 0), _padded(np.hstack(asked), 1)


def _padded(rows: Floats, side: int) -> Floats32:
    """Rows over the bound of their side, made unit by a column that the other side has 0 in."""
    short = rows / _LONGEST[side]
    pad = np.zeros((len(rows), 2))
    pad[:, side] = np.sqrt(np.maximum(0.0, 1 - (short**2).sum(1)))
    return np.ascontiguousarray(np.hstack([short, pad]), dtype=np.float32)


TERMS = 8_192
"""Most terms of a search by words: the most frequent."""

Matrix = npt.NDArray[Any]
"""(n, d) vectors, dense or a scipy CSR matrix."""

_TOKEN = r"(?u)\b\w+\b"


def tf_idf(documents: Sequence[str], queries: Sequence[str]) -> tuple[Matrix, Matrix]:
    """Sparse unit vectors of documents and queries: words weighted by tf · idf of the documents.

    A query without a word of theirs is level with every document.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = TfidfVectorizer(max_features=TERMS, token_pattern=_TOKEN)
    vectors = _fitted(model, documents)
    return _sparse(vectors), _sparse(model.transform(queries))


def bm25(
    documents: Sequence[str], queries: Sequence[str], k1: float = 1.5, b: float = 0.75
) -> tuple[Matrix, Matrix]:
    """Okapi BM25 (Robertson & Zaragoza 2009) as a product of sparse document and query vectors.

    Documents: idf · tf (k1 + 1) / (tf + k1 (1 − b + b · length / mean length)), all divided by
    one number so that the longest has length 1; queries: word counts of unit length, so that a
    document ranks short and long queries alike.
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    model = CountVectorizer(max_features=TERMS, token_pattern=_TOKEN)
    counts = csr_array(_fitted(model, documents), dtype=np.float64)
    tf, size = counts.data, counts.shape[0]
    row = np.repeat(np.arange(size), np.diff(counts.indptr))
    length = np.asarray(counts.sum(1))
    having = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log1p((size - having + 0.5) / (having + 0.5))[counts.indices]
    relative = length / max(1e-12, length.mean())
    counts.data = idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * relative[row]))
    longest = np.sqrt(np.bincount(row, counts.data**2, size).max())
    asked = normalize(model.transform(queries).astype(np.float64))
    return _sparse(counts / max(longest, 1e-12)), _sparse(asked)


def sentences(
    model: str, texts: Sequence[str], device: str = "cpu", batch: int = 64
) -> tuple[Matrix, str]:
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
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch):
            some = list(texts[start : start + batch])
            asked = tokenizer(some, padding=True, truncation=True, return_tensors="pt").to(device)
            hidden = encoder(**asked).last_hidden_state.float()
            seen = asked["attention_mask"].unsqueeze(-1)
            vectors.append(((hidden * seen).sum(1) / seen.sum(1).clamp(min=1)).cpu().numpy())
    return unit_rows(np.concatenate(vectors)), str(
        getattr(encoder.config, "_commit_hash", "") or ""
    )


def _fitted(model: Any, documents: Sequence[str]) -> Any:
    try:
        return model.fit_transform(documents)
    except ValueError as error:
        raise ArasError(
            f"the proxy captions have no words to search ({error}); name another --proxy"
        ) from error


def _sparse(matrix: Any) -> Matrix:
    """CSR of float32, terms of a row in order: how `builder.retrieval.ranks` multiplies words."""
    from scipy.sparse import csr_array

    sparse: Any = csr_array(matrix, dtype=np.float32)
    sparse.sort_indices()
    return sparse  # type: ignore[no-any-return]
