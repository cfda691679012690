"""The formats that a release can be exported to: a file of its own and one line here for each.

docs/how-to/add-an-export-layout.md shows how to add a format.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.files import atomic


@dataclass(frozen=True)
class Options:
    """What the command line asks of a format; each takes what fits it."""

    zipped: bool = False
    streams: Mapping[str, str] = field(default_factory=dict)
    """Caption column of the format → stream of the release that fills it."""


@dataclass(frozen=True)
class Written:
    """Rows by group of files, and the stream in each caption column (None: not there)."""

    rows: dict[str, int]
    streams: dict[str, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the format cannot hold of these rows."""


@dataclass(frozen=True)
class Format:
    """``write`` is module:function of (release, empty folder, `Options`) → `Written`.

    ``can_zip``: it takes ``--zip``.
    """

    description: str
    write: str
    can_zip: bool = False


_HERE = "builder.release.exports"
FORMATS = {
    "zenodo": Format("as ARAS400k was published", f"{_HERE}.zenodo:write", can_zip=True),
    "geotiff": Format("tiles and masks on the map, for GIS", f"{_HERE}.geotiff:write"),
    "webdataset": Format("tar shards, for WebDataset and OpenCLIP", f"{_HERE}.webdataset:write"),
    "imagefolder": Format("PNG and metadata.jsonl, for datasets", f"{_HERE}.imagefolder:write"),
    "coco-captions": Format("PNG and COCO's caption files", f"{_HERE}.coco_captions:write"),
}
"""Name in `aras export --layout NAME` → its format."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and where."""

    to: str
    rows: dict[str, int]
    bytes: int
    streams: dict[str, str | None]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def export(release: Path, to: Path, name: str, options: Options) -> Exported:
    """Write ``release`` to the new directory ``to`` in the format ``name``.

    Raises ArasError when ``to`` already holds files, and whatever the format refuses; then nothing
    is written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ArasError(f"{to}: already exists; not changed. Name a new directory")
    if options.zipped and not FORMATS[name].can_zip:
        raise ArasError(f"layout {name} has no zips; leave --zip out")
    module, function = FORMATS[name].write.split(":")
    write: Callable[[Path, Path, Options], Written]
    write = getattr(importlib.import_module(module), function)
    with atomic(to) as temporary:
        temporary.mkdir()
        written = write(release, temporary, options)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return Exported(str(to), written.rows, size, written.streams, written.notes)
