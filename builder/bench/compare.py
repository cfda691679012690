"""Two result files on the same queries, compared with intervals and tests."""

from pathlib import Path
from typing import Any

import numpy as np

from builder.bench import uncertainty
from builder.bench.ranks import Array, Pair, Ranks
from builder.bench.retrieval import PARTS, ranks_path, read
from builder.errors import ArasError
from builder.files import sha256_file


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
        told[name] = uncertainty.compare(
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
