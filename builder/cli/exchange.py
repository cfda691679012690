"""Commands that bring published rows in and write them out in the official layout."""

import json
from pathlib import Path
from typing import Any

import click

from builder.cli.common import json_option, print_json, say, stage_options
from builder.release.exports.formats import FORMATS, Options
from builder.release.exports.formats import export as export_release


class SumType(click.ParamType):  # type: ignore[type-arg]
    """``NAME=MD5`` or ``NAME=any`` → (name, sum)."""

    name = "NAME=MD5"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, _, sum_ = str(value).rpartition("=")
        if not name:
            self.fail(f"{value!r} is not NAME=MD5, such as train.zip=95cd5c…", param, ctx)
        return name, sum_


class StreamType(click.ParamType):  # type: ignore[type-arg]
    """``OFFICIAL=OURS`` → (official stream, stream of the release)."""

    name = "OFFICIAL=OURS"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        official, _, own = str(value).partition("=")
        if not own:
            self.fail(f"{value!r} is not OFFICIAL=OURS, such as text_qwen3-4b=full", param, ctx)
        return official, own


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
    help="Expected md5 of a zip, or NAME=any to take it as it is; repeatable.",
)
@click.option(
    "--run",
    default="official",
    show_default=True,
    help="Names the synthetic rows: synthetic/RUN/NAME.",
)
@stage_options
@click.pass_obj
def import_(
    directory: Path,
    /,
    sources: tuple[str, ...],
    md5: tuple[tuple[str, str], ...],
    run: str,
    **options: Any,
) -> None:
    """Bring in the official release, or a Parquet release of aras.

    SOURCE is a zip (read in place, never unpacked), a folder of the official layout, a folder
    that holds the zips, a captions.csv, or a release directory. Where there is no dataset.toml
    yet, one is written with these sources; where there is one, its [import] section says what is
    imported, and no SOURCE need be given.

    Zips are first checked against the md5 that you give, that an MD5SUMS beside them gives, or
    that the official record gives. Every row is then accounted for: rows in = rows out +
    rejects. What is not whole is listed with the reason in reports/import-rejects.csv, entries
    that are no row in reports/import-set-aside.csv, and percentages that the masks do not have
    in reports/import-percent.csv.

    \b
      aras -C aras400k import official/            # the four zips that aras fetch left there
      aras -C aras400k import ../test.zip ../captions.csv
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
            _write_recipe(Path(elsewhere), paths, dict(md5), run, dry_run=True)
            run_command(Path(elsewhere), lambda project: [project.imports()], **options)
        return
    if sources:
        _write_recipe(directory, sources, dict(md5), run)
    elif md5:
        raise click.UsageError("--md5 goes with a SOURCE; otherwise write it to [import.md5]")
    elif not there:
        raise ArasError(
            f"{directory / FILE}: no such recipe, and no SOURCE is given; `aras import SOURCE…` "
            "writes one that imports zips, a folder or a release, or name its directory with "
            "`aras -C DIR import`"
        )
    run_command(directory, lambda project: [project.imports()], **options)


def _write_recipe(
    directory: Path,
    sources: tuple[str, ...],
    md5: dict[str, str],
    run: str,
    *,
    dry_run: bool = False,
) -> None:
    """Write a recipe that imports ``sources``; raises ArasError when another one is there, and
    for sources that cannot be imported: then nothing stays behind."""
    from builder.core.errors import ArasError
    from builder.core.files import remove
    from builder.official.import_release import is_release
    from builder.official.sources import has_captions
    from builder.pipeline import recipe
    from builder.pipeline.project import Project

    if (directory / recipe.FILE).exists():
        there = recipe.load(directory).imports
        if (there.sources, there.md5, there.run) != (list(sources), md5, run):
            wanted = f"sources = {json.dumps(list(sources))}"
            raise ArasError(
                f"{directory / recipe.FILE}: is there and does not import this; write {wanted} in "
                "its [import] section and run `aras import`, or use another directory"
            )
        return
    paths = [(directory / source).resolve() for source in sources]
    captions = any(is_release(path) for path in paths) or has_captions(paths)
    values = {
        "sources": json.dumps(list(sources)),
        "run": json.dumps(run),
        "captions": json.dumps(captions),
        "md5_lines": [f"{json.dumps(name)} = {json.dumps(sum_)}" for name, sum_ in md5.items()],
    }
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
        say(f"{path}: written; it names what is imported")
    if not captions:
        say("no captions.csv inside, beside or above the sources: pictures and masks alone")


@click.command()
@click.argument("release", type=click.Path(path_type=Path, file_okay=False))
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
@click.option("--zip", "zipped", is_flag=True, help="Write train.zip, val.zip … and MD5SUMS.")
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

    zenodo, the layout of the official files, for code written against those:
    {train,val,test,synth}/{images,masks}/NAME.png with RGB masks in the published palette,
    captions.csv with its 14 columns and class_percentages/SPLIT.csv; images keep their bytes.
    A caption column whose stream the release does not have says so in every row ("ERROR: …"),
    unless --stream names another one for it. streams.json says which stream each column holds and
    who wrote it. `aras import` reads all of it back.

    \b
      aras export release/0.1.0 --to official
      aras export release/0.1.0 --to zips --zip
      aras export release/0.1.0 --to official --stream text_qwen3-4b=composition
    """
    options = Options(zipped, dict(streams))
    exported = export_release(directory / release, directory / to, layout, options)
    if as_json:
        print_json({"kind": "export", "layout": layout, **exported.as_json()})
        return
    rows = ", ".join(f"{group} {n:,}" for group, n in exported.rows.items())
    say(f"export: {to}: {rows} ({exported.bytes / 1e6:.1f} MB)")
    for official, own in exported.streams.items():
        if own is None:
            say(f"  {official}: no such stream in the release; --stream {official}=NAME fills it")
