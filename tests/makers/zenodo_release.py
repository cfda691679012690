"""A tiny packaged release, its renderer of cards, and what a check of it would say."""

import json
from pathlib import Path

from builder.core.files import digest_of, hash_file

METADATA = {
    "title": "Tiny tiles",
    "upload_type": "dataset",
    "description": "<p>Land cover in a few bytes, <b>for tests</b>.</p>",
    "creators": [{"name": "Tiles, Tiny", "affiliation": "Nowhere", "orcid": "0000-0002-1825-0097"}],
    "license": "CC-BY-4.0",
    "language": "eng",
    "keywords": ["land cover", "captions"],
    "references": ["A work that is leaned on (2020)."],
    "related_identifiers": [
        {"identifier": "https://doi.org/10.1000/182", "relation": "isDerivedFrom"}
    ],
}

SHARDS = {
    "real/train-00000-of-00002.parquet": b"real train 0" * 400,
    "real/train-00001-of-00002.parquet": b"real train 1" * 500,
    "real/test-00000-of-00001.parquet": b"real test" * 300,
    "synthetic/train-00000-of-00001.parquet": b"made" * 900,
    "metadata/train-00000-of-00001.parquet": b"columns" * 50,
}


def make_release(
    root: Path,
    version: str = "0.1.0",
    shards: dict[str, bytes] = SHARDS,
    metadata: dict[str, object] = METADATA,
) -> Path:
    """Write ``root/release/<version>`` as `aras package` lays it out; shards are any bytes."""
    release = root / "release" / version
    contents = {
        **shards,
        "pictures/contact sheet.png": b"\x89PNG not really",
        "LICENSE": b"Attribution is asked for\n",
        "CHANGELOG.md": f"# {version}\n".encode(),
    }
    for where, content in contents.items():
        (release / where).parent.mkdir(parents=True, exist_ok=True)
        (release / where).write_bytes(content)
    text = json.dumps({**metadata, "version": version}, indent=1)
    (release / ".zenodo.json").write_text(text, encoding="utf-8")
    shown = {name: hash_file(release / name, "sha256")["sha256"] for name in shards}
    manifest = {
        "format": 1,
        "name": "tiny",
        "title": metadata["title"],
        "version": version,
        "license": "CC-BY-4.0",
        "content_sha256": digest_of(shown),
        "configs": {},
        "files": [],
        "facts": {},
    }
    (release / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_cards(release, doi=None, concept_doi=None)
    return release


def write_cards(release: Path, **dois: str | None) -> None:
    """Write the DOIs into card, citation and Croissant, then manifest and checksums.

    As with the real one, what is not told (``doi``, ``concept_doi``, ``synthetic_doi``) stays.
    """
    path = release / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {name: value for name, value in dois.items() if value is not None}
    doi, concept_doi, other = map(manifest.get, ("doi", "concept_doi", "synthetic_doi"))
    part = manifest.get("part", {})
    for name in ("README.md", "CITATION.cff", "croissant.json"):
        text = f"{name}: {doi}, all versions {concept_doi}; {other} {part.get('twin_doi')}\n"
        (release / name).write_text(text)
    if part:
        metadata = json.loads((release / ".zenodo.json").read_text())
        link = {"identifier": part["twin_doi"], "relation": "isSupplementTo"}
        metadata |= {
            "title": manifest["title"],
            "related_identifiers": [*metadata["related_identifiers"], link],
        }
        (release / ".zenodo.json").write_text(json.dumps(metadata))
    outside = {"manifest.json", "SHA256SUMS", "MD5SUMS"}
    files = sorted(p for p in release.rglob("*") if p.is_file() and p.name not in outside)
    manifest["files"] = [
        {
            "path": file.relative_to(release).as_posix(),
            "bytes": file.stat().st_size,
            **hash_file(file, "sha256", "md5"),
        }
        for file in files
    ]
    path.write_text(json.dumps(manifest, indent=1))
    for name, algorithm in (("SHA256SUMS", "sha256"), ("MD5SUMS", "md5")):
        lines = [f"{entry[algorithm]}  {entry['path']}\n" for entry in manifest["files"]]
        (release / name).write_text("".join(lines))


def violations(release: Path) -> list[str]:
    """Files whose bytes are not the manifest's."""
    manifest = json.loads((release / "manifest.json").read_text())
    return [
        f"{entry['path']}: other bytes than in the manifest"
        for entry in manifest["files"]
        if hash_file(release / entry["path"], "md5")["md5"] != entry["md5"]
    ]
