"""What a result is called: its entry on a leaderboard, and the file that no other result has."""

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from builder.core.errors import ArasError
from builder.core.escape import one_line
from builder.retrieval.result import Entry, Result

FOLDER = "reports"
MOST = 200
"""Characters of a name, an author or a training on a leaderboard."""
_WORD = 40
"""Characters of a part of a file's name."""


def entry_of(
    result: Result, name: str = "", author: str = "", link: str = "", training: str = ""
) -> Entry:
    """The entry of a result that was computed today; what is not said stays empty.

    Bundled baselines are of aras, and trained on nothing. Raises ArasError for a link that is no
    web address and for a text too long for a table.
    """
    bundled = result.model.source == "bundled"
    words = {
        "name": one_line(name) or result.model.name,
        "author": one_line(author) or ("aras" if bundled else ""),
        "link": one_line(link),
        "training": one_line(training) or ("none" if bundled else ""),
    }
    for option, text in words.items():
        if len(text) > MOST:
            raise ArasError(f"--{option} has {len(text)} characters; at most {MOST} fit a table")
    if words["link"] and not re.match(r"https?://\S+$", words["link"]):
        raise ArasError(f"--link {words['link']} is not a web address; expected https://…")
    return Entry(**words, date=datetime.now(timezone.utc).date().isoformat())


def default_path(result: Result, streams: Sequence[str] = ()) -> Path:
    """reports/retrieval-RELEASE-VERSION-NAME[-AUTHOR][-TRAINING][-STREAM…]-seedN-DATE.json."""
    release, entry = result.release, result.entry
    bundled = result.model.source == "bundled"
    said = [] if bundled or entry is None else [entry.author, entry.training]
    parts = [
        str(release.name),
        str(release.version),
        *([release.split] if release.split != "test" else []),
        result.name,
        *said,
        *streams,
        f"seed{result.settings['seed']}",
        entry.date if entry else "",
    ]
    words = (re.sub(r"[^a-z0-9._]+", "-", part.lower()).strip("-.")[:_WORD] for part in parts)
    return Path(FOLDER) / f"retrieval-{'-'.join(filter(None, words))}.json"


def free(path: Path) -> Path:
    """``path``, or the first of path-2, path-3 … that no file has."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raise ArasError for a file that is there: results are records, and stay as they are."""
    for path in paths:
        if path.exists():
            raise ArasError(
                f"{path} already exists; not changed. Name another place, or remove it first"
            )
