"""The arms of the imbalance experiment: which train rows, with which captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.bench.gallery import captions_by_stream
from builder.bench.pools import TrainRows, alike, balanced, train_rows, train_table
from builder.bench.ranks import Floats, Ints
from builder.errors import ArasError
from builder.scores.controls import shuffled
from builder.scores.grounding import score_captions
from builder.scores.leakage import without_digits

RATIOS = (0.25, 0.5, 1.0, 3.0)
"""Synthetic rows per real row."""
GROUNDED = 0.5
"""Least grounding of a synthetic row's caption in the filtered arm."""
AGREES = 0.25
"""Quantile of the real rows' agreement between segmenter and mask that the filter asks for."""


@dataclass(frozen=True)
class Rows(TrainRows):
    """Train rows that have a caption in one stream, and those captions."""

    texts: list[str]
    passes: npt.NDArray[np.bool_]
    """Synthetic rows that the filtered arm takes."""


@dataclass(frozen=True)
class Arm:
    """Rows that batches are drawn from (a row twice: twice as often), and their captions."""

    name: str
    what: str
    pool: Ints
    texts: list[str]
    """(n,) the caption of every row in this arm."""


@dataclass(frozen=True)
class Design:
    """The arms, the ratio that contrasts are made at, all ratios, and why arms are missing."""

    arms: list[Arm]
    ratio: float
    ratios: list[float]
    missing: list[str]

    def arm(self, name: str) -> Arm:
        return next(one for one in self.arms if one.name == name)


def load(release: Path, stream: str) -> Rows:
    """Train rows with a caption in ``stream``. Raises ArasError when either source lacks them."""
    table = train_table(release, ("mask_agreement", "captions"))
    streams = captions_by_stream(table.column("captions"))
    if stream not in streams:
        raise ArasError(f"{release}: no caption stream {stream!r}; it has {', '.join(streams)}")
    keep = [i for i, text in enumerate(streams[stream]) if text is not None]
    table = table.take(keep)
    found = train_rows(table)
    texts = [str(streams[stream][i]) for i in keep]
    seen = agrees(table.column("mask_agreement").to_numpy(), found.synthetic)
    passes = found.synthetic & told_well(texts, found.shares) & seen & ~found.copy
    rows = Rows(**vars(found), texts=texts, passes=passes)
    for what, there in (("real", rows.real), ("synthetic", rows.made)):
        if len(there) < 2:
            raise ArasError(
                f"{release}: {len(there)} {what} train rows have a caption in stream {stream!r}; "
                "the experiment compares real with synthetic rows and needs both"
            )
    return rows


def design(rows: Rows, ratios: Sequence[float] = RATIOS, seed: int = 0) -> Design:
    """Every arm that the rows allow.

    Ratios that ask for more synthetic rows than there are, are left out; where none is left, all
    synthetic rows are one ratio. Contrasts are made at the ratio nearest to 1.
    """
    real, made = rows.real, rows.made
    missing = []
    allowed = [r for r in sorted(set(ratios)) if 2 <= round(r * len(real)) <= len(made)]
    if too_many := sorted(set(ratios) - set(allowed)):
        missing.append(
            f"ratios {', '.join(f'{r:g}' for r in too_many)}: {len(made):,} synthetic rows beside "
            f"{len(real):,} real ones do not allow them"
        )
    allowed = allowed or [round(len(made) / len(real), 3)]
    main = min(allowed, key=lambda r: abs(np.log(r)))
    arms = [
        Arm("real", "real rows", real, rows.texts),
        Arm("synthetic", "synthetic rows only", made, rows.texts),
    ]
    for r in allowed:
        count = min(round(r * len(real)), len(made))
        some = np.concatenate([real, alike(rows, made, real, count, seed)])
        even = np.concatenate([real, balanced(rows, made, count, seed)])
        what = f"real + {count:,} synthetic"
        arms.append(Arm(f"natural-{r:g}", f"{what} with real class shares", some, rows.texts))
        arms.append(Arm(f"balanced-{r:g}", f"{what}, class-balanced", even, rows.texts))
    even = next(one.pool for one in arms if one.name == f"balanced-{main:g}")
    arms.append(
        Arm(
            "oversampled",
            f"real rows repeated towards the class shares of balanced-{main:g}",
            alike(rows, real, even, len(even), seed),
            rows.texts,
        )
    )
    good = made[rows.passes[made]]
    if len(good) == len(made):
        missing.append("filtered: the filter drops no synthetic row, so it would equal balanced")
    elif len(good) < 2:
        missing.append(f"filtered: the filter leaves {len(good)} synthetic rows")
    else:
        count = len(even) - len(real)
        pool = np.concatenate([real, balanced(rows, good, count, seed)])
        what = f"balanced-{main:g} from the {len(good):,} synthetic rows that pass the filter"
        arms.append(Arm("filtered", what, pool, rows.texts))
    mixed = list(rows.texts)
    given = shuffled([rows.ids[i] for i in real], [rows.texts[i] for i in real], seed=seed)
    for i, text in zip(real, given, strict=True):
        mixed[i] = text or rows.texts[i]
    arms.append(Arm("shuffled", "real rows, captions of other real rows", real, mixed))
    plain = [without_digits(text) for text in rows.texts]
    if all(plain[i] == rows.texts[i] for i in real):
        missing.append("stripped: captions hold no numbers, so it would equal real")
    else:
        arms.append(Arm("stripped", "real rows, numbers removed from captions", real, plain))
    return Design(arms, main, allowed, missing)


def told_well(texts: Sequence[str], shares: Floats) -> npt.NDArray[np.bool_]:
    """Which captions (n,) are grounded in the shares (n, 7) and give no percentage away."""
    scores = score_captions(list(texts), shares)
    grounding = np.nan_to_num(scores["grounding"].to_numpy(zero_copy_only=False), nan=0.0)
    leak = np.nan_to_num(scores["leak"].to_numpy(zero_copy_only=False), nan=0.0)
    return np.asarray((grounding >= GROUNDED) & (leak == 0))


def agrees(agreement: npt.ArrayLike, synthetic: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows' agreement of segmenter and mask is not below that of the worst real quarter.

    ``agreement`` is (n,) with NaN where unknown; unknown rows pass.
    """
    found = np.asarray(agreement, dtype=np.float64)
    real = found[~synthetic & ~np.isnan(found)]
    least = np.quantile(real, AGREES) if len(real) else -np.inf
    return np.asarray(np.isnan(found) | (found >= least))


def describe(rows: Rows, arm: Arm) -> dict[str, Any]:
    """What an arm holds: rows, distinct ones, synthetic ones, distinct captions, class shares."""
    shares = rows.shares[arm.pool].mean(0)
    return {
        "what": arm.what,
        "rows": len(arm.pool),
        "distinct": len(np.unique(arm.pool)),
        "synthetic": int(rows.synthetic[arm.pool].sum()),
        "captions": len({arm.texts[i] for i in arm.pool}),
        "class_shares": {n: round(float(s), 4) for n, s in zip(rows.classes, shares, strict=True)},
    }
