"""Commands to look through a release and to review its captions."""

from pathlib import Path

import click

from builder.cli.common import echo, json_option, of_recipe, print_json, say, say_report


@click.command()
@click.argument("release", required=False, callback=of_recipe)
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
    Examples:
      aras explore                       # the release that the recipe here makes
      aras explore release/0.2.0 --against release/0.1.0
      aras explore release/0.1.0 --out release/explore
      aras explore hf://datasets/ORG/NAME@0.1.0 --out space
    """
    from builder.explore import writer
    from builder.explore.cache import cached

    release = str(release)  # of the recipe, a path
    place = release if "://" in release else str(directory / release)
    opened = writer.open_page_source(place)
    old = writer.open_page_source(str(directory / against)) if against else None
    if out is not None:
        folder = directory / out
        base = writer.base_of(opened, folder, source)
        base_old = writer.base_of(old, folder, None) if old else ""
        written = writer.write_site(
            opened, folder, base=base, old=old, base_old=base_old, address=source or ""
        )
        print_json(written.as_json()) if as_json else say_report(written)
        return
    from builder.explore.server import serve

    written, folders = cached(opened, source, old, release)
    print_json(written.as_json()) if as_json else say_report(written)
    serve(folders, port=port, opens=opens, say=say)


@click.group()
def review() -> None:
    """Have people judge captions and masks: draw a sample, read their marks.

    The page of `aras explore` takes the marks, which stay in the reader's browser until they are
    saved as a file.

    \b
    Examples:
      aras review draw release/0.1.0 sample.json --per 30
      aras review read ada.json grace.json --release release/0.1.0
    """


@review.command("draw")
@click.argument("release")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--per", default=20, show_default=True, type=click.IntRange(1), help="Of each stream and class."
)
@click.option("--stream", "streams", multiple=True, help="Only this stream, or mask. Repeatable.")
@click.option("--seed", default=0, show_default=True, help="Which items are drawn.")
@json_option
@click.pass_obj
def draw(
    directory: Path,
    release: str,
    out: Path,
    per: int,
    streams: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Write a stratified sample of captions and masks of RELEASE to the file OUT.

    Each stream and largest class gives --per items, so that rare classes are judged too; the order
    tells no reader the stratum. Give OUT to every reader: Review on the page opens it.

    \b
    Example:
      aras review draw release/0.1.0 sample.json --per 30 --stream full --stream mask
    """
    from builder.explore.review import draw as draw_sample
    from builder.explore.writer import open_page_source

    place = release if "://" in release else str(directory / release)
    sample = draw_sample(open_page_source(place), per, seed, streams)
    sample.write(directory / out)
    n = len(sample.items)
    if as_json:
        print_json({"kind": "review-draw", "out": str(out), "items": n, "strata": sample.strata})
    else:
        say(f"review: {out} written: {n:,} items of {sample.strata} strata")


@review.command("read")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--release", callback=of_recipe, help="The release that was reviewed; default: the recipe's."
)
@click.option(
    "--column",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write id, stream, verdict and counts here, as CSV.",
)
@click.option(
    "--card",
    is_flag=True,
    help="Put the figures into the card and the manifest of RELEASE, a folder.",
)
@json_option
@click.pass_obj
def read(
    directory: Path,
    files: tuple[Path, ...],
    release: str,
    column: Path | None,
    card: bool,
    as_json: bool,
) -> None:
    """Count the marks in FILES, one of each reader.

    Gives the share that is right by stream and class with 95 % intervals (Wilson), Cohen's κ of
    every two readers, how grounding agrees with people, and a line for the card. A mark counts
    while its caption and pictures are unchanged. Several readers decide by majority.

    \b
    Examples:
      aras review read ada.json grace.json --release release/0.1.0 --column review.csv
      aras review read ada.json grace.json --release release/0.1.0 --card
    """
    from builder.explore.review import read_files, read_review, write_column
    from builder.explore.writer import open_page_source

    release = str(release)  # the recipe's is a path
    place = release if "://" in release else str(directory / release)
    result = read_review(open_page_source(place), read_files([directory / f for f in files]))
    if column is not None:
        write_column(directory / column, result)
    if card:
        if "://" in release:
            raise click.UsageError("--card writes into a folder; get the release first (aras get)")
        from builder.release.card import write_cards

        write_cards(directory / release, review=result.figures())
        say(f"wrote {directory / release / 'README.md'}")
    if as_json:
        print_json({**result.as_json(), "card": result.card_line()})
    else:
        say_report(result)
        echo(result.card_line())
