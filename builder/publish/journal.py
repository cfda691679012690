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

from builder import files
from builder.errors import ArasError


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


def published_path(release: Path) -> Path:
    """Where the publications of a release are listed."""
    return release.parent / f"{release.name}.published.json"


def publications(release: Path) -> list[dict[str, Any]]:
    """Where ``release`` was published: dicts with "kind", "destination" and that kind's facts."""
    path = published_path(release)
    return list(read(path).get("publications", ())) if path.exists() else []


def unfinished(release: Path) -> list[dict[str, Any]]:
    """Drafts of ``release`` that no reader can see yet: "destination", "state" and "records"."""
    journals = (release.parent / ".publish").glob(f"{release.name}-zenodo-*.json")
    found = [read(path) for path in sorted(journals)]
    return [one for one in found if one.get("records") and one.get("state") != "published"]


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
