"""Where everything in a release directory is, and its manifest and checksum files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.core.files import hash_file, read_json, write_json, write_text

MANIFEST = "manifest.json"
SUMS = {"sha256": "SHA256SUMS", "md5": "MD5SUMS"}
UNLISTED = frozenset({MANIFEST, *SUMS.values()})
"""Files that the manifest's list leaves out, because they are made from it."""

FORMAT = 1
NEEDED = ("format", "version", "content_sha256", "configs", "files", "facts")
"""Keys that every manifest has."""

CONFIGS = ("real", "synthetic", "augmented", "metadata", "controls", "embeddings")
"""Configs of a release; ``real`` is the default one."""


def read_manifest(release: Path) -> dict[str, Any]:
    """The manifest of a release. Raises ArasError when there is none or it cannot be read."""
    try:
        manifest: dict[str, Any] = read_json(release / MANIFEST)
    except FileNotFoundError:
        raise ArasError(
            f"{release}: not a release directory (no {MANIFEST}); `aras package` makes one"
        ) from None
    except NotADirectoryError:
        raise ArasError(f"{release}: is a file, not a release directory") from None
    except ValueError as error:
        raise ArasError(f"{release / MANIFEST}: not readable ({error}); package again") from error
    told = manifest if isinstance(manifest, dict) else {}
    missing = [name for name in NEEDED if name not in told]
    if missing or told["format"] != FORMAT:
        why = f"it has no {', '.join(missing)}"
        if told.get("format", FORMAT) != FORMAT:
            why = f"its format is {told['format']}, not {FORMAT}"
        raise ArasError(f"{release / MANIFEST}: is not one of ours ({why}); package again")
    return told


def listed_files(release: Path) -> list[str]:
    """Relative paths of all files that a manifest lists, sorted."""
    found = (path for path in release.rglob("*") if path.is_file())
    names = (path.relative_to(release).as_posix() for path in found)
    return sorted(name for name in names if name not in UNLISTED)


def describe_files(release: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """path, bytes, sha256 and md5 of files of a release."""
    return [
        {
            "path": name,
            "bytes": (release / name).stat().st_size,
            **hash_file(release / name, "sha256", "md5"),
        }
        for name in names
    ]


def write_manifest(release: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest and the checksum files that follow from its list."""
    write_json(release / MANIFEST, manifest)
    for name, text in checksum_files(release, manifest).items():
        write_text(release / name, text)


def checksum_files(release: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Name and text of each checksum file: the listed files and the manifest as it lies there."""
    own = {"path": MANIFEST, **hash_file(release / MANIFEST, *SUMS)}
    files = sorted([*manifest["files"], own], key=lambda one: one["path"])
    return {
        name: "".join(f"{one[algorithm]}  {one['path']}\n" for one in files)
        for algorithm, name in SUMS.items()
    }
