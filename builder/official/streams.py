"""Which stream each caption column of the layout holds, who wrote it, and its rows as columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from builder.errors import ArasError
from builder.files import read_json, write_json
from builder.official.names import ERROR, OFFICIAL_MD5, STREAMS
from builder.official.sources import SIDECAR, archives, expected_md5
from builder.schema import CAPTION, STREAM_PREFIX

FORMAT = "aras streams 1"
NOT_GIVEN = "captions.csv has no column of this stream"
NO_CAPTIONS = "tiles of train/generated are published without captions"
EMPTY = "empty in captions.csv"

Texts = tuple[str | None, ...] | None
"""One text for each official column, or no captions at all."""


class Column(NamedTuple):
    """A column of captions.csv, the stream that its texts are, and their provenance if known."""

    name: str
    stream: str
    model: str | None = None
    revision: str | None = None
    prompt_sha256: str | None = None


UNKNOWN = tuple(Column(name, name) for name in STREAMS)
"""The columns of somebody's captions.csv: who wrote them is not known."""
PUBLISHED = tuple(Column(name, name, model) for name, model in STREAMS.items())
"""Those of the official record, which names the models and no revision, prompt or seed."""


def columns_of(sources: Sequence[Path], md5: Mapping[str, str]) -> tuple[Column, ...]:
    """The columns to import from ``sources``, of which nothing else is read.

    What a `SIDECAR` in or beside them says, else `PUBLISHED` for the official zips, by their md5,
    else `UNKNOWN`. Raises ArasError for a sidecar that is none, and for two that differ.
    """
    places = dict.fromkeys(
        place / SIDECAR
        for path in sources
        for place in ([path, path.parent] if path.is_dir() else [path.parent])
    )
    told = {path: _read(path) for path in places if path.is_file()}
    if len(set(told.values())) > 1:
        raise ArasError(
            f"{' and '.join(map(str, told))} differ: keep the one of these captions.csv"
        )
    if told:
        return next(iter(told.values()))
    zips = [archives(path) for path in sources if path.name != "captions.csv"]
    sums = [expected_md5(one, md5) for some in zips for one in some]
    official = all(zips) and all(one and one[0] in OFFICIAL_MD5.values() for one in sums)
    return PUBLISHED if zips and official else UNKNOWN


def _read(path: Path) -> tuple[Column, ...]:
    try:
        told = read_json(path)
        if told["format"] != FORMAT or not told["columns"].keys() <= STREAMS.keys():
            raise ValueError("another format")
        found = [Column(name, **one) for name, one in told["columns"].items() if one is not None]
        if len({one.stream for one in found}) < len(found):
            raise ValueError("a stream stands in two columns")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArasError(
            f"{path}: does not say which streams captions.csv holds ({error}); `aras export` "
            "writes it, and without it the columns have their own names and no model"
        ) from error
    return tuple(found)


def write_sidecar(folder: Path, columns: Mapping[str, Column | None]) -> None:
    """Write which stream fills each official column; None for a column without one."""
    told = {
        name: None if one is None else {k: v for k, v in one._asdict().items() if k != "name"}
        for name, one in columns.items()
    }
    write_json(folder / SIDECAR, {"format": FORMAT, "columns": told})


def caption_columns(columns: Sequence[Column], rows: Sequence[Texts]) -> dict[str, pa.Array]:
    """One column of the store per stream. Seeds do not stand in the layout, and are null."""
    made = {}
    for column in columns:
        cells = [cell(texts, column) for texts in rows]
        values: dict[str, Any] = {
            "text": [text for text, _ in cells],
            "error": [error for _, error in cells],
            **{name: [getattr(column, name)] * len(cells) for name in Column._fields[2:]},
        }
        arrays = [pa.array(values.get(one.name, [None] * len(cells)), one.type) for one in CAPTION]
        made[STREAM_PREFIX + column.stream] = pa.StructArray.from_arrays(arrays, fields=[*CAPTION])
    return made


def cell(texts: Texts, column: Column) -> tuple[str | None, str | None]:
    """(text, error) of a published caption: exactly one of them is there."""
    if texts is None:
        return None, NO_CAPTIONS
    text = texts[list(STREAMS).index(column.name)]
    if text is None:
        return None, NOT_GIVEN
    if text.startswith(ERROR):
        return None, text
    return (text, None) if text.strip() else (None, EMPTY)
