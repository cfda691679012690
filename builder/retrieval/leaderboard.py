"""LEADERBOARD.md from result files, and the check that their vectors give their figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.core.document import table
from builder.core.errors import ArasError
from builder.core.files import sha256_file
from builder.retrieval import gallery, protocol, report, result
from builder.retrieval.models import Model, Settings
from builder.retrieval.vectors import from_files

TOLERANCE = 0.005
"""Percentage points by which a claimed figure may differ from the re-scored one: its rounding."""


def board(results: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Markdown: one table per release, split and stream, best mean recall first.

    ``results`` are (name of the file, result). Raises ArasError where there is none.
    """
    if not results:
        raise ArasError("no result files: `aras bench retrieval RELEASE --out FILE` writes one")
    groups: dict[tuple[str, ...], list[tuple[str, dict[str, Any], dict[str, Any]]]] = {}
    for name, one in results:
        release = one["release"]
        for stream, figures in one["streams"].items():
            key: tuple[str, ...] = (
                str(release["name"]),
                str(release["version"]),
                str(release["content_sha256"]),
                release["split"],
                release["ids_sha256"],
                stream,
                figures["texts_sha256"],
            )
            groups.setdefault(key, []).append((name, one, figures))
    parts = [
        "# Leaderboard\n",
        "Retrieval between images and captions, strict protocol, per cent; best mean recall (mR) "
        "first. D mR merges equal captions; tail is macro R@10 over the rarest classes. Compare "
        "within one table only, and differences only with `aras bench compare`.\n",
    ]
    for key in sorted(groups):
        release_name, version, content, split, ids, stream, _ = key
        entries = sorted(groups[key], key=lambda entry: (-entry[2]["S"]["mR"], entry[0]))
        figures = entries[0][2]
        parts.append(f"## {release_name} {version}, {split}, captions: {stream}\n")
        parts.append(
            f"{figures['images']:,} images, {figures['texts']:,} captions; content "
            f"`{content[:16]}`, rows `{ids[:16]}`; {report.checks(entries[0][1]['release'])}\n"
        )
        header = ["model", *report.COLUMNS, "mR", "95 % of mR", "D mR", "tail", "file"]
        parts.append(table(header, [_row(*entry) for entry in entries]))
    return "\n".join(parts)


def _row(name: str, one: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    strict = figures["S"]
    low, high = strict["intervals"]["mR"]
    tail = strict.get("classes", {}).get("tail", {})
    rare = f"{(tail['t2i']['R@10'] + tail['i2t']['R@10']) / 2:.2f}" if "t2i" in tail else "–"
    merged = f"{figures['D']['mR']:.2f}" if "D" in figures else "–"
    mean = f"{strict['mR']:.2f}"
    return [
        one["model"]["name"],
        *report.recalls(strict),
        mean,
        f"{low:.2f}–{high:.2f}",
        merged,
        rare,
        f"`{name}`",
    ]


def check(path: Path, release: Path) -> list[str]:
    """Re-score the vectors that stand beside a result; what differs from its figures, if anything.

    The Parquet files named in the result (images and texts, by id) are read from the result's
    folder. Every figure, interval and digest of every stream is computed again with the result's
    own seed and the default number of resamples and queries; but L is left out, since the vectors
    of captions without numbers are not handed in. Raises ArasError when files are missing or the
    result is about another release.
    """
    told = result.read(path)
    files = told["model"].get("vectors")
    if not files:
        raise ArasError(
            f"{path}: names no vectors to re-score; `aras bench retrieval … --vectors DIR` writes "
            "them and their digests into the result"
        )
    rules = told["release"]["checks"]
    rows = gallery.load(
        release,
        told["release"]["split"],
        min_km=rules["min_km"],
        near=rules["near"]["rule"],
        synthetic=rules["synthetic"]["rule"],
    )
    for key in ("content_sha256", "ids_sha256"):
        if rows.facts[key] != told["release"][key]:
            raise ArasError(
                f"{path}: is about another release or other rows ({key} {told['release'][key]}, "
                f"{release} has {rows.facts[key]})"
            )
    problems = []
    for one in files.values():
        where = path.parent / one["file"]
        if not where.is_file():
            raise ArasError(f"{where}: is missing; it must lie beside {path.name}")
        if sha256_file(where) != one["sha256"]:
            problems.append(f"{where.name}: is not the file whose digest the result names")
    if problems:
        return problems
    return [*_differences(told, rows, path)]


def _differences(told: dict[str, Any], rows: gallery.Gallery, path: Path) -> Iterator[str]:
    """What the vectors beside ``path`` do not give of the figures of every stream."""
    model = Model(told["model"]["spec"], told["model"]["proxy"])
    proxy = model.proxy if model.is_proxy else None
    every = [name for name in rows.streams if name != proxy]
    yield from _unlike("release", told["release"], rows.facts)
    claimed = told["streams"]
    names = every if protocol.ALL in claimed else [name for name in every if name in claimed]
    asked = rows.texts(names)
    images, texts = (
        path.parent / told["model"]["vectors"][what]["file"] for what in ("images", "texts")
    )
    ours, theirs, _, _ = from_files(images, texts, rows, asked)
    settings = Settings(seed=told["settings"]["seed"])
    known = dict(protocol.members(asked, protocol.wanted(rows, every, proxy)))
    for name, printed in claimed.items():
        if name not in known:
            yield f"{name}: {rows.release} has no such captions; it has {', '.join(rows.streams)}"
            continue
        again, _, _ = protocol.figures(rows, ours, theirs, asked, known[name], settings)
        # Vectors of captions without numbers are not handed in, so L is not checked nor shown.
        yield from _unlike(name, {k: v for k, v in printed.items() if k != "L"}, again)


def _unlike(where: str, claimed: Any, ours: Any) -> Iterator[str]:
    """What differs between two trees of figures, each with its place; numbers by `TOLERANCE`."""
    if isinstance(ours, dict) and isinstance(claimed, dict):
        for key in sorted(ours.keys() | claimed.keys()):
            if key not in claimed:
                yield f"{where} {key}: is missing; run `aras bench retrieval` of this version"
            elif key not in ours:
                yield f"{where} {key}: claims a figure that its vectors do not give"
            else:
                yield from _unlike(f"{where} {key}", claimed[key], ours[key])
    elif isinstance(ours, list) and isinstance(claimed, list) and len(ours) == len(claimed):
        for edge, (theirs, mine) in enumerate(zip(claimed, ours, strict=True)):
            yield from _unlike(f"{where}[{edge}]", theirs, mine)
    elif isinstance(ours, (int, float)) and isinstance(claimed, (int, float)):
        if not abs(ours - claimed) <= TOLERANCE:  # NaN differs too
            yield f"{where}: claims {claimed:.2f}, its vectors give {ours:.2f}"
    elif ours != claimed:
        yield f"{where}: claims {claimed}, its vectors give {ours}"
