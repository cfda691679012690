"""What a command would do, in words: steps, the balance plan, and what drawing takes."""

from pathlib import Path
from typing import Any

import click

from builder.cli.common import print_json


def print_plan(told: list[dict[str, Any]], as_json: bool) -> None:
    """The steps of a `preview`, a line each."""
    if as_json:
        print_json({"kind": "plan", "steps": told})
        return
    for line in told:
        click.echo(f"{line['stage']:<22} {line.get('todo') or _shards(line)}")
        if note := line.get("note"):
            click.echo(f"  {note}")


def _shards(line: dict[str, Any]) -> str:
    if waits := line.get("waits_for"):
        return f"waits for {', '.join(waits)}"
    if not line["shards"]:
        return "nothing yet: no rows are there"
    if line["stale"]:
        return f"{line['stale']} of {line['shards']} shards to make"
    return f"nothing: {line['shards']} shards are fresh"


def print_balance(
    directory: Path, engine: str | None, workers: int | None, *, as_json: bool
) -> None:
    """The balance plan of a project, what is still to be drawn, and what that costs by the rate
    that was measured with the same generator, settings, device and workers."""
    from builder import forecast, pipeline
    from builder.preview import preview

    project = pipeline.Project(directory)
    plan = forecast.balance_plan(project)
    asked = project.synthetic_rows
    steps = preview(project, project.synthesis()) if asked else []
    cost = forecast.Cost(0)
    if asked:
        cost = forecast.drawing_cost(project, project.engine(engine, workers), steps)
    refused = plan is not None and not plan.feasible and not project.recipe.generator.nearest
    if as_json:
        summary = {} if plan is None else {**plan.summary(), "refused": refused}
        told = {
            "rows_to_draw": cost.rows,
            "tiles_per_second": cost.rate,
            "hours": cost.hours,
            "device": None if cost.rate is None else cost.device,
            "gpu_hours": cost.processor_hours if cost.device != "cpu" else None,
            "cpu_hours": cost.processor_hours if cost.device == "cpu" else None,
        }
        print_json({"kind": "balance", **summary, "steps": steps, **told})
        return
    if not asked:
        click.echo("no synthetic rows are asked for")
        return
    click.echo(plan or "tiles are drawn without layouts: there is no balance plan")
    if refused:
        click.echo(
            "`aras generate` will refuse this; with nearest = true in [generator] it takes the "
            "nearest shares"
        )
    click.echo()
    print_plan(steps, as_json)
    click.echo(_cost(cost))


def _cost(cost: Any) -> str:
    if not cost.rows:
        return "nothing to draw: all rows are there"
    if cost.hours is None:
        return f"{cost.rows:,} rows to draw; no rate measured for these settings yet"
    total = cost.processor_hours
    return (
        f"{cost.rows:,} rows to draw: about {duration(cost.hours)}"
        + ("" if total is None else f" ({total:.2g} {cost.unit})")
        + f" at the {cost.rate:.3g} tiles/s of the last run with these settings ({cost.device})"
    )


def duration(hours: float) -> str:
    """Hours as a person says them: 40 seconds, 12 minutes, 3.5 hours, 4.2 days."""
    for unit, size in (("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60)):
        count = hours / size
        if count >= 2:
            return f"{count:.2g} {unit}" if count < 10 else f"{count:.0f} {unit}"
    return f"{3600 * hours:.0f} seconds"
