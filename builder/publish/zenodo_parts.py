"""Two linked records of one release: each a smaller release of the same files, with its own cards.

The main record holds the real tiles and all that is told of rows (metadata, controls, subsets), the
synthetic one the synthetic tiles. A part is laid out like any release, so its cards are rendered
from its own manifest, and `aras check` accepts it once it is back in folders.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.digest import combine
from builder.files import read_json, scratch, write_json
from builder.publish.cards import Render, is_card
from builder.release import layout

MAIN, SYNTHETIC = "main", "synthetic"
"""The two roles a record can have; a release that fits has the main one alone."""

KIND = {MAIN: "real", SYNTHETIC: "synthetic"}
"""Role → the kind of tiles that such a record of two holds."""

OF_SYNTHETIC = ("synthetic/", "pictures/balance.png")
BY_KIND = ("rows", "left_out", "flags", "pixels", "mask_agreement", "streams", "examples")
"""Facts of the census whose names are a kind, or begin with one."""


def in_part(role: str, path: str) -> bool:
    """Whether a record of two holds the file at ``path`` of the release."""
    if role == MAIN:
        return not path.startswith(OF_SYNTHETIC)
    return path.startswith(OF_SYNTHETIC) or is_card(path)


@contextlib.contextmanager
def parts(
    release: Path, records: Mapping[str, Mapping[str, Any]], render: Render
) -> Iterator[dict[str, Path]]:
    """Role → folder of what that record holds; the release itself where ``records`` has one role.

    ``records`` tells each role's doi and concept_doi. The folders are gone when the block ends.
    """
    if SYNTHETIC not in records:
        yield {MAIN: release}
        return
    with scratch("aras-zenodo") as temporary:
        folders = {role: temporary / role for role in KIND}
        for role, twin in ((MAIN, SYNTHETIC), (SYNTHETIC, MAIN)):
            make_part(release, folders[role], role, records[role], records[twin], render)
        yield folders


def make_part(
    release: Path,
    folder: Path,
    role: str,
    record: Mapping[str, Any],
    twin: Mapping[str, Any],
    render: Render,
) -> None:
    """Lay out what one record of two holds: links to the data, and cards that tell both DOIs."""
    manifest = read_json(release / layout.MANIFEST)
    for one in manifest["files"]:
        path = one["path"]
        if in_part(role, path):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if is_card(path):
                shutil.copyfile(release / path, folder / path)
            else:
                (folder / path).symlink_to((release / path).resolve())
    told = part_manifest(manifest, role)
    told["part"] |= {"twin_doi": twin["doi"], "twin_concept_doi": twin["concept_doi"]}
    write_json(folder / layout.MANIFEST, told)
    render(folder, doi=record["doi"], concept_doi=record["concept_doi"])


def part_manifest(manifest: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The manifest of a release with one role's files, configs and counts only."""
    kind = KIND[role]
    files = [one for one in manifest["files"] if in_part(role, one["path"])]
    there = {one["path"] for one in files}
    configs = {
        config: splits
        for config, splits in manifest["configs"].items()
        if all(name in there for entry in splits.values() for name in entry["files"])
    }
    facts = dict(manifest["facts"])
    if census := facts.get("census"):
        facts["census"] = {**census, **{name: _of(kind, census[name]) for name in BY_KIND}}
        if kind != "real":
            facts["census"]["extent"] = None  # of real rows
    return {
        **manifest,
        "name": f"{manifest['name']}-{kind}",
        "title": f"{manifest['title']} ({kind})",
        "content_sha256": combine(
            {
                f"{config}/{split}": entry["content_sha256"]
                for config, splits in configs.items()
                for split, entry in splits.items()
            }
        ),
        "configs": configs,
        "files": files,
        "facts": facts,
        "subsets": manifest.get("subsets", {}) if role == MAIN else {},
        "synthetic_doi": None,
        "part": {"kind": kind, "title": manifest["title"], "of": manifest["content_sha256"]},
    }


def _of(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name.split("/")[0] == kind}
