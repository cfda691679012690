"""Commands about a dataset's directory: init, demo, status."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import echo, json_option, print_json, say
from builder.core.document import file_size

if TYPE_CHECKING:
    from builder.pipeline.preview import StepPreview
    from builder.pipeline.project import Project


@click.command()
@click.argument(
    "target", type=click.Path(path_type=Path, file_okay=False), default=".", metavar="[DIR]"
)
@click.option(
    "--from",
    "start",
    type=click.Choice(["composites", "scene", "eurosat-like", "official"]),
    default="composites",
    show_default=True,
    help="What the recipe begins with.",
)
@click.pass_obj
def init(directory: Path, target: Path, start: str) -> None:
    """Make DIR with a commented dataset.toml that builds what `aras fetch` brings.

    DIR is the current directory unless given. The recipe cuts tiles of 256 pixels from WorldCover's
    composites; --from scene cuts them from Sentinel-2 L2A scenes, eurosat-like cuts tiles of 64
    pixels, official imports the published ARAS400k. It ends with the commands that come next.

    \b
    Examples:
      aras init my-dataset
      aras init my-scene --from scene
      aras init aras400k --from official
    """
    from builder.pipeline import recipe

    path = recipe.write(directory / target, start=start)
    aras = f"aras -C {path.parent}" if path.parent != Path() else "aras"
    begin = recipe.STARTS[start]
    lines = [f"{path}: {begin.says}. Next:"]
    if start == "scene":
        maps = begin.fetch.partition(" --scenes")[0] + " --maps"
        lines.append(f"  {aras} {maps}    # the maps of your box: west south east north")
    note = "" if start == "official" else "    # your box: west south east north"
    lines.append(f"  {aras} {begin.fetch}{'' if start == 'scene' else note}")
    lines.append(f"  {aras} build --dry-run    # what would be made; without it, make it")
    say("\n".join(lines))


@click.command()
@click.argument(
    "target", type=click.Path(path_type=Path, file_okay=False), default="demo", metavar="[DIR]"
)
@json_option
@click.pass_obj
def demo(directory: Path, target: Path, as_json: bool) -> None:
    """Build a small complete dataset in DIR on the CPU, offline.

    Writes an invented scene in the shape of the real products, then runs everything: tiles, split,
    both trainings, generate, segment, caption, package, check. Ends by loading the release as a
    user would. DIR is demo unless given. Run it again to see that nothing is left to do.

    \b
    Examples:
      aras demo
      aras demo my-demo && aras -C my-demo explore
    """
    from builder.cli.make import build_all, print_build, say_next
    from builder.pipeline import recipe
    from builder.pipeline.demo import make_scene
    from builder.pipeline.project import Project

    folder = directory / target
    say("demo: an invented scene of two composites and two maps (not a place on Earth)")
    if not (folder / "dataset.toml").exists():
        recipe.write(folder, demo=True)
    make_scene(folder / "inputs")
    project = Project(folder)
    summaries = build_all(project, project.engine(), as_json)
    shown = show_release(project.inputs().target)
    if as_json:
        print_build(summaries)
    else:
        echo(shown)
        say_next(project)


def show_release(release: Path) -> str:
    """Open a release as a user would; returns the snippet and what it gave."""
    import datasets

    from builder.core.manifest import read_manifest

    datasets.disable_progress_bars()
    others = ", ".join(name for name in read_manifest(release).configs if name != "real")
    data = datasets.load_dataset(str(release), "real")
    row = data["train"][0]
    return f"""
Load it:

    from datasets import load_dataset

    data = load_dataset("{release}", "real")          # or {others}
    row = data["train"][0]

gives {", ".join(f"{split} {part.num_rows}" for split, part in data.items())} rows; the first:

    id        {row["id"]}
    image     {row["image"].size[0]}×{row["image"].size[1]} {row["image"].mode}
    mask      {row["mask"].size[0]}×{row["mask"].size[1]} {row["mask"].mode}
    dominant  {data["train"].features["dominant"].int2str(row["dominant"])}
    percent   {row["percent"]}
    caption   {row["captions"][0]["text"]}"""


@click.command()
@json_option
@click.pass_obj
def status(directory: Path, as_json: bool) -> None:
    """Show what is complete, what is stale, how long it takes, and which releases there are.

    A step that is out of date is named; those that wait for it, and those with nothing to do, are
    counted. A version that is packaged already with other content than `aras package` would give
    it now is named too. Times follow from the last run of each step here; steps that never ran
    are counted as never measured. The input rasters may be elsewhere: then the tiles are taken
    as they are.

    \b
    Examples:
      aras status
      aras -C my-dataset status --json
    """
    from builder.cli.make import print_plan
    from builder.cli.release import judge
    from builder.core.manifest import read_manifest
    from builder.core.progress import counted, words_of
    from builder.pipeline.preview import expected
    from builder.pipeline.project import Project
    from builder.publish.targets import status_lines

    project = Project(directory)
    steps = preview_all(project)
    times = expected(project, steps)
    seconds = sum(time for time in times.values() if time is not None)
    unmeasured = sum(time is None for time in times.values())
    folders = [path.parent for path in sorted(project.releases.glob("[!.]*/manifest.json"))]
    disk = disk_use(directory)
    if as_json:
        print_json(
            {
                "kind": "status",
                "steps": [step.as_json() for step in steps],
                "releases": [release_status(folder) for folder in folders],
                "seconds": round(seconds, 1),
                "unmeasured_steps": unmeasured,
                "disk": disk,
            }
        )
        return
    waiting = [step for step in steps if step.waits_for]
    fresh = [step for step in steps if step.is_done]
    print_plan([step for step in steps if not step.waits_for and not step.is_done], False)
    if waiting:
        echo(f"{'waiting':<22} {len(waiting)} of {len(steps)} steps: for those above")
    if fresh:
        echo(f"{'fresh':<22} {len(fresh)} of {len(steps)} steps: nothing to do")
    if len(fresh) < len(steps):
        known = (
            f"about {words_of(seconds)}" if unmeasured < len(steps) - len(fresh) else "not known"
        )
        more = f" and {counted(unmeasured, 'step')} never measured" if unmeasured else ""
        echo(f"{'time':<22} {known}{more}")
    largest = sorted(disk.items(), key=lambda item: -item[1])
    used = [f"{name} {file_size(size)}" for name, size in largest if name != "free"]
    echo(f"{'disk':<22} {', '.join(used[:4])}")
    echo(f"{'free':<22} {file_size(disk['free'])}")
    for folder in folders:
        manifest = read_manifest(folder)
        rows = sum(manifest.facts.census.rows.values())
        digest = manifest.content_sha256[:12]
        echo(f"release {manifest.version:<14} {rows:,} rows, {digest}")
        judged = judge(folder)
        echo(f"  {'verdict':<20} {judged.headline}")
        for finding in judged.findings:
            echo(f"    {finding}")
        for place, text in status_lines(folder):
            echo(f"  {place:<20} {text}")
    if mirror := project.store.mirror:
        url = f"{mirror.objects.url}/release"
        here = {folder.name for folder in folders}
        for version in mirror.releases():
            where = "here too" if version in here else f"aras get {url}/{version} OUT"
            echo(f"release {version:<14} in {url} ({where})")


def preview_all(project: "Project") -> "list[StepPreview]":
    """What every step, and `aras package` after them, would do; without the input rasters, what
    follows from the tiles that there are."""
    from builder.core.errors import ArasError
    from builder.pipeline.preview import StepPreview, preview
    from builder.release.package import preview_package

    missing: list[StepPreview] = []
    try:
        steps = project.steps()
    except ArasError as error:
        if not project.store.shards("tiles"):
            raise
        steps = project.steps(with_tiles=False)
        missing = [StepPreview("tiles", todo=f"cannot be planned: {error}")]
    previews = preview(project, steps)
    return [*missing, *previews, preview_package(project.inputs(), previews)]


def disk_use(directory: Path) -> dict[str, int]:
    """Bytes of each folder of a dataset that is there, and what is free."""
    import shutil

    from builder.pipeline.refusals import size_of

    names = ("inputs", "work", "models", "release", "reports")
    sizes = {name: size_of(directory / name) for name in names if (directory / name).is_dir()}
    return {**sizes, "free": shutil.disk_usage(directory).free}


def release_status(release: Path) -> dict[str, Any]:
    """A release as `status --json` gives it."""
    from builder.cli.release import judge
    from builder.core.manifest import read_manifest
    from builder.publish.targets import drafts
    from builder.release.published import publications, read_object

    manifest = read_manifest(release)
    return {
        "version": manifest.version,
        "content_sha256": manifest.content_sha256,
        "rows": manifest.facts.census.rows,
        "verdict": list(map(str, judge(release).findings)),
        "published": [publication.as_json() for publication in publications(release)],
        "unfinished": [read_object(draft.journal) for _, draft in drafts(release)],
    }
