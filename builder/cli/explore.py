"""Commands to look through a release and to review its captions."""

from pathlib import Path

import click

from builder.cli.common import json_option, print_json, say, say_report


@click.command()
@click.argument("release")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the page into this folder instead of serving it.",
)
@click.option(
    "--source",
    help="Where the page reads the pictures: an http(s) address or hf://datasets/ORG/NAME@TAG "
    "that holds the same release; default: RELEASE.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, file_okay=False),
    help="An earlier release in a folder: shows the rows that were added, removed or changed.",
)
@click.option("--port", default=0, help="Port of the server; default: a free one.")
@click.option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
@json_option
@click.pass_obj
def explore(
    directory: Path,
    release: str,
    out: Path | None,
    source: str | None,
    against: Path | None,
    port: int,
    opens: bool,
    as_json: bool,
) -> None:
    """Look through RELEASE in a browser: tiles, captions, map, retrieval, changes, review.

    RELEASE is a folder, an http(s) address or hf://datasets/ORG/NAME@TAG. The page is served on
    loopback until Ctrl-C. With --out it is written as plain files that any web server with ranges
    serves (a static Space of the Hub, GitHub Pages, the folder beside the shards), without Node
    or a database: it reads each picture by one range of its shard.

    With --source the pictures stay where they were published. The Hub answers ranges of other
    sites' pages; Zenodo does not (it sends no CORS headers), so a release on Zenodo is downloaded
    first. Claims of captions are read while the index is written, which takes most of its time;
    a served page keeps its index in the user's cache.

    \b
      aras explore release/0.1.0
      aras explore release/0.2.0 --against release/0.1.0
      aras explore release/0.1.0 --out release/explore
      aras explore hf://datasets/ORG/NAME@0.1.0 --out space
    """
    from builder.explore import writer
    from builder.explore.cache import cached

    place = release if "://" in release else str(directory / release)
    opened = writer.open_page_source(place)
    old = writer.open_page_source(str(directory / against)) if against else None
    if out is not None:
        folder = directory / out
        base = writer.base_of(opened, folder, source)
        base_old = writer.base_of(old, folder, None) if old else ""
        written = writer.write_site(opened, folder, base=base, old=old, base_old=base_old)
        print_json(written.as_json()) if as_json else say_report(written)
        return
    from builder.explore.server import serve

    written, folders = cached(opened, source, old)
    print_json(written.as_json()) if as_json else say_report(written)
    serve(folders, port=port, opens=opens, say=say)
