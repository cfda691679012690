"""LEADERBOARD.md from result files, and the check that their vectors give their figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.core.document import table
from builder.core.errors import ArasError
from builder.core.files import sha256_file
from builder.core.manifest import Manifest, RetrievalFigures
from builder.retrieval import baselines, gallery, protocol, report
from builder.retrieval.benchmark import Model
from builder.retrieval.protocol import Settings
from builder.retrieval.result import Evaluation, ModelFacts, Result, read
from builder.retrieval.vectors import from_files

TOLERANCE = 0.005
"""Percentage points by which a claimed figure may differ from the re-scored: its rounding."""

Entry = tuple[str, Result, Evaluation]
"""Name of the file, the result in it, and its figures of a stream."""


def board(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: one table per release, split and stream, best mean recall first.

    ``results`` are (name of the file, result). Raises ArasError where there is none.
    """
    if not results:
        raise ArasError(
            "no result files: `aras bench retrieval RELEASE --out FILE` writes a result"
        )
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for name, result in results:
        release = result.release
        for stream, evaluation in result.streams.items():
            key: tuple[str, ...] = (
                str(release.name),
                str(release.version),
                str(release.content_sha256),
                release.split,
                release.ids_sha256,
                stream,
                evaluation.texts_sha256,
            )
            groups.setdefault(key, []).append((name, result, evaluation))
    parts = [
        "# Leaderboard\n",
        "Retrieval between images and captions, strict protocol, per cent; best mean recall (mR) "
        "first. D mR merges equal captions; tail is macro R@10 over the rarest classes. Compare "
        "within one table only, and differences only with `aras bench compare`. An oracle knows "
        "what no model is given; a baseline needs no vision model.\n",
    ]
    for key in sorted(groups):
        release_name, version, content, split, ids, stream, _ = key
        entries = sorted(groups[key], key=lambda entry: (-entry[2].S.mR, entry[0]))
        _, first, evaluation = entries[0]
        parts.append(f"## {release_name} {version}, {split}, captions: {stream}\n")
        parts.append(
            f"{evaluation.images:,} images, {evaluation.texts:,} captions; content "
            f"`{content[:16]}`, rows `{ids[:16]}`; {report.checks(first.release.checks)}\n"
        )
        header = ["model", *report.COLUMNS, "mR", "95 % of mR", "D mR", "tail", "file"]
        parts.append(table(header, [_row(*entry) for entry in entries]))
    return "\n".join(parts)


def _row(name: str, result: Result, evaluation: Evaluation) -> list[str]:
    strict = evaluation.S
    span = strict.intervals.mR if strict.intervals else None
    tail = strict.classes.tail if strict.classes else None
    rare = "–"
    if tail and tail.t2i and tail.i2t:
        rare = f"{(tail.t2i['R@10'] + tail.i2t['R@10']) / 2:.2f}"
    merged = f"{evaluation.D.mR:.2f}" if evaluation.D else "–"
    return [
        _marked(result.model),
        *report.recalls(strict),
        f"{strict.mR:.2f}",
        f"{span[0]:.2f}–{span[1]:.2f}" if span else "–",
        merged,
        rare,
        f"`{name}`",
    ]


def _marked(model: ModelFacts) -> str:
    """The model's name, and what it is if it is none; results of earlier versions do not say so."""
    baseline = baselines.find(model.spec)
    role = model.role or (baseline.role if baseline else "")
    role = "unchecked" if model.is_unchecked else role
    return f"{model.name} ({role})" if role else model.name


def figures(results: Sequence[tuple[str, Result]], manifest: Manifest) -> list[RetrievalFigures]:
    """The strict figures of results on the real rows of a release, for its card.

    Raises ArasError where a result is about another release, or about rows that its checks would
    have left out.
    """
    rows = []
    for name, result in results:
        release, checks = result.release, result.release.checks
        if release.content_sha256 != manifest.content_sha256:
            raise ArasError(
                f"{name}: is about another release (content {str(release.content_sha256)[:12]}…, "
                f"this is {manifest.content_sha256[:12]}…)"
            )
        if any(rule.rule == "keep" and rule.rows for rule in (checks.near, checks.synthetic)):
            raise ArasError(
                f"{name}: scores synthetic rows or rows near train tiles; run `aras bench "
                "retrieval` without --near keep and --synthetic keep"
            )
        baseline = baselines.find(result.model.spec)
        for stream, evaluation in result.streams.items():
            strict = evaluation.S
            rows.append(
                RetrievalFigures(
                    model=result.model.name,
                    role=result.model.role or (baseline.role if baseline else ""),
                    meaning=_meaning(result.model, baseline),
                    stream=stream,
                    split=release.split,
                    images=evaluation.images,
                    texts=evaluation.texts,
                    t2i=strict.t2i,
                    i2t=strict.i2t,
                    mR=strict.mR,
                    interval=tuple(strict.intervals.mR) if strict.intervals else None,
                )
            )
    return rows


def _meaning(model: ModelFacts, baseline: baselines.Baseline | None) -> str:
    """What a reader of the card must know of a model that is not one of its own."""
    if model.spec == "embeddings":
        return "the vectors of config embeddings"
    text = baseline.description if baseline else ""
    return text.replace("stream --proxy", f"stream {model.proxy}")


def check(path: Path, release: Path) -> list[str]:
    """Re-score the vectors beside a result; what differs from its figures, if anything.

    The Parquet files named in the result (images and texts, by id) are read from the result's
    folder. Every figure, interval and digest of every stream is computed again with the result's
    own seed and the default number of resamples and queries; but L is left out, since the vectors
    of captions without numbers are not handed in. Raises ArasError when files are missing or the
    result is about another release.
    """
    result = read(path)
    if not result.model.vectors:
        raise ArasError(
            f"{path}: names no vectors to re-score; `aras bench retrieval … --vectors DIR` writes "
            "them and their digests into the result"
        )
    claimed = result.release
    rows = gallery.load(
        release,
        claimed.split,
        min_km=claimed.checks.min_km,
        near=claimed.checks.near.rule,
        synthetic=claimed.checks.synthetic.rule,
    )
    for key in ("content_sha256", "ids_sha256"):
        ours, theirs = getattr(rows.facts, key), getattr(claimed, key)
        if ours != theirs:
            raise ArasError(
                f"{path}: is about another release or other rows ({key} {theirs}, {release} has "
                f"{ours})"
            )
    problems = []
    for file in result.model.vectors.values():
        location = path.parent / file.file
        if not location.is_file():
            raise ArasError(f"{location}: missing; it must lie beside {path.name}")
        if sha256_file(location) != file.sha256:
            problems.append(f"{location.name}: is not the file whose digest the result names")
    return problems or [*_differences(result, rows, path)]


def _differences(result: Result, rows: gallery.Gallery, path: Path) -> Iterator[str]:
    """What the vectors beside ``path`` do not give of the figures of every stream."""
    model = Model(result.model.spec, result.model.proxy)
    proxy = model.proxy if model.is_proxy else None
    every = [name for name in rows.streams if name != proxy]
    yield from _unlike("release", result.release.as_json(), rows.facts.as_json())
    claimed = result.streams
    names = every if protocol.ALL in claimed else [name for name in every if name in claimed]
    asked = rows.texts(names)
    files = result.model.vectors or {}
    images, texts = (path.parent / files[what].file for what in ("images", "texts"))
    answer = from_files(images, texts, rows, asked)
    settings = Settings(seed=int(result.settings["seed"]))
    known = dict(protocol.members(asked, protocol.with_all(rows, every, proxy)))
    for name, evaluation in claimed.items():
        if name not in known:
            yield f"{name}: {rows.release} has no such captions; it has {', '.join(rows.streams)}"
            continue
        again, _, _ = protocol.figures(
            rows, answer.images, answer.texts, asked, known[name], settings
        )
        # Vectors of captions without numbers and of controls are not handed in, so these figures
        # are neither checked nor shown.
        unseen = ("L", "controls")
        printed = {k: value for k, value in evaluation.as_json().items() if k not in unseen}
        yield from _unlike(name, printed, again.as_json())


def _unlike(where: str, claimed: Any, ours: Any) -> Iterator[str]:
    """What differs between two trees of figures, each with its place; numbers by `TOLERANCE`."""
    if isinstance(ours, dict) and isinstance(claimed, dict):
        for key in sorted(ours.keys() | claimed.keys()):
            if key not in claimed:
                yield f"{where} {key}: missing; run `aras bench retrieval` of this version"
            elif key not in ours:
                yield f"{where} {key}: claims a figure that its vectors do not give"
            else:
                yield from _unlike(f"{where} {key}", claimed[key], ours[key])
    elif isinstance(ours, list | tuple) and len(ours) == len(claimed):
        for edge, (theirs, mine) in enumerate(zip(claimed, ours, strict=True)):
            yield from _unlike(f"{where}[{edge}]", theirs, mine)
    elif isinstance(ours, (int, float)) and isinstance(claimed, (int, float)):
        if not abs(ours - claimed) <= TOLERANCE:  # NaN differs too
            yield f"{where}: claims {claimed:.2f}, its vectors give {ours:.2f}"
    elif ours != claimed:
        yield f"{where}: claims {claimed}, its vectors give {ours}"
