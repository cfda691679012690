"""The command that takes a part of a release."""

from pathlib import Path

import click

from builder.cli.common import json_option, print_json, say_report


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--where", default="", metavar="SQL", help="A condition over config metadata.")
@click.option(
    "--bbox",
    type=float,
    nargs=4,
    metavar="W S E N",
    help="Only tiles whose centre is within these degrees.",
)
@click.option("--split", "splits", multiple=True, help="Only this split; may be repeated.")
@click.option(
    "--config",
    "configs",
    multiple=True,
    help="real or synthetic: only these rows; controls, embeddings: with these. May be repeated.",
)
@click.option(
    "--columns",
    help="Keep only these columns, with commas, beside id, split, pictures, classes and place.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many rows, drawn at random.")
@click.option("--seed", default=0, show_default=True, help="Which rows --limit draws.")
@click.option("--dry-run", is_flag=True, help="Count rows and bytes; fetch no picture.")
@json_option
@click.pass_obj
def get(
    directory: Path,
    source: str,
    out: Path,
    where: str,
    bbox: tuple[float, float, float, float] | None,
    splits: tuple[str, ...],
    configs: tuple[str, ...],
    columns: str | None,
    limit: int | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take a part of the release at SOURCE, as a release of its own in OUT.

    SOURCE is a folder, an http(s) address, hf://datasets/ORG/NAME@TAG or s3://BUCKET/PREFIX.
    Config metadata answers the question and says where each picture lies, so only the chosen
    pictures are fetched, by ranges, and each is verified by its digest. You can stop it at any
    time; run it again to continue.

    OUT keeps ids and splits; its manifest and card name the release, the condition and the number
    of rows. It has the configs real, synthetic, augmented, metadata and controls as far as they
    have rows, embeddings when asked for, and no named subsets, which a part would not balance.

    Classes are asked by name, scores of captions mean the average over a row's captions. A column
    of a list or record is asked as DuckDB does: percent.Water > 50.

    \b
    Examples:
      aras get hf://datasets/ORG/NAME@0.1.0 water --where "dominant = 'Water' AND grounding > 0.8"
      aras get release/0.1.0 izmir --bbox 26 38 28 39 --split train --split test
      aras get https://HOST/tiles/0.1.0 few --config real --limit 100 --seed 7
    """
    from builder.parts.get import get as get_part
    from builder.parts.opened import OpenRelease, Request
    from builder.parts.sources import open_source

    asked = tuple(filter(None, (name.strip() for name in columns.split(",")))) if columns else None
    request = Request(where, bbox, splits, configs, asked, limit, seed)
    place = source if "://" in source else str(directory / source)
    got = get_part(OpenRelease(open_source(place)), directory / out, request, dry=dry_run)
    print_json(got.as_json()) if as_json else say_report(got)
