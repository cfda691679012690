"""What publishing to Zenodo remembers beside a release: what is under way, and what is public."""

from pathlib import Path
from typing import Any

from builder.files import write_json
from builder.publish.journal import journal_path, publications, read
from builder.publish.zenodo_api import SANDBOX


def kind_of(url: str) -> str:
    """The key of the facts: a sandbox's DOIs lead nowhere, so nothing may take them for real."""
    return "zenodo-sandbox" if url == SANDBOX else "zenodo"


def load_journal(release: Path, url: str) -> dict[str, Any]:
    """What is under way on the server ``url``: {"state", "content_sha256", "records", "limits"?}.

    ``state`` is draft, ready, publishing or published; ``records`` maps a role to id, conceptrecid,
    doi, concept_doi and html as they become known; ``limits`` are those that were last given.
    """
    path = journal_path(release, "zenodo", url)
    entry: dict[str, Any] = read(path) if path.exists() else {}
    return {"state": "draft", "content_sha256": None, "records": {}, **entry}


def save_journal(release: Path, url: str, entry: dict[str, Any]) -> None:
    write_json(journal_path(release, "zenodo", url), {"format": 1, "destination": url, **entry})


def concept_beside(release: Path, url: str, role: str) -> str | None:
    """Concept id of the newest record of ``role`` that another version of the release became."""
    found = []
    for path in release.parent.glob("*.published.json"):
        version = path.name.removesuffix(".published.json")
        if version == release.name:
            continue
        for entry in publications(release.parent / version):
            record = entry.get("records", {}).get(role)
            if (entry.get("kind"), entry.get("destination")) == (kind_of(url), url) and record:
                found.append((int(record["id"]), str(record["conceptrecid"])))
    return max(found)[1] if found else None
