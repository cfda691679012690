"""Commands that bring published rows in and write them out in the official layout."""

import json
from pathlib import Path
from typing import Any

import click

from builder.cli.common import json_option, print_json, release_argument, say, stage_options
from builder.release.exports import FORMATS, Options
from builder.release.exports import export as export_release


class SumType(click.ParamType):  # type: ignore[type-arg]
    """``NAME=MD5`` or ``NAME=any`` → (name, sum)."""

    name = "NAME=MD5"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, _, sum_ = str(value).rpartition("=")
        if not name:
            self.fail(
                f"{value!r} is not NAME=MD5; expected for example train.zip=95cd5c…",
                param,
                ctx,
            )
        return name, sum_


class StreamType(click.ParamType):  # type: ignore[type-arg]
    """``COLUMN=STREAM`` → (caption column of the layout, stream of the release)."""

    name = "COLUMN=STREAM"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        column, _, own = str(value).partition("=")
        if not own:
            self.fail(
                f"{value!r} is not COLUMN=STREAM; expected for example text_qwen3-4b=full",
                param,
                ctx,
            )
        return column, own


class LayoutType(click.ParamType):  # type: ignore[type-arg]
    """The name of an export format."""

    name = "LAYOUT"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if value not in FORMATS:
            self.fail(f"{value!r} is not one of {', '.join(FORMATS)}", param, ctx)
        return str(value)


@click.command("import")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option(
    "--md5",
    multiple=True,
    type=SumType(),
    help="Expected md5 of a zip, or NAME=any to accept any; repeatable.",
)
@click.option(
    "--run",
    default="official",
    show_default=True,
    help="Part of the names of synthetic rows: synthetic/RUN/NAME.",
)
@click.option(
    "--text",
    multiple=True,
    metavar="COLUMN",
    help="Column that holds the captions, in a file that is not of the layout; repeatable.",
)
@stage_options
@click.pass_obj
def import_(
    directory: Path,
    /,
    sources: tuple[str, ...],
    md5: tuple[tuple[str, str], ...],
    run: str,
    text: tuple[str, ...],
    **options: Any,
) -> None:
    """Import the official release, or a Parquet release of aras.

    SOURCE is a zip (read in place, never unpacked), a folder of the official layout, a folder
    that holds the zips, a captions.csv, any other file of captions (CSV in any dialect, JSON Lines,
    Karpathy's or COCO's JSON, Parquet, a `datasets` folder, WebDataset) whose rows name the
    pictures, or a release directory. Without a dataset.toml, the command
    writes it with these sources; otherwise its [import] section names the sources, and no SOURCE
    is needed.

    Zips are first checked against the md5 that you give, an MD5SUMS beside them, or the official
    record. Every row is then accounted for: rows in = rows out + rejects. The reports list what
    is missing: reports/import-rejects.csv every reject with its reason,
    reports/import-set-aside.csv entries outside every row, and reports/import-percent.csv
    percentages that differ from those of the mask.

    \b
    Examples:
      aras -C aras400k import official/            # the four zips that aras fetch left there
      aras -C aras400k import ../test.zip ../captions.csv
      aras import pictures/ dataset_tiles.json     # five captions an image, under five streams
      aras import --engine serial                  # go on, with the recipe's sources
      aras -C copy import ../aras400k/release/1.0.0
    """
    import tempfile

    from builder.cli.make import run_command
    from builder.core.errors import ArasError
    from builder.pipeline.recipe import FILE

    there = (directory / FILE).exists()
    if sources and options["dry_run"] and not there:
        with tempfile.TemporaryDirectory() as elsewhere:  # a dry run leaves nothing behind
            paths = tuple(str((directory / source).resolve()) for source in sources)
            _write_recipe(Path(elsewhere), paths, dict(md5), run, text, dry_run=True)
            run_command(Path(elsewhere), lambda project: [project.imports()], **options)
        return
    if sources:
        _write_recipe(directory, sources, dict(md5), run, text)
    elif md5:
        raise click.UsageError("--md5 goes with a SOURCE; otherwise write it to [import.md5]")
    elif text:
        raise click.UsageError("--text goes with a SOURCE; otherwise write it to [import]")
    elif not there:
        raise ArasError(
            f"{directory / FILE}: no such recipe, and no SOURCE is given; `aras import SOURCE…` "
            "writes a recipe that imports zips, a folder or a release; `aras -C DIR import` uses "
            "the recipe of another directory"
        )
    run_command(directory, lambda project: [project.imports()], **options)


def _write_recipe(
    directory: Path,
    sources: tuple[str, ...],
    md5: dict[str, str],
    run: str,
    text: tuple[str, ...] = (),
    *,
    dry_run: bool = False,
) -> None:
    """Write a recipe that imports ``sources``. Raises ArasError beside another recipe, and for
    sources that cannot be imported: then nothing is left behind."""
    from builder.core.errors import ArasError
    from builder.core.files import remove
    from builder.official.import_ import ImportSection
    from builder.official.import_release import is_release
    from builder.official.sources import has_captions
    from builder.pipeline import recipe
    from builder.pipeline.project import Project

    if (directory / recipe.FILE).exists():
        there = recipe.load(directory).imports
        own = (there.sources, there.md5, there.run, there.text)
        if own != (list(sources), md5, run, list(text)):
            setting = f"sources = {json.dumps(list(sources))}"
            raise ArasError(
                f"{directory / recipe.FILE}: already exists and does not import this; write "
                f"{setting} in its [import] section and run `aras import`, or use another directory"
            )
        return
    paths = [(directory / source).resolve() for source in sources]
    captions = any(is_release(path) for path in paths) or has_captions(paths)
    values = ImportSection.model_construct(
        sources=list(sources), run=run, captions=captions, md5=md5, text=list(text)
    )
    project = Project(directory)
    fresh = [path for path in (directory, project.store.root) if not path.exists()]
    path = recipe.write(directory, imports=values)
    try:  # a recipe stays only when its sources can be listed and are what they should be
        project.imports().units(project.store)
    except BaseException:
        for created in (path, *fresh):
            remove(created)
        raise
    if not dry_run:
        say(f"{path}: written, with these sources")
    if not captions:
        say("no captions inside, beside or above the sources: only pictures and masks come in")


@click.command()
@release_argument
@click.option(
    "--layout",
    type=LayoutType(),
    default="zenodo",
    show_default=True,
    metavar=f"[{'|'.join(FORMATS)}]",
    help=". ".join(f"{name}: {layout.description}" for name, layout in FORMATS.items()) + ".",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="A directory that does not exist yet.",
)
@click.option(
    "--zip", "zipped", is_flag=True, help="zenodo: write train.zip, val.zip … and MD5SUMS."
)
@click.option(
    "--stream",
    "streams",
    multiple=True,
    type=StreamType(),
    help="Which stream of the release fills a caption column; repeatable.",
)
@json_option
@click.pass_obj
def export(
    directory: Path,
    release: Path,
    layout: str,
    to: Path,
    zipped: bool,
    streams: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Write RELEASE as other tools expect it.

    Rows are read and written one after another, so a release of any size fits; the directory
    appears when all of it is written, and equal releases give equal files.

    \b
    geotiff        SPLIT/ID.tif and SPLIT/ID.mask.tif, with CRS and transform, masks with their
                   colours; rows without a place are written as plain TIFF and counted
    webdataset     KIND/SPLIT-00000.tar …: KEY.png, KEY.mask.png, KEY.txt and KEY.json
    imagefolder    SPLIT/ID.png, SPLIT/ID.mask.png and SPLIT/metadata.jsonl
    coco-captions  SPLIT/ID.png and annotations/captions_SPLIT.json with all streams

    --stream txt=NAME (webdataset) and text=NAME (imagefolder) choose the stream of the one
    caption that they hold; without it that is the first stream of the release.

    zenodo, the layout of the official files, for code written against those:
    {train,val,test,synth}/{images,masks}/NAME.png with RGB masks in the published palette,
    captions.csv with its 14 columns and class_percentages/SPLIT.csv; images keep their bytes.
    A caption column whose stream the release does not have says so in every row ("ERROR: …"),
    unless --stream names another stream for it. streams.json says which stream each column holds
    and who wrote it. `aras import` reads all of it back.

    \b
    Examples:
      aras export release/0.1.0 --to official
      aras export release/0.1.0 --to zips --zip
      aras export release/0.1.0 --to official --stream text_qwen3-4b=composition
      aras export release/0.1.0 --to tars --layout webdataset --stream txt=full
      aras export release/0.1.0 --to tifs --layout geotiff
    """
    options = Options(zipped, dict(streams))
    exported = export_release(directory / release, directory / to, layout, options)
    if as_json:
        print_json({"kind": "export", "layout": layout, **exported.as_json()})
        return
    rows = ", ".join(f"{group} {n:,}" for group, n in exported.rows.items())
    say(f"export: {to}: {rows} ({exported.bytes / 1e6:.1f} MB)")
    for column, own in exported.streams.items():
        if own is None:
            say(f"  {column}: no such stream in the release; --stream {column}=NAME fills it")
    for note in exported.notes:
        say(f"  {note}")
