"""Embeddings from files, checked row by row, and the owner of each text."""

import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of, sha256_file, sweep
from builder.core.manifest import read_manifest
from builder.land.pictures import decode_png
from builder.models.encoders import Encoder
from builder.retrieval.baselines import VectorFacts, Vectors
from builder.retrieval.gallery import Gallery, Texts, pictures
from builder.retrieval.ranks import Array, Ints
from builder.retrieval.result import VectorFile

UNIT = 1e-5
"""Lengths this near to 1 count as 1."""

_CHUNK = 1 << 12
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Embeddings:
    """Vectors of unit length, (N, d) float32 in memory or mapped; ids where the file has them."""

    name: str
    vectors: Array
    ids: tuple[str, ...] | None = None
    note: str = ""
    """What was done to the rows, for the user; empty when nothing was."""

    def __len__(self) -> int:
        return len(self.vectors)


Files = Path | Sequence[Path]
"""One file, or several Parquet files whose rows follow each other."""


def load(path: Files, part: str = "") -> Embeddings:
    """Read a .npy matrix (N, d) of floats, or Parquet of ``id`` and ``vector`` in one file or more.

    A file of a release's config embeddings holds images and captions: ``part`` images takes the
    rows without an ``owner``, texts the others.
    A float32 matrix of unit rows stays a memory map; anything else becomes float32 rows of unit
    length in memory, and ``note`` says so. Raises ArasError naming the row for NaN, infinity and
    zero vectors, ragged rows and repeated ids.
    """
    paths, name = _listed(path)
    if paths[0].suffix == ".parquet":
        ids, raw = _read_parquet(paths, name, part)
    else:
        ids, raw = None, _open_npy(paths[0])
        if raw.ndim != 2 or 0 in raw.shape:
            raise ArasError(
                f"{name}: an array of shape {raw.shape}; expected one row per vector, (N, d)"
            )
        if raw.dtype.name not in _FLOATS:
            raise ArasError(f"{name}: holds {raw.dtype}; expected {', '.join(_FLOATS)}")
    vectors, note = unit(raw, name)
    return Embeddings(name, vectors, ids, note)


def unit(raw: Array, name: str) -> tuple[Array, str]:
    """``raw`` (N, d) itself if float32 with unit rows, else a normalised copy, and what was done.

    Raises ArasError for a row that holds NaN or infinity, or has no length.
    """
    length = np.empty(len(raw))
    for start in range(0, len(raw), _CHUNK):
        rows = np.asarray(raw[start : start + _CHUNK], dtype=np.float64)
        length[start : start + len(rows)] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    _refuse(~np.isfinite(length), name, "holds NaN or infinity")
    _refuse(length < 1e-12, name, "is a zero vector, which has no direction")
    off = bool(np.abs(length - 1).max() > UNIT)
    if raw.dtype == np.float32 and not off:
        return raw, ""
    vectors = np.empty(raw.shape, dtype=np.float32)
    for start in range(0, len(raw), _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors[part] = raw[part] / length[part, None] if off else raw[part]
    if not off:
        return vectors, ""
    return vectors, (
        f"{name}: rows are not of unit length ({length.min():.4g} … {length.max():.4g}); normalised"
    )


def check_pair(images: Embeddings, texts: Embeddings) -> None:
    """Raise ArasError unless both have vectors of the same length."""
    ours, theirs = images.vectors.shape[1], texts.vectors.shape[1]
    if ours != theirs:
        raise ArasError(
            f"{images.name} has vectors of {ours} numbers, {texts.name} of {theirs}: "
            "both must come from one model's shared space"
        )


def load_owner(path: Files, images: Embeddings, texts: Embeddings) -> Ints:
    """Image row of each text, (M,) int64.

    From .npy: integers, one per text. From Parquet: columns ``id`` (of a text) and ``owner`` (id
    of its image), matched by id. Raises ArasError for a wrong number of rows, an owner that is
    not an image, ids that are missing, unknown or repeated, and an image without a text; and for
    a mixture of both formats, as row numbers say nothing of rows that have ids.
    """
    owner: Array
    paths, name = _listed(path)
    if paths[0].suffix == ".parquet":
        owner = _match(paths, name, images, texts)
    else:
        for embeddings in (images, texts):
            if embeddings.ids is not None:
                raise ArasError(
                    f"{name} names owners by row, but the rows of {embeddings.name} have ids: "
                    "give all three as Parquet or all three as .npy"
                )
        owner = _open_npy(paths[0])
        if owner.ndim != 1 or owner.dtype.kind not in "iu":
            raise ArasError(
                f"{name}: {owner.dtype} of shape {owner.shape}; "
                "expected (M,) integers, the image row of each text"
            )
        if len(owner) != len(texts):
            raise ArasError(
                f"{name} has {len(owner)} rows, {texts.name} has {len(texts)}: one owner per text"
            )
    bad = np.flatnonzero((owner < 0) | (owner >= len(images)))
    if len(bad):
        raise ArasError(
            f"{name}: row {bad[0]} is {owner[bad[0]]}, but {images.name} has rows "
            f"0 … {len(images) - 1}{_more(len(bad))}"
        )
    texts_of = np.bincount(owner.astype(np.int64), minlength=len(images))
    _refuse(texts_of == 0, images.name, f"has no text in {name}: leave it out or add its texts")
    return owner.astype(np.int64)


def _match(
    paths: Sequence[Path], name: str, images: Embeddings, texts: Embeddings
) -> npt.NDArray[np.int64]:
    for embeddings in (images, texts):
        if embeddings.ids is None:
            raise ArasError(
                f"{name} names owners by id, but {embeddings.name} has no ids: "
                "give all three as Parquet or all three as .npy"
            )
    listed: list[str] = []
    owners: list[str] = []
    for path in paths:
        table = _columns(path, ("id", "owner"), "")
        table = table.filter(pc.is_valid(table["owner"]))
        listed += table["id"].cast(pa.string()).to_pylist()
        owners += table["owner"].cast(pa.string()).to_pylist()
    _unique(listed, name)
    owner_of = dict(zip(listed, owners, strict=True))
    known = texts.ids or ()
    _same(set(known) - set(listed), f"{texts.name} has ids that {name} lacks")
    _same(set(listed) - set(known), f"{name} lists ids that {texts.name} lacks")
    row = {id_: number for number, id_ in enumerate(images.ids or ())}
    _same({str(o) for o in owners} - row.keys(), f"{name} names owners that {images.name} lacks")
    return np.array([row[owner_of[id_]] for id_ in known], dtype=np.int64)


def _same(difference: set[str], what: str) -> None:
    if difference:
        some = sorted(difference)[:3]
        raise ArasError(f"{what}: {', '.join(some)}{_more(len(difference), len(some))}")


def _read_parquet(paths: Sequence[Path], name: str, part: str) -> tuple[tuple[str, ...], Array]:
    ids: list[str] = []
    parts: dict[Path, Array] = {}
    for path in paths:  # each in its own types: float16 beside float32, lists beside fixed sizes
        table = _columns(path, ("id", "vector"), "owner" if part else "")
        if "owner" in table.column_names:
            is_text = pc.is_valid(table["owner"])
            table = table.filter(is_text if part == "texts" else pc.invert(is_text))
        if table.num_rows:
            ids += table["id"].cast(pa.string()).to_pylist()
            parts[path] = _vectors(table["vector"].combine_chunks(), str(path))
    _unique(ids, name)
    if not ids:
        raise ArasError(f"{name}: no rows")
    first, *others = parts
    for path in others:
        if parts[path].shape[1] != parts[first].shape[1]:
            raise ArasError(
                f"{path}: has vectors of {parts[path].shape[1]} numbers, {first} of "
                f"{parts[first].shape[1]}"
            )
    if not others:  # no copy of what may be large
        return tuple(ids), parts[first]
    return tuple(ids), np.concatenate([*parts.values()], dtype=np.result_type(*parts.values()))


def _vectors(column: pa.Array, name: str) -> Array:
    """Lists of n floats, of any list type → (n, d). Raises ArasError naming the row."""
    if not pa.types.is_nested(column.type) or not pa.types.is_floating(column.type.value_type):
        raise ArasError(f"{name}: column vector is {column.type}; expected lists of floats")
    _refuse(column.is_null().to_numpy(zero_copy_only=False), name, "has no vector")
    values = column.flatten()
    lengths = column.value_lengths().to_numpy() if hasattr(column, "value_lengths") else None
    width = int(lengths[0]) if lengths is not None else column.type.list_size
    if lengths is not None:
        _refuse(lengths != width, name, f"has a vector of another length than row 0's {width}")
    if not width:
        raise ArasError(f"{name}: row 0 has an empty vector")
    # A null number inside a vector reads as NaN, and is refused as such.
    # Copied, because torch wants arrays that it may believe writable.
    return np.array(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)


def _columns(path: Path, columns: Sequence[str], also: str) -> pa.Table:
    try:
        present = pq.read_schema(path).names
        missing = [name for name in columns if name not in present]
        if missing:
            raise ArasError(
                f"{path}: no column {', '.join(missing)}; expected {' and '.join(columns)}, "
                f"it has {', '.join(present)}"
            )
        return pq.read_table(path, columns=[*columns, *({also} & set(present))])
    except (OSError, pa.ArrowInvalid) as error:
        raise ArasError(f"{path}: not a readable Parquet file: {error}") from error


def _open_npy(path: Path) -> Array:
    try:
        # Copy-on-write, never written to: torch wants arrays that it may believe writable.
        array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError as error:
        raise ArasError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        # numpy takes anything that is not an array for a pickle, and advises to trust it.
        why = "expected .npy or .parquet" if "pickle" in str(error) else error
        raise ArasError(f"{path}: not a readable .npy array of numbers: {why}") from error
    if not isinstance(array, np.ndarray):
        raise ArasError(f"{path}: an archive of arrays; expected one array in a .npy file")
    return array


def _listed(path: Files) -> tuple[list[Path], str]:
    """The files, and what messages call them. Raises ArasError for several that are not Parquet."""
    paths = [path] if isinstance(path, Path) else list(path)
    if len(paths) == 1:
        return paths, str(paths[0])
    other = [item for item in paths if item.suffix != ".parquet"]
    if other:
        raise ArasError(f"{other[0]}: several files must be Parquet, which says what each row is")
    return paths, f"{paths[0]} … {paths[-1].name} ({len(paths)} files)"


def _unique(ids: Sequence[str | None], name: str) -> None:
    seen: dict[str | None, int] = {}
    for row, id_ in enumerate(ids):
        if id_ is None:
            raise ArasError(f"{name}: row {row} has no id")
        if id_ in seen:
            raise ArasError(f"{name}: id {id_} is in row {seen[id_]} and again in row {row}")
        seen[id_] = row


def _refuse(bad: npt.NDArray[np.bool_], name: str, what: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise ArasError(f"{name}: row {rows[0]} {what}{_more(len(rows))}")


def _more(count: int, shown: int = 1) -> str:
    return f" (and {count - shown} more)" if count > shown else ""


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
        for where, data in pictures(gallery.release, gallery.ids, gallery.split, batch):
            arrays = [decode_png(png, gallery.ids[i]) for png, i in zip(data, where, strict=True)]
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

    pixels = [gallery.facts.content_sha256, gallery.split, gallery.facts.ids_sha256]
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
    known = {f"{id_}#{name}" for id_ in gallery.ids for name in gallery.streams}
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
