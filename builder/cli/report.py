"""The report on a release: one HTML file and one JSON."""

from pathlib import Path

import click

from builder.cli.common import json_option, print_json, say


@click.command()
@click.argument("release", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), help="Default: reports/<version>.html")
@json_option
@click.pass_obj
def report(directory: Path, /, release: Path, out: Path | None, as_json: bool) -> None:
    """Write one HTML page and one JSON file on everything that was measured of RELEASE.

    Rows and what was left out, class shares, captions per stream (grounding against its nulls and
    by class, leakage beside that of the images, redundancy, CLIP scores), image measures,
    duplicates, distances between real and synthetic images in every space of features that is
    there, and the best and worst captions and synthetic tiles.

    \b
      aras report release/0.1.0
    """
    from builder.files import write_json, write_text
    from builder.report.measure import measure
    from builder.report.page import render
    from builder.stage import shards
    from builder.store import Store

    store = Store(directory / "work")
    there = bool(shards(store, ("real",)))
    told = measure(directory / release, store if there else None)
    path = directory / (out or Path("reports") / f"{told['version']}.html")
    write_text(path, render(directory / release, told))
    write_json(path.with_suffix(".json"), told)
    if as_json:
        print_json(told)
    else:
        say(f"report: {path} and {path.with_suffix('.json').name}")
