"""Retrieval results and comparisons as a person reads them: Markdown, HTML and a plot."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

from builder.core.document import Document, table
from builder.core.figures import BLUE, GREEN, ORANGE, Panel, Point, save_panels
from builder.core.files import write_text
from builder.retrieval import baselines
from builder.retrieval.crossed import FEWEST
from builder.retrieval.result import (
    WAYS,
    Checks,
    Classes,
    Clusters,
    Comparison,
    Entry,
    Evaluation,
    Result,
    Scores,
)

KS = ("R@1", "R@5", "R@10")
ARROWS = {"t2i": "t→i", "i2t": "i→t"}
COLUMNS = [f"{arrow} {k}" for arrow in ARROWS.values() for k in KS]

LABELS = {
    "S": "strict",
    "D": "equal captions merged",
    "D~": "near-duplicates merged",
    "C": "like composition counts",
    "L": "numbers removed",
}
"""Protocol → how tables call it."""


def recalls(scores: Scores) -> list[str]:
    """The six recalls of a protocol, per cent with two decimals."""
    return [f"{way[k]:.2f}" for way in (scores.t2i, scores.i2t) for k in KS]


def write(result: Result, path: Path) -> None:
    """Write the result at ``path`` (.json) as .html and .png beside it."""
    picture = path.with_suffix(".png")
    plot(result, picture)
    write_text(path.with_suffix(".html"), document(result, picture.name).page(path.parent))


WIDTH = 80


def terminal(result: Result, page: Path) -> str:
    """The recalls of each stream and protocol in 80 columns; ``page`` has the rest."""
    release, first = result.release, next(iter(result.streams.values()))
    clusters, about = first.clusters, said(result)
    lines = [
        f"{named(result)} on {release.name} {release.version}, split {release.split}",
        *(["; ".join(f"{key}: {value}" for key, value in about.items())] if about else []),
        f"{first.images:,} images in {clusters.number:,} {clusters.unit}s; per cent, mR with 95 %",
        "",
        f"{'':17}{'text → image':>18}{'image → text':>20}",
        f"{'captions':12}{'':4}" + f"{'R@1':>7}{'R@5':>6}{'R@10':>6}" * 2 + f"{'mR':>7}",
    ]
    for stream, evaluation in result.streams.items():
        shown = _short(stream, 12)
        for name, scores in evaluation.protocols.items():
            if name == "S" or recalls(scores) != recalls(evaluation.S):
                lines.append(_line(shown, name, scores))
                shown = ""
        if chance := evaluation.S.chance:
            lines.append(_line("", "–", chance))
    lines += ["", "S strict, D equal captions merged, D~ nearly equal ones too, C like composition"]
    lines += ["counts, L numbers removed, – chance of a random order (exact)."]
    notes = [*result.notes]
    for stream, evaluation in result.streams.items():
        notes += [f"{stream}: {line}" for line in _remarks(evaluation)]
    if clusters.number < FEWEST:
        notes.append(about_intervals(clusters))
    notes.append(f"Everything else: {page}")
    lines += [part for note in notes for part in _wrapped(note)]
    return "\n".join(part for line in lines for part in (_wrapped(line) if line else [""]))


def _wrapped(text: str) -> list[str]:
    if len(text) <= WIDTH:
        return [text]
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _line(stream: str, protocol: str, scores: Scores) -> str:
    values = "".join(
        f"{way['R@1']:7.2f}{way['R@5']:6.1f}{way['R@10']:6.1f}" for way in (scores.t2i, scores.i2t)
    )
    span = scores.intervals.mR if scores.intervals else None
    around = f"  {span[0]:.2f}–{span[1]:.2f}" if span else ""
    return f"{stream:12} {protocol:3}{values}{scores.mR:7.2f}{around}"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def named(result: Result) -> str:
    """The model's name, and what it is if it is none; results of earlier versions do not say so."""
    baseline = baselines.find(result.model.spec)
    role = result.model.role or (baseline.role if baseline else "")
    role = "unchecked" if result.model.is_unchecked else role
    return f"{result.name} ({role})" if role else result.name


def said(result: Result) -> dict[str, str]:
    """What a result says of itself, by name; without what nobody said."""
    entry = result.entry or Entry(name=result.name)
    words = {"author": entry.author, "link": entry.link, "training": entry.training}
    words |= {"seed": str(result.settings.get("seed", "")), "date": entry.date}
    return {key: value for key, value in words.items() if value}


def document(result: Result, picture: str = "") -> Document:
    """One result: the protocols by stream, the tail, and how to read them."""
    release, streams = result.release, result.streams
    page = Document(f"{named(result)} on {release.name} {release.version}, split {release.split}")
    page.text(
        f"{release.rows:,} images; content {str(release.content_sha256)[:16]}…; "
        f"{checks(release.checks)}"
    )
    if about := said(result):
        page.text("; ".join(f"{key}: {value}" for key, value in about.items()))
    rows = []
    for stream, evaluation in streams.items():
        for name, scores in evaluation.protocols.items():
            if name == "S" or recalls(scores) != recalls(evaluation.S):
                span = scores.intervals.mR if scores.intervals else None
                cells = [f"{scores.mR:.2f}", f"{span[0]:.2f}–{span[1]:.2f}" if span else ""]
                rows.append([f"{stream}, {LABELS[name]}", *recalls(scores), *cells])
                if scores.chance:
                    values = [*recalls(scores.chance), f"{scores.chance.mR:.2f}", ""]
                    rows.append([f"{stream}, {LABELS[name]}: chance, exact", *values])
    page.table(["stream, protocol", *COLUMNS, "mR", "95 % of mR"], rows)
    if picture:
        page.plot("Mean recall by stream and protocol", picture)
    notes = list(result.notes)
    for stream, evaluation in streams.items():
        notes += [f"{stream}: {line}" for line in _remarks(evaluation)]
    first = next(iter(streams.values()))
    notes.append(f"{about_intervals(first.clusters)} {first.power.statement}")
    notes.append("Protocols that give the strict recalls are left out of the first table.")
    page.items(notes)
    _add_lists(page, streams)
    _add_galleries(page, streams)
    _add_classes(page, streams)
    return page


def _add_lists(page: Document, streams: Mapping[str, Evaluation]) -> None:
    """Median ranks and result lists by protocol."""
    rows = []
    for stream, evaluation in streams.items():
        for name, scores in evaluation.protocols.items():
            cells = [f"{way['MedR']:.1f}" for way in (scores.t2i, scores.i2t)]
            for means in (scores.average_precision, scores.ndcg):
                cells += [f"{means.t2i:.2f}", f"{means.i2t:.2f}"] if means else ["", ""]
            rows.append([f"{stream}, {LABELS[name]}", *cells])
    page.heading("Median ranks and result lists")
    keys = ("MedR", "mAP@R", "nDCG@10")
    header = [f"{arrow} {key}" for key in keys for arrow in ARROWS.values()]
    page.table(["stream, protocol", *header], rows)


def _add_galleries(page: Document, streams: Mapping[str, Evaluation]) -> None:
    page.heading("Strict recall by size of the gallery")
    curves = {
        f"{stream}, {ARROWS[way]}": getattr(evaluation.S.gallery, way)
        for stream, evaluation in streams.items()
        for way in WAYS
        if evaluation.S.gallery
    }
    sizes = sorted({int(size) for curve in curves.values() for size in curve})
    rows = [
        [name, *[_three(curve.get(str(size))) for size in sizes]] for name, curve in curves.items()
    ]
    page.table(["R@1 / R@5 / R@10 among", *[f"{size:,}" for size in sizes]], rows)


def _add_classes(page: Document, streams: Mapping[str, Evaluation]) -> None:
    known = {name: stream.S.classes for name, stream in streams.items() if stream.S.classes}
    for kind, what in (("dominant", "dominates"), ("present", "covers at least 1 % of")):
        tables = [getattr(classes.i2t, kind) for classes in known.values()]
        names = list(dict.fromkeys(name for by_class in tables for name in by_class))
        if names:
            page.heading(f"Strict R@10 by class that {what} the tile: t→i / i→t (tiles)")
            rows = [[name, *[_class(c, kind, name) for c in known.values()]] for name in names]
            page.table(["class", *known], rows)


def _three(recall: Mapping[str, float] | None) -> str:
    return " / ".join(f"{recall[k]:.2f}" for k in KS) if recall else ""


def _class(classes: Classes, kind: str, name: str) -> str:
    t2i, i2t = (getattr(way, kind).get(name) for way in (classes.t2i, classes.i2t))
    if not t2i or not i2t:
        return ""
    return f"{t2i['R@10']:.2f} / {i2t['R@10']:.2f} ({i2t['queries']:,})"


def plot(result: Result, path: Path) -> None:
    """mR with its interval by stream, under S, D and C, beside the strict recall at 1, 5, 10."""
    protocols = {name: stream.protocols for name, stream in result.streams.items()}
    known = [p for p in ("S", "D", "C") if all(p in scores for scores in protocols.values())]
    means = {
        name: {f"mR, {LABELS[p]}": _mean(scores[p]) for p in known}
        for name, scores in protocols.items()
    }
    strict = {
        name: {f"t→i {k}": _recall(scores["S"], k) for k in KS}
        for name, scores in protocols.items()
    }
    drawn = [
        Panel(
            label, rows, dict(zip(next(iter(rows.values())), (BLUE, ORANGE, GREEN), strict=False))
        )
        for label, rows in (("%", means), ("strict, %", strict))
    ]
    save_panels(path, drawn, (11, 2.1 + 0.5 * len(protocols)), 1)


def _mean(scores: Scores) -> Point:
    return Point(scores.mR, scores.intervals.mR if scores.intervals else None)


def _recall(scores: Scores, k: str) -> Point:
    return Point(scores.t2i[k], scores.intervals.t2i[k] if scores.intervals else None)


def checks(of: Checks) -> str:
    """One line on what happened to synthetic rows and rows near train tiles."""
    if of.distance_checked:
        near = f"{of.near.rows} rows nearer than {of.min_km:g} km to train tiles"
        if of.near.rows:
            near += f" ({of.near.rule})"
    else:
        near = "distance to train tiles NOT checked (places unknown)"
    synthetic = f"{of.synthetic.rows} synthetic rows"
    return f"{near}; {synthetic}" + (f" ({of.synthetic.rule})" if of.synthetic.rows else "")


def _remarks(evaluation: Evaluation) -> list[str]:
    strict = evaluation.S
    lines = []
    if strict.ceiling and strict.of_ceiling and strict.ceiling["R@1"] < 99.995:
        most, share = strict.ceiling["R@1"], strict.of_ceiling["R@1"]
        lines.append(
            f"captions repeat: {most:.2f} % is the most that strict t→i R@1 can be where equal "
            "captions have equal vectors; "
            + (
                f"reached {share:.2f} % of that"
                if share <= 100.005
                else "this model is above it, so its vectors distinguish equal captions"
            )
        )
    if strict.optimistic and strict.pessimistic:
        low, high = strict.pessimistic.mR, strict.optimistic.mR
        lines.append(f"ties matter: strict mR lies between {low:.2f} and {high:.2f}")
    tail = strict.classes.tail if strict.classes else None
    if tail and tail.t2i and tail.i2t:
        lines.append(
            f"tail classes ({', '.join(tail.classes)}): R@10 {tail.t2i['R@10']:.2f} t→i, "
            f"{tail.i2t['R@10']:.2f} i→t"
        )
    if evaluation.L and evaluation.L.change_of_mR is not None:
        lines.append(f"without numbers mR changes by {evaluation.L.change_of_mR:+.2f} points")
    for name, control in (evaluation.controls or {}).items():
        around = ""
        if control.interval and control.p is not None:
            low, high = control.interval
            around = f": {control.change_of_mR:+.2f} ({low:+.2f} … {high:+.2f}), p {control.p:.3f}"
        lines.append(
            f"{name.replace('_', ' ')}: mR {control.scores.mR:.2f} where the own captions of the "
            f"same {control.images:,} images have {control.own.mR:.2f}{around}"
        )
    if missing := evaluation.images_without_caption:
        lines.append(f"{missing} images have no caption and are left out")
    return lines


def about_intervals(clusters: Clusters) -> str:
    """What intervals run over, or why there are none."""
    counted = f"{clusters.number:,} {clusters.unit}s"
    if clusters.number < FEWEST:
        return (
            f"No intervals: {counted} are too few to measure how figures vary ({FEWEST} are "
            "needed). Put tiles of more places into the split."
        )
    return f"Intervals draw {counted} and allow for so few by Student's t."


def comparison(of: Comparison) -> str:
    """`benchmark.compare` as Markdown."""
    release = of.release
    parts = [
        f"## {of.ours} − {of.theirs}\n",
        f"{release.name} {release.version}, split {release.split}, strict protocol; "
        "differences in percentage points; interval and p from one Student's t over images or "
        "blocks, Holm over the seven\n",
    ]
    for stream, differences in of.streams.items():
        rows = [
            [
                name.replace("t2i", "t→i").replace("i2t", "i→t"),
                f"{figure.difference:+.2f}",
                " … ".join(f"{edge:+.2f}" for edge in figure.interval or ()) or "–",
                *("–" if p is None else f"{p:.4f}" for p in (figure.p, figure.p_holm)),
            ]
            for name, figure in differences.items()
        ]
        parts.append(f"### {stream}\n")
        parts.append(table(["figure", "difference", "95 % interval", "p", "p (Holm)"], rows))
        clusters = of.clusters.get(stream)
        if clusters and clusters.number < FEWEST:
            parts.append(about_intervals(clusters).replace("intervals", "intervals and tests", 1))
    if of.not_compared:
        parts.append(
            "Not compared, because the two did not answer the same captions: "
            f"{', '.join(of.not_compared)}"
        )
    return "\n".join(parts)
