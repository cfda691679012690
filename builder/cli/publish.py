"""``aras publish TARGET``: bring a packaged release to where people find it."""

from pathlib import Path
from typing import Any

import click

from builder.cli import LazyGroup
from builder.cli.common import print_json
from builder.publish.targets import TARGETS, Job, Target, load_target


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
    """


def _command(name: str, target: Target) -> click.Command:
    def run(directory: Path | None, release: Path, dry_run: bool, **options: Any) -> None:
        as_json = options.pop("as_json")
        path = (directory or Path()) / release
        if path.name in ("", ".."):  # the version names the journal beside it
            path = path.resolve()
        job = Job(path, dry_run, lambda line: click.echo(line, err=True), _check, _render)
        outcome = target.publish(job, **options)
        if as_json:
            print_json({"release": str(release), **outcome.as_json()})
        else:
            click.echo(outcome.as_text())

    parameters: list[click.Parameter] = [
        click.Argument(["release"], type=click.Path(path_type=Path)),
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
