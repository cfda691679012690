"""Where a release was published, as ``VERSION.published.json`` beside it says."""

from pathlib import Path
from typing import Any

from builder.core import files
from builder.core.errors import ArasError
from builder.core.manifest import Record

SANDBOX = "-sandbox"
"""End of the kind of a publication in a sandbox."""


class PublishedRecord(Record):
    """A record of Zenodo that a release became, or a part of it."""

    id: str = ""
    conceptrecid: str = ""
    doi: str = ""
    concept_doi: str = ""
    html: str = ""


class Publication(Record):
    """A place that holds a release: kind of target, destination there, and what that target knows.

    Which of the fields from ``repo`` on there are depends on the target; it may add its own.
    """

    kind: str = ""
    destination: str = ""
    repo: str = ""
    endpoint: str = ""
    version: str = ""
    tag: str = ""
    commit: str = ""
    url: str = ""
    doi: str = ""
    concept_doi: str = ""
    content_sha256: str | None = None
    records: dict[str, PublishedRecord] = {}  # noqa: RUF012 - pydantic copies it
    """By what they hold: ``main`` or ``synthetic``."""
    key: str | None = None
    recorded: str = ""
    """When, in UTC."""

    @property
    def target(self) -> str:
        return self.kind.removesuffix(SANDBOX)

    @property
    def is_public(self) -> bool:
        return not self.kind.endswith(SANDBOX)


def published_path(release: Path) -> Path:
    """Where the publications of a release are listed."""
    return release.parent / f"{release.name}.published.json"


def publications(release: Path) -> list[Publication]:
    """Where ``release`` was published. Raises ArasError for a damaged list."""
    path = published_path(release)
    entries = read_object(path).get("publications", ()) if path.exists() else ()
    try:
        return [Publication.model_validate(entry) for entry in entries]
    except ValueError as error:
        raise _damaged(path, str(error)) from error


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
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise ArasError(f"{path} holds {type(value).__name__}, not a JSON object; delete it")
    return value


def _damaged(path: Path, why: str) -> ArasError:
    return ArasError(
        f"{path} is damaged ({why}); restore it, or delete it and publish again: "
        "aras looks up at the destination what has arrived"
    )
