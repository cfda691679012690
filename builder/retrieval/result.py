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
from builder.core.errors import ArasError
from builder.core.files import atomic, hash_file, read_json, sha256_file, write_json
from builder.retrieval import intervals, metrics, protocol
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.models import Advance, Model, Settings, vectors_of
from builder.retrieval.ranks import Array, Pair, Positives, Ranks, rank
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
    for name, mine in protocol.members(asked, protocol.wanted(rows, names, proxy)):
        figures[name], pair, keep = protocol.figures(rows, images, texts, asked, mine, settings)
        owner = protocol.owner_of(asked, mine, keep)
        if reads and changed[mine].any():
            shown, positives = protocol.some_rows(images, keep), Positives.owned(owner)
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


def compare(ours: Path, theirs: Path, resamples: int = 2_000, seed: int = 0) -> dict[str, Any]:
    """Differences ours − theirs by stream as in `uncertainty.compare`, from two result files.

    Streams that only one of them has, or with other captions, stand in ``not_compared``. Raises
    ArasError unless both answered the same queries: release content, rows and captions.
    """
    a, b = read(ours), read(theirs)
    for key in ("content_sha256", "split", "ids_sha256"):
        if a["release"][key] != b["release"][key]:
            raise ArasError(
                f"{ours} and {theirs} answered other queries: {key} is {a['release'][key]} and "
                f"{b['release'][key]}; run both on the same release and split"
            )
    shared = [name for name in a["streams"] if name in b["streams"]]
    same = [n for n in shared if a["streams"][n]["texts_sha256"] == b["streams"][n]["texts_sha256"]]
    if not same:
        raise ArasError(f"{ours} and {theirs} have no caption stream in common")
    parts = [_ranks(path, result) for path, result in ((ours, a), (theirs, b))]
    told: dict[str, Any] = {}
    for name in same:
        pairs = [_pair(part, name) for part in parts]
        blocks = parts[0].get(f"{name}/block")
        told[name] = intervals.compare(
            pairs[0], pairs[1], parts[0][f"{name}/owner"], blocks, resamples, seed
        )
    return {
        "kind": "comparison",
        "ours": a["model"]["name"],
        "theirs": b["model"]["name"],
        "release": a["release"],
        "resamples": resamples,
        "seed": seed,
        "streams": told,
        "not_compared": [name for name in {**a["streams"], **b["streams"]} if name not in told],
    }


def _ranks(path: Path, result: dict[str, Any]) -> dict[str, Array]:
    beside = ranks_path(path)
    if not beside.exists() or sha256_file(beside) != result.get("ranks_sha256"):
        raise ArasError(
            f"{beside}: missing, or not the ranks that {path} was written with; run "
            "`aras bench retrieval` again"
        )
    with np.load(beside, allow_pickle=False) as archive:
        return dict(archive)


def _pair(ranks: dict[str, Array], name: str) -> Pair:
    def one(way: str) -> Ranks:
        found = {
            part: ranks[f"{name}/{way}/{part}"].astype(np.int64)
            for part in (*PARTS, "tied")
            if f"{name}/{way}/{part}" in ranks
        }
        return Ranks(**found)

    return one("t2i"), one("i2t")
