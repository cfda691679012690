"""Embeddings from files, checked row by row, and the owner of each text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.bench.ranks import Array, Ints
from builder.errors import ArasError

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
    """Raise ArasError unless both have vectors of one length."""
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
    no image, ids that are missing, unknown or repeated, and an image without a text; and for a
    mixture of both formats, as row numbers say nothing of rows that have ids.
    """
    owner: Array
    paths, name = _listed(path)
    if paths[0].suffix == ".parquet":
        owner = _match(paths, name, images, texts)
    else:
        for one in (images, texts):
            if one.ids is not None:
                raise ArasError(
                    f"{name} names owners by row, but the rows of {one.name} have ids: "
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
    for one in (images, texts):
        if one.ids is None:
            raise ArasError(
                f"{name} names owners by id, but {one.name} has no ids: "
                "give all three as Parquet or all three as .npy"
            )
    table = _table(paths, "id", "owner")
    table = table.filter(pc.is_valid(table["owner"]))
    listed = table["id"].cast(pa.string()).to_pylist()
    owners = table["owner"].cast(pa.string()).to_pylist()
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
    table = _table(paths, "id", "vector", also="owner" if part else "")
    if "owner" in table.column_names:
        is_text = pc.is_valid(table["owner"])
        table = table.filter(is_text if part == "texts" else pc.invert(is_text))
    ids = table["id"].cast(pa.string()).to_pylist()
    _unique(ids, name)
    column = table["vector"].combine_chunks()
    if not pa.types.is_nested(column.type) or not pa.types.is_floating(column.type.value_type):
        raise ArasError(f"{name}: column vector is {column.type}; expected lists of floats")
    _refuse(column.is_null().to_numpy(zero_copy_only=False), name, "has no vector")
    if not len(ids):
        raise ArasError(f"{name}: no rows")
    values = column.flatten()
    lengths = column.value_lengths().to_numpy() if hasattr(column, "value_lengths") else None
    width = int(lengths[0]) if lengths is not None else column.type.list_size
    if lengths is not None:
        _refuse(lengths != width, name, f"has a vector of another length than row 0's {width}")
    if not width:
        raise ArasError(f"{name}: row 0 has an empty vector")
    # A null number inside a vector reads as NaN, and is refused as such.
    # Copied, because torch wants arrays that it may believe writable.
    return tuple(ids), np.array(values.to_numpy(zero_copy_only=False)).reshape(len(ids), width)


def _table(paths: Sequence[Path], *columns: str, also: str = "") -> pa.Table:
    """Some columns of files, one after the other, and one more where it is there."""
    return pa.concat_tables([_columns(path, columns, also) for path in paths])


def _columns(path: Path, columns: Sequence[str], also: str) -> pa.Table:
    try:
        present = pq.read_schema(path).names
        missing = [name for name in columns if name not in present]
        if missing:
            raise ArasError(
                f"{path}: no column {', '.join(missing)}; expected {' and '.join(columns)}, "
                f"found {', '.join(present)}"
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
        # What is no array at all numpy takes for a pickle, and advises to trust it.
        why = "wanted is .npy or .parquet" if "pickle" in str(error) else error
        raise ArasError(f"{path}: not a readable .npy array of numbers: {why}") from error
    if not isinstance(array, np.ndarray):
        raise ArasError(f"{path}: an archive of arrays; expected one array in a .npy file")
    return array


def _listed(path: Files) -> tuple[list[Path], str]:
    """The files, and what messages call them. Raises ArasError for several that are not Parquet."""
    paths = [path] if isinstance(path, Path) else list(path)
    if len(paths) == 1:
        return paths, str(paths[0])
    other = [one for one in paths if one.suffix != ".parquet"]
    if other:
        raise ArasError(f"{other[0]}: several files must be Parquet, which says what each row is")
    return paths, f"{paths[0]} … {paths[-1].name} ({len(paths)} files)"


def _unique(ids: list[str | None], name: str) -> None:
    seen: dict[str | None, int] = {}
    for row, id_ in enumerate(ids):
        if id_ is None:
            raise ArasError(f"{name}: row {row} has no id")
        if id_ in seen:
            raise ArasError(f"{name}: id {id_} stands in row {seen[id_]} and again in row {row}")
        seen[id_] = row


def _refuse(bad: npt.NDArray[np.bool_], name: str, what: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise ArasError(f"{name}: row {rows[0]} {what}{_more(len(rows))}")


def _more(count: int, shown: int = 1) -> str:
    return f" (and {count - shown} more)" if count > shown else ""
