"""What a run would do, before it is done."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.captions.base import Estimate
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.progress import counted
from builder.models.costs import Forecast, forecast
from builder.models.record import Record
from builder.models.step import Training
from builder.pipeline.project import LastRun, Project, Step
from builder.steps.plan import Part, Setup, plan, setup_of
from builder.steps.stage import Stage
from builder.synthesis.generate import Generate


@dataclass(frozen=True)
class StepPreview:
    """What a run would do in a step: make its ``stale`` shards, ``todo`` in words, or wait for
    the steps ``waits_for``."""

    stage: str
    waits_for: tuple[str, ...] = ()
    todo: str = ""
    shards: int = 0
    stale: int = 0
    changed: bool = False
    """Whether shards that are there are to be made again, from other inputs or settings."""
    estimate: Estimate | None = None
    """What captioning the stale rows takes, where the backend estimates it."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Rows that an earlier run failed on, and why; they are tried again."""
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What each file that is read says of itself, where the step is the only one."""

    @property
    def is_planned(self) -> bool:
        """Whether the step's shards are counted."""
        return not self.waits_for and not self.todo

    @property
    def is_done(self) -> bool:
        """Whether the step has nothing to do."""
        return not (self.waits_for or self.stale or self.todo) or self.todo.startswith("nothing")

    def __str__(self) -> str:
        if self.waits_for:
            return f"waits for {', '.join(self.waits_for)}"
        if self.todo:
            return self.todo
        if not self.shards:
            return "nothing yet: there are no rows"
        if self.stale:
            again = ""
            if self.failed:
                row, why = next(iter(self.failed.items()))
                n = counted(len(self.failed), "failed row")
                again = f"; {n} to try again, first {row}: {why}"
            return f"{self.stale} of {self.shards} shards to make{again}"
        return f"nothing: {self.shards} shards are fresh"

    def as_json(self) -> dict[str, Any]:
        """Only the keys that apply, as `--dry-run --json` prints them."""
        if self.waits_for:
            return {"stage": self.stage, "waits_for": list(self.waits_for)}
        if self.todo:
            return {"stage": self.stage, "todo": self.todo}
        values: dict[str, Any] = {"stage": self.stage, "shards": self.shards, "stale": self.stale}
        if self.estimate:
            values |= {"estimate": asdict(self.estimate), "note": str(self.estimate)}
        if self.failed:
            values["failed_rows"] = dict(self.failed)
        if self.inputs:
            values["inputs"] = self.inputs
        return values


def preview(project: Project, steps: Sequence[Step], part: Part = (1, 1)) -> list[StepPreview]:
    """What a run would do, step by step; a step that needs what an earlier step is still to make
    waits for it."""
    previews = []
    coming: dict[tuple[str, str], str] = {}  # (kind of row, column) or ("model", name) → its step
    for step in steps:
        waits = tuple(dict.fromkeys(coming[name] for name in _inputs(step) if name in coming))
        line = StepPreview(step.name, waits)
        try:
            if isinstance(step, Training) and not waits:
                stale = step.stale(project.store)
                todo = "train" if stale else "nothing: it is trained"
                # A model that is only missing is trained again as it was.
                is_other = stale and Record.read(step.folder) is not None
                line = replace(line, todo=todo, changed=is_other)
            elif isinstance(step, Stage) and not waits:
                planned = plan(step, project.store, part)
                line = replace(
                    line,
                    shards=len(planned.tasks),
                    stale=len(planned.stale),
                    changed=any(task.changed for task in planned.tasks),
                    failed=planned.failed,
                )
                if len(steps) == 1:
                    words = step.understood(project.store)
                    line = replace(line, inputs=_relative(words, project.directory))
        except ArasError as error:
            line = replace(line, todo=f"cannot be planned yet: {error}")
        if not line.is_done:
            coming |= dict.fromkeys(_outputs(step), step.name)
        previews.append(line)
    return previews


def _relative(inputs: Mapping[str, Sequence[str]], directory: Path) -> dict[str, Sequence[str]]:
    return {os.path.relpath(path, directory): lines for path, lines in inputs.items()}


def _inputs(step: Step) -> Iterator[tuple[str, str]]:
    """What a step looks at, as (kind of row, column), or as ("model", name)."""
    if isinstance(step, Training):
        yield from (("real", column) for column in ("image", "mask", "split"))
        if step.model == "generator":
            yield from (("model", name) for name in ("segmenter", "autoencoder"))
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
    counted: Forecast | None = None
    """What the rows take by counted operations, where there is no rate and the network is known."""

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


def drawing_cost(project: Project, engine: Engine, steps: Sequence[StepPreview]) -> Cost:
    """What is left to draw and what that costs, by a `preview` of layouts and drawing."""
    rows = rows_to_draw(project, steps)
    try:
        now = setup_of(project.synthesis()[-1], engine)
        cost = cost_of(rows, project.last_made("generate"), now)
    except ArasError:  # no generator yet, or not the recipe's: the preview says so
        cost = Cost(rows)
    return cost if cost.rate else replace(cost, counted=_counted(project, rows))


def _counted(project: Project, rows: int) -> Forecast | None:
    draw = project.synthesis()[-1]
    if not isinstance(draw, Generate) or draw.pipeline is not None:
        return None
    settings = project.recipe.generator.training
    size = project.recipe.tiles.size
    return forecast(settings, rows, size, draw.sampling_steps, draw.guidance)


def cost_of(rows: int, last: LastRun | None, now: Setup) -> Cost:
    """The cost of ``rows`` by the ``last`` run, where its setup equals ``now``."""
    if last is None or last.setup != now:
        return Cost(rows)
    # Workers of this machine share its GPU; each worker on Ray has its own.
    alone = now.device != "cpu" and now.engine != "ray"
    processors = 1 if alone else now.workers or None
    return Cost(rows, last.rows_made / max(last.seconds, 1e-3), now.device, processors)


def rows_to_draw(project: Project, steps: Sequence[StepPreview]) -> int:
    """Synthetic rows that are still to be drawn, by a `preview` of the layouts and the drawing."""
    rows = project.synthetic_rows
    if not all(step.is_planned for step in steps) or steps[0].stale:
        return rows
    return round(rows * steps[-1].stale / max(1, steps[-1].shards))


def seconds_of(project: Project, step: StepPreview) -> float | None:
    """What a step takes by the rate of its last run here; 0 for nothing, None where that is not
    known. A step that waits is taken to be made whole."""
    if step.is_done:
        return 0.0
    last = project.last_made(step.stage)
    if last is None:
        return None
    if not last.shards_made or not last.shards:  # a training, or the release
        return last.seconds
    return last.seconds / last.shards_made * (step.stale if step.is_planned else last.shards)


def expected(project: Project, steps: Sequence[StepPreview]) -> dict[str, float | None]:
    """Step → `seconds_of` it."""
    return {step.stage: seconds_of(project, step) for step in steps}
