"""Commands that run stages: tiles, split, generate, segment, caption, build."""

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import (
    aras_in,
    echo,
    print_json,
    run_options,
    say_report,
    stage_options,
    strict_option,
)
from builder.core.progress import counted, note, settings, words_of

if TYPE_CHECKING:
    from builder.core.engine import Engine
    from builder.pipeline.preview import StepPreview
    from builder.pipeline.project import Project
    from builder.steps.stage import Report


def print_plan(steps: "Sequence[StepPreview]", as_json: bool) -> None:
    """The steps of a `preview`, a line each."""
    if as_json:
        print_json({"kind": "plan", "steps": [step.as_json() for step in steps]})
        return
    for step in steps:
        echo(f"{step.stage:<22} {step}")
        if step.estimate:
            echo(f"  {step.estimate}")
        for path, lines in step.inputs.items():
            echo("\n  ".join([path, *lines]))


def print_balance(
    directory: Path, engine: str | None, workers: int | None, *, as_json: bool
) -> None:
    """Print the balance plan of a project, the rows still to draw, and their cost by the rate that
    was measured with the same generator, settings, device and workers."""
    from builder.pipeline.preview import Cost, drawing_cost, preview
    from builder.pipeline.project import Project

    project = Project(directory)
    plan = project.balance_plan()
    asked = project.synthetic_rows
    steps = preview(project, project.synthesis()) if asked else []
    cost = Cost(0)
    if asked:
        cost = drawing_cost(project, project.engine(engine, workers), steps)
    refused = plan is not None and not plan.feasible and not project.recipe.generator.nearest
    if as_json:
        summary = {} if plan is None else {**plan.summary().as_json(), "refused": refused}
        costs = {
            "rows_to_draw": cost.rows,
            "tiles_per_second": cost.rate,
            "hours": cost.hours,
            "device": None if cost.rate is None else cost.device,
            "gpu_hours": cost.processor_hours if cost.device != "cpu" else None,
            "cpu_hours": cost.processor_hours if cost.device == "cpu" else None,
            "tflop_per_tile": cost.counted.tflop if cost.counted else None,
        }
        lines = [step.as_json() for step in steps]
        print_json({"kind": "balance", **summary, "steps": lines, **costs})
        return
    if not asked:
        echo("the recipe asks for no synthetic rows")
        return
    echo(plan or "tiles are drawn without layouts: there is no balance plan")
    if refused:
        echo(
            "`aras generate` will refuse this; with nearest = true in [generator] it takes the "
            "nearest shares"
        )
    echo()
    print_plan(steps, as_json)
    echo(_cost(cost))


def _cost(cost: Any) -> str:
    if not cost.rows:
        return "nothing to draw: all rows exist"
    if cost.hours is None:
        counted = f". {cost.counted}" if cost.counted else ""
        return f"{cost.rows:,} rows to draw; no rate measured for these settings yet{counted}"
    total = cost.processor_hours
    return (
        f"{cost.rows:,} rows to draw: about {words_of(3600 * cost.hours)}"
        + ("" if total is None else f" ({total:.2g} {cost.unit})")
        + f" at the {cost.rate:.3g} tiles/s of the last run with these settings ({cost.device})"
    )


def run_command(
    directory: Path,
    choose: Callable[[Any], list[Any]],
    *,
    engine: str | None,
    workers: int | None,
    part: tuple[int, int],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan or run the steps that ``choose(project)`` names, with a line for each when it ends."""
    from builder.pipeline.preview import preview
    from builder.pipeline.project import Project
    from builder.pipeline.run import StepFailed, run_steps

    project = Project(directory)
    steps = choose(project)
    if dry_run:
        print_plan(preview(project, steps, part), as_json)
        return
    tell = None if as_json else say_report
    try:
        summaries = run_steps(project, steps, project.engine(engine, workers), part, tell)
    except StepFailed as error:
        if as_json:
            print_steps(error.summaries)
        raise
    if as_json:
        print_steps(summaries)


def print_steps(summaries: "Sequence[Report]") -> None:
    """One summary as it is, several as a list."""
    steps = [summary.as_json() for summary in summaries]
    print_json(steps[0] if len(steps) == 1 else {"kind": "steps", "steps": steps})


@click.command()
@stage_options
@click.pass_obj
def tiles(directory: Path, /, **options: Any) -> None:
    """Cut real tiles from land-cover maps and satellite pictures.

    Reads the files that [tiles] names, checks each against its own name and georeference, and
    cuts patches on the regular grid of every 1° cell. The maps are WorldCover's, or any with a
    `legend`: worldcover, dynamic-world, esri, corine, nlcd, or a table of codes. The pictures are
    its composites, or Sentinel-2 L2A, in a file per band or in stacks. Files are read as they
    describe themselves: band names, scale and offset, no-data values and masks, orientation;
    the dry run prints what was understood of each. The summary accounts for every candidate:
    kept, or dropped as black, partly black, no map, nodata or water.

    \b
    Examples:
      aras tiles --dry-run
      aras tiles --engine serial
      aras tiles --part 3/16        # the third job of a Slurm array of 16
    """
    run_command(directory, lambda project: [project.tiles()], **options)


@click.command()
@stage_options
@click.pass_obj
def generate(directory: Path, /, **options: Any) -> None:
    """Choose layouts by the balance plan and draw synthetic tiles on them.

    Needs a trained generator (`aras train generator`). Layouts come from train tiles, chosen so
    that their classes meet `balance` in [generator]; the noise of a row depends only on the run
    seed and its id, so the same recipe gives the same bytes on any engine. The dry run shows the
    plan: class shares before and after, the effective number of layouts, the rows still to draw,
    and the time and GPU-hours (CPU-hours) by the rate of the last run with the same generator,
    settings, device and workers.

    \b
    Examples:
      aras generate --dry-run           # class shares before and after, rows, time
      aras generate
      aras generate --part 3/8          # job 3 of a Slurm array of 8
    """
    if options["dry_run"]:
        how = options["engine"], options["workers"]
        print_balance(directory, *how, as_json=options["as_json"])
        return
    run_command(directory, lambda project: project.synthesis(), **options)


@click.command()
@stage_options
@click.pass_obj
def segment(directory: Path, /, **options: Any) -> None:
    """Judge every tile: its pixels, its mask, its realism, its duplicates.

    Sharpness, contrast, cloudiness and blankness; agreement of the segmenter with the mask; realism
    and copies of train tiles in the segmenter's features; duplicates and near-duplicates over all
    tiles. Needs a trained segmenter (`aras train segmenter`). With mask = "segmenter" in
    [generator] it also labels the synthetic tiles. [quality] says what `aras package` leaves out.

    \b
    Examples:
      aras segment
      aras segment --dry-run
    """
    run_command(directory, lambda project: [*project.qualities(), *project.judgements()], **options)


@click.command()
@click.argument("streams", nargs=-1)
@click.option(
    "--write-requests",
    "requests",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the requests of one openai STREAM as batch files under DIR, and stop.",
)
@click.option(
    "--read-results",
    "results",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Read the captions of one openai STREAM from result files (a file or a folder).",
)
@stage_options
@click.pass_obj
def caption(
    directory: Path,
    /,
    streams: tuple[str, ...],
    requests: Path | None,
    results: Path | None,
    **options: Any,
) -> None:
    """Caption every tile in the streams of the recipe, or only in STREAMS.

    A failed row carries its error; the next run tries only failed rows again. The dry run
    estimates the requests to a server, and their cost where the recipe names a price.

    \b
    Examples:
      aras caption
      aras caption layout full
      aras caption hosted --dry-run
      aras caption hosted --write-requests batch     # batch/hosted-00001.jsonl …
      aras caption hosted --read-results results     # once the batch is done
    """
    from builder.cli import captions
    from builder.pipeline.project import Project

    stages = captions.chosen(Project(directory), streams)
    if requests is not None or results is not None:
        stages = [captions.offline(stages, streams, requests, results)]
    if requests is not None:
        captions.write_requests(Project(directory), stages[0], requests, **options)
    elif options["dry_run"]:
        lines = captions.preview_with_costs(Project(directory), stages, options["part"])
        print_plan(lines, options["as_json"])
    else:
        run_command(directory, lambda project: stages, **options)


def peak_memory() -> dict[str, int]:
    """Peak resident memory so far, MB: of this process and of its largest child."""
    unit = 1 if sys.platform == "darwin" else 1024
    sizes = {"main": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}
    return {name: resource.getrusage(who).ru_maxrss * unit // 10**6 for name, who in sizes.items()}


@click.command()
@run_options
@strict_option
@click.pass_obj
def build(
    directory: Path,
    /,
    engine: str | None,
    workers: int | None,
    dry_run: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Make everything that is out of date, from input files to a checked release.

    Runs tiles, split, both trainings, generate, segment, every caption stream, package and
    check. You can stop it at any time; run it again to continue: finished shards and checkpoints
    are kept. To share the work among the jobs of a Slurm array, run each stage with --part: a
    step that looks at all shards (split, duplicates, realism, memorisation) waits for the other
    parts, and the same command without --part then makes it.

    \b
    Examples:
      aras build --dry-run
      aras build
      aras build --engine ray
    """
    from builder.cli.release import judge, refuse_findings
    from builder.pipeline.preview import expected, preview
    from builder.pipeline.project import Project
    from builder.pipeline.refusals import refuse_hopeless
    from builder.pipeline.run import StepFailed
    from builder.release.package import preview_package, refuse_early

    project = Project(directory)
    previews = preview(project, project.steps())
    plan = [*previews, preview_package(project.inputs(), previews)]
    if dry_run:
        print_plan(plan, as_json)
        return
    if not as_json and all(step.is_done for step in plan) and is_checked(project):
        note(
            f"nothing to do: {len(previews)} steps are fresh, "
            f"{os.path.relpath(project.inputs().target, directory)} is checked "
            f"({judge(project.inputs().target).headline})"
        )
        if strict:
            refuse_findings(judge(project.inputs().target))
        return
    refuse_early(project.inputs(), previews)
    refuse_hopeless(project, previews, project.engine(engine, workers).kind)
    started = time.monotonic()
    try:
        times = expected(project, previews)
        summaries = build_all(project, project.engine(engine, workers), as_json, times)
    except StepFailed as error:
        if as_json:
            print_build(error.summaries)
        raise
    seconds, memory = round(time.monotonic() - started, 1), peak_memory()
    if as_json:
        print_build(summaries, seconds=seconds, peak_memory_mb=memory)
    else:
        note(
            f"done in {seconds} s; peak memory {memory['main']} MB, largest worker "
            f"{memory['worker']} MB"
        )
        say_next(project)
    if strict:
        refuse_findings(judge(project.inputs().target))


def is_checked(project: "Project") -> bool:
    """Whether the last build found every invariant of the release that is there now."""
    from builder.core.files import read_json
    from builder.core.manifest import read_manifest

    try:
        report = read_json(project.directory / "reports" / "package.json")
    except (FileNotFoundError, ValueError):
        return False
    content = read_manifest(project.inputs().target).content_sha256
    return bool(report.get("violations") == [] and report.get("content_sha256") == content)


def say_next(project: "Project") -> None:
    """What people do with a release that was just made: look, check what it says, share."""
    aras = aras_in(project.directory)
    lines = [
        f"next: {aras} explore                       # its tiles and captions, in a browser",
        f"      {aras} report                        # what was measured, on a page",
        f"      {aras} publish hub --repo ORG/NAME --dry-run   # what would be sent",
    ]
    note("\n".join(lines))


def print_build(summaries: "Sequence[Report]", **figures: Any) -> None:
    steps = [summary.as_json() for summary in summaries]
    print_json({"kind": "build", "steps": steps, **figures})


def build_all(
    project: "Project",
    engine: "Engine",
    as_json: bool,
    expected: Mapping[str, float | None] | None = None,
) -> "list[Report]":
    """Run every step, package and check; the summaries."""
    from builder.cli.release import build_release
    from builder.pipeline.run import run_steps

    steps = project.steps()
    idle: list[str] = []

    def tell(report: "Report") -> None:
        if getattr(report, "is_idle", False) and not settings.verbose:
            idle.append(report.as_json()["stage"])
        elif not as_json:
            say_report(report)

    def finish() -> "Report":
        if idle and not as_json:
            note(f"{counted(len(idle), 'step')} had nothing to do (--verbose names them)")
        idle.clear()
        return build_release(project, quiet=as_json)

    return run_steps(project, steps, engine, tell=tell, finish=finish, expected=expected)
