"""What drawing will take: the balance plan, the rows left, and the time by a measured rate."""

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.balance_plan import BalancePlan
from builder.engine import Engine
from builder.errors import ArasError
from builder.files import digest_of
from builder.plan import survey
from builder.stage import Stage

if TYPE_CHECKING:
    from builder.pipeline import Project


def balance_plan(project: "Project") -> BalancePlan | None:
    """The plan behind the synthetic rows, met or not; None when there are none or no layouts."""
    if project.draws_blanks:
        return None
    stage = dataclasses.replace(project.layouts(), nearest=True)
    found = survey(stage, project.store) if stage.rows else None
    return found.plan if found else None


def setup_of(stage: Stage, engine: Engine) -> dict[str, Any]:
    """What decides how fast ``stage`` makes a row: ``stage``, a digest of its settings, models and
    batch size; ``device``, a GPU's name or cpu; ``engine`` and ``workers``, 0: all that there are.

    Raises ArasError when a model is missing.
    """
    import torch

    batch = getattr(stage, "batch", None)
    workers = {"serial": 1, "ray": engine.workers}.get(
        engine.kind, engine.workers or os.cpu_count()
    )
    return {
        "stage": digest_of({**stage.config(), "models": stage.models(), "batch": batch}),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "engine": engine.kind,
        "workers": workers,
    }


@dataclass(frozen=True)
class Cost:
    """``rows`` to draw at ``rate`` tiles per second, None where none was measured for these
    settings, on ``processors`` of ``device``, None where how many there will be is not known."""

    rows: int
    rate: float | None = None
    device: str = "cpu"
    processors: int | None = None

    @property
    def unit(self) -> str:
        return "CPU-hours" if self.device == "cpu" else "GPU-hours"

    @property
    def hours(self) -> float | None:
        """Until the rows are there."""
        return None if self.rate is None else self.rows / self.rate / 3600

    @property
    def processor_hours(self) -> float | None:
        """Hours times CPU cores or GPUs."""
        if self.hours is None or self.processors is None:
            return None
        return self.hours * self.processors


def drawing_cost(project: "Project", engine: Engine, steps: list[dict[str, Any]]) -> Cost:
    """What is left to draw and what that costs, by a `preview` of layouts and drawing."""
    rows = rows_to_draw(project, steps)
    try:
        now = setup_of(project.synthesis()[-1], engine)
    except ArasError:  # no generator yet, or another one than the recipe's: the preview says so
        return Cost(rows)
    return cost_of(rows, project.last_made("generate"), now)


def cost_of(rows: int, last: dict[str, Any] | None, now: dict[str, Any]) -> Cost:
    """The cost of ``rows`` by the ``last`` run, where its `setup_of` is that of ``now``."""
    if last is None or last.get("setup") != now:
        return Cost(rows)
    # Workers of this machine share its one GPU; those on Ray have one each.
    alone = now["device"] != "cpu" and now["engine"] != "ray"
    processors = 1 if alone else now["workers"] or None
    return Cost(rows, last["rows_made"] / max(last["seconds"], 1e-3), now["device"], processors)


def rows_to_draw(project: "Project", steps: list[dict[str, Any]]) -> int:
    """Synthetic rows that are still to be drawn, by a `preview` of the layouts and the drawing."""
    rows = project.synthetic_rows
    if not all("stale" in step for step in steps) or steps[0]["stale"]:
        return rows
    stale, shards = int(steps[-1]["stale"]), int(steps[-1]["shards"])
    return round(rows * stale / max(1, shards))
