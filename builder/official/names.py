"""Names in the official layout: splits, streams, columns, and the place that a name gives."""

import re
from typing import NamedTuple

from builder.core.errors import ArasError
from builder.land import grid
from builder.land.classes import CLASSES

STREAMS = {
    "hybrid_gemma3-4b": "google/gemma-3-4b-it",
    "hybrid_qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
    "text_qwen3-4b": "Qwen/Qwen3-4B-Instruct-2507",
    "vision_gemma3-4b": "google/gemma-3-4b-it",
    "vision_qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
}
"""The five caption streams in the order of captions.csv, and the model that wrote each.

Which revision of a model it was is not published.
"""

HEADER = ("filename", "split", *CLASSES, *STREAMS)
"""The 14 columns of captions.csv."""

ERROR = "ERROR:"
"""Beginning of a text in captions.csv that replaces a caption that failed."""

GROUPS = {
    "train": ("real", "train"),
    "val": ("real", "validation"),
    "test": ("real", "test"),
    "synth": ("synthetic", "train"),
    "generated": ("synthetic", "train"),
}
"""Group of the layout → (kind, split) of its rows, in the order of the import.

A name is unique within its group only. ``generated`` are the pictures of train/generated: one for
each train mask, drawn on it, without captions of their own.
"""

OFFICIAL_RECORD = "18890661"
OFFICIAL_MD5 = {
    "train.zip": "95cd5caea68c813fd86888f9cd95b627",
    "val.zip": "76e61fd7557d65ba0596e44c0f92b43f",
    "test.zip": "01679231ee8e38701f5d3ab7de0b5719",
    "synth.zip": "0dc95bfdda44a816ade0d7ea747e4f9c",
}
"""md5 of the four zips of record 18890661 (ARAS400k)."""

FOLDERS = {"images": "image", "masks": "mask", "generated": "generated"}
"""Folder of pictures → their role."""

_ALIASES = {"validation": "val"}
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TILE = re.compile(r"([NS]\d{2}[EW]\d{3})_(\d{3})_(\d{3})")


class Refused(ArasError):
    """Why a row or entry cannot be imported; it is listed and the others go on."""


class Place(NamedTuple):
    """Georeference of a tile: affine a…f and the centre, in degrees of EPSG:4326."""

    transform: tuple[float, ...]
    longitude: float
    latitude: float


def group_of(word: str) -> str | None:
    """The group that a folder, archive or ``split`` cell names; None for any other word."""
    word = _ALIASES.get(word, word)
    return word if word in GROUPS and word != "generated" else None


def stem_of(filename: str) -> str:
    """The name without ``.png``. Raises Refused for a name that could not be an id or a file."""
    stem = filename[:-4] if filename.lower().endswith(".png") else filename
    if not _STEM.fullmatch(stem):
        raise Refused(f"bad name: {filename[:80]!r} cannot be an id")
    return stem


def row_id(group: str, stem: str, run: str) -> str:
    """Global id of a row: ``real/N36E028_005_025``, ``synthetic/<run>/0073`` or, for pictures of
    train/generated, ``synthetic/<run>-conditional/N36E028_005_025``. Its last part is always the
    official file name without ``.png``.
    """
    if group == "generated":
        return f"synthetic/{run}-conditional/{stem}"
    return f"real/{stem}" if GROUPS[group][0] == "real" else f"synthetic/{run}/{stem}"


def place(stem: str, size: int) -> Place | None:
    """Georeference of a real tile of ``size`` pixels, from ``<cell>_<patch row>_<patch column>``.

    The cell is the lower-left corner of a 1° composite of 12,000 pixels, patches count from its
    upper left. None when the name is not of this form.
    """
    match = _TILE.fullmatch(stem)
    if not match:
        return None
    row, column = int(match[2]), int(match[3])
    left, top = grid.cell_origin(match[1])
    inside = max(row, column) < grid.PER_DEGREE // size
    if not inside or not 0 <= left < 360 * grid.PER_DEGREE or not 0 <= top < 180 * grid.PER_DEGREE:
        return None
    x, y = left + column * size, top + row * size
    west, north = grid.lonlat(x, y)
    longitude, latitude = grid.lonlat(x + size / 2, y + size / 2)
    step = 1 / grid.PER_DEGREE
    return Place((step, 0.0, west, 0.0, -step, north), longitude, latitude)
