"""builder.pipeline.project.run."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from builder.core.engine import Engine
from builder.core.errors import NotMade, WorkFailed
from builder.core.store import CorruptShard
from builder.models.step import Training
from builder.pipeline.project import RESTARTS, Project, Step
from builder.steps.plan import Part, Summary, run, setup_of


def run_steps(
    project: Project,
    steps: list[Step],
    engine: Engine,
    part: Part = (1, 1),
    tell: Callable[[dict[str, Any]], None] | None = None,
    finish: Callable[[], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Run steps in order, then ``finish``; returns their summaries, of which ``tell`` hears too.

    When a shard turns out corrupt on reading, the steps start over, at most `RESTARTS` times:
    planning then sees it as missing. Raises WorkFailed naming the failed shards; what succeeded
    is kept. In one part of several, a step that needs what the other parts are to make waits.
    """
    for _ in range(RESTARTS):
        try:
            summaries = _run_once(project, steps, engine, part, tell)
            return [*summaries, finish()] if finish else summaries
        except CorruptShard as error:
            if not _makes(steps, error.stage):
                raise
            corrupt = error
    raise WorkFailed(f"shards keep turning out corrupt, check the disk: {corrupt}")


def _run_once(
    project: Project, steps: list[Step], engine: Engine, part: Part, tell: Any
) -> list[dict[str, Any]]:
    summaries: list[dict[str, Any]] = []
    columns: set[str] = set()
    for step in steps:
        if isinstance(step, Training):
            summary = step.run(project.store)
        else:
            try:
                done = run(step, project.store, engine, part)
            except NotMade as error:
                if part[1] == 1 or columns.isdisjoint(error.columns):
                    raise
                summary = {"kind": "waiting", "stage": step.name, "for": list(error.columns)}
                summaries.append(summary)
                if tell:
                    tell(summary)
                continue
            finally:
                columns.update(step.adds)
            for stage, shard in (name.split("/") for name in done.corrupt):
                if _makes(steps, stage):
                    raise CorruptShard(stage, shard, "found on reading")
            summary = done.as_json()
            if step.gpus:
                summary["setup"] = asdict(setup_of(step, engine))
        summaries.append(summary)
        project.report(step.name, summary)
        if tell:
            tell(summary)
        if summary.get("failed"):
            failed = WorkFailed(failure(done))
            failed.summaries = summaries
            raise failed
    return summaries


def _makes(steps: list[Step], stage: str) -> bool:
    return any(step.name == stage for step in steps)


def failure(summary: Summary) -> str:
    """The message of a stage with failed shards: each distinct reason with its shards."""
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
