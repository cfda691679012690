"""Run steps in order, with a report of each, and start over where a shard turns out corrupt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.core import progress
from builder.core.engine import Engine
from builder.core.errors import NotMade, WorkFailed
from builder.core.store import CorruptShard
from builder.models.step import Training
from builder.pipeline.project import RESTARTS, Project, Step
from builder.steps.plan import Part, Summary, run, setup_of
from builder.steps.stage import Report, Stage


@dataclass(frozen=True)
class Waiting:
    """A step that waits for columns that the other parts are to make: a `Report`."""

    stage: str
    columns: tuple[str, ...]

    def lines(self) -> list[str]:
        return [
            f"{self.stage}: waits for the other parts; when they are done, run this without --part"
        ]

    def as_json(self) -> dict[str, Any]:
        return {"kind": "waiting", "stage": self.stage, "for": list(self.columns)}


class StepFailed(WorkFailed):
    """A step with failed shards; ``summaries`` are those of the steps up to it."""

    def __init__(self, summaries: Sequence[Report], failed: Summary) -> None:
        super().__init__(failure(failed))
        self.summaries = summaries


def run_steps(
    project: Project,
    steps: list[Step],
    engine: Engine,
    part: Part = (1, 1),
    tell: Callable[[Report], None] | None = None,
    finish: Callable[[], Report] | None = None,
    expected: Mapping[str, float | None] | None = None,
) -> list[Report]:
    """Run steps in order, then ``finish``; returns their summaries, of which ``tell`` hears too.

    Progress says which of them runs, and how long the others take by ``expected`` seconds of each
    step (None where they are not known; left out, nothing is said of them).

    When a shard turns out corrupt on reading, the steps start over, at most `RESTARTS` times:
    planning then sees it as missing. Raises StepFailed naming the failed shards; what succeeded
    is kept. In a part of several, a step that needs what the other parts are to make waits.
    """
    for _ in range(RESTARTS):
        try:
            number = len(steps) + (finish is not None)
            places = _places([step.name for step in steps], number, expected)
            summaries = _run_once(project, steps, engine, part, tell, places)
            if finish is None:
                return summaries
            with progress.at(progress.Place(number, number)):
                return [*summaries, finish()]
        except CorruptShard as error:
            if not _makes(steps, error.stage):
                raise
            corrupt = error
    raise WorkFailed(f"shards are corrupt again after they were remade; check the disk: {corrupt}")


def _run_once(
    project: Project,
    steps: list[Step],
    engine: Engine,
    part: Part,
    tell: Callable[[Report], None] | None,
    places: Sequence[progress.Place],
) -> list[Report]:
    summaries: list[Report] = []
    columns: set[str] = set()
    for step, place in zip(steps, places, strict=True):
        summary: Report
        try:
            with progress.at(place):
                if isinstance(step, Training):
                    summary = step.run(project.store)
                else:
                    summary = _run_stage(project, steps, step, engine, part)
        except NotMade as error:
            if part[1] == 1 or columns.isdisjoint(error.columns):
                raise
            summary = Waiting(step.name, error.columns)
        else:
            project.report(step.name, summary)
        if isinstance(step, Stage):
            columns.update(step.adds)
        summaries.append(summary)
        if tell:
            tell(summary)
        if isinstance(summary, Summary) and summary.failed:
            raise StepFailed(summaries, summary)
    return summaries


def _places(
    names: Sequence[str], total: int, expected: Mapping[str, float | None] | None
) -> list[progress.Place]:
    """The place of each step among ``total``, with what the steps after it take."""
    places = []
    for i in range(len(names)):
        rest = [] if expected is None else [expected.get(name) for name in names[i + 1 :]]
        known = sum(seconds for seconds in rest if seconds is not None)
        places.append(progress.Place(i + 1, total, known, rest.count(None), expected is not None))
    return places


def _run_stage(
    project: Project, steps: list[Step], stage: Stage, engine: Engine, part: Part
) -> Summary:
    """Run a stage of ``steps``. Raises CorruptShard for an input that these steps can remake."""
    summary = run(stage, project.store, engine, part)
    for maker, shard in (name.split("/") for name in summary.corrupt):
        if _makes(steps, maker):
            raise CorruptShard(maker, shard, "noticed on reading")
    if stage.gpus:
        summary.setup = setup_of(stage, engine)
    return summary


def _makes(steps: list[Step], stage: str) -> bool:
    return any(step.name == stage for step in steps)


def failure(summary: Summary) -> str:
    """The message of a stage with failed shards: each distinct reason with its shards, or why the
    run ended."""
    if summary.ended:
        return (
            f"{summary.stage}: the run ended: {summary.ended}; all that was done is kept, and the "
            "same command goes on from there"
        )
    reasons: dict[str, list[str]] = {}
    for shard, why in summary.failed.items():
        reasons.setdefault(why, []).append(shard)
    lines = [f"{', '.join(shards)}: {why}" for why, shards in reasons.items()]
    failed = len(summary.failed)
    kept = "the others are kept; " if failed < summary.shards else ""
    return (
        f"{summary.stage}: {failed} of {summary.shards} shards failed, {kept}the same command "
        "tries these again\n  " + "\n  ".join(lines)
    )
