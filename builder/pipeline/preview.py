"""What a run would do, before it is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.models.step import Training
from builder.pipeline.project import Project, Step
from builder.steps.plan import Part, plan, setup_of


def preview(project: Project, steps: Sequence[Step], part: Part = (1, 1)) -> list[dict[str, Any]]:
    """What a run would do, step by step; one that looks at what an earlier one is still to make
    waits for it."""
    told = []
    coming: dict[tuple[str, str], str] = {}  # (kind of row, column) or ("model", name) → its step
    for step in steps:
        line: dict[str, Any] = {"stage": step.name}
        waits = list(dict.fromkeys(coming[one] for one in _inputs(step) if one in coming))
        try:
            if waits:
                line["waits_for"] = waits
            elif isinstance(step, Training):
                line["todo"] = "train" if step.stale(project.store) else "nothing: it is trained"
            else:
                todo = plan(step, project.store, part)
                line |= {"shards": len(todo.tasks), "stale": len(todo.stale)}
        except ArasError as error:
            line["todo"] = f"cannot be planned yet: {error}"
        if not is_done(line):
            coming |= dict.fromkeys(_outputs(step), step.name)
        told.append(line)
    return told


def is_done(line: dict[str, Any]) -> bool:
    """Whether a line of a `preview` tells of a step with nothing to do."""
    if "waits_for" in line:
        return False
    return not line.get("stale") and line.get("todo", "nothing").startswith("nothing")


def _inputs(step: Step) -> Iterator[tuple[str, str]]:
    """What a step looks at, as (kind of row, column), or as ("model", name)."""
    if isinstance(step, Training):
        yield from (("real", column) for column in ("image", "mask", "split"))
        if step.model == "generator":
            yield from (("model", one) for one in ("segmenter", "autoencoder"))
        return
    yield from ((kind, column) for kind in step.kinds for column in step.needs)
    yield from ((kind, column) for kind in step.surveyed for column in step.surveys)
    if isinstance(folder := getattr(step, "model", None), Path):
        yield "model", folder.name


def _outputs(step: Step) -> Iterator[tuple[str, str]]:
    if isinstance(step, Training):
        yield "model", step.model
    else:
        yield from ((kind, column) for kind in step.kinds for column in step.adds)


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
