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


@dataclass(frozen=True)
class Format:
    """``write`` is module:function of (release, empty folder, `Options`) → `Written`."""

    description: str
    write: str


FORMATS = {
    "zenodo": Format("as ARAS400k was published", "builder.release.exports.zenodo:write"),
}
"""Name in `aras export --layout NAME` → its format."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and where."""

    to: str
    rows: dict[str, int]
    bytes: int
    streams: dict[str, str | None]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def export(release: Path, to: Path, name: str, options: Options) -> Exported:
    """Write ``release`` to the new directory ``to`` in the format ``name``.

    Raises ArasError when ``to`` already holds files, and whatever the format refuses; then nothing
    is written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ArasError(f"{to}: already exists; not changed. Name a new directory")
    module, function = FORMATS[name].write.split(":")
    write: Callable[[Path, Path, Options], Written]
    write = getattr(importlib.import_module(module), function)
    with atomic(to) as temporary:
        temporary.mkdir()
        written = write(release, temporary, options)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return Exported(str(to), written.rows, size, written.streams)
