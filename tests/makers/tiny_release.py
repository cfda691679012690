"""Makes a small but real release directory: Parquet shards with PNG bytes, a card, a manifest."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Features, Image, List, Value
from PIL import Image as Pixels

from builder.core import files
from builder.land import classes

SPLITS = {"train": 6, "validation": 3, "test": 3}
METADATA = Features(
    {
        "id": Value("string"),
        "kind": ClassLabel(names=["real", "synthetic"]),
        "split": ClassLabel(names=list(SPLITS)),
        "percent": List(Value("uint8")),
        "captions": List({"stream": Value("string"), "text": Value("string")}),
    }
)
ROWS = Features({**METADATA, "image": Image(), "mask": Image()})


def png(rng: np.random.Generator, mode: str) -> bytes:
    top, shape = (256, (24, 24, 3)) if mode == "RGB" else (7, (24, 24))
    out = io.BytesIO()
    Pixels.fromarray(rng.integers(0, top, shape, dtype=np.uint8), mode).save(out, "png")
    return out.getvalue()


def rows(kind: str, split: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of one split; the same arguments give the same rows."""
    table = []
    for i in range(count):
        rng = np.random.default_rng([seed, len(kind), len(split), i])
        percent = classes.percent(rng.integers(1, 9, 7)).tolist()
        name = f"{kind}/{split}-{i:04d}"
        table.append(
            {
                "id": name,
                "kind": ("real", "synthetic").index(kind),
                "split": list(SPLITS).index(split),
                "percent": percent,
                "captions": [{"stream": "template", "text": f"Tile {name}: {percent} percent."}],
                "image": {"bytes": png(rng, "RGB"), "path": f"{i:04d}.png"},
                "mask": {"bytes": png(rng, "L"), "path": f"{i:04d}.png"},
            }
        )
    return table


def write_shards(root: Path, stem: str, rows: list[dict], features: Features, shards: int) -> Any:
    """Write ``rows`` as ``stem-00000-of-0000n.parquet``; returns the manifest's entry."""
    names = [f"{stem}-{i:05d}-of-{shards:05d}.parquet" for i in range(shards)]
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        part = [{k: row[k] for k in features} for row in rows[i::shards]]
        pq.write_table(pa.Table.from_pylist(part, features.arrow_schema), root / name)
    size = sum((root / name).stat().st_size for name in names)
    return {"rows": len(rows), "bytes": size, "files": names}


def tiny_release(
    parent: Path, version: str = "0.1.0", *, seed: int = 0, shards: int = 2, extra: int = 0
) -> Path:
    """A release of 24 rows (plus ``extra`` real train rows) under ``parent/version``."""
    root = parent / version
    root.mkdir(parents=True)
    configs: dict[str, dict[str, Any]] = {
        "real": {},
        "synthetic": {},
        "augmented": {},
        "metadata": {},
    }
    everything: dict[str, list[dict]] = {}
    for split, count in SPLITS.items():
        real = rows("real", split, count + (extra if split == "train" else 0), seed)
        synthetic = rows("synthetic", split, count, seed) if split == "train" else []
        count = shards if split == "train" else 1
        configs["real"][split] = write_shards(root, f"real/{split}", real, ROWS, count)
        everything[split] = real + synthetic
        parts = [configs["real"][split]]
        if synthetic:
            configs["synthetic"][split] = write_shards(
                root, f"synthetic/{split}", synthetic, ROWS, shards
            )
            parts.append(configs["synthetic"][split])
        configs["augmented"][split] = {
            "rows": sum(p["rows"] for p in parts),
            "bytes": sum(p["bytes"] for p in parts),
            "files": [name for p in parts for name in p["files"]],
        }
        stem = f"metadata/{split}"
        configs["metadata"][split] = write_shards(root, stem, everything[split], METADATA, 1)
    _write_papers(root, version, configs)
    seal(
        root, version, configs, files.digest_of([[r["id"] for r in e] for e in everything.values()])
    )
    return root


def _write_papers(root: Path, version: str, configs: dict[str, dict[str, Any]]) -> None:
    listed = [
        {
            "config_name": config,
            **({"default": True} if config == "real" else {}),
            "data_files": [{"split": s, "path": part["files"]} for s, part in splits.items()],
        }
        for config, splits in configs.items()
    ]
    card = yaml.safe_dump({"license": "cc-by-4.0", "configs": listed}, sort_keys=False)
    files.write_text(root / "README.md", f"---\n{card}---\n\n# Tiny tiles {version}\n")
    files.write_json(root / "croissant.json", {"@type": "sc:Dataset", "name": "tiny"})
    files.write_text(root / "CITATION.cff", "cff-version: 1.2.0\ntitle: Tiny tiles\n")
    files.write_json(root / ".zenodo.json", {"title": "Tiny tiles", "upload_type": "dataset"})
    files.write_text(root / "LICENSE", "CC BY 4.0\n")
    files.write_text(root / "CHANGELOG.md", f"# Changelog\n\n## {version}\n")
    (root / "pictures").mkdir()
    (root / "pictures/contact-sheet.png").write_bytes(png(np.random.default_rng(7), "RGB"))


def seal(root: Path, version: str, configs: dict[str, Any], content: str) -> None:
    """(Re)write manifest.json, SHA256SUMS and MD5SUMS from the files as they lie there."""
    listed, sums = [], {"sha256": "", "md5": ""}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if name in ("manifest.json", "SHA256SUMS", "MD5SUMS"):
            continue
        digests = files.hash_file(path, "sha256", "md5")
        listed.append({"path": name, "bytes": path.stat().st_size, **digests})
        for kind, text in digests.items():
            sums[kind] += f"{text}  {name}\n"
    files.write_text(root / "SHA256SUMS", sums["sha256"])
    files.write_text(root / "MD5SUMS", sums["md5"])
    held = root / "manifest.json"
    place = (
        {k: v for k, v in files.read_json(held).items() if k == "endpoint"} if held.exists() else {}
    )
    manifest = {
        "format": 1,
        **place,
        "name": "tiny-tiles",
        "version": version,
        "license": "cc-by-4.0",
        "content_sha256": content,
        "configs": configs,
        "files": listed,
        "facts": {"recipe": {"release": {"repo": "org/name"}}},
    }
    files.write_json(root / "manifest.json", manifest)


def digest_tree(root: Path) -> str:
    """One digest of every name and byte under ``root``: did anything change?"""
    state = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        state.update(f"{path.relative_to(root)}\0{files.sha256_file(path)}\n".encode())
    return state.hexdigest()
