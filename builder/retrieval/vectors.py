"""Vectors of a model, encoded here or read from files, in the order of a gallery."""

import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of, sha256_file, sweep
from builder.core.manifest import read_manifest
from builder.models.encoders import Encoder
from builder.retrieval.baselines import VectorFacts, Vectors
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.ranks import Array
from builder.retrieval.result import VectorFile
from builder.retrieval.vector_files import Embeddings, Files, check_pair, load, unit

BATCH = 64


def function_model(spec: str) -> Encoder:
    """``package:function``: a function that returns two functions, (images, texts) → vectors.

    ``images`` gets a list of (h, w, 3) uint8 arrays and ``texts`` a list of strings; each returns
    (n, d) floats. The current directory is searched as well. Raises ArasError naming what is
    missing.
    """
    package, _, name = spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        maker = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise ArasError(f"model {spec}: {error}; expected package:function") from error
    functions = _call(spec, maker)
    if not (isinstance(functions, tuple) and len(functions) == 2 and all(map(callable, functions))):
        raise ArasError(
            f"model {spec}: returned {type(functions).__name__}; expected two functions, from a "
            "list of images and from a list of texts to vectors"
        )
    images, texts = (functools.partial(_call, spec, function) for function in functions)
    return Encoder(spec, images, texts, None, {"source": "function"})


def _call(spec: str, function: Callable[..., Any], *items: Any) -> Any:
    """Call a user's function. Raises ArasError that names the model and the line."""
    try:
        return function(*items)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        raise ArasError(
            f"--model {spec}: {type(error).__name__}: {error} ({line.filename}, line "
            f"{line.lineno}, in {line.name})"
        ) from error


def encode(
    encoder: Encoder,
    gallery: Gallery,
    texts: Sequence[str],
    cache: Path | None = None,
    batch: int = BATCH,
    advance: Callable[[float], None] = lambda n: None,
) -> Vectors:
    """Unit vectors of the gallery's images (N, d) and of ``texts`` (M, d).

    With a ``cache`` folder they are kept under a digest of the model's content, the pictures' and
    the texts', and read back when all three are the same. Raises ArasError naming the row for
    vectors of a wrong number, NaN or no length.
    """

    def pictures_now() -> Array:
        vectors: Array | None = None
        for where, arrays in gallery.pictures(batch):
            part = _counted(encoder.images(arrays), len(arrays), encoder.name, "images")
            if vectors is None:
                vectors = np.empty((len(gallery), part.shape[1]), np.float32)
            vectors[where] = part
            advance(len(arrays))
        assert vectors is not None
        return vectors

    def texts_now() -> Array:
        parts = []
        for start in range(0, len(texts), batch):
            some = texts[start : start + batch]
            parts.append(_counted(encoder.texts(some), len(some), encoder.name, "texts"))
            advance(len(some))
        return np.concatenate(parts).astype(np.float32)

    notes = []
    pair = []
    for what, content, make in (
        ("images", gallery.pictures_key, pictures_now),
        ("texts", list(texts), texts_now),
    ):
        raw = _cached(cache, encoder.identity, [what, content], make)
        vectors, note = unit(raw, f"{encoder.name}, {what}")
        notes += [note] if note else []
        pair.append(Embeddings(f"{encoder.name}, {what}", vectors))
    check_pair(*pair)
    return Vectors(pair[0].vectors, pair[1].vectors, cast(VectorFacts, encoder.facts), notes)


def from_files(images: Path, texts: Path, gallery: Gallery, asked: Texts) -> Vectors:
    """Vectors computed elsewhere, in the gallery's order, with digests of the files.

    Parquet of id and vector: matched by id (texts: row id # stream); ids of streams that are not
    asked for may be there too. .npy: as many rows as there are images and texts, in their
    order. Raises ArasError for missing and for unknown ids, and for files of two formats.
    """
    if (images.suffix == ".parquet") != (texts.suffix == ".parquet"):
        raise ArasError(
            f"{images} and {texts}: one is matched by id and the other by its order; give both as "
            "Parquet with columns id and vector, or both as .npy"
        )
    vectors = {"images": vector_file(images), "texts": vector_file(texts)}
    facts: VectorFacts = {"source": "files", "vectors": vectors}
    return replace(_in_order(images, texts, gallery, asked), facts=facts)


def vector_file(path: Path) -> VectorFile:
    return VectorFile(file=path.name, sha256=sha256_file(path))


def _in_order(images: Files, texts: Files, gallery: Gallery, asked: Texts) -> Vectors:
    pair, notes = [], []
    known = {f"{id_}#{name}" for id_ in gallery.ids for name in gallery.streams} | set(asked.ids)
    for what, path, wanted, allowed in (
        ("images", images, gallery.ids, set(gallery.ids)),
        ("texts", texts, asked.ids, known),
    ):
        embeddings = load(path, what)
        notes += [embeddings.note] if embeddings.note else []
        vectors, name = embeddings.vectors, embeddings.name
        if embeddings.ids is None:
            if len(embeddings) != len(wanted):
                raise ArasError(
                    f"{name} has {len(embeddings)} rows, the release has {len(wanted)} {what} to "
                    "ask about; Parquet with columns id and vector says which is which"
                )
        else:
            position = {id_: i for i, id_ in enumerate(embeddings.ids)}
            _none_of(set(wanted) - position.keys(), name, f"has no vector of these {what}")
            _none_of(position.keys() - allowed, name, f"has ids that are not {what} of the split")
            vectors = vectors[[position[id_] for id_ in wanted]]
        pair.append(Embeddings(name, vectors))
    check_pair(*pair)
    return Vectors(pair[0].vectors, pair[1].vectors, notes=notes)


def from_release(gallery: Gallery, asked: Texts) -> Vectors:
    """The vectors of a release's own config embeddings, in the gallery's order.

    Raises ArasError for a release that has none of this split.
    """
    manifest = read_manifest(gallery.release)
    names = manifest.split_files("embeddings", gallery.split)
    if not names or manifest.facts.embeddings is None:
        raise ArasError(
            f"{gallery.release}: no embeddings of split {gallery.split}; [bench] embeddings in the "
            "recipe packages them"
        )
    paths = [gallery.release / name for name in names]
    files = tuple(vector_file(path) for path in paths)
    model = manifest.facts.embeddings
    facts: VectorFacts = {"source": "release", "files": files, "model": model.model}
    if "revision" in model.model_fields_set:
        facts["revision"] = model.revision
    return replace(_in_order(paths, paths, gallery, asked), facts=facts)


def _none_of(ids: set[str], name: str, what: str) -> None:
    if ids:
        more = f" (and {len(ids) - 3:,} more)" if len(ids) > 3 else ""
        raise ArasError(f"{name}: {what}: {', '.join(sorted(ids)[:3])}{more}")


def _counted(vectors: Any, rows: int, name: str, what: str) -> Array:
    array = np.asarray(vectors)
    if array.ndim != 2 or len(array) != rows or array.dtype.kind != "f":
        raise ArasError(
            f"model {name}: {rows} {what} gave {array.dtype} of shape {array.shape}; "
            f"expected floats ({rows}, d)"
        )
    return array


def _cached(cache: Path | None, identity: str | None, content: Any, make: Any) -> Array:
    if cache is None or identity is None:
        return np.asarray(make())
    path = cache / f"{digest_of([identity, content])}.npy"
    if not path.exists():
        array = make()
        sweep(cache)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    return np.asarray(np.load(path, mmap_mode="c"))
