"""What answers the queries of a retrieval benchmark: baselines, models, files of vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.models import encoders, openclip
from builder.retrieval import baselines, vectors
from builder.retrieval.baselines import number_vectors
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.ranks import Array

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Model:
    """What answers the queries.

    ``spec``: random, composition, numbers, bm25, tfidf, sentence:NAME (these three search the
    ``proxy`` stream's captions in the images' place), embeddings (the release's own), files (with
    ``images`` and ``texts``), package:function, a transformers CLIP or SigLIP by folder or
    name, or OpenCLIP weights by `openclip.ALIASES` or as openclip:FILE.
    """

    spec: str
    proxy: str | None = None
    images: Path | None = None
    texts: Path | None = None

    @property
    def is_proxy(self) -> bool:
        return self.spec in ("bm25", "tfidf") or self.spec.startswith("sentence:")

    @property
    def label(self) -> str:
        if self.spec == "files" and self.images:
            return f"files {self.images.name}"
        if self.spec.startswith(openclip.PREFIX):
            return Path(self.spec).name
        kind, colon, name = self.spec.rpartition(":")
        name = Path(name).resolve().name if Path(name).is_dir() else name
        shown = f"{kind}{colon}{name}"
        return f"{shown} on {self.proxy}" if self.is_proxy else shown


@dataclass(frozen=True)
class Settings:
    """What figures depend on beside model and rows."""

    seed: int = 0
    resamples: int = 2_000
    queries: int = 5_000
    batch: int = vectors.BATCH
    device: str = "cpu"
    cache: Path | None = None


def vectors_of(
    rows: Gallery,
    model: Model,
    asked: Texts,
    extra: Sequence[str],
    settings: Settings,
    advance: Advance,
) -> tuple[Array, Array, dict[str, Any], list[str]]:
    """(N, d), (M, d) or (M + extra, d) where the model reads text, facts and notes."""
    queries = [*asked.texts, *extra]
    if model.spec == "random":
        images = baselines.random_vectors(rows.ids, settings.seed)
        return images, baselines.random_vectors(asked.ids, settings.seed), _BUNDLED, []
    if model.spec == "composition":
        images = baselines.composition_vectors(rows.shares)
        return images, images[asked.owner], _BUNDLED, []
    if model.spec == "numbers":
        return *number_vectors(rows.shares, queries), _BUNDLED, []
    if model.is_proxy:
        captions = rows.streams[str(model.proxy)]
        documents = [text or "" for text in captions]
        missing = sum(text is None for text in captions)
        notes = [f"{missing} images have no {model.proxy} caption"] if missing else []
        if model.spec in ("bm25", "tfidf"):
            method = baselines.bm25 if model.spec == "bm25" else baselines.tf_idf
            return (
                *method(documents, queries),
                {**_BUNDLED, "terms_at_most": baselines.TERMS},
                notes,
            )
        name = model.spec.partition(":")[2]
        both, revision = baselines.sentences(
            name, [*documents, *queries], settings.device, settings.batch
        )
        n = len(documents)
        return both[:n], both[n:], {"source": "transformers", "revision": revision}, notes
    if model.spec == "files":
        if model.images is None or model.texts is None:
            raise ArasError("--model files needs --images FILE and --texts FILE")
        return vectors.from_files(model.images, model.texts, rows, asked)
    if model.spec == "embeddings":
        return vectors.from_release(rows, asked)
    named = openclip.names(model.spec)
    if ":" in model.spec and not named and not Path(model.spec).exists():
        encoder = vectors.function_model(model.spec)
    else:
        encoder = encoders.transformers_model(model.spec, settings.device)
    images, texts, notes = vectors.encode(
        encoder, rows, queries, settings.cache, settings.batch, advance
    )
    return images, texts, encoder.facts, notes


_BUNDLED: dict[str, Any] = {"source": "bundled"}
