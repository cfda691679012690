"""The account of an import: every row in is a row out or a reject, and what else was noticed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

_ACCOUNT = ("rows_in", "rows_out", "rejects")


@dataclass(frozen=True)
class ImportAccount:
    """Rows of an import. What only the official layout has is None for a release of ours."""

    rows_in: int
    rows_out: int
    rejects: int
    captions: bool | None = None
    """Whether captions were imported."""
    provenance: str | None = None
    """Who names the models of the captions: the official ``record``, a ``sidecar``, ``nobody``."""
    md5: dict[str, str] | None = None
    """Name of each verified zip → md5."""
    official: bool = False
    """Whether all of these zips are those of the official record."""
    reasons: dict[str, int] | None = None
    """Rejects by reason, most first."""
    set_aside: dict[str, int] | None = None
    """Entries outside every row by reason, most first."""
    captions_elsewhere: int | None = None
    percentages_elsewhere: int | None = None
    """Lines of splits that have no pictures."""
    percent_differs: int | None = None
    """Rows published with other percentages than those of the mask."""
    lists: list[str] | None = None
    """Files that list all of these, from the project's directory."""

    def as_json(self) -> dict[str, Any]:
        """For the summary and the manifest; a field that is None is left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {"account": {name: values.pop(name) for name in _ACCOUNT}, **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ImportAccount":
        """Reads `as_json`; other keys, such as a manifest's ``sources``, are passed over."""
        known = {field.name for field in fields(cls)}
        rest = {name: value for name, value in values.items() if name in known}
        return cls(**values["account"], **rest)
