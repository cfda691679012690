"""Markdown of retrieval results and comparisons: what a person reads of the JSON."""

from collections.abc import Mapping
from typing import Any

from builder.report.document import table

KS = ("R@1", "R@5", "R@10")
COLUMNS = [f"{way} {k}" for way in ("t→i", "i→t") for k in KS]


def recalls(figures: Mapping[str, Any]) -> list[str]:
    """The six recalls of one protocol's figures, per cent with two decimals."""
    return [f"{figures[way][k]:.2f}" for way in ("t2i", "i2t") for k in KS]


def result(found: Mapping[str, Any]) -> str:
    """One result as Markdown: the protocols by stream, the tail, and how to read them."""
    release, model = found["release"], found["model"]
    parts = [
        f"## {model['name']} on {release['name']} {release['version']}, split {release['split']}\n",
        f"{release['rows']:,} images; content {release['content_sha256'][:16]}…; "
        f"{checks(release)}\n",
    ]
    rows = []
    for stream, one in found["streams"].items():
        for name, label in PROTOCOLS.items():
            if name in one and (name == "S" or recalls(one[name]) != recalls(one["S"])):
                low_high = one[name].get("intervals", {}).get("mR")
                span = f"{low_high[0]:.2f}–{low_high[1]:.2f}" if low_high else ""
                cells = [*recalls(one[name]), f"{one[name]['mR']:.2f}", span]
                rows.append([f"{stream}, {label}", *cells])
    parts.append(table(["stream, protocol", *COLUMNS, "mR", "95 % of mR"], rows))
    notes = [f"- {note}" for note in found.get("notes", ())]
    for stream, one in found["streams"].items():
        notes += [f"- {stream}: {line}" for line in _remarks(one)]
    some = next(iter(found["streams"].values()))
    units = some["clusters"]
    notes.append(
        f"- Intervals draw {units['number']:,} {units['unit']}s. {some['power']['statement']}"
    )
    notes.append("- Protocols that give the strict recalls are left out of the table.")
    return "\n".join([*parts, *notes, ""])


PROTOCOLS = {
    "S": "strict",
    "D": "equal captions merged",
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
        lines.append(
            f"captions repeat, so strict t→i R@1 cannot exceed {strict['ceiling']['R@1']:.2f} %; "
            f"reached {strict['of_ceiling']['R@1']:.2f} % of that"
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
    return "\n".join(parts)
