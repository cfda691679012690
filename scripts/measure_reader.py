"""How well the reader of captions reads a set with gold claims (tests/scores/gold).

    python scripts/measure_reader.py tests/scores/gold/dev.jsonl
    python scripts/measure_reader.py tests/scores/gold/dev.jsonl --checkout ../aras-old

Prints precision, recall and F1 of the classes that captions say are present or absent and of
(class, region) pairs, of the dominant class where the text names one, the per cent of gold
quantities with an overlapping quantity of the reader, and, over the captions that are true of their
tile, the per cent with a false contradiction and the per cent with grounding 0. Places are judged
as text; no mask is needed. ``--show`` also prints what is read otherwise, caption by caption;
``--checkout`` measures the reader of another working copy.
"""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Pairs = set[Any]
KINDS = ("presence", "absence", "places", "dominance")


@dataclass
class Readings:
    """What one caption claims, by the gold or by the reader."""

    presence: Pairs
    absence: Pairs
    places: Pairs
    dominance: Pairs
    quantities: list[tuple[str, float, float]]
    contradictions: list[str] = field(default_factory=list)
    grounding: float | None = None


def gold_of(row: dict[str, Any]) -> Readings:
    return Readings(
        set(row["present"]),
        set(row["absent"]),
        {(name, region) for name, region in row["places"]},
        {row["dominant"]} - {None},
        [(name, low, high) for name, low, high in row["quantities"]],
    )


def read_all(rows: list[dict[str, Any]]) -> list[Readings]:
    """The readings of the installed reader, or of the one first on the path."""
    import numpy as np

    from builder.land.classes import CLASSES
    from builder.scores import claims as kinds
    from builder.scores import lexicon as lexicons
    from builder.scores.grounding import Captions, contradictions

    lexicon = lexicons.load()
    shares = np.array([[row["shares"].get(name, 0.0) for name in CLASSES] for row in rows])
    captions = Captions.read([row["text"] for row in rows], shares, None, lexicon)
    false = contradictions(captions).to_pylist()
    known = captions.known
    readings = [
        Readings(set(), set(), set(), set(), [], false[i] or [], float(value) if ok else None)
        for i, (value, ok) in enumerate(zip(captions.grounding, known, strict=True))
    ]
    claims = captions.claims
    for row, kind, bits, low, high in zip(
        claims.row, claims.kind, claims.bits, claims.low, claims.high, strict=True
    ):
        reading = readings[row]
        names = [name for k, name in enumerate(CLASSES) if int(bits) >> k & 1]
        if kind == kinds.PRESENCE:
            reading.presence |= set(names)
        elif kind == kinds.ABSENCE:
            reading.absence |= set(names)
        elif kind == kinds.LAYOUT:
            reading.places |= {(name, lexicon.regions[int(low)][0]) for name in names}
        elif kind == kinds.DOMINANCE and low == 1 and len(names) == 1:
            if not reading.dominance:
                reading.dominance = set(names)
        elif kind == kinds.QUANTITY and len(names) == 1:
            reading.quantities.append((names[0], float(low), float(high)))
    return readings


def overlaps(gold: tuple[str, float, float], quantities: list[tuple[str, float, float]]) -> bool:
    """Whether a quantity of the same class shares a part of its interval."""
    name, low, high = gold
    return any(n == name and a <= high + 1e-9 and b >= low - 1e-9 for n, a, b in quantities)


def figures(rows: list[dict[str, Any]], readings: list[Readings]) -> dict[str, float]:
    """The figures of the module's docstring, in per cent."""
    gold = [gold_of(row) for row in rows]
    out: dict[str, float] = {"captions": len(rows)}
    for kind in KINDS:
        pairs = [(getattr(g, kind), getattr(r, kind)) for g, r in zip(gold, readings, strict=True)]
        hits = sum(len(g & r) for g, r in pairs)
        said, read = sum(len(g) for g, _ in pairs), sum(len(r) for _, r in pairs)
        out[f"{kind}_precision"] = _percent(hits, read)
        out[f"{kind}_recall"] = _percent(hits, said)
        out[f"{kind}_f1"] = _percent(2 * hits, said + read)
    wanted = [(q, r) for g, r in zip(gold, readings, strict=True) for q in g.quantities]
    out["quantities_overlapping"] = _percent(
        sum(overlaps(q, r.quantities) for q, r in wanted), len(wanted)
    )
    true = [r for row, r in zip(rows, readings, strict=True) if row["true"] and row["reads"]]
    out["false_contradictions"] = _percent(sum(bool(r.contradictions) for r in true), len(true))
    out["true_that_score_0"] = _percent(sum(r.grounding == 0 for r in true), len(true))
    return out


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def show(row: dict[str, Any], reading: Readings) -> str:
    """What is read otherwise than the gold says; empty where nothing is."""
    gold, lines = gold_of(row), []
    for kind in KINDS:
        missed = sorted(getattr(gold, kind) - getattr(reading, kind))
        wrong = sorted(getattr(reading, kind) - getattr(gold, kind))
        if missed or wrong:
            lines.append(f"    {kind}: missed {missed}, read {wrong}")
    missed_shares = [q for q in gold.quantities if not overlaps(q, reading.quantities)]
    if missed_shares:
        lines.append(f"    quantities: missed {missed_shares}, read {reading.quantities}")
    if row["true"] and row["reads"] and (reading.contradictions or reading.grounding == 0):
        lines.append(f"    false: {reading.contradictions}, grounding {reading.grounding}")
    return "\n".join([f"{row['id']} {row['text']}", *lines]) if lines else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", type=Path, help="JSON Lines of captions with gold claims")
    parser.add_argument("--checkout", type=Path, help="working copy whose reader is measured")
    parser.add_argument("--show", action="store_true", help="print what is read otherwise")
    options = parser.parse_args()
    if options.checkout:
        sys.path.insert(0, str(options.checkout.resolve()))
    rows = [json.loads(line) for line in options.set.read_text(encoding="utf-8").splitlines()]
    readings = read_all(rows)
    if options.show:
        for row, reading in zip(rows, readings, strict=True):
            if text := show(row, reading):
                print(text)
    print(json.dumps(figures(rows, readings), indent=2))


if __name__ == "__main__":
    main()
