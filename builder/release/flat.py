"""A release in one folder, as Zenodo holds it: names without folders, and texts that use them.

README.md and croissant.json name other files of the release. Their flat variants name them as
they are called there, so that `datasets` and `mlcroissant` load a flat copy as it is. The way
back, from manifest.json alone, is ``cards/restore.py``.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.errors import ArasError
from builder.core.manifest import Manifest

TEXTS = ("README.md", "croissant.json")
"""Files of which a flat copy holds a variant."""

HERE = "str(Path.cwd())"
"""What a snippet loads that reads the folder of the card."""


def flat_name(path: str) -> str:
    """``real/train-00000-of-00002.parquet`` → ``real-train-00000-of-00002.parquet``."""
    return path.replace("/", "-")


def flat_texts(release: Path, manifest: Manifest) -> dict[str, bytes]:
    """Name → content of the files that a flat copy holds in place of the release's own.

    Raises ArasError as `flat_text`.
    """
    paths = [file.path for file in manifest.files]
    return {
        name: flat_text(name, (release / name).read_bytes().decode(), paths).encode()
        for name in TEXTS
        if name in paths
    }


def flat_text(name: str, text: str, paths: Sequence[str]) -> str:
    """One of `TEXTS` with the ``paths`` of a release by their flat names.

    Of README.md the YAML and the targets of links change; snippets name files of the repository
    that they load, and stay, unless that is the folder of the card. Raises ArasError when
    `folder_text` would not give ``text`` back.
    """
    names = {path: flat_name(path) for path in paths}
    if name == "README.md":
        end = text.index("\n---\n", 3) if text.startswith("---\n") else 0
        front, body = text[:end], text[end:]
        links = {f"]({path})": f"]({flat})" for path, flat in names.items()}
        beside = f'({HERE}, data_files="{{}}"'
        links |= {beside.format(path): beside.format(flat) for path, flat in names.items()}
        flat = _replaced(front, names) + _replaced(body, links)
    else:
        flat = _replaced(text, names)
    if folder_text(flat, paths) != text:
        taken = next(path for path in paths if "/" in path and flat_name(path) in text)
        raise ArasError(
            f"{name}: holds {flat_name(taken)!r}, the name of {taken} where there are no "
            "folders; take it out of the recipe's description and package again"
        )
    return flat


def folder_text(text: str, paths: Sequence[str]) -> str:
    """A flat variant → the release's own text."""
    return _replaced(text, {flat_name(path): path for path in paths})


def _replaced(text: str, names: Mapping[str, str]) -> str:
    """Every key by its value, the longest first, in one pass."""
    keys = sorted((name for name in names if name != names[name]), key=len, reverse=True)
    if not keys:
        return text
    return re.sub("|".join(map(re.escape, keys)), lambda match: names[match.group()], text)
