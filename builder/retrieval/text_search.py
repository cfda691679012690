"""Baselines that search the captions of another stream in the images' place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.retrieval.blind import unit_rows

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
