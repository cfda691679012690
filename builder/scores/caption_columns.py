"""Which columns of a caption file hold texts, ids, compositions and sources."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ArasError
from builder.landcover import CLASSES

OFFICIAL_STREAMS = (
    "hybrid_gemma3-4b",
    "hybrid_qwen3-vl-8b",
    "text_qwen3-4b",
    "vision_gemma3-4b",
    "vision_qwen3-vl-8b",
)
"""Caption columns of the published captions.csv."""

_TEXT_NAMES = ("caption", "captions", "text", "sentence", "sentences", "description")
_ID_NAMES = ("image_id", "filename", "file_name", "id")
"""Where the tile of a caption is named; ``id`` comes last, for it may number the captions."""
_SCORES = "caption_scores"
"""The column beside ``captions`` in a release: scores, no texts."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What a file holds: its text columns, and where ids, compositions and sources stand."""

    texts: tuple[str, ...]
    id: str | None
    composition: tuple[str, ...]  # the seven class columns, or one struct column, or none
    source: str | None

    @property
    def all(self) -> list[str]:
        return [*self.texts, *self.composition, *(c for c in (self.id, self.source) if c)]


def find_columns(path: Path, names: Sequence[str], text: Sequence[str], row: Row) -> Columns:
    """The columns to read: ``text`` if given, else the official streams, else a usual name.

    ``row`` has a value of each column, None where none is known yet: a composition is a struct.
    """
    listed = ", ".join(names)
    for wanted in text:
        if wanted not in names:
            raise ArasError(f"{path}: no column {wanted!r}; its columns are {listed}")
    texts = tuple(text) or tuple(name for name in OFFICIAL_STREAMS if name in names)
    texts = texts or tuple(one for one in names if one.startswith("caption_") and one != _SCORES)
    texts = texts or tuple(name for name in _TEXT_NAMES if name in names)[:1]
    if not texts:
        raise ArasError(f"{path}: no caption column found among {listed}; name it with --text")
    structs = [name for name in ("pixels", "percent") if isinstance(row.get(name), dict)]
    unknown = [name for name in ("pixels", "percent") if name in row and row[name] is None]
    composition = _class_columns(path, names) or (*structs, *unknown)[:1]
    return Columns(
        texts=texts,
        id=next((name for name in _ID_NAMES if name in names), None),
        composition=composition,
        source=next((name for name in ("kind", "split") if name in names), None),
    )


def _class_columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the seven classes, whatever their case and hyphens; none where one is at most
    by chance named like a class. Raises ArasError for some without the others, and for two alike.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(fold(name), []).append(name)
    columns = {one: found[fold(one)] for one in CLASSES if fold(one) in found}
    if len(columns) < 2:
        return ()
    if missing := [one for one in CLASSES if one not in columns]:
        there = ", ".join(one for some in columns.values() for one in some)
        raise ArasError(
            f"{path}: has class columns {there}, but not {', '.join(missing)}; give all seven "
            "or none"
        )
    for name, some in columns.items():
        if len(some) > 1 and name not in some:
            raise ArasError(f"{path}: columns {' and '.join(some)} are both {name}; rename one")
    return tuple(name if name in some else some[0] for name, some in columns.items())


@functools.lru_cache(maxsize=1024)
def fold(name: str) -> str:
    """``Built-up``, ``built_up`` and ``BUILT UP`` as one."""
    return name.casefold().translate({ord(sign): None for sign in "-_ "})
