"""Vectors of images and captions: transformers CLIP or SigLIP, a function of yours, files."""

import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.bench.embeddings import Embeddings, Files, check_pair, unit
from builder.bench.embeddings import load as load_vectors
from builder.bench.gallery import Gallery, Texts, pictures
from builder.bench.ranks import Array
from builder.errors import ArasError
from builder.files import atomic, digest_of, hash_file, sweep
from builder.pictures import Pixels, decode_png
from builder.release.layout import read_manifest

BATCH = 64


@dataclass(frozen=True)
class Encoder:
    """Two functions to vectors (n, d), and what tells this model from all others.

    ``images`` takes (h, w, 3) uint8 arrays, ``texts`` strings. ``identity`` is None where the
    content cannot be known; such vectors are never cached.
    """

    name: str
    images: Callable[[Sequence[Pixels]], Array]
    texts: Callable[[Sequence[str]], Array]
    identity: str | None
    facts: dict[str, Any]


def transformers_model(name: str, device: str = "cpu") -> Encoder:
    """A CLIP or SigLIP by folder or by name on the Hugging Face Hub.

    Raises ArasError when there is no such model, or it has no image and text features.
    """
    import torch

    from builder.models import clip, openclip

    dual = clip.pretrained(name)
    dual.model.to(device).eval()

    @torch.inference_mode()
    def images(arrays: Sequence[Pixels]) -> Array:
        ready = dual.processor(images=list(arrays), return_tensors="pt")["pixel_values"]
        return np.asarray(dual.image_vectors(ready.to(device)).cpu().numpy())

    @torch.inference_mode()
    def texts(strings: Sequence[str]) -> Array:
        ids = {key: one.to(device) for key, one in dual.ids(strings).items()}
        return np.asarray(dual.text_vectors(ids).cpu().numpy())

    known = clip.identity(name, dual.model)
    facts: dict[str, Any] = {"architecture": type(dual.model).__name__, "max_tokens": dual.tokens}
    facts["image_size"] = dual.size
    if Path(name).is_dir():
        facts |= {"source": "folder", "sha256": known}
    elif openclip.names(name):
        facts |= {"source": "openclip", "sha256": known}
    else:
        facts |= {"source": "hub", "revision": getattr(dual.model.config, "_commit_hash", None)}
    return Encoder(name, images, texts, known, facts)


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
        raise ArasError(f"model {spec}: {error}; wanted is package:function") from error
    made = _told(spec, maker)
    if not (isinstance(made, tuple) and len(made) == 2 and all(callable(one) for one in made)):
        raise ArasError(
            f"model {spec}: returned {type(made).__name__}; wanted are two functions, one from "
            "a list of images and one from a list of texts to vectors"
        )
    images, texts = (functools.partial(_told, spec, one) for one in made)
    return Encoder(spec, images, texts, None, {"source": "function"})


def _told(spec: str, function: Callable[..., Any], *items: Any) -> Any:
    """What a user's function returns. Raises ArasError that names the model and the line."""
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
) -> tuple[Array, Array, list[str]]:
    """Unit vectors of the gallery's images (N, d) and of ``texts`` (M, d), and notes.

    With a ``cache`` folder they are kept under a digest of the model's content, the pictures' and
    the texts', and read back when all three are the same. Raises ArasError naming the row for
    vectors of a wrong number, NaN or no length.
    """

    def pictures_now() -> Array:
        made: Array | None = None
        for where, data in pictures(gallery.release, gallery.ids, gallery.split, batch):
            arrays = [decode_png(one, gallery.ids[i]) for one, i in zip(data, where, strict=True)]
            part = _counted(encoder.images(arrays), len(arrays), encoder.name, "images")
            made = np.empty((len(gallery), part.shape[1]), np.float32) if made is None else made
            made[where] = part
            advance(len(arrays))
        assert made is not None
        return made

    def texts_now() -> Array:
        made = []
        for start in range(0, len(texts), batch):
            some = texts[start : start + batch]
            made.append(_counted(encoder.texts(some), len(some), encoder.name, "texts"))
            advance(len(some))
        return np.concatenate(made).astype(np.float32)

    pixels = [gallery.facts["content_sha256"], gallery.split, gallery.facts["ids_sha256"]]
    notes = []
    pair = []
    for what, content, make in (
        ("images", pixels, pictures_now),
        ("texts", list(texts), texts_now),
    ):
        raw = _cached(cache, encoder.identity, [what, content], make)
        vectors, note = unit(raw, f"{encoder.name}, {what}")
        notes += [note] if note else []
        pair.append(Embeddings(f"{encoder.name}, {what}", vectors))
    check_pair(*pair)
    return pair[0].vectors, pair[1].vectors, notes


def from_files(
    images: Path, texts: Path, gallery: Gallery, asked: Texts
) -> tuple[Array, Array, dict[str, Any], list[str]]:
    """Vectors that somebody computed, in the gallery's order, with digests of the files.

    Parquet of id and vector: matched by id (texts: row id # stream); ids of streams that are not
    asked for may stand there too. .npy: as many rows as there are images and texts, in their
    order. Raises ArasError for missing and for unknown ids, and for one file of either format.
    """
    if (images.suffix == ".parquet") != (texts.suffix == ".parquet"):
        raise ArasError(
            f"{images} and {texts}: one is matched by id and the other by its order; give both as "
            "Parquet with columns id and vector, or both as .npy"
        )
    ours, theirs, notes = _in_order(images, texts, gallery, asked)
    files = {
        what: {"file": path.name, **hash_file(path, "sha256")}
        for what, path in (("images", images), ("texts", texts))
    }
    return ours, theirs, {"source": "files", "vectors": files}, notes


def _in_order(
    images: Files, texts: Files, gallery: Gallery, asked: Texts
) -> tuple[Array, Array, list[str]]:
    pair, notes = [], []
    known = {f"{one}#{name}" for one in gallery.ids for name in gallery.streams}
    for what, path, wanted, allowed in (
        ("images", images, gallery.ids, set(gallery.ids)),
        ("texts", texts, asked.ids, known),
    ):
        found = load_vectors(path, what)
        notes += [found.note] if found.note else []
        vectors, name = found.vectors, found.name
        if found.ids is None:
            if len(found) != len(wanted):
                raise ArasError(
                    f"{name} has {len(found)} rows, the release has {len(wanted)} {what} to ask "
                    "about; Parquet with columns id and vector says which is which"
                )
        else:
            place = {one: i for i, one in enumerate(found.ids)}
            _none_of(set(wanted) - place.keys(), name, f"has no vector of these {what}")
            _none_of(place.keys() - allowed, name, f"has ids that are no {what} of the split")
            vectors = vectors[[place[one] for one in wanted]]
        pair.append(Embeddings(name, vectors))
    check_pair(*pair)
    return pair[0].vectors, pair[1].vectors, notes


def from_release(gallery: Gallery, asked: Texts) -> tuple[Array, Array, dict[str, Any], list[str]]:
    """The vectors of a release's own config embeddings, in the gallery's order.

    Raises ArasError for a release that has none of this split.
    """
    manifest = read_manifest(gallery.release)
    held = manifest["configs"].get("embeddings", {})
    if gallery.split not in held:
        raise ArasError(
            f"{gallery.release}: holds no embeddings of split {gallery.split}; [bench] embeddings "
            "in the recipe packages them"
        )
    paths = [gallery.release / name for name in held[gallery.split]["files"]]
    images, texts, notes = _in_order(paths, paths, gallery, asked)
    files = [{"file": path.name, **hash_file(path, "sha256")} for path in paths]
    facts = {"source": "release", "files": files, **manifest["facts"]["embeddings"]}
    return images, texts, facts, notes


def _none_of(ids: set[str], name: str, what: str) -> None:
    if ids:
        more = f" (and {len(ids) - 3:,} more)" if len(ids) > 3 else ""
        raise ArasError(f"{name}: {what}: {', '.join(sorted(ids)[:3])}{more}")


def _counted(vectors: Any, rows: int, name: str, what: str) -> Array:
    array = np.asarray(vectors)
    if array.ndim != 2 or len(array) != rows or array.dtype.kind != "f":
        raise ArasError(
            f"model {name}: {rows} {what} gave {array.dtype} of shape {array.shape}; "
            f"wanted are floats ({rows}, d)"
        )
    return array


def _cached(cache: Path | None, identity: str | None, content: Any, make: Any) -> Array:
    if cache is None or identity is None:
        return np.asarray(make())
    path = cache / f"{digest_of([identity, content])}.npy"
    if not path.exists():
        made = make()
        sweep(cache)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, made)
    return np.asarray(np.load(path, mmap_mode="c"))
