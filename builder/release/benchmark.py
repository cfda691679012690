"""benchmark/: the test tiles and captions as tasks of mteb, without a second copy of a picture.

``task.py`` reads the pictures of real/test-*.parquet; ``captions.parquet`` says which captions ask
and which of them are equal, ``benchmark.json`` what the tasks are called and what their data are
like. A release without captions of fair test tiles has no such folder.
"""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from builder.core.arrow import options
from builder.core.document import environment, templates
from builder.core.files import digest_of, read_json, write_json, write_text
from builder.core.licences import licence
from builder.core.manifest import Manifest
from builder.land.columns import KINDS
from builder.land.pictures import per_class
from builder.release.configs import CAPTION_ID
from builder.release.croissant import release_address
from builder.release.gaps import MIN_KM, gaps
from builder.release.rows import metadata, opened
from builder.scores.relevance import chance, groups_of, shares

FOLDER = "benchmark"
CAPTIONS = f"{FOLDER}/captions.parquet"
FACTS = f"{FOLDER}/benchmark.json"
BASELINES = f"{FOLDER}/baselines.json"
EVAL = "eval.yaml"
"""Where the Hub looks for a leaderboard's tasks."""
TEXTS = (EVAL, FACTS, BASELINES, f"{FOLDER}/README.md")
"""What `write_texts` writes, which says where and as what a release is published."""
SPLIT = "test"
ALL = "all"
"""Name of all streams together, several captions a tile."""
KS = (1, 5, 10)
GRADED_QUERIES = 5_000
"""Queries of protocol C at most, as in `aras bench retrieval`."""

PROTOCOLS = {
    "S": ("", "only the tile that a caption was written for is right"),
    "D": ("Merged", "equal captions are one caption, which belongs to all their tiles"),
    "C": ("Graded", "tiles are graded 0 to 100 by the land cover they share with the query's"),
}
"""Protocol → word in the names of its tasks, and what is right by it."""
WAYS = {"t2i": "Retrieve satellite tiles by caption", "i2t": "Retrieve captions by satellite tile"}

_COLUMNS = ("id", "kind", "pixels", "longitude", "latitude", "transform", "captions")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "tile", "stream", "text", "merged", "merged_of_all")]
)


def write_benchmark(release: Path, manifest: Manifest) -> bool:
    """Write captions, facts and tasks of the test split; False, and no folder, where it has none.

    Memory holds config metadata of the test split. Raises ArasError for a file of it that cannot be
    read.
    """
    captions, facts = _content(release, manifest)
    if captions is None:
        return False
    (release / FOLDER).mkdir(exist_ok=True)
    with pq.ParquetWriter(release / CAPTIONS, _SCHEMA, **options(_SCHEMA)) as writer:
        writer.write_table(captions)
    write_json(release / FACTS, facts)
    for name in ("task.py", "relevance.py"):
        shutil.copyfile(templates() / FOLDER / name, release / FOLDER / name)
    return True


def differ(release: Path, manifest: Manifest) -> bool:
    """Whether captions or facts on disk are not those of the rows."""
    captions, facts = _content(release, manifest)
    if captions is None or not (release / CAPTIONS).is_file():
        return (captions is not None) != (release / CAPTIONS).is_file()
    with opened(release / CAPTIONS) as file:
        held = file.read().cast(_SCHEMA)
    return not held.equals(captions) or read_json(release / FACTS) != facts


def write_texts(release: Path, manifest: Manifest) -> None:
    """Write the card, the baselines and, for the Hub, eval.yaml; nothing without the folder."""
    if not (release / FACTS).is_file():
        (release / EVAL).unlink(missing_ok=True)
        return
    facts = read_json(release / FACTS)
    facts |= _tasks(manifest, tuple(facts["streams"]))
    facts["release"] |= _named(manifest)
    write_json(release / FACTS, facts)
    tasks: list[dict[str, str]] = []
    for name in (task["name"] for task in facts["tasks"]):
        tasks.append({"id": name})
        for stream in facts["streams"]:
            part = {"id": task_id(name, stream), "config": stream, "split": SPLIT}
            tasks.append(part)
    about = {
        "name": manifest.title or manifest.name,
        "description": "Retrieval between satellite tiles and captions of their land cover",
        "evaluation_framework": "mteb",
        "tasks": tasks,
    }
    write_text(release / EVAL, yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    figures = [each.as_json() for each in manifest.facts.retrieval if each.split == SPLIT]
    exact = {stream: values["chance"] for stream, values in facts["streams"].items()}
    write_json(release / BASELINES, {"chance": exact, "models": figures})
    values = {"facts": facts, "title": about["name"], "models": figures, "protocols": PROTOCOLS}
    text = environment().get_template(f"{FOLDER}/README.md.j2").render(values)
    write_text(release / FOLDER / "README.md", text)


def task_id(name: str, stream: str) -> str:
    """How mteb and eval.yaml call a task on a caption stream alone."""
    return f"{name}_{stream}_{SPLIT}"


def _content(release: Path, manifest: Manifest) -> tuple[pa.Table | None, dict[str, Any]]:
    """The rows of captions.parquet and the content of benchmark.json; None where nothing asks."""
    rows, left_out = _fair_rows(release, manifest)
    if rows is None:
        return None, {}
    ids = rows.column("id").to_pylist()
    table = _captions(ids, rows.column("captions").to_pylist())
    streams = list(dict.fromkeys(table.column("stream").to_pylist()))
    share = shares(per_class(rows.column("pixels")))
    place = {id_: row for row, id_ in enumerate(ids)}
    names = [*streams, *([ALL] if len(streams) > 1 else [])]
    described = {}
    for stream in names:
        own = [row for row in table.to_pylist() if stream in (row["stream"], ALL)]
        described[stream] = _stream(
            own, share, place, "merged_of_all" if stream == ALL else "merged"
        )
    if any(values["tiles"] < 2 for values in described.values()):
        return None, {}
    return table, {
        "release": {
            **_named(manifest),
            "split": SPLIT,
            "rows": len(ids),
            "ids_sha256": digest_of(ids),
            "min_km": MIN_KM,
            "left_out_near_train": left_out,
        },
        "pictures": list(manifest.split_files("real", SPLIT)),
        "captions": [CAPTIONS],
        "graded_queries": GRADED_QUERIES,
        "streams": described,
        **_tasks(manifest, names),
    }


def _named(manifest: Manifest) -> dict[str, str]:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "content_sha256": manifest.content_sha256,
    }


def _tasks(manifest: Manifest, streams: Sequence[str]) -> dict[str, Any]:
    """What mteb asks to know of the tasks, from the words of the manifest."""
    # A record of real tiles alone asks the same as the whole release.
    whole = manifest.name.removesuffix(f"-{manifest.part.kind}") if manifest.part else manifest.name
    parts = re.split(r"[^A-Za-z0-9]+", whole)
    word = "".join(part[:1].upper() + part[1:] for part in parts)
    spdx = manifest.license.lower()
    return {
        "metadata": {
            "dataset": {
                "path": manifest.repo or manifest.name or "release",
                "revision": f"v{manifest.version}",
            },
            "reference": release_address(manifest),
            "type": "Any2AnyRetrieval",
            "modalities": ["text", "image"],
            "eval_splits": [SPLIT],
            "eval_langs": {stream: ["eng-Latn"] for stream in streams},
            "date": [manifest.date, manifest.date] if manifest.date else None,
            "domains": ["Scene"],
            "task_subtypes": ["Image Text Retrieval", "Cross-Modal Retrieval"],
            "license": spdx if spdx.startswith("cc-") else licence(manifest.license)["url"],
            "annotations_creators": "derived",
            "dialect": [],
            "sample_creation": "created",
            "bibtex_citation": "",
        },
        "tasks": [
            {
                "name": f"{word or 'Release'}{name}{way.upper()}Retrieval",
                "protocol": protocol,
                "way": way,
                "description": f"{what}: {meaning}.",
                "main_score": "expected_ndcg_at_10" if protocol == "C" else "R_at_10",
            }
            for protocol, (name, meaning) in PROTOCOLS.items()
            for way, what in WAYS.items()
        ],
    }


def _fair_rows(release: Path, manifest: Manifest) -> tuple[pa.Table | None, int]:
    """Real test rows that lie `MIN_KM` from all train tiles, and how many were too near."""
    files = manifest.configs.get("metadata", {}).get(SPLIT)
    if not files or not manifest.split_files("real", SPLIT):
        return None, 0
    with opened(release / files.files[0]) as first:
        if not set(_COLUMNS) <= set(first.schema_arrow.names):
            return None, 0
    parts = [table for split, table in metadata(release, _COLUMNS) if split == SPLIT]
    table = pa.concat_tables(parts)
    table = table.filter(pa.array(table.column("kind").to_numpy() == KINDS.index("real")))
    if not table.num_rows:
        return None, 0
    gap = gaps(release, table, SPLIT, MIN_KM)
    fair = np.ones(table.num_rows, dtype=bool) if gap is None else gap >= MIN_KM
    return (table.filter(pa.array(fair)) if fair.any() else None), int((~fair).sum())


def _captions(ids: Sequence[str], captions: Sequence[Any]) -> pa.Table:
    """The captions that hold words, row by row, with the first equal one of stream and of all."""
    rows = [
        {"id": CAPTION_ID.format(id_, each["stream"]), "tile": id_, **each}
        for id_, some in zip(ids, captions, strict=True)
        for each in some or ()
        if each["text"] and each["text"].strip()
    ]
    same = groups_of([row["text"] for row in rows]) if rows else ()
    firsts: dict[Any, str] = {}
    for row, group in zip(rows, same, strict=True):
        row["merged"] = firsts.setdefault((row["stream"], int(group)), row["id"])
        row["merged_of_all"] = firsts.setdefault(int(group), row["id"])
    columns = {name: [row[name] for row in rows] for name in _SCHEMA.names}
    return pa.table(columns, schema=_SCHEMA)


def _stream(
    rows: Sequence[Mapping[str, str]],
    share: npt.NDArray[np.float32],
    place: Mapping[str, int],
    merged: str,
) -> dict[str, Any]:
    """Descriptive statistics of the captions of a stream, and what chance earns on them."""
    tiles = list(dict.fromkeys(row["tile"] for row in rows))
    lengths = [len(row["text"]) for row in rows]
    tiles_of: dict[str, set[str]] = {}
    shown_of: dict[str, set[str]] = {}
    for row in rows:
        tiles_of.setdefault(row[merged], set()).add(row["tile"])
        shown_of.setdefault(row["tile"], set()).add(row[merged])
    own = np.unique([row["tile"] for row in rows], return_counts=True)[1]
    t2i = np.array([len(tiles_of[row[merged]]) for row in rows])
    i2t = np.array([len(shown) for shown in shown_of.values()])
    return {
        "tiles": len(tiles),
        "captions": len(rows),
        "distinct_captions": len(tiles_of),
        "texts_sha256": digest_of([[row["id"], row["text"]] for row in rows]),
        "chance_overlap": chance(share[[place[tile] for tile in tiles]]),
        "text_length": {
            "total": sum(lengths),
            "min": min(lengths),
            "average": sum(lengths) / len(lengths),
            "max": max(lengths),
        },
        "relevant_per_query": {
            "S": {"t2i": _spread(np.ones(len(rows), dtype=int)), "i2t": _spread(own)},
            "D": {"t2i": _spread(t2i), "i2t": _spread(i2t)},
        },
        "chance": {
            "S": {"t2i": _by_chance([1], len(tiles)), "i2t": _by_chance(own, len(rows))},
            "D": {"t2i": _by_chance(t2i, len(tiles)), "i2t": _by_chance(i2t, len(tiles_of))},
        },
    }


def _spread(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    return {
        "min": int(counts.min()),
        "average": float(counts.mean()),
        "max": int(counts.max()),
    }


def _by_chance(right: Sequence[int] | npt.NDArray[np.int64], shown: int) -> dict[str, float]:
    """Exact R@K, per cent, of a random order of ``shown`` items; ``right`` ones of each query."""
    counts, times = np.unique(right, return_counts=True)
    return {
        f"R@{k}": 100
        * float(
            np.average(
                [
                    1 - math.comb(shown - int(n), min(k, shown)) / math.comb(shown, min(k, shown))
                    for n in counts
                ],
                weights=times,
            )
        )
        for k in KS
    }
