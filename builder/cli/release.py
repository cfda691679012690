"""Commands about releases: package, check, publish."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli import LazyGroup
from builder.cli.common import (
    aras_in,
    echo,
    json_option,
    of_recipe,
    print_json,
    release_argument,
    say,
    say_report,
    strict_option,
)
from builder.core.errors import WorkFailed
from builder.core.progress import note
from builder.publish.targets import TARGETS, Job, Target, load_target

if TYPE_CHECKING:
    from builder.pipeline.project import Project
    from builder.release.package import Packaged
    from builder.release.verdict import Verdict


@click.command()
@json_option
@click.pass_obj
def package(directory: Path, as_json: bool) -> None:
    """Write release/<version>: Parquet shards, dataset card, citation, manifest, checksums.

    Configs: real (default), metadata, and where there are synthetic rows synthetic and augmented
    (real + synthetic train). Every step before it must be up to date. A version that exists with
    other content is never overwritten: raise version in [dataset]. A version that is a smaller
    step than the changes since the previous release require (`aras diff`) gets a warning.

    \b
    Examples:
      aras package
      aras -C my-dataset package --json
    """
    from builder.pipeline.project import Project

    project = Project(directory)
    require_fresh(project)
    packaged = make_release(project)
    if as_json:
        print_json(packaged.as_json())
        return
    say_report(packaged)
    note(f"next: `{aras_in(directory)} check` reads every byte again")


@click.command()
@release_argument
@click.option(
    "--engine",
    type=click.Choice(["serial", "processes", "ray"]),
    default="serial",
    show_default=True,
    help="Where shards are read.",
)
@strict_option
@json_option
@click.pass_obj
def check(directory: Path, release: Path, engine: str, strict: bool, as_json: bool) -> None:
    """Read every shard of RELEASE again and list each violated invariant.

    Checksums, schemas, counts, unique ids, splits disjoint by id and block, no synthetic row in
    validation or test, pictures that decode, masks, pixels and percentages that agree, the card
    against the files, and every picture at the byte that config metadata says. Exit code 1 when an
    invariant is violated. A release of an older aras is checked too; the columns that it lacks are
    named.

    Then the verdict, whose findings a right release may have too: splits that miss their shares,
    classes without tiles, synthetic tiles that look unlike real ones, captions that are missing.

    \b
    Examples:
      aras check                         # the release that the recipe here makes
      aras check release/0.1.0
      aras -C my-dataset check release/0.1.0 --engine processes
    """
    from dataclasses import asdict

    from builder.release.check import lacking_columns

    violations = run_check(directory / release, engine)
    lacking = [] if violations else lacking_columns(directory / release)
    judged = None if violations else judge(directory / release)
    if as_json:
        findings = [] if judged is None else list(map(str, judged.findings))
        measured = [] if judged is None else [asdict(line) for line in judged.measures]
        print_json(
            {
                "kind": "check",
                "release": str(release),
                "violations": violations,
                "lacking_columns": lacking,
                "verdict": findings,
                "measures": measured,
            }
        )
    elif judged is not None:
        say(f"check: {release}: every invariant holds")
        say("\n".join(judged.lines()))
        note(
            f"next: `{aras_in(directory)} report {release}` shows what was measured, `explore "
            f"{release}` the tiles, `publish hub {release} --repo ORG/NAME --dry-run` what would "
            "be sent"
        )
    if lacking:
        say(
            f"check: {release}: an older aras made it, without {', '.join(lacking)}; `aras "
            "import` and `aras package` add them"
        )
    if violations:
        raise WorkFailed(f"{release}: {len(violations)} violations\n  " + "\n  ".join(violations))
    if strict and judged is not None:
        refuse_findings(judged)


def judge(release: Path) -> "Verdict":
    from builder.core.manifest import read_manifest
    from builder.release.verdict import verdict

    return verdict(read_manifest(release))


def refuse_findings(judged: "Verdict") -> None:
    """Raises WorkFailed for a verdict with findings, as ``--strict`` asks."""
    if judged.findings:
        raise WorkFailed(f"--strict: the verdict has {judged.headline}")


def run_check(release: Path, engine: str = "serial") -> list[str]:
    from builder.core.engine import Engine
    from builder.release.check import violations

    return violations(release, Engine(engine))


def require_fresh(project: "Project") -> None:
    """Raises ArasError naming the first step that is not up to date."""
    from builder.core.errors import ArasError
    from builder.pipeline.preview import preview

    for step in preview(project, project.steps()):
        if not step.is_done:
            raise ArasError(
                f"{step.stage} is not up to date ({step.todo or 'stale shards'}): run "
                "`aras build`, which packages at the end"
            )


def make_release(project: "Project") -> "Packaged":
    """Package, with a report of it."""
    import time

    from builder.core.files import locked
    from builder.release.package import package as package_project

    started = time.monotonic()
    with locked(project.releases, lambda: say("package: waiting for another process")):
        packaged = package_project(project.inputs())
        if project.store.mirror:
            project.store.mirror.keep_release(packaged.release)
    packaged = replace(packaged, seconds=time.monotonic() - started)
    project.report("package", packaged)
    if packaged.asks:
        say(
            f"package: WARNING: the changes since the previous release require version "
            f"{packaged.asks} or later (listed in CHANGELOG.md of {packaged.release})"
        )
    return packaged


def build_release(project: "Project", *, quiet: bool) -> "Packaged":
    """Package and check; raises WorkFailed for violations."""
    packaged = make_release(project)
    if not quiet:
        say_report(packaged)
    if violations := run_check(packaged.release, project.engine().kind):
        raise WorkFailed(f"check: {len(violations)} violations\n  " + "\n  ".join(violations))
    if not quiet:
        say("check: every invariant holds")
        say("\n".join(judge(packaged.release).lines()))
    packaged = replace(packaged, violations=())
    project.report("package", packaged)
    return packaged


@click.command()
@click.argument("old", type=click.Path(path_type=Path, file_okay=False))
@click.argument("new", type=click.Path(path_type=Path, file_okay=False))
@click.option("--bump", is_flag=True, help="Print the version that should follow OLD's, only that.")
@json_option
@click.pass_obj
def diff(directory: Path, old: Path, new: Path, bump: bool, as_json: bool) -> None:
    """Compare two releases: rows, columns, splits, and the version step that follows.

    Prints a CHANGELOG entry. Rows are joined by id and compared column by column, pictures by
    their digests; only config metadata is read, whatever the order of the rows.

    \b
    major   a config, column or caption stream is gone, rows are gone or in another split, a
            column has another type or other classes, or a row that was there has other pixels,
            another mask, place or generator
    minor   rows, configs, columns or caption streams added; vectors of a baseline, or a column of
            the split or of a judge (block, realism, flags …) recomputed
    patch   texts only: captions and their scores, the card and its pictures; or nothing but the
            version
    none    every file is the same

    Before 1.0.0 a major step raises MINOR: 0.1.0 is followed by 0.2.0.

    \b
    Examples:
      aras diff release/0.1.0 release/0.2.0
      aras diff release/0.1.0 release/0.2.0 --bump
      aras -C my-dataset diff release/0.1.0 release/0.2.0 --json
    """
    from builder.core.manifest import read_manifest
    from builder.release.changes import parse_version
    from builder.release.diff import compare, entry

    changes = compare(directory / old, directory / new)
    if changes.texts:
        say(f"other files that differ: {', '.join(changes.texts)}")
    if parse_version(changes.new) < parse_version(changes.next_version):
        say(
            f"{new} has version {changes.new}: a {changes.step} step from {changes.old} requires "
            f"{changes.next_version} or later"
        )
    text = entry(changes, read_manifest(directory / new).date)
    if as_json:
        print_json({"kind": "diff", **changes.as_json(), "changelog": text})
    else:
        echo(changes.next_version if bump else text, nl=bump)


@click.command()
@release_argument
@click.option("--out", type=click.Path(path_type=Path), help="Default: reports/<version>.html")
@json_option
@click.pass_obj
def report(directory: Path, /, release: Path, out: Path | None, as_json: bool) -> None:
    """Write an HTML page and a JSON file with everything that was measured of RELEASE.

    Rows and what was left out, class shares, captions per stream (grounding against its nulls and
    by class, leakage beside that of the images, redundancy, CLIP scores), image measures,
    duplicates, distances between real and synthetic images in every available space of
    features, and the best and worst captions and synthetic tiles.

    \b
    Example:
      aras report release/0.1.0
    """
    from builder.core.files import write_json, write_text
    from builder.core.store import Store
    from builder.report.measure import measure
    from builder.report.page import render
    from builder.steps.stage import shards

    store = Store(directory / "work")
    has_rows = bool(shards(store, ("real",)))
    rows = store if has_rows else None
    measured = measure(directory / release, rows)
    path = directory / (out or Path("reports") / f"{measured.version}.html")
    write_text(path, render(directory / release, measured, rows))
    write_json(path.with_suffix(".json"), measured.as_json())
    if as_json:
        print_json(measured.as_json())
    else:
        say(f"report: {path} and {path.with_suffix('.json').name}")


class TargetGroup(LazyGroup):
    """A group with a command for every publishing target."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TARGETS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _command(cmd_name, load_target(cmd_name)) if cmd_name in TARGETS else None


@click.group(cls=TargetGroup)
def publish() -> None:
    """Publish a packaged release: to a Hub for loading, to Zenodo for citing.

    Publishing is resumable and verified; a release is published completely and only once: its tag
    or DOI is set after everything was verified. You can stop it at any time; run the same command
    again to continue. The data of the release are only read. Its cards are written anew where they
    name the repo or the DOI; release/VERSION.published.json lists where it was published.

    \b
    Examples:
      aras publish hub --repo my-lab/my-tiles --dry-run
      aras publish zenodo --dry-run
    """


def _command(name: str, target: Target) -> click.Command:
    def run(directory: Path | None, release: Path, dry_run: bool, **options: Any) -> None:
        as_json = options.pop("as_json")
        path = (directory or Path()) / release
        if path.name in ("", ".."):  # the version names the journal beside it
            path = path.resolve()
        job = Job(path, dry_run, lambda line: echo(line, err=True), _check, _render, _write_site)
        outcome = target.publish(job, **options)
        if as_json:
            print_json({"release": str(release), **outcome.as_json()})
        else:
            echo(outcome.as_text())

    parameters: list[click.Parameter] = [
        click.Argument(
            ["release"], required=False, callback=of_recipe, type=click.Path(path_type=Path)
        ),
        *target.options,
        click.Option(["--dry-run"], is_flag=True, help="Print what would be sent; change nothing."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object on stdout."),
    ]
    return click.Command(name, callback=click.pass_obj(run), params=parameters, help=target.help)


# Imported when they are called: a target may have to set the environment before.


def _check(release: Path) -> list[str]:
    from builder.release.check import violations

    return violations(release)


def _render(release: Path, **values: Any) -> None:
    from builder.release.card import write_cards

    write_cards(release, **values)


def _write_site(release: Path, folder: Path, base: str, address: str) -> None:
    from builder.explore.writer import open_page_source, write_site

    write_site(open_page_source(str(release)), folder, base=base, address=address)
