"""Where a release was published, as ``VERSION.published.json`` beside it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.core import files
from builder.core.errors import ArasError

SANDBOX = "-sandbox"
"""End of the kind of a publication in a sandbox."""


@dataclass(frozen=True)
class Publication:
    """A place that holds a release: kind of target, destination there, and that target's facts."""

    kind: str
    destination: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return self.kind.removesuffix(SANDBOX)

    @property
    def is_public(self) -> bool:
        return not self.kind.endswith(SANDBOX)

    def fact(self, name: str) -> str:
        """One fact as text; empty where the target has no such fact."""
        return str(self.facts.get(name) or "")

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "destination": self.destination, **self.facts}


def published_path(release: Path) -> Path:
    """Where the publications of a release are listed."""
    return release.parent / f"{release.name}.published.json"


def publications(release: Path) -> list[Publication]:
    """Where ``release`` was published."""
    path = published_path(release)
    entries = read_object(path).get("publications", ()) if path.exists() else ()
    return [
        Publication(str(entry.pop("kind", "")), str(entry.pop("destination", "")), entry)
        for entry in entries
    ]


def record_publication(release: Path, publication: Publication) -> None:
    """Add a publication, in place of an earlier of the same kind at the same destination."""
    place = (publication.kind, publication.destination)
    others = [other for other in publications(release) if (other.kind, other.destination) != place]
    entries = [entry.as_json() for entry in (*others, publication)]
    files.write_json(published_path(release), {"format": 1, "publications": entries})


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from disk; ArasError names the file when it is damaged."""
    try:
        value = files.read_json(path)
    except ValueError as error:
        raise ArasError(
            f"{path} is damaged ({error}); restore it, or delete it and publish again: "
            "aras looks up at the destination what has arrived"
        ) from error
    if not isinstance(value, dict):
        raise ArasError(f"{path} holds {type(value).__name__}, not a JSON object; delete it")
    return value
