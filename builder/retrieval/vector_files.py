"""Embeddings and the owners of texts from files, checked row by row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError, blame_memory
from builder.core.files import no_such_file
from builder.retrieval.ranks import Array, Ints

if TYPE_CHECKING:
    import pyarrow as pa

UNIT = 1e-5
"""Lengths this near to 1 count as 1."""

_CHUNK = 1 << 12
_ROWS = 1 << 13
"""Rows of Parquet that are read at once."""
_NONE = 1e-12
"""A shorter vector has no direction."""
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
        return _read_parquet(paths, name, part)
    raw = _open_npy(paths[0])
    if raw.ndim != 2 or 0 in raw.shape:
        raise ArasError(
            f"{name}: an array of shape {raw.shape}; expected one row per vector, (N, d)"
        )
    if raw.dtype.name not in _FLOATS:
        raise ArasError(f"{name}: holds {raw.dtype}; expected {', '.join(_FLOATS)}")
    vectors, note = unit(raw, name)
    return Embeddings(name, vectors, None, note)


def unit(raw: Array, name: str) -> tuple[Array, str]:
    """``raw`` (N, d) itself if float32 with unit rows, else a normalised copy, and what was done.

    Raises ArasError for a row that holds NaN or infinity, or has no length.
    """
    length = np.empty(len(raw))
    for start in range(0, len(raw), _CHUNK):
        length[start : start + _CHUNK] = _lengths(raw[start : start + _CHUNK])
    _refuse(~np.isfinite(length), name, "holds NaN or infinity")
    _refuse(length < _NONE, name, "is a zero vector, which has no direction")
    off = bool(np.abs(length - 1).max() > UNIT)
    if raw.dtype == np.float32 and not off:
        return raw, ""
    vectors = np.empty(raw.shape, dtype=np.float32)
    for start in range(0, len(raw), _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors[part] = raw[part] / length[part, None] if off else raw[part]
    return vectors, _normalised(name, length) if off else ""


def _lengths(rows: Array) -> npt.NDArray[np.float64]:
    wide = np.asarray(rows, dtype=np.float64)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", wide, wide)))


def _normalised(name: str, length: npt.NDArray[np.float64]) -> str:
    return (
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
    listed: list[str | None] = []
    owners: list[str | None] = []
    spans: list[tuple[str, int, Ints]] = []
    for path in paths:
        for start, batch in _batches(path, ("id", "owner"), ""):
            pair = [_texts(batch.column(column), str(path)) for column in ("id", "owner")]
            kept = [row for row, owner in enumerate(pair[1]) if owner is not None]
            spans.append((str(path), len(listed), np.array(kept, np.int64) + start))
            listed += [pair[0][row] for row in kept]
            owners += [pair[1][row] for row in kept]
    _unique(listed, spans)
    owner_of = {str(text): str(image) for text, image in zip(listed, owners, strict=True)}
    known = texts.ids or ()
    _same(set(known) - owner_of.keys(), f"{texts.name} has ids that {name} lacks")
    _same(owner_of.keys() - set(known), f"{name} lists ids that {texts.name} lacks")
    row = {id_: number for number, id_ in enumerate(images.ids or ())}
    owned = set(owner_of.values())
    _same(owned - row.keys(), f"{name} names owners that {images.name} lacks")
    return np.array([row[owner_of[id_]] for id_ in known], dtype=np.int64)


def _same(difference: set[str], what: str) -> None:
    if difference:
        some = sorted(difference)[:3]
        raise ArasError(f"{what}: {', '.join(some)}{_more(len(difference), len(some))}")


class _Rows:
    """Vectors of several files, put one after another into a single float32 array.

    Each batch is cast on its own, so files may hold floats and lists of different types, and no
    more than a batch lies in memory twice. Rows are made unit as `unit` makes them.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.vectors = np.empty((0, 0), np.float32)
        self.length = np.empty(most)
        self.as_read: list[slice] = []
        self.first = ""

    def add(self, values: Array, place: str, rows: Ints) -> None:
        """Append ``values`` (n, d), rows ``rows`` of the file ``place``."""
        length = _lengths(values)
        _refuse(~np.isfinite(length), place, "holds NaN or infinity", rows)
        _refuse(length < _NONE, place, "is a zero vector, which has no direction", rows)
        if not self.count:
            self.vectors, self.first = np.empty((self.most, values.shape[1]), np.float32), place
        if values.shape[1] != self.vectors.shape[1]:
            raise ArasError(
                f"{place}: has vectors of {values.shape[1]} numbers, {self.first} of "
                f"{self.vectors.shape[1]}"
            )
        part = slice(self.count, self.count + len(values))
        if np.abs(length - 1).max() > UNIT:
            self.vectors[part] = values / length[:, None]
        else:
            self.vectors[part] = values
            self.as_read.append(part)
        self.length[part] = length
        self.count += len(values)

    def finish(self, name: str) -> tuple[Array, str]:
        """(n, d) rows of unit length, and what was done to them."""
        length = self.length[: self.count]
        if np.abs(length - 1).max() <= UNIT:
            return self.vectors[: self.count], ""
        for part in self.as_read:
            self.vectors[part] /= length[part, None]
        return self.vectors[: self.count], _normalised(name, length)


def _read_parquet(paths: Sequence[Path], name: str, part: str) -> Embeddings:
    """Rows of the files with an ``owner`` (part texts), without (images), or all."""
    rows = _Rows(sum(_open(path).metadata.num_rows for path in paths))
    ids: list[str | None] = []
    spans: list[tuple[str, int, Ints]] = []
    for path in paths:
        place = str(path)
        for start, batch in _batches(path, ("id", "vector"), "owner" if part else ""):
            vectors, kept = batch.column("vector"), np.arange(batch.num_rows)
            names = _texts(batch.column("id"), place)
            if "owner" in batch.schema.names:
                owner = batch.column("owner")
                mine = owner.is_valid() if part == "texts" else owner.is_null()
                kept = np.flatnonzero(mine.to_numpy(zero_copy_only=False))
                vectors = vectors.filter(mine)
            if len(kept):
                spans.append((place, len(ids), kept + start))
                ids += [names[i] for i in kept]
                rows.add(_vectors(vectors, place, kept + start), place, kept + start)
    _unique(ids, spans)
    if not ids:
        raise ArasError(f"{name}: no rows")
    vectors, note = rows.finish(name)
    return Embeddings(name, vectors, tuple(map(str, ids)), note)


def _vectors(column: "pa.Array", name: str, rows: Ints) -> Array:
    """Lists of n floats, of any list type → (n, d). Raises ArasError naming the row."""
    import pyarrow as pa

    column = _plain(column)
    kind = column.type
    if not pa.types.is_nested(kind) or not pa.types.is_floating(getattr(kind, "value_type", None)):
        raise ArasError(f"{name}: column vector is {kind}; expected lists of floats")
    _refuse(column.is_null().to_numpy(zero_copy_only=False), name, "has no vector", rows)
    values = column.flatten()
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    else:
        lengths = column.value_lengths().to_numpy()
        width = int(lengths[0])
        other = f"has a vector of another length than row {rows[0]}'s {width}"
        _refuse(lengths != width, name, other, rows)
    if not width:
        raise ArasError(f"{name}: row {rows[0]} has an empty vector")
    # A null number inside a vector reads as NaN, and is refused as such.
    array: Array = values.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return array


def _plain(column: "pa.Array") -> "pa.Array":
    """Without dictionaries, and tensors as the lists that hold them."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _texts(column: "pa.Array", name: str) -> list[str | None]:
    """Ids of any type as texts."""
    import pyarrow as pa

    try:
        texts: list[str | None] = _plain(column).cast(pa.large_string()).to_pylist()
    except pa.ArrowException as error:
        raise ArasError(f"{name}: ids of type {column.type} are no texts: {error}") from error
    return texts


class _Parquet(Protocol):
    metadata: Any
    schema_arrow: Any

    def iter_batches(self, batch_size: int, columns: Sequence[str]) -> "Iterator[Any]": ...


@contextmanager
def _named(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (OSError, pa.ArrowException) as error:
        blame_memory(error)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArasError(f"{path}: not a readable Parquet file: {reason}") from error


def _open(path: Path) -> _Parquet:
    import pyarrow.parquet as pq

    with _named(path):
        file: _Parquet = pq.ParquetFile(path)
    return file


def _batches(path: Path, columns: Sequence[str], also: str) -> "Iterator[tuple[int, Any]]":
    """(first row, batch) of some columns, and of ``also`` where the file has it."""
    file = _open(path)
    present = file.schema_arrow.names
    missing = [name for name in columns if name not in present]
    if missing:
        raise ArasError(
            f"{path}: no column {', '.join(missing)}; expected {' and '.join(columns)}, "
            f"it has {', '.join(present)}"
        )
    start = 0
    batches = file.iter_batches(_ROWS, columns=[*columns, *({also} & set(present))])
    while True:
        with _named(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield start, batch
        start += batch.num_rows


def _open_npy(path: Path) -> Array:
    try:
        # Copy-on-write, never written to: torch wants arrays that it may believe writable.
        array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (OSError, ValueError, EOFError) as error:
        blame_memory(error)
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


def _unique(ids: Sequence[str | None], spans: Sequence[tuple[str, int, Ints]]) -> None:
    """Raise ArasError for a missing or repeated id; ``spans`` are (file, place of its first id,
    rows of the ids in the file)."""
    seen: dict[str | None, int] = {}
    for place, id_ in enumerate(ids):
        if id_ is None:
            file, row = _row_of(place, spans)
            raise ArasError(f"{file}: row {row} has no id")
        if id_ in seen:
            (file, row), (other, again) = (_row_of(n, spans) for n in (seen[id_], place))
            where = "" if other == file else f"{other}, "
            raise ArasError(f"{file}: id {id_} is in row {row} and again in {where}row {again}")
        seen[id_] = place


def _row_of(place: int, spans: Sequence[tuple[str, int, Ints]]) -> tuple[str, int]:
    file, first, rows = next(span for span in reversed(spans) if span[1] <= place)
    return file, int(rows[place - first])


def _refuse(bad: npt.NDArray[np.bool_], name: str, what: str, rows: Ints | None = None) -> None:
    """Raise ArasError naming the first bad row; ``rows`` are their numbers in the file."""
    places = np.flatnonzero(bad)
    if len(places):
        row = places[0] if rows is None else rows[places[0]]
        raise ArasError(f"{name}: row {row} {what}{_more(len(places))}")


def _more(count: int, shown: int = 1) -> str:
    return f" (and {count - shown} more)" if count > shown else ""
