"""What a training saw on its way: losses, evaluations, which was best and whether it goes on."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.files import atomic

SMOOTH = 0.05
"""Share of the steps over which the plotted training loss is averaged."""

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"


@dataclass
class History:
    """``losses`` of every step; ``evaluations``: ``step`` and one value per measure, in order.

    ``watch`` names the measure that decides, the lower the better.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    watch: str = ""

    @property
    def best(self) -> dict[str, float] | None:
        """The evaluation with the lowest watched value (the first on a tie); None without any."""
        finite = [one for one in self.evaluations if math.isfinite(one[self.watch])]
        return min(finite, key=lambda one: one[self.watch], default=None)

    def stalled(self, patience: int) -> bool:
        """Whether the last ``patience`` evaluations brought nothing better; never for 0."""
        return 0 < patience <= self.waited

    @property
    def waited(self) -> int:
        """Evaluations since the best one."""
        best = 0 if self.best is None else self.evaluations.index(self.best) + 1
        return len(self.evaluations) - best

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses, self.evaluations = list(state["losses"]), list(state["evaluations"])

    def write(self, folder: Path) -> None:
        """Write loss.csv; where there are evaluations also evaluations.csv and curves.png."""
        rows = [(i, f"{loss:.6f}") for i, loss in enumerate(self.losses)]
        _write_csv(folder / "loss.csv", ["step", "loss"], rows)
        if self.evaluations:
            names = list(self.evaluations[0])
            cells = [
                (int(one["step"]), *(f"{one[name]:.6f}" for name in names[1:]))
                for one in self.evaluations
            ]
            _write_csv(folder / "evaluations.csv", names, cells)
            self._plot(folder / "curves.png", names[1:])

    def _plot(self, path: Path, names: list[str]) -> None:
        """One panel per measure over the steps; the training loss behind the one named loss."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 2.6 * len(names)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        steps = [one["step"] for one in self.evaluations]
        for place, name in enumerate(names):
            axes = figure.add_subplot(len(names), 1, place + 1)
            if name == "loss":
                smooth = _running_mean(self.losses, max(1, int(SMOOTH * len(self.losses))))
                axes.plot(range(1, len(smooth) + 1), smooth, color=_GREY, label="training")
            values = [one[name] for one in self.evaluations]
            axes.plot(steps, values, color=_BLUE, marker="o", label="validation")
            if self.best is not None:
                axes.axvline(self.best["step"], color=_ORANGE, linestyle=":", label="kept")
            axes.set_ylabel(name)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("step")
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _running_mean(values: list[float], width: int) -> list[float]:
    total, means = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        means.append(total / min(i + 1, width))
    return means


def _write_csv(path: Path, names: list[str], rows: list[Any]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
