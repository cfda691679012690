"""Models, reports and releases of a project in its bucket, so that every machine has them."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import ArasError
from builder.core.files import atomic, locked, parse_json, read_json, sha256_file, write_json
from builder.core.objects import Conflict, Objects, Seen

NOTES = "work/.bucket-{}.json"
"""For each mirrored folder: path in the bucket → ETag and sha256 of what is here too; it may be
deleted."""

MODEL, RELEASE = "record.json", "manifest.json"
"""The file that makes a model, or a release, whole: it comes last."""

LIST = "files.json"
"""Object beside the files of a version of a model: name → sha256."""

TRIES = 5
"""Most tries to bring a model that other machines replace at the same time."""


@dataclass(frozen=True)
class Mirror:
    """``models/``, ``reports/`` and ``release/`` of ``directory``, and the same in a bucket.

    In the bucket a model is the object ``models/NAME.json``, which names the folder of its files
    and is replaced only by who saw what it replaces: of two machines that train the same model the
    first is believed, and the other takes its weights. A release keeps the names of its files.
    """

    objects: Objects
    directory: Path

    def bring(self) -> None:
        """Have here the models and reports that other machines left in the bucket."""
        self.bring_models()
        notes = _Notes(self.directory / "reports")
        for path, seen in self.objects.list("reports"):
            if path.count("/") == 1 and notes.etag(path) != seen.etag:
                body = self.objects.get(path)
                _write(self.directory / path, body)
                notes.keep(path, seen.etag, "")

    def bring_models(self) -> None:
        folder = self.directory / "models"
        pointers = {
            path: seen
            for path, seen in self.objects.list("models")
            if path.count("/") == 1 and path.endswith(".json")
        }
        notes = _Notes(folder)
        if all(notes.etag(path) == seen.etag for path, seen in pointers.items()):
            return
        here = self.directory / "work" / ".bucket"
        with locked(here, lambda: None):  # one process of a machine is enough
            notes = _Notes(folder)
            for path, seen in pointers.items():
                if notes.etag(path) != seen.etag:
                    self._bring_model(path, seen, notes)

    def _bring_model(self, pointer: str, seen: Seen, notes: "_Notes") -> None:
        latest: Seen | None = seen
        for _ in range(TRIES):
            if latest is None:
                return
            try:
                version = str(parse_json(self.objects.get(pointer, latest))["version"])
                self._copy(self.directory / pointer.removesuffix(".json"), version)
            except (Conflict, FileNotFoundError):  # replaced meanwhile
                latest = self.objects.head(pointer)
            except (ValueError, KeyError, TypeError) as error:
                raise ArasError(f"{self.objects.url}/{pointer}: not written by aras") from error
            else:
                notes.keep(pointer, latest.etag, version)
                return
        raise ArasError(f"{self.objects.url}/{pointer}: other machines replace it again and again")

    def _copy(self, model: Path, version: str) -> None:
        """Make ``model`` a version in the bucket; files that are here already are not moved."""
        source = f"models/{model.name}/{version}"
        listed: dict[str, str] = parse_json(self.objects.get(f"{source}/{LIST}"))
        if all(_is(model / name, sha256) for name, sha256 in listed.items()):
            return
        (model / MODEL).unlink(missing_ok=True)  # from here to the end it is not whole
        for name in sorted(listed, key=lambda name: (name == MODEL, name)):
            if not _is(model / name, listed[name]):
                _write(model / name, self.objects.get(f"{source}/{name}"))
            if not _is(model / name, listed[name]):
                raise ArasError(
                    f"{self.objects.url}/{source}/{name}: not what {LIST} beside it says; remove "
                    f"models/{model.name}.json there, and the model is trained again"
                )

    def keep_model(self, model: Path) -> None:
        """Put a trained model into the bucket, or take what another machine put there first."""
        notes, pointer = _Notes(model.parent), f"models/{model.name}.json"
        version = sha256_file(model / MODEL)[:16]
        if notes.sha256(pointer) == version:
            return
        files = {path.relative_to(model).as_posix(): path for path in _files(model)}
        for name, path in files.items():
            self.objects.send(f"models/{model.name}/{version}/{name}", path)
        listed = {name: sha256_file(path) for name, path in files.items()}
        self.objects.overwrite(f"models/{model.name}/{version}/{LIST}", _json(listed))
        known = notes.etag(pointer)
        replaces = Seen(0, known) if known else None
        try:
            seen = self.objects.put(pointer, _json({"version": version}), replaces)
        except Conflict:
            self.bring_models()
        else:
            notes.keep(pointer, seen.etag, version)

    def keep_report(self, name: str) -> None:
        path = f"reports/{name}.json"
        seen = self.objects.overwrite(path, (self.directory / path).read_bytes())
        _Notes(self.directory / "reports").keep(path, seen.etag, "")

    def keep_file(self, path: Path) -> None:
        """Put a small file of ``directory`` into the bucket."""
        self.objects.send(path.relative_to(self.directory).as_posix(), path)

    def bring_file(self, path: Path) -> None:
        """Have a file here that another machine put into the bucket, if any did."""
        with contextlib.suppress(FileNotFoundError):
            _write(path, self.objects.get(path.relative_to(self.directory).as_posix()))

    def keep_release(self, release: Path) -> None:
        """Put a release into the bucket. A stop in the middle leaves it without a manifest, and the
        next call sends what is missing."""
        place = f"release/{release.name}"
        notes = _Notes(release.parent)
        there = dict(self.objects.list(place))
        every = (path for path in sorted(release.rglob("*")) if path.is_file())
        files = {f"{place}/{path.relative_to(release).as_posix()}": path for path in every}
        manifest = f"{place}/{RELEASE}"
        sums = {path: sha256_file(file) for path, file in files.items()}
        todo = [
            path
            for path in files
            if path not in there or notes.values.get(path) != [there[path].etag, sums[path]]
        ]
        gone = there.keys() - files.keys()
        if not todo and not gone:
            return
        self.objects.remove(manifest)
        for path in sorted(gone):
            self.objects.remove(path)
        for path in sorted({*todo, manifest}, key=lambda path: (path == manifest, path)):
            notes.keep(path, self.objects.send(path, files[path]).etag, sums[path])

    def releases(self) -> list[str]:
        """Versions of the whole releases in the bucket."""
        paths = [path.split("/") for path, _ in self.objects.list("release")]
        return sorted(path[1] for path in paths if path[2:] == [RELEASE])


class _Notes:
    """What a mirrored folder has in common with the bucket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.parent / NOTES.format(folder.name)
        try:
            values = read_json(self.path)
        except (OSError, ValueError):
            values = {}
        self.values: dict[str, list[str]] = values if isinstance(values, dict) else {}

    def etag(self, path: str) -> str:
        return self.values.get(path, ["", ""])[0]

    def sha256(self, path: str) -> str:
        return self.values.get(path, ["", ""])[1]

    def keep(self, path: str, etag: str, sha256: str) -> None:
        self.values[path] = [etag, sha256]
        write_json(self.path, self.values)


def _files(folder: Path) -> Iterator[Path]:
    """Files that are neither hidden nor of an unfinished training."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix != ".pt":
            yield path


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


def _write(path: Path, body: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(body)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
