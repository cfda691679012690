"""What publishing remembers on disk: a journal per destination, beside the release.

The data of a release never change after it was packaged, and its cards only to name where it is
published (see cards). ``release/.publish/<version>-<target>-<digest of the destination>.json`` is
that journal; Zenodo's is in zenodo_steps.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.core import files
from builder.core.errors import ArasError
from builder.release.published import read_object

if TYPE_CHECKING:  # `aras status` reads journals, and has no use for manifests
    from builder.publish.release import File


class Journal:
    """Which files of a release have arrived at a destination; on disk after every change.

    A journal of other content, as left by a release that was packaged again, starts empty.
    """

    def __init__(self, release: Path, target: str, destination: str, content_sha256: str) -> None:
        self.path = journal_path(release, target, destination)
        identity = {
            **{"format": 1, "kind": target, "destination": destination},
            "content_sha256": content_sha256,
        }
        held = read_object(self.path) if self.path.exists() else {}
        self._facts: dict[str, Any] = held if held.get("identity") == identity else {}
        self._facts["identity"] = identity

    def has(self, file: "File") -> bool:
        """Whether the file arrived, with these bytes."""
        entry = self._facts.get("uploaded", {}).get(file.name)
        return entry is not None and entry["sha256"] == file.sha256

    def add(self, file: "File") -> None:
        """Note that the file arrived."""
        entry = {"bytes": file.size, "sha256": file.sha256}
        self._set("uploaded", {**self._facts.get("uploaded", {}), file.name: entry})

    def forget_files(self) -> None:
        """Forget every file: the server no longer holds what it was sent."""
        self._set("uploaded", None)

    @property
    def counted(self) -> str | None:
        """The commit whose rows were counted as a user loads them."""
        commit: str | None = self._facts.get("counted")
        return commit

    @counted.setter
    def counted(self, commit: str) -> None:
        self._set("counted", commit)

    def _set(self, name: str, value: Any) -> None:
        merged = {**self._facts, name: value}
        self._facts = {name: value for name, value in merged.items() if value is not None}
        files.write_json(self.path, self._facts)


def journal_path(release: Path, target: str, destination: str) -> Path:
    """Where the journal of publishing ``release`` to ``destination`` lies."""
    name = f"{release.name}-{target}-{files.digest_of(destination)[:12]}.json"
    return release.parent / ".publish" / name


def journals(release: Path, target: str) -> list[Path]:
    """The files of the journals of publishing ``release`` to every destination of a target."""
    return sorted((release.parent / ".publish").glob(f"{release.name}-{target}-*.json"))


@contextlib.contextmanager
def alone(release: Path) -> Iterator[None]:
    """Keep a second publisher of the same release out; a killed publisher leaves nothing behind.

    Whatever the destination: all of them write the cards and the list of publications.
    """
    if not release.is_dir():
        raise ArasError(f"{release}: no such release; `aras package` writes it")
    with files.alone(
        release, f"{release}: another aras command is publishing it; wait until it ends"
    ):
        yield
