"""What `aras caption` does beyond running stages: choosing streams, estimates, offline batches."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import click

from builder.captions.ask import Ask
from builder.captions.section import BACKENDS
from builder.captions.stage import Caption
from builder.cli.common import print_json, say
from builder.pipeline.preview import StepPreview, preview
from builder.pipeline.project import Project
from builder.steps.plan import Part, plan

SAMPLE = 32
"""Rows whose prompts an estimate looks at."""


def chosen(project: Project, streams: tuple[str, ...]) -> list[Caption]:
    """The stages of the named streams, or of all. Raises click's errors for unknown names."""
    known = list(project.recipe.captions)
    if not known:
        raise click.UsageError("the recipe has no [captions.NAME] section")
    for name in streams:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not in the recipe; streams: {', '.join(known)}",
                param_hint="STREAMS",
            )
    return [project.caption(name) for name in streams or known]


def offline(
    stages: list[Caption], streams: tuple[str, ...], requests: Path | None, results: Path | None
) -> Caption:
    """The only openai stream that a batch is for; it answers from ``results``, if given."""
    from builder.captions.batch import result_files

    if requests is not None and results is not None:
        raise click.UsageError("--write-requests and --read-results cannot be combined")
    if len(streams) != 1 or not stages[0].spec.batches:
        known = " or ".join(f'"{name}"' for name, spec in BACKENDS.items() if spec.batches)
        raise click.UsageError(f"expected one STREAM with backend = {known} for a batch")
    if results is None:
        return stages[0]
    running = dataclasses.replace(stages[0].running, answers=result_files(results))
    return dataclasses.replace(stages[0], running=running)


def preview_with_costs(project: Project, stages: list[Caption], part: Part) -> list[StepPreview]:
    """The plan, with an estimate beside every stream whose backend gives it."""
    previews = preview(project, list(stages), part)
    for i, stage in enumerate(stages):
        if stage.spec.estimate and previews[i].stale:
            todo = plan(stage, project.store, part)
            sample = list(itertools.islice(stage.outstanding(project.store, todo), SAMPLE))
            rows = stage.remaining(project.store, todo)
            estimate = stage.spec.estimate(stage.ask, stage.running, rows, sample)
            previews[i] = dataclasses.replace(previews[i], estimate=estimate)
    return previews


def write_requests(
    project: Project, stage: Caption, folder: Path, *, part: Part, as_json: bool, **_: Any
) -> None:
    """Write the batch files of all rows without a caption, and say how to go on."""
    from builder.captions import batch

    assert isinstance(stage.ask, Ask)  # as every backend with batches is configured
    todo = plan(stage, project.store, part)
    asked = stage.outstanding(project.store, todo)
    files, count = batch.write_requests(folder, stage.stream, stage.ask, asked)
    if as_json:
        paths = [str(path) for path in files]
        summary = {"kind": "batch", "stream": stage.stream, "requests": count, "files": paths}
        print_json(summary)
    elif not count:
        say(f"{stage.name}: every row has its caption; nothing to ask")
    else:
        where = files[0] if len(files) == 1 else f"{files[0]} … {files[-1].name}"
        say(
            f"{stage.name}: {count:,} requests in {where}\n"
            f"when the results are ready: aras caption {stage.stream} --read-results PATH"
        )
