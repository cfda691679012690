"""Loads a published dataset as a plain user does, in a process of its own, and counts its rows.

``python -m builder.publish.hub_load REPO REVISION CONFIG…`` prints {config: {split: rows}} as
JSON. The endpoint and the token come from the environment, which huggingface_hub and datasets
read once, at import: hence the process. Nothing is left in the user's cache.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from builder.core.errors import WorkFailed
from builder.core.files import scratch
from builder.core.manifest import Manifest
from builder.publish.hub_client import HubRepo, environment

LONGEST = 3600.0
"""Seconds after which counting is given up."""

Counts = dict[str, dict[str, int]]
"""Config → split → rows."""

Count = Callable[[str, str | None, str, str, list[str]], Counts]
"""(endpoint, token, repo, revision, configs) → rows of each split of each config."""


class LoadFailed(Exception):
    """`load_dataset` raised in the other process; the message is its last words."""


def count_rows(repo: str, revision: str, configs: Iterable[str]) -> Counts:
    """Rows of every split of ``configs`` as ``load_dataset`` streams them.

    The first row of each split is decoded whole, images too; the rest is counted through the
    ``id`` column alone, so that counting does not download the images.
    """
    from datasets import config as settings
    from datasets import load_dataset

    settings.USE_PARQUET_EXPORT = False  # the files of the repo, not the Hub's converted copy
    counts: Counts = {}
    for config in configs:
        for split, rows in load_dataset(repo, config, revision=revision, streaming=True).items():
            next(iter(rows))
            counts.setdefault(config, {})[str(split)] = 0
        ids = load_dataset(repo, config, revision=revision, streaming=True, columns=["id"])
        for split, rows in ids.items():
            batches = rows.with_format("arrow").iter(10_000)
            counts[config][str(split)] = sum(batch.num_rows for batch in batches)
    return counts


def count_rows_apart(
    endpoint: str, token: str | None, repo: str, revision: str, configs: Iterable[str]
) -> Counts:
    """``count_rows`` in a fresh process with a fresh cache; raises LoadFailed."""
    command = [sys.executable, "-m", "builder.publish.hub_load", repo, revision, *configs]
    online = {"HF_DATASETS_OFFLINE": "0"}
    secret = {"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with scratch("aras-load") as folder:
        home = str(folder)
        caches = {"HF_HOME": home, "HF_HUB_CACHE": f"{home}/hub", "HF_DATASETS_CACHE": f"{home}/ds"}
        own = {**environment(endpoint), **online, **secret, **caches, "PYTHONPATH": path}
        try:
            done = subprocess.run(
                command, env={**os.environ, **own}, capture_output=True, text=True, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"still not done after {LONGEST / 60:.0f} min") from None
    if done.returncode:
        raise LoadFailed(_last_words(done.stderr) or f"exit code {done.returncode}")
    counts: Counts = json.loads(done.stdout.splitlines()[-1])
    return counts


def verify_rows(hub: HubRepo, commit: str, manifest: Manifest, count: Count) -> None:
    """Raise WorkFailed unless every config and split loads at ``commit`` as it was packaged."""
    expected: Counts = {
        config: {split: part.rows for split, part in splits.items()}
        for config, splits in manifest.configs.items()
    }
    hub.say(f"loading {', '.join(expected)} as a user would")
    loaded = hub.call(
        "load_dataset",
        lambda: count(hub.endpoint, hub.token, hub.repo, commit, list(expected)),
        retry_if=lambda error: isinstance(error, LoadFailed),
        attempts=3,
    )
    if loaded != expected:
        raise WorkFailed(
            f"{hub.repo} at {commit[:8]} does not load as it was packaged; not tagged\n"
            f"  packaged {expected}\n  loaded   {loaded}"
        )


def _last_words(stderr: str) -> str:
    """What is below the last indented line: the error itself, not the frames it came from."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    indented = [i for i, line in enumerate(lines) if line[0].isspace()]
    return "\n".join(lines[indented[-1] + 1 :] if indented else lines)


if __name__ == "__main__":
    print(json.dumps(count_rows(sys.argv[1], sys.argv[2], sys.argv[3:])), flush=True)
    os._exit(0)  # pyarrow's threads may hang at interpreter exit while streams are open
