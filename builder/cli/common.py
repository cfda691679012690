"""Options and printing that the commands share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from builder.core.escape import terminal
from builder.core.progress import note, settings
from builder.core.progress import say as say

if TYPE_CHECKING:
    from builder.steps.stage import Report

F = TypeVar("F", bound=Callable[..., Any])


class PartType(click.ParamType):  # type: ignore[type-arg]
    """``i/n`` with 1 ≤ i ≤ n → (i, n)."""

    name = "i/n"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, _, last = str(value).partition("/")
        if first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last):
            return int(first), int(last)
        self.fail(
            f"{value!r} is not a part; expected i/n with 1 ≤ i ≤ n, for example 2/8", param, ctx
        )


def of_recipe(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """RELEASE as it is given, or the one that the recipe of the directory makes."""
    if value is not None:
        return value
    from builder.pipeline import recipe

    directory = ctx.obj or Path()
    if not (directory / recipe.FILE).exists():
        raise click.MissingParameter(
            f"There is no {directory / recipe.FILE} that names its version.", ctx, parameter
        )
    return Path("release") / recipe.load(directory).dataset.version


def aras_in(directory: Path | None) -> str:
    """How a next command begins that works from where this one was run."""
    return "aras" if directory in (None, Path()) else f"aras -C {directory}"


def release_argument(command: F) -> F:
    """RELEASE, which may be left out where there is a recipe."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.argument("release", required=False, type=kind, callback=of_recipe)(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(
        command
    )


def strict_option(command: F) -> F:
    return click.option(
        "--strict", is_flag=True, help="Exit code 1 when the verdict has a finding."
    )(command)


def stage_options(command: F) -> F:
    """The options of a command that makes the shards of a stage."""
    part = click.option(
        "--part",
        type=PartType(),
        default="1/1",
        show_default=True,
        metavar="i/n",
        help="Make part i of n of the shards, as one job of a Slurm array.",
    )
    return part(run_options(command))


def run_options(command: F) -> F:
    """The options of every command that makes shards."""
    for option in (
        loudness_options,
        json_option,
        click.option("--dry-run", is_flag=True, help="Print what would be made and stop."),
        click.option(
            "--workers", type=click.IntRange(0), help="Number of workers; 0: one per core."
        ),
        click.option(
            "--engine",
            type=click.Choice(["serial", "processes", "ray"]),
            help="Where shards are made; default: [engine] of the recipe.",
        ),
    ):
        command = option(command)
    return command


def echo(text: object = "", **options: Any) -> None:
    """`click.echo` of text that a terminal only shows."""
    click.echo(terminal(str(text)), **options)


def print_json(value: Any) -> None:
    echo(json.dumps(value, ensure_ascii=False))


def say_report(report: "Report") -> None:
    """Print the lines of a report, of a step for example, on stderr."""
    note("\n".join(report.lines()))


def _more_or_less(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and parameter.name is not None:
        setattr(settings, parameter.name, True)


def loudness_options(command: F) -> F:
    """--quiet and --verbose, before or behind the command's name."""
    for name, words in (
        ("verbose", "Also name each step that has nothing to do."),
        ("quiet", "Print results and errors alone: no progress, no summaries."),
    ):
        command = click.option(
            f"--{name}",
            is_flag=True,
            expose_value=False,
            callback=_more_or_less,
            help=words,
        )(command)
    return command


RULE = click.Choice(["refuse", "leave-out", "keep"])
"""What happens to rows that are no independent test."""


def near_options(command: F) -> F:
    """The options that say how far from train tiles the rows of a benchmark lie."""
    near = click.option(
        "--near",
        type=RULE,
        default="refuse",
        show_default=True,
        help="What to do with nearer rows.",
    )
    min_km = click.option(
        "--min-km",
        default=1.0,
        show_default=True,
        help="Least distance between a scored row and any train tile.",
    )
    return min_km(near(command))


def experiment_options(out: str, model: str) -> Callable[[F], F]:
    """The options of a benchmark that trains ``model`` for every arm and seed, into ``out``."""
    options = (
        click.option(
            "--profile",
            type=click.Choice(["cpu", "gpu"]),
            default="cpu",
            show_default=True,
            help=f"Size of the {model}.",
        ),
        click.option("--steps", type=click.IntRange(1), help="Training steps of every run."),
        click.option(
            "--seeds",
            type=click.IntRange(2),
            default=3,
            show_default=True,
            help="Seeds of every arm; at least three for a result.",
        ),
        near_options,
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            default=out,
            show_default=True,
            help="Folder of runs and report.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["serial", "processes", "ray"]),
            default="serial",
            show_default=True,
            help="Where runs are trained.",
        ),
        click.option(
            "--workers", type=click.IntRange(0), default=0, help="Runs at once; 0: one per core."
        ),
        json_option,
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
