"""LEADERBOARD.md from result files, and the check that their vectors give their figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.bench import gallery, metrics, report, retrieval
from builder.bench.encoders import from_files
from builder.bench.ranks import Positives, rank
from builder.errors import ArasError
from builder.files import sha256_file
from builder.report.document import table

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
    folder. Raises ArasError when they are missing or the result is about another release.
    """
    told = retrieval.read(path)
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
    streams = [name for name in told["streams"] if name in rows.streams]
    images, texts = (path.parent / files[what]["file"] for what in ("images", "texts"))
    for name, claimed in told["streams"].items():
        asked = [name] if name in streams else streams
        again = _strict(rows, images, texts, asked)
        for way in ("t2i", "i2t"):
            for key in (*report.KS, "MedR"):
                ours, theirs = again[way][key], claimed["S"][way][key]
                if abs(ours - theirs) > TOLERANCE:
                    problems.append(
                        f"{name} {way} {key}: claims {theirs:.2f}, its vectors give {ours:.2f}"
                    )
        if abs(again["mR"] - claimed["S"]["mR"]) > TOLERANCE:
            problems.append(
                f"{name} mR: claims {claimed['S']['mR']:.2f}, its vectors give {again['mR']:.2f}"
            )
    return problems


def _strict(rows: gallery.Gallery, images: Path, texts: Path, streams: list[str]) -> dict[str, Any]:
    asked = rows.texts(streams)
    ours, theirs, _, _ = from_files(images, texts, rows, asked)
    keep, owner = retrieval.recoded(asked)
    return metrics.summary(*rank(ours[keep], theirs, Positives.owned(owner)))
