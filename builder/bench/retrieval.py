"""Retrieval figures of one model on a release: result JSON with all that it takes to repeat it."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import issparse

from builder import __version__
from builder.bench import metrics, streams
from builder.bench.gallery import Gallery, Texts
from builder.bench.models import Advance, Model, Settings, vectors_of
from builder.bench.ranks import Array, Positives, rank
from builder.errors import ArasError
from builder.files import atomic, hash_file, read_json, sha256_file, write_json
from builder.scores.leakage import without_digits

FORMAT = 1
ROWS = 4096
"""Vectors of one row group where they are written to Parquet."""

PARTS = ("above", "level", "negatives")
"""Arrays of `Ranks`, under stream/direction/part in the file beside a result; "tied" stands there
too."""


@dataclass(frozen=True)
class Found:
    """A result, its strict ranks by stream, and the vectors that gave it."""

    result: dict[str, Any]
    ranks: dict[str, Array]
    images: Array
    texts: Array
    image_ids: list[str]
    asked: Texts


def run(
    rows: Gallery,
    model: Model,
    only: Sequence[str] = (),
    settings: Settings | None = None,
    advance: Advance = lambda n: None,
) -> Found:
    """Embed, rank and describe each stream (those named in ``only``), and all streams together.

    Figures are those of `protocol.evaluate`; where captions hold numbers and the model reads
    text, "L" has the strict figures with numbers removed from the captions, and the change.
    Raises ArasError for a stream that is not there and for a model that cannot be had.
    """
    settings = settings or Settings()
    names = list(only) or list(rows.streams)
    if model.is_proxy and (model.proxy is None or model.proxy not in rows.streams):
        raise ArasError(
            f"--model {model.spec} searches the captions of another stream: name it with --proxy "
            f"({', '.join(rows.streams)})"
        )
    proxy = model.proxy if model.is_proxy else None
    names = [name for name in names if name != proxy]
    asked = rows.texts(names)
    if not names or not asked.texts:
        raise ArasError(f"{rows.release}: no captions to ask with; name other streams")
    plain = [without_digits(text) for text in asked.texts]
    changed = np.array([a != b for a, b in zip(plain, asked.texts, strict=True)])
    extra = [plain[i] for i in np.flatnonzero(changed)]
    images, both, facts, notes = vectors_of(rows, model, asked, extra, settings, advance)
    texts = both[: len(asked.texts)]
    # Where the text without numbers stands among all vectors: after the asked ones, or its own.
    plain_at = np.arange(len(asked.texts))
    reads = both.shape[0] > len(asked.texts)
    if reads:
        plain_at[changed] = len(asked.texts) + np.arange(len(extra))

    figures: dict[str, Any] = {}
    ranks: dict[str, Array] = {}
    for name, mine in streams.members(asked, streams.wanted(rows, names, proxy)):
        figures[name], pair, keep = streams.figures(rows, images, texts, asked, mine, settings)
        owner = streams.owner_of(asked, mine, keep)
        if reads and changed[mine].any():
            shown, positives = streams.some_rows(images, keep), Positives.owned(owner)
            found = metrics.summary(*rank(shown, both[plain_at[mine]], positives, settings.device))
            figures[name]["L"] = {**found, "change_of_mR": found["mR"] - figures[name]["S"]["mR"]}
        for way, one in zip(("t2i", "i2t"), pair, strict=True):
            for part in (*PARTS, "tied") if one.tied is not None else PARTS:
                ranks[f"{name}/{way}/{part}"] = getattr(one, part).astype(np.int32)
        ranks[f"{name}/owner"] = owner.astype(np.int32)
        if rows.blocks is not None:
            ranks[f"{name}/block"] = np.array([rows.blocks[i] for i in keep])
    if not figures:
        raise ArasError(f"{rows.release}: streams {', '.join(names)} hold no captions")
    kept = {k: v for k, v in asdict(settings).items() if k != "cache"}
    result = {
        "kind": "retrieval",
        "format": FORMAT,
        "model": {"name": model.label, "spec": model.spec, "proxy": model.proxy, **facts},
        "release": rows.facts,
        "settings": kept,
        "libraries": libraries(),
        "notes": notes,
        "streams": figures,
    }
    return Found(result, ranks, images, texts, rows.ids, asked)


def write(found: Found, path: Path, vectors: Path | None = None) -> dict[str, Any]:
    """Write the result, its ranks beside it and, if wanted, the vectors as two Parquet files.

    Returns the result as written, with the digests of those files.
    """
    result = dict(found.result)
    if vectors is not None:
        told = {}
        for what, ids, rows in (
            ("images", found.image_ids, found.images),
            ("texts", found.asked.ids, found.texts),
        ):
            with atomic(vectors / f"{what}.parquet") as temporary:
                _write_vectors(temporary, ids, rows)
            told[what] = {
                "file": f"{what}.parquet",
                **hash_file(vectors / f"{what}.parquet", "sha256"),
            }
        result["model"] = {**result["model"], "vectors": told}
    ranks = ranks_path(path)
    with atomic(ranks) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **found.ranks)  # type: ignore[arg-type]
    result["ranks_sha256"] = sha256_file(ranks)
    write_json(path, result)
    return result


def ranks_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.ranks.npz")


def read(path: Path) -> dict[str, Any]:
    """A result of `aras bench retrieval`. Raises ArasError when the file is none."""
    try:
        result = read_json(path)
    except FileNotFoundError as error:
        raise ArasError(f"{path}: no such file") from error
    except (ValueError, OSError) as error:
        raise ArasError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(result, dict) or result.get("kind") != "retrieval":
        raise ArasError(f"{path}: not a result of `aras bench retrieval`")
    if result.get("format") != FORMAT:
        raise ArasError(f"{path}: format {result.get('format')}; this version reads {FORMAT}")
    return result


def libraries() -> dict[str, str]:
    """Versions of everything that figures could depend on."""
    names = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pillow")
    return {
        "aras": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _write_vectors(path: Path, ids: Sequence[str], vectors: Array) -> None:
    """Parquet of id and vector (float32), made and written some rows at a time."""
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), vectors.shape[1]))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(ids), ROWS):
            part: Any = vectors[start : start + ROWS]
            dense = np.ascontiguousarray(part.toarray() if issparse(part) else part, np.float32)
            listed = pa.FixedSizeListArray.from_arrays(dense.ravel(), vectors.shape[1])
            some = {"id": pa.array(ids[start : start + ROWS], pa.string()), "vector": listed}
            writer.write_table(pa.table(some, schema=schema))
