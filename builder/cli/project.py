"""Commands about a dataset's directory: init, demo, status."""

from pathlib import Path
from typing import Any

import click

from builder.cli.common import echo, json_option, print_json, say


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
    """
    from builder.cli.make import build_all, print_build
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
    """Show what is complete, what is stale, and which releases there are.

    A step that is out of date is named; those that wait for it, and those with nothing to do, are
    counted. A version that is packaged already with other content than `aras package` would give
    it now is named too.
    """
    from builder.cli.make import print_plan
    from builder.core.manifest import read_manifest
    from builder.pipeline.preview import preview
    from builder.pipeline.project import Project
    from builder.publish.targets import status_lines
    from builder.release.package import preview_package

    project = Project(directory)
    steps = preview(project, project.steps())
    steps.append(preview_package(project.inputs(), steps))
    manifests = sorted(project.releases.glob("[!.]*/manifest.json"))
    folders = [manifest.parent for manifest in manifests]
    if as_json:
        releases = [release_status(folder) for folder in folders]
        print_json(
            {"kind": "status", "steps": [step.as_json() for step in steps], "releases": releases}
        )
        return
    waiting = [step for step in steps if step.waits_for]
    fresh = [step for step in steps if step.is_done]
    print_plan([step for step in steps if not step.waits_for and not step.is_done], False)
    if waiting:
        echo(f"{'waiting':<22} {len(waiting)} of {len(steps)} steps: for those above")
    if fresh:
        echo(f"{'fresh':<22} {len(fresh)} of {len(steps)} steps: nothing to do")
    for folder in folders:
        manifest = read_manifest(folder)
        rows = sum(manifest.facts.census.rows.values())
        digest = manifest.content_sha256[:12]
        echo(f"release {manifest.version:<14} {rows:,} rows, {digest}")
        for place, text in status_lines(folder):
            echo(f"  {place:<20} {text}")


def release_status(release: Path) -> dict[str, Any]:
    """A release as `status --json` gives it."""
    from builder.core.manifest import read_manifest
    from builder.publish.targets import drafts
    from builder.release.published import publications, read_object

    manifest = read_manifest(release)
    return {
        "version": manifest.version,
        "content_sha256": manifest.content_sha256,
        "rows": manifest.facts.census.rows,
        "published": [publication.as_json() for publication in publications(release)],
        "unfinished": [read_object(draft.journal) for _, draft in drafts(release)],
    }
