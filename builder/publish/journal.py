"""What publishing remembers on disk: a journal per destination, and where a release was published.

The data of a release never change after it was packaged, and its cards only to tell where it is
published (see cards). So both lie beside it:
``release/.publish/<version>-<kind>-<digest of the destination>.json`` is the journal of one
publisher, ``release/<version>.published.json`` lists the places that hold the release.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.core import files
from builder.core.errors import ArasError
from builder.core.files import write_json
from builder.publish.zenodo_client import SANDBOX
from builder.release.published import publications, read


class Journal:
    """A JSON object that is on disk, whole, after every change.

    ``identity`` says what the journal is about (destination, content digest). A journal of
    another identity, as one left by a release that was packaged again, starts anew.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        held = read(path) if path.exists() else {}
        self.facts: dict[str, Any] = held if held.get("identity") == identity else {}
        self.facts["identity"] = identity

    def set(self, **changes: Any) -> None:
        """Replace facts by name and write the journal; None removes a fact."""
        merged = {**self.facts, **changes}
        self.facts = {name: value for name, value in merged.items() if value is not None}
        files.write_json(self.path, self.facts)

    def uploaded(self, path: str) -> dict[str, Any] | None:
        """What was written down about a file that arrived, or None."""
        found: dict[str, Any] | None = self.facts.get("uploaded", {}).get(path)
        return found

    def add_uploaded(self, path: str, **facts: Any) -> None:
        """Write down that the file at ``path`` (relative to the release) arrived."""
        self.set(uploaded={**self.facts.get("uploaded", {}), path: facts})

    def forget_uploaded(self) -> None:
        """Forget every upload: the server no longer holds what it was sent."""
        self.set(uploaded=None)


@contextlib.contextmanager
def alone(release: Path) -> Iterator[None]:
    """Keep a second publisher of the same release out; a killed one leaves nothing behind.

    Whatever the destination: all of them write the cards and the list of publications.
    """
    if not release.is_dir():
        raise ArasError(f"{release}: no such release; `aras package` makes one")
    handle = os.open(release, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArasError(
                f"{release}: another aras is publishing it; wait for it to end"
            ) from error
        yield
    finally:
        os.close(handle)


def open_journal(release: Path, kind: str, destination: str, identity: dict[str, Any]) -> Journal:
    """The journal of publishing ``release`` as ``kind`` ("hub", "zenodo") to ``destination``."""
    identity = {"format": 1, "kind": kind, "destination": destination, **identity}
    return Journal(journal_path(release, kind, destination), identity)


def journal_path(release: Path, kind: str, destination: str) -> Path:
    """Where the journal of publishing ``release`` as ``kind`` to ``destination`` lies."""
    name = f"{release.name}-{kind}-{files.digest_of(destination)[:12]}.json"
    return release.parent / ".publish" / name


def unfinished(release: Path) -> list[dict[str, Any]]:
    """Drafts of ``release`` that no reader can see yet: "destination", "state" and "records"."""
    journals = (release.parent / ".publish").glob(f"{release.name}-zenodo-*.json")
    found = [read(path) for path in sorted(journals)]
    return [one for one in found if one.get("records") and one.get("state") != "published"]


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
