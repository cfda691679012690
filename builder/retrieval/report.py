"""Retrieval results and comparisons as a person reads them: Markdown, HTML and a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.core.document import Document, table
from builder.core.figures import BLUE, GREEN, ORANGE, Point, draw_points, legend, panels, save
from builder.core.files import write_text

KS = ("R@1", "R@5", "R@10")
WAYS, ARROWS = ("t2i", "i2t"), ("t→i", "i→t")
COLUMNS = [f"{way} {k}" for way in ARROWS for k in KS]


def recalls(figures: Mapping[str, Any]) -> list[str]:
    """The six recalls of one protocol's figures, per cent with two decimals."""
    return [f"{figures[way][k]:.2f}" for way in WAYS for k in KS]


def write(found: Mapping[str, Any], path: Path) -> str:
    """Write the result at ``path`` (.json) as .html and .png beside it; returns its Markdown."""
    made = document(found, path.with_suffix(".png").name)
    plot(found, path.with_suffix(".png"))
    write_text(path.with_suffix(".html"), made.page(path.parent))
    return document(found).markdown()


def document(found: Mapping[str, Any], picture: str = "") -> Document:
    """One result: the protocols by stream, the tail, and how to read them."""
    release, model = found["release"], found["model"]
    made = Document(
        f"{model['name']} on {release['name']} {release['version']}, split {release['split']}"
    )
    made.text(
        f"{release['rows']:,} images; content {release['content_sha256'][:16]}…; {checks(release)}"
    )
    rows = []
    for stream, one in found["streams"].items():
        for name, label in PROTOCOLS.items():
            if name in one and (name == "S" or recalls(one[name]) != recalls(one["S"])):
                low_high = one[name].get("intervals", {}).get("mR")
                span = f"{low_high[0]:.2f}–{low_high[1]:.2f}" if low_high else ""
                cells = [*recalls(one[name]), f"{one[name]['mR']:.2f}", span]
                rows.append([f"{stream}, {label}", *cells])
    made.table(["stream, protocol", *COLUMNS, "mR", "95 % of mR"], rows)
    if picture:
        made.plot("Mean recall by stream and protocol", picture)
    notes = list(found.get("notes", ()))
    for stream, one in found["streams"].items():
        notes += [f"{stream}: {line}" for line in _remarks(one)]
    some = next(iter(found["streams"].values()))
    units = some["clusters"]
    notes.append(
        f"Intervals draw {units['number']:,} {units['unit']}s. {some['power']['statement']}"
    )
    notes.append("Protocols that give the strict recalls are left out of the first table.")
    made.items(notes)
    _more(made, found["streams"])
    return made


def _more(made: Document, streams: Mapping[str, Any]) -> None:
    """Median ranks and lists by protocol, strict recall by size of gallery and by class."""
    rows = []
    for stream, one in streams.items():
        for name, label in PROTOCOLS.items():
            if name in one:
                figures = one[name]
                cells = [f"{figures[way]['MedR']:.1f}" for way in WAYS]
                for key in ("mAP@R", "nDCG@10"):
                    cells += [f"{figures[key][way]:.2f}" if key in figures else "" for way in WAYS]
                rows.append([f"{stream}, {label}", *cells])
    made.heading("Median ranks and result lists")
    header = [f"{arrow} {key}" for key in ("MedR", "mAP@R", "nDCG@10") for arrow in ARROWS]
    made.table(["stream, protocol", *header], rows)

    made.heading("Strict recall by size of the gallery")
    curves = {
        (stream, way): one["S"]["gallery"][way] for stream, one in streams.items() for way in WAYS
    }
    sizes = sorted({int(size) for curve in curves.values() for size in curve})
    rows = [
        [f"{stream}, {ARROWS[WAYS.index(way)]}", *[_three(curve.get(str(n))) for n in sizes]]
        for (stream, way), curve in curves.items()
    ]
    made.table(["R@1 / R@5 / R@10 among", *[f"{size:,}" for size in sizes]], rows)

    known = {
        stream: one["S"]["classes"] for stream, one in streams.items() if "classes" in one["S"]
    }
    for kind, what in (("dominant", "dominates"), ("present", "covers at least 1 % of")):
        names = list(dict.fromkeys(n for one in known.values() for n in one["i2t"][kind]))
        if names:
            made.heading(f"Strict R@10 by class that {what} the tile: t→i / i→t (tiles)")
            rows = [[name, *[_class(one, kind, name) for one in known.values()]] for name in names]
            made.table(["class", *known], rows)


def _three(recall: Mapping[str, float] | None) -> str:
    return " / ".join(f"{recall[k]:.2f}" for k in KS) if recall else ""


def _class(one: Mapping[str, Any], kind: str, name: str) -> str:
    found = [one[way][kind].get(name) for way in WAYS]
    if None in found:
        return ""
    recall = " / ".join(f"{each['R@10']:.2f}" for each in found)
    return f"{recall} ({found[1]['queries']:,})"


def plot(found: Mapping[str, Any], path: Path) -> None:
    """mR with its interval by stream, under S, D and C, beside the strict recall at 1, 5, 10."""
    streams = found["streams"]
    figure, (left, right) = panels(11, 2.1 + 0.5 * len(streams), columns=2, sharey=True)

    def point(summary: Mapping[str, Any], *keys: str) -> Point:
        value: Any = summary
        interval = summary["intervals"]
        for key in keys:
            value, interval = value[key], interval[key]
        return Point(value, interval)

    colours = (BLUE, ORANGE, GREEN)
    known = [name for name in ("S", "D", "C") if all(name in one for one in streams.values())]
    series = {
        f"mR, {PROTOCOLS[name]}": ([point(one[name], "mR") for one in streams.values()], colour)
        for name, colour in zip(known, colours, strict=False)
    }
    draw_points(left, list(streams), series, "%")
    recall = {
        f"t→i {k}": ([point(one["S"], "t2i", k) for one in streams.values()], colour)
        for k, colour in zip(KS, colours, strict=True)
    }
    draw_points(right, list(streams), recall, "strict, %")
    for axes in (left, right):
        legend(axes, 1)
    save(figure, path)


PROTOCOLS = {
    "S": "strict",
    "D": "equal captions merged",
    "D~": "near-duplicates merged",
    "C": "like composition counts",
    "L": "numbers removed",
}


def checks(release: Mapping[str, Any]) -> str:
    """One line on what was done about synthetic rows and rows near train tiles."""
    told = release["checks"]
    if told["distance_checked"]:
        near = f"{told['near']['rows']} rows nearer than {told['min_km']:g} km to train tiles"
        if told["near"]["rows"]:
            near += f" ({told['near']['rule']})"
    else:
        near = "distance to train tiles NOT checked (places unknown)"
    made = told["synthetic"]
    return f"{near}; {made['rows']} synthetic rows" + (f" ({made['rule']})" if made["rows"] else "")


def _remarks(one: Mapping[str, Any]) -> list[str]:
    strict = one["S"]
    lines = []
    if "ceiling" in strict and strict["ceiling"]["R@1"] < 99.995:
        most, share = strict["ceiling"]["R@1"], strict["of_ceiling"]["R@1"]
        lines.append(
            f"captions repeat: {most:.2f} % is the most that strict t→i R@1 can be where equal "
            "captions have equal vectors; "
            + (
                f"reached {share:.2f} % of that"
                if share <= 100.005
                else "this model is above it, so its vectors tell equal captions apart"
            )
        )
    if "optimistic" in strict:
        lines.append(
            f"ties matter: strict mR lies between {strict['pessimistic']['mR']:.2f} and "
            f"{strict['optimistic']['mR']:.2f}"
        )
    tail = strict.get("classes", {}).get("tail", {})
    if "t2i" in tail:
        lines.append(
            f"tail classes ({', '.join(tail['classes'])}): R@10 {tail['t2i']['R@10']:.2f} t→i, "
            f"{tail['i2t']['R@10']:.2f} i→t"
        )
    if "L" in one:
        lines.append(f"without numbers mR changes by {one['L']['change_of_mR']:+.2f} points")
    if one["images_without_caption"]:
        lines.append(f"{one['images_without_caption']} images have no caption and are left out")
    return lines


def comparison(found: Mapping[str, Any]) -> str:
    """`retrieval.compare` as Markdown."""
    release = found["release"]
    parts = [
        f"## {found['ours']} − {found['theirs']}\n",
        f"{release['name']} {release['version']}, split {release['split']}, strict protocol; "
        "differences in percentage points, paired bootstrap, sign-flip test, Holm over the seven\n",
    ]
    for stream, figures in found["streams"].items():
        rows = [
            [
                name.replace("t2i", "t→i").replace("i2t", "i→t"),
                f"{one['difference']:+.2f}",
                f"{one['interval'][0]:+.2f} … {one['interval'][1]:+.2f}",
                f"{one['p']:.4f}",
                f"{one['p_holm']:.4f}",
            ]
            for name, one in figures.items()
        ]
        parts.append(f"### {stream}\n")
        parts.append(table(["figure", "difference", "95 % interval", "p", "p (Holm)"], rows))
    if missing := found["not_compared"]:
        parts.append(
            f"Not compared, because the two did not answer the same captions: {', '.join(missing)}"
        )
    return "\n".join(parts)
