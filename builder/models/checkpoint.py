"""The state of a training: checkpoints that are whole or refused, moving average, history."""

import hashlib
import io
import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from builder.core import figures
from builder.core.errors import ArasError
from builder.core.files import atomic, write_csv

POWER = 0.75
"""How fast the decay rises: 1 − (1 + steps)^−power, up to the decay of the settings."""
DOUBT = 2.0
"""Standard errors by which an evaluation must be better than the last to be preferred to it."""
SMOOTH = 0.05
"""Share of the steps over which the plotted training loss is averaged."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, which names its ``key``, atomically and behind its own sha256."""
    body = io.BytesIO()
    torch.save(state, body)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(_sha256(body.getbuffer()))
        file.write(body.getbuffer())


def load(path: Path, key: str, device: torch.device) -> dict[str, Any] | None:
    """The state under ``path``; None when there is none or it belongs to another ``key``.

    Raises ArasError when it is damaged: no byte of it is used then.
    """
    state = _read(path, device)
    return state if state is not None and state["key"] == key else None


def claim(path: Path, key: str) -> str | None:
    """Give ``path`` to the training of ``key``. The checkpoint of another training is kept under a
    name of its own, and brought back by that training's `claim`; returns a line that says so.

    Raises ArasError when it is damaged.
    """
    state, note = _read(path, torch.device("cpu")), None
    if state is not None and state["key"] != key:
        aside = _aside(path, state["key"])
        os.replace(path, aside)
        note = (
            f"starts from step 0: the checkpoint here has other settings or data (after step "
            f"{len(state['history']['losses'])}); it is kept as {aside}. Run with its settings to "
            "continue it, or remove the file"
        )
    if _aside(path, key).exists() and not path.exists():
        os.replace(_aside(path, key), path)
    return note


def _aside(path: Path, key: str) -> Path:
    return path.with_stem(f"{path.stem}-{key[:12]}")


def _read(path: Path, device: torch.device) -> dict[str, Any] | None:
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    digest, body = data[:32], data[32:]
    if digest != _sha256(body):
        raise ArasError(f"{path}: the checkpoint is damaged; remove it to train from the start")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state


def _sha256(body: Any) -> bytes:
    return hashlib.sha256(body).digest()


class Average(AveragedModel):
    """Exponential moving average of a model's weights, float32 beside them, as ``module``.

    The decay rises from 0, so that early steps count less; torch's own decay is constant.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def follow(average: Any, weights: Any, steps: Any) -> None:
            # torch's ``steps`` lies on the device, and reading it back would wait for the device.
            risen = min(decay, 1 - (1 + int(self.n_averaged)) ** -POWER)
            for value, weight in zip(average, weights, strict=True):
                value.lerp_(weight, 1 - risen)

        super().__init__(model, multi_avg_fn=follow)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch does it, and from earlier checkpoints, which hold a list of weights."""
        if "steps" in state_dict:
            names = (f"module.{name}" for name, _ in self.module.named_parameters())
            weights = dict(zip(names, state_dict["average"], strict=True))
            steps = torch.tensor(state_dict["steps"])
            state_dict = {**self.state_dict(), "n_averaged": steps, **weights}
        return super().load_state_dict(state_dict, strict, assign)


@dataclass
class History:
    """``losses`` of every step; ``evaluations``: ``step`` and a value per measure, in order.

    ``watch`` names the measure that decides, the lower the better.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    watch: str = ""

    @property
    def best(self) -> dict[str, float] | None:
        """The evaluation with the lowest watched value (the first on a tie); None without any."""
        watched = operator.itemgetter(self.watch)
        finite = (row for row in self.evaluations if math.isfinite(watched(row)))
        return min(finite, key=watched, default=None)

    @property
    def chosen(self) -> dict[str, float] | None:
        """The evaluation whose weights are published: the best where it is better than the last by
        more than chance, and else the last, which has learnt most; None without any.

        Chance is `DOUBT` standard errors of the difference, where the watched measure has one
        (``…_error``); the crops are the same in both, so this errs on the side of the last.
        """
        if (best := self.best) is None:
            return None
        last, error = self.evaluations[-1], f"{self.watch}_error"
        doubt = DOUBT * math.hypot(best.get(error, 0.0), last.get(error, 0.0))
        return last if last[self.watch] - best[self.watch] <= doubt else best

    def stalled(self, patience: int) -> bool:
        """Whether the last ``patience`` evaluations brought nothing better; never for 0."""
        return 0 < patience <= self.waited

    @property
    def waited(self) -> int:
        """Evaluations since the best."""
        best = 0 if self.best is None else self.evaluations.index(self.best) + 1
        return len(self.evaluations) - best

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses, self.evaluations = list(state["losses"]), list(state["evaluations"])

    def write(self, folder: Path) -> None:
        """Write loss.csv; where there are evaluations also evaluations.csv and curves.png."""
        rows = [(i, f"{loss:.6f}") for i, loss in enumerate(self.losses)]
        write_csv(folder / "loss.csv", [("step", "loss"), *rows])
        if self.evaluations:
            names = list(self.evaluations[0])
            shown = [name for name in names[1:] if not name.endswith("_error")]
            cells = [
                (int(evaluation["step"]), *(f"{evaluation[name]:.6f}" for name in names[1:]))
                for evaluation in self.evaluations
            ]
            write_csv(folder / "evaluations.csv", [names, *cells])
            self._plot(folder / "curves.png", shown)

    def _plot(self, path: Path, names: list[str]) -> None:
        """One panel per measure over the steps; the training loss in the panel named loss."""
        figure, panels = figures.panels(7.2, 2.6 * len(names), len(names))
        steps = [evaluation["step"] for evaluation in self.evaluations]
        for axes, name in zip(panels, names, strict=True):
            if name == "loss":
                smooth = _running_mean(self.losses, max(1, int(SMOOTH * len(self.losses))))
                axes.plot(range(1, len(smooth) + 1), smooth, color=figures.GREY, label="training")
            values = [evaluation[name] for evaluation in self.evaluations]
            axes.plot(steps, values, color=figures.BLUE, marker="o", label="validation")
            if self.chosen is not None:
                axes.axvline(self.chosen["step"], color=figures.RED, linestyle=":", label="kept")
            axes.set_ylabel(name)
            axes.legend(frameon=False, fontsize=8)
        panels[-1].set_xlabel("step")
        figures.save(figure, path)


def _running_mean(values: list[float], width: int) -> list[float]:
    total, means = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        means.append(total / min(i + 1, width))
    return means
