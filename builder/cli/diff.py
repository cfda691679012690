"""Command: diff."""

from pathlib import Path

import click

from builder.cli.common import json_option, print_json, say


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
            the split or of a judge (block, realism, flags …) made anew
    patch   texts only: captions and their scores, the card and its pictures; or nothing but the
            version
    none    every file is the same

    Before 1.0.0 a major step raises MINOR: 0.1.0 is followed by 0.2.0.

    \b
      aras diff release/0.1.0 release/0.2.0
      aras diff release/0.1.0 release/0.2.0 --bump
      aras -C my-dataset diff release/0.1.0 release/0.2.0 --json
    """
    from builder.release.changelog import entry
    from builder.release.diff import compare
    from builder.release.layout import read_manifest
    from builder.release.versions import parse_version

    changes = compare(directory / old, directory / new)
    if changes.texts:
        say(f"files beside the rows that differ: {', '.join(changes.texts)}")
    if parse_version(changes.new) < parse_version(changes.next_version):
        say(
            f"{new} calls itself {changes.new}: a {changes.step} step from {changes.old} asks for "
            f"{changes.next_version} or more"
        )
    text = entry(changes, str(read_manifest(directory / new)["date"]))
    if as_json:
        print_json({"kind": "diff", **changes.as_dict(), "changelog": text})
    else:
        click.echo(changes.next_version if bump else text, nl=bump)
