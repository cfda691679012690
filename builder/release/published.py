"""builder.release.published."""

from pathlib import Path
from typing import Any

from builder.core import files
from builder.core.errors import ArasError


def published_path(release: Path) -> Path:
    """Where the publications of a release are listed."""
    return release.parent / f"{release.name}.published.json"


def publications(release: Path) -> list[dict[str, Any]]:
    """Where ``release`` was published: dicts with "kind", "destination" and that kind's facts."""
    path = published_path(release)
    return list(read(path).get("publications", ())) if path.exists() else []


def record_publication(release: Path, kind: str, facts: dict[str, Any]) -> None:
    """Write down that ``release`` stands at ``facts["destination"]``, replacing that entry."""
    entry = {"kind": kind, **facts}
    place = (kind, facts["destination"])
    others = [p for p in publications(release) if (p.get("kind"), p.get("destination")) != place]
    files.write_json(published_path(release), {"format": 1, "publications": [*others, entry]})


def read(path: Path) -> dict[str, Any]:
    """A JSON object from disk; ArasError names the file when it is damaged."""
    try:
        value = files.read_json(path)
    except ValueError as error:
        raise ArasError(
            f"{path} is damaged ({error}); restore it, or delete it and publish again: "
            "what already arrived is looked up at the destination"
        ) from error
    if not isinstance(value, dict):
        raise ArasError(f"{path} holds {type(value).__name__}, not a JSON object; delete it")
    return value
