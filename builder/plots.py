"""Plots for cards and reports, drawn without a display and equal in bytes for equal numbers."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from builder.errors import ArasError
from builder.files import atomic
from builder.landcover import CLASSES

# Okabe & Ito's palette (2008), told apart with every common colour vision deficiency.
_GREY, _BLUE, _ORANGE = "#999999", "#0072B2", "#E69F00"


def plot_shares(
    real: npt.ArrayLike, planned: npt.ArrayLike, obtained: npt.ArrayLike | None, path: Path
) -> None:
    """Draw class shares of real, planned and obtained rows as a PNG at ``path``.

    Each is (7,) shares summing to 1, in class order; ``obtained`` None (nothing is generated
    yet) leaves its bars out. Raises ArasError when shares are not of that kind.
    """
    series = [("real", real, _GREY), ("planned", planned, _BLUE)]
    if obtained is not None:
        series.append(("obtained", obtained, _ORANGE))
    drawn = [(name, 100 * _shares(name, values), colour) for name, values, colour in series]
    figure = Figure(figsize=(7.2, 5.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / len(drawn)
    longest = max(values.max() for _, values, _ in drawn)
    for place, (name, values, colour) in enumerate(drawn):
        at = np.arange(len(CLASSES)) + (place - (len(drawn) - 1) / 2) * height
        bars = axes.barh(at, values, height=0.92 * height, color=colour, label=name)
        axes.bar_label(bars, labels=[_label(v) for v in values], padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(CLASSES)), CLASSES)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * longest)
    axes.set_xlabel("share of pixels, %")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.grid(visible=True, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(drawn), frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _shares(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    shares = np.asarray(values, dtype=np.float64)
    fits = shares.shape == (len(CLASSES),) and bool((shares >= 0).all())
    if not fits or abs(shares.sum() - 1) > 1e-3:
        raise ArasError(
            f"{name} shares are {shares.tolist()}; wanted are {len(CLASSES)} shares that sum to 1"
        )
    return shares


def _label(share: float) -> str:
    return f"{share:.2f}" if share < 10 else f"{share:.1f}"
