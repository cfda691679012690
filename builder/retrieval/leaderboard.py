"""LEADERBOARD.md from result files, and the check that their vectors give their figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.core.document import table
from builder.core.errors import ArasError
from builder.core.escape import markdown
from builder.core.files import sha256_file
from builder.core.manifest import Manifest, RetrievalFigures
from builder.retrieval import baselines, gallery, metrics, protocol, report
from builder.retrieval.benchmark import Model
from builder.retrieval.protocol import Settings
from builder.retrieval.ranks import Ranks
from builder.retrieval.result import Evaluation, ModelFacts, Result, Scores, read
from builder.retrieval.vectors import from_files

TOLERANCE = 0.005
"""Percentage points by which a claimed figure may differ from the re-scored: its rounding."""

Line = tuple[str, Result, Evaluation]
"""Name of the file, the result in it, and its figures of a stream."""

Groups = dict[tuple[str, ...], list[Line]]
"""Lines by release (five words), stream and digest of its texts."""


def board(results: Sequence[tuple[str, Result]]) -> str:
    """Markdown: one table per release, split and stream, best mean recall first.

    ``results`` are (name of the file, result). Raises ArasError where there is none.
    """
    if not results:
        raise ArasError(
            "no result files: `aras bench retrieval RELEASE --out FILE` writes a result"
        )
    groups: Groups = {}
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
        "what no model is given; a baseline needs no vision model. docs/how-to/hand-in-results.md "
        "says how to add a model.\n",
    ]
    shown = None
    for key in sorted(groups):
        release_name, version, content, split, ids, stream, _ = key
        entries = sorted(groups[key], key=lambda entry: (-entry[2].S.mR, entry[0]))
        _, first, evaluation = entries[0]
        if key[:5] != shown:
            shown = key[:5]
            parts += _over_streams(f"{release_name} {version}, {split}", shown, groups)
        parts.append(f"## {release_name} {version}, {split}, captions: {stream}\n")
        parts.append(
            f"{evaluation.images:,} images, {evaluation.texts:,} captions; content "
            f"`{content[:16]}`, rows `{ids[:16]}`; {report.checks(first.release.checks)}\n"
        )
        models = [entry for entry in entries if not _is_bundled(entry[1])]
        others = [entry for entry in entries if _is_bundled(entry[1])]
        about = ["author", "training", "seed", "date", "link"]
        header = ["model", *report.COLUMNS, "mR", "95 % of mR", "D mR", "tail", *about, "file"]
        if models:
            parts.append(table(header, [_row(*entry) for entry in models]))
        rows = [_row(*entry) for entry in others]
        if (chance := _chance(evaluation)) is not None:
            values = [*report.recalls(chance), f"{chance.mR:.2f}"]
            rows.append(["chance (exact)", *values, *["–"] * (len(header) - len(values) - 1)])
        if rows:
            parts += ["Baselines, oracles and chance, which are no models:\n", table(header, rows)]
    return "\n".join(parts)


def _over_streams(title: str, release: tuple[str, ...], groups: Groups) -> list[str]:
    """mR of every model by caption stream, where a release has several."""
    streams = sorted({key[5] for key in groups if key[:5] == release})
    if len(streams) < 2:
        return []
    by_model: dict[tuple[bool, str, str], dict[str, float]] = {}
    for key in groups:
        if key[:5] == release:
            for name, result, evaluation in groups[key]:
                which = (_is_bundled(result), _cell(report.named(result)), name)
                by_model.setdefault(which, {})[key[5]] = evaluation.S.mR

    def mean(known: dict[str, float]) -> float:
        alone = [known[stream] for stream in streams if stream in known and stream != protocol.ALL]
        complete = len(known) == len(streams)
        return sum(alone) / len(alone) if complete and alone else float("-inf")

    ordered = sorted(by_model.items(), key=lambda item: (item[0][0], -mean(item[1]), item[0]))
    rows = []
    for (_, model, name), known in ordered:
        cells = [f"{known[stream]:.2f}" if stream in known else "–" for stream in streams]
        overall = f"{mean(known):.2f}" if len(known) == len(streams) else "–"
        rows.append([model, *cells, overall, f"`{name}`"])
    about = (
        "mR (strict) by caption stream and its mean over them, models first, then baselines and "
        "oracles.\n"
    )
    header = ["model", *streams, "mean", "file"]
    return [f"## {title}, over streams\n", about, table(header, rows)]


def _is_bundled(result: Result) -> bool:
    return bool(result.model.role or baselines.find(result.model.spec))


def _chance(evaluation: Evaluation) -> Scores | None:
    """Exact chance; of results of earlier versions where every image has one caption."""
    if evaluation.S.chance or evaluation.texts != evaluation.images:
        return evaluation.S.chance
    others = np.full(evaluation.texts, evaluation.texts - 1)
    ranks = Ranks(np.zeros_like(others), others, others)
    return metrics.chance(ranks, ranks, evaluation.images, evaluation.texts)


def _cell(text: str) -> str:
    """Text of others for `table`, which escapes the end of a cell itself."""
    return markdown(text).replace("\\|", "|") or "–"


def _row(name: str, result: Result, evaluation: Evaluation) -> list[str]:
    strict = evaluation.S
    span = strict.intervals.mR if strict.intervals else None
    tail = strict.classes.tail if strict.classes else None
    rare = "–"
    if tail and tail.t2i and tail.i2t:
        rare = f"{(tail.t2i['R@10'] + tail.i2t['R@10']) / 2:.2f}"
    merged = f"{evaluation.D.mR:.2f}" if evaluation.D else "–"
    return [
        _cell(report.named(result)),
        *report.recalls(strict),
        f"{strict.mR:.2f}",
        f"{span[0]:.2f}–{span[1]:.2f}" if span else "–",
        merged,
        rare,
        *_about(result),
        f"`{name}`",
    ]


def _about(result: Result) -> list[str]:
    """Author, training, seed, date and link."""
    known = report.said(result)
    cells = [known.get(key, "") for key in ("author", "training", "seed", "date", "link")]
    return [_cell(text) for text in cells]


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
                    model=result.name,
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
