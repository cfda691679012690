"""Commands about releases: package, check."""

from pathlib import Path
from typing import Any

import click

from builder.cli.common import json_option, print_json, say
from builder.errors import WorkFailed


@click.command()
@json_option
@click.pass_obj
def package(directory: Path, as_json: bool) -> None:
    """Write release/<version>: Parquet shards, dataset card, citation, manifest, checksums.

    Configs: real (default), metadata, and where there are synthetic rows synthetic and augmented
    (real + synthetic train). Every step before it must be up to date. A version that exists with
    other content is never overwritten: raise version in [dataset]. A version that is a smaller
    step than the changes since the release before imply (`aras diff`) is told, and written.
    """
    from builder.pipeline import Project

    project = Project(directory)
    require_fresh(project)
    summary = make_release(project)
    print_json(summary) if as_json else say(describe_release(summary))


@click.command()
@click.argument("release", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--engine",
    type=click.Choice(["serial", "processes", "ray"]),
    default="serial",
    show_default=True,
    help="Where shards are read.",
)
@json_option
@click.pass_obj
def check(directory: Path, release: Path, engine: str, as_json: bool) -> None:
    """Read every shard of RELEASE again and list each violated invariant.

    Checksums, schemas, counts, unique ids, splits disjoint by id and block, no synthetic row in
    validation or test, pictures that decode, masks, pixels and percentages that agree, the card
    against the files. Exit code 1 when anything is wrong.

    \b
      aras check release/0.1.0
      aras -C my-dataset check release/0.1.0 --engine processes
    """
    found = run_check(directory / release, engine)
    if as_json:
        print_json({"kind": "check", "release": str(release), "violations": found})
    elif not found:
        say(f"check: {release} is right")
    if found:
        raise WorkFailed(f"{release}: {len(found)} violations\n  " + "\n  ".join(found))


def run_check(release: Path, engine: str = "serial") -> list[str]:
    from builder.engine import Engine
    from builder.release.check import violations

    return violations(release, Engine(engine))


def require_fresh(project: Any) -> None:
    """Raises ArasError naming the first step that is not up to date."""
    from builder.errors import ArasError
    from builder.preview import is_done, preview

    for line in preview(project, project.steps()):
        if not is_done(line):
            raise ArasError(
                f"{line['stage']} is not up to date ({line.get('todo') or 'stale shards'}): run "
                "`aras build`, which packages at the end"
            )


def make_release(project: Any) -> dict[str, Any]:
    import time

    from builder.files import locked
    from builder.release.package import package as package_project

    started = time.monotonic()
    with locked(project.releases, lambda: say("package: waiting for another process")):
        summary = package_project(project)
    summary["seconds"] = round(time.monotonic() - started, 2)
    project.report("package", summary)
    if summary["asks"]:
        say(
            f"package: WARNING: the changes since the release before ask for version "
            f"{summary['asks']} or more (CHANGELOG.md of {summary['release']} lists them)"
        )
    return summary


def build_release(project: Any, *, quiet: bool) -> dict[str, Any]:
    """Package and check; raises WorkFailed when the release is not right."""
    summary = make_release(project)
    if not quiet:
        say(describe_release(summary))
    found = run_check(Path(summary["release"]), project.engine().kind)
    if found:
        raise WorkFailed(f"check: {len(found)} violations\n  " + "\n  ".join(found))
    if not quiet:
        say("check: every invariant holds")
    return {**summary, "violations": found}


def describe_release(summary: dict[str, Any]) -> str:
    what = "written" if summary["made"] else "there already, with this content"
    lines = [f"package: {summary['release']} {what} ({summary['bytes'] / 1e6:.1f} MB)"]
    for config, splits in summary["rows"].items():
        rows = ", ".join(f"{split} {n:,}" for split, n in splits.items())
        lines.append(f"  {config:<10} {rows}")
    return "\n".join(lines)
