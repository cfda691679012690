"""Makes a tiny release to benchmark on: tiles striped in class colours, captions that fit them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.files import digest_of, write_json
from builder.core.manifest import describe_files, listed_files
from builder.land.classes import CLASSES, PALETTE, percent
from builder.land.columns import COLUMNS, KINDS, SPLITS, arrow_schema
from builder.land.pictures import composition_columns, encode_png, image_column

SIZE = 32
DEGREES = 1e-4
NAMES = tuple(column.name for column in COLUMNS)
METADATA = tuple(column.name for column in COLUMNS if not column.is_image)


def caption(stream: str, shares: np.ndarray) -> str:
    """``numbers`` states percentages, ``words`` the two largest classes."""
    whole = percent(np.round(shares * 1e4).astype(int)[None])[0]
    order = np.argsort(-shares, kind="stable")
    if stream == "numbers":
        parts = [f"{whole[k]}% {CLASSES[k].lower()}" for k in order if whole[k]]
        return f"The tile holds {', '.join(parts)}."
    return f"Mostly {CLASSES[order[0]].lower()} with some {CLASSES[order[1]].lower()}."


def table(kind: str, split: str, count: int, *, seed: int, west: float, lean: int = 0) -> pa.Table:
    """``count`` rows of horizontal stripes; the first class is ``lean`` in most of them."""
    masks, pictures, texts = [], [], []
    for i in range(count):
        rng = np.random.default_rng([seed, len(kind), len(split), i])
        first = lean if rng.random() < 0.6 else int(rng.integers(7))
        second = int((first + 1 + rng.integers(6)) % 7)
        rows = int(rng.integers(SIZE // 2 + 1, SIZE - 3))
        mask = np.full((SIZE, SIZE), second, np.uint8)
        mask[:rows] = first
        shares = np.bincount(mask.ravel(), minlength=7) / mask.size
        noise = rng.integers(-12, 13, (SIZE, SIZE, 3))
        masks.append(mask)
        pictures.append(np.clip(np.array(PALETTE)[mask] + noise, 0, 255).astype(np.uint8))
        texts.append(
            [
                {"stream": name, "text": caption(name, shares), "model": "maker", "error": None}
                for name in ("numbers", "words")
            ]
        )
    real = kind == "real"
    ids = [f"{kind}/{split}-{i:04d}" for i in range(count)]
    counts = np.array([np.bincount(m.ravel(), minlength=7) for m in masks])
    names = [f"{id_.split('/')[1]}.png" for id_ in ids]
    columns = {
        "id": ids,
        "kind": [KINDS.index(kind)] * count,
        "split": [SPLITS.index(split)] * count,
        "image": image_column([encode_png(picture) for picture in pictures], names),
        "mask": image_column([encode_png(mask) for mask in masks], names),
        **composition_columns(counts),
        "captions": texts,
    }
    if real:
        step = SIZE * DEGREES
        columns |= {
            "longitude": [west + step * i for i in range(count)],
            "latitude": [36.0] * count,
            "transform": [
                [DEGREES, 0.0, west + step * i, 0.0, -DEGREES, 36.0] for i in range(count)
            ],
            "block": [f"{split}{i // 2}" for i in range(count)],
        }
    schema = arrow_schema(NAMES)
    arrays = [
        pa.array([None] * count, field.type)
        if field.name not in columns
        else columns[field.name].cast(field.type)
        if isinstance(columns[field.name], pa.Array)
        else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def bench_release(
    folder: Path,
    *,
    train: int = 24,
    synthetic: int = 12,
    test: int = 10,
    test_west: float = 31.0,
    synthetic_in_test: int = 0,
) -> Path:
    """A release under ``folder``: train tiles from 30° E, test tiles from ``test_west``.

    Real tiles lean to Tree, synthetic ones to Shrub.
    """
    parts = {
        ("real", "train"): table("real", "train", train, seed=1, west=30.0),
        ("real", "test"): table("real", "test", test, seed=2, west=test_west),
    }
    if synthetic:
        extra = table("synthetic", "train", synthetic, seed=3, west=0, lean=1)
        parts["synthetic", "train"] = extra
    if synthetic_in_test:
        extra = table("synthetic", "test", synthetic_in_test, seed=4, west=0)
        parts["synthetic", "test"] = extra
    configs: dict = {}
    for (kind, split), rows in parts.items():
        name = f"{kind}/{split}.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, folder / name)
        configs.setdefault(kind, {})[split] = {"rows": rows.num_rows, "files": [name]}
    for split in ("train", "test"):
        rows = pa.concat_tables([t for (_, s), t in parts.items() if s == split])
        name = f"metadata/{split}.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.select(METADATA).cast(arrow_schema(METADATA)), folder / name)
        configs.setdefault("metadata", {})[split] = {"rows": rows.num_rows, "files": [name]}
    ids = {str(key): rows.column("id").to_pylist() for key, rows in parts.items()}
    write_json(
        folder / "manifest.json",
        {
            "format": 1,
            "name": "striped",
            "version": "0.1.0",
            "content_sha256": digest_of([ids, test_west]),
            "configs": configs,
            "files": [file.as_json() for file in describe_files(folder, listed_files(folder))],
            "facts": {},
        },
    )
    return folder
