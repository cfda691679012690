"""Options and printing that the commands share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from builder.core.progress import console

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


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(
        command
    )


def stage_options(command: F) -> F:
    """The options of a command that makes the shards of a stage."""
    part = click.option(
        "--part",
        type=PartType(),
        default="1/1",
        show_default=True,
        metavar="i/n",
        help="Make every n-th shard from the i-th: one job of a Slurm array.",
    )
    return part(run_options(command))


def run_options(command: F) -> F:
    """The options of every command that makes shards."""
    for option in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Print what would be made and stop."),
        click.option("--workers", type=click.IntRange(0), help="Workers at once; 0: one per core."),
        click.option(
            "--engine",
            type=click.Choice(["serial", "processes", "ray"]),
            help="Where shards are made; the recipe's [engine] unless given.",
        ),
    ):
        command = option(command)
    return command


def counted(n: int, noun: str, plural: str = "") -> str:
    """``n`` with its noun: 1 row, 2,000 rows; ``plural`` where it is not ``noun`` + s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def say(text: str) -> None:
    """Print a line on stderr, so that stdout stays clean for --json."""
    console.print(text, markup=False, soft_wrap=True)


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
        click.option(
            "--min-km", default=1.0, show_default=True, help="As in `aras bench retrieval`."
        ),
        click.option(
            "--near",
            type=click.Choice(["refuse", "leave-out", "keep"]),
            default="refuse",
            show_default=True,
            help="Nearer test tiles.",
        ),
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
            help="Where runs are made.",
        ),
        click.option(
            "--workers", type=click.IntRange(0), default=0, help="Runs at once; 0: one a core."
        ),
        json_option,
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


SINGULAR = {"caption_errors": "caption_error", "copies": "copy", "repeats": "repeat"}
"""Counts of a stage that are plural → what a single one is called."""


def describe(summary: dict[str, Any]) -> str:
    """One summary as the line that a person reads."""
    name = summary["stage"]
    if summary["kind"] == "waiting":
        return f"{name}: waits for the other parts; when they are done, run this without --part"
    seconds = summary["seconds"]
    if summary["kind"] == "training":
        if not summary["made"]:
            return f"{name}: already trained, nothing to do"
        text = f"{name}: {summary['steps']} steps, final loss {summary['final_loss']:.4f}"
        if test := summary.get("test"):
            text += f"; test macro F1 {test['macro_f1']}, mIoU {test['mean_iou']}"
        return f"{text} ({seconds:.1f} s)"
    count, shards, failed = summary["made"], summary["shards"], len(summary["failed"])
    work = f"{count} of {shards} shards made" if count or failed else "nothing to do"
    if failed:
        work += f", {failed} failed"
    text = f"{name}: {summary['rows']:,} rows in {shards - failed} shards, {work} ({seconds:.1f} s)"
    if counts := summary["counts"]:
        parts = [
            counted(value, SINGULAR.get(key, key).replace("_", " "), key.replace("_", " "))
            for key, value in counts.items()
            if value
        ]
        text += f"\n  {', '.join(parts)}" if parts else ""
    return text + _describe_report(summary["report"])


def _describe_report(report: dict[str, Any]) -> str:
    text = ""
    if account := report.get("account"):
        came, went, lost = (account[name] for name in ("rows_in", "rows_out", "rejects"))
        text += f"\n  {counted(came, 'row')} in = {counted(went, 'row')} out + "
        text += counted(lost, "reject") + _by_reason(report.get("reasons", {}))
    if entries := report.get("set_aside"):
        text += f"\n  {counted(sum(entries.values()), 'other entry', 'other entries')} set aside"
        text += _by_reason(entries)
    for what in ("captions", "percentages"):
        if n := report.get(f"{what}_elsewhere"):
            text += f"\n  {counted(n, 'line')} of {what} of splits without pictures ignored"
    if differs := report.get("percent_differs"):
        were = "was" if differs == 1 else "were"
        text += f"\n  {counted(differs, 'row')} {were} published with percentages that the mask "
        text += "does not have"
    if model := report.get("unpinned"):
        text += (
            f"\n  {model['model']} is not pinned: this run used commit {model['commit']}; "
            f'revision = "{model["commit"]}" in the recipe keeps it'
        )
    if lists := report.get("lists"):
        text += f"\n  listed in {', '.join(lists)}"
    for error, rows in report.get("row_errors", {}).items():
        text += f"\n  {rows:,} × {error}"
    if alone := report.get("composites_without_map"):
        text += f"\n  no map covers {', '.join(alone)}: their patches count as no map"
    for split, shares in report.get("class_shares", {}).items():
        text += f"\n  {split:<11}" + " ".join(f"{k} {v:.1f} %" for k, v in shares.items())
    if distance := report.get("smallest_distance_km"):
        known = [f"{pair} {km} km" for pair, km in distance.items() if km is not None]
        text += f"\n  smallest distance: {', '.join(known) or 'only one split has tiles'}"
    if unknown := report.get("without_place"):
        verb = "is" if unknown == 1 else "are"
        text += f"\n  {counted(unknown, 'tile')} without a place {verb} not judged"
    return text


def _by_reason(reasons: dict[str, int]) -> str:
    return "".join(f"\n    {n:>9,} {reason}" for reason, n in reasons.items())
