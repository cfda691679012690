"""``aras score``: how grounded, leaky and repetitive captions are, ours or any others."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import echo, stage_options
from builder.cli.make import run_command
from builder.core.progress import counted

if TYPE_CHECKING:
    from builder.scores.file_scores import FileSummary


@click.group(invoke_without_command=True)
@stage_options
@click.pass_context
def score(context: click.Context, /, **options: Any) -> None:
    """Score every caption of the dataset, or those of any file.

    Without a subcommand, a stage like the others: each caption's claims are compared with the
    mask of its tile, and the scores become the column caption_scores.

    \b
    Examples:
      aras score
      aras score captions captions.csv
    """
    if context.invoked_subcommand is None:
        run_command(context.obj, lambda project: project.scores(), **options)


@score.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--text",
    multiple=True,
    metavar="COLUMN",
    help="Column that holds the captions; repeat it for several streams. Default: the five "
    "streams of ARAS400k, else caption, else the columns that hold sentences.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one row of scores per caption here: .csv, .jsonl or .parquet.",
)
@click.option(
    "--lexicon",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file laid over the built-in lexicon of land-cover words and intervals.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that score; worth it from some ten thousand captions.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampled rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.pass_context
def captions(
    context: click.Context,
    file: Path,
    text: tuple[str, ...],
    out: Path | None,
    lexicon: Path | None,
    workers: int,
    seed: int,
    as_json: bool,
) -> None:
    """Score the captions of FILE, in whatever form they come.

    FILE is CSV in any dialect, JSON Lines, JSON (a list, Karpathy's or COCO's), Parquet, or a
    folder of Parquet, Arrow (datasets) or tar (WebDataset) files, packed by gzip or not; with one
    caption a row, several rows an image, or a list of captions in a cell. It says which column it
    took, how many captions an image has, and shows three.

    Any captions: number, unique, redundancy (1 − unique/total on raw strings) and the same after
    normalising, near-duplicates (MinHash, similarity of word pairs at least 0.8), and how many
    captions state percentages.

    With the columns Tree, Shrub, Grass, Crop, Built-up, Barren and Water beside the text
    (fractions or per cent; or the pixels or percent column of a release): accuracy of the claims,
    coverage of the composition, grounding (their harmonic mean), share of named classes that are
    absent (chair_i), share of present classes whose percentage is in the text (leak), and how
    well each caption tells its tile from the other tiles of the file (discrimination; 0.5 for one
    that is the same on every tile; files with fewer than 10 tiles are compared with built-in ones).
    Read discrimination together with leak, and grounding against the two nulls: the same captions
    on other tiles, and on other tiles of the same dominant class. With a split or kind column that
    marks synthetic rows, also how well the words separate them from real rows.

    \b
    Examples:
      aras score captions captions.csv --out scores.parquet
      aras score captions mine.jsonl --text description --json
    """
    from builder.core.progress import bar
    from builder.scores.file_scores import score_file

    folder: Path = context.obj or Path()
    with bar("captions", None, unit="captions") as advance:
        summary = score_file(
            folder / file,
            text=text,
            out=None if out is None else folder / out,
            lexicon=None if lexicon is None else folder / lexicon,
            workers=workers,
            seed=seed,
            advance=advance,
        )
    if as_json:
        echo(json.dumps(summary.as_json(), ensure_ascii=False))
    else:
        echo("\n".join(_lines(summary)))
        if out is not None:
            echo(f"scores of each caption: {folder / out}")


def _source_in_words(summary: "FileSummary") -> str:
    """What was read: images, captions of each, their columns and the composition."""
    few, many = (int(summary.captions_per_image[name]) for name in ("min", "max"))
    each = str(few) if few == many else f"{few} to {many}"
    columns = ", ".join(summary.text_columns)
    text = (
        f"{summary.file}: {counted(summary.images, 'image', 'images')}, {each} "
        f"{'caption' if each == '1' else 'captions'} each, from {columns}"
    )
    return f"{text}; composition in {summary.composition}" if summary.composition else text


def _lines(summary: "FileSummary") -> list[str]:
    """The summary as text, one column per stream."""
    import pyarrow as pa

    from builder.land.score_columns import scores_of
    from builder.scores.leakage import source_sentence

    streams = summary.streams.values()
    table: list[tuple[str, list[str]]] = [("", list(summary.streams))]

    def row(label: str, values: Iterable[float | None], form: str = "{:.2%}") -> None:
        cells = ["–" if value is None else form.format(value) for value in values]
        if any(cell != "–" for cell in cells):
            table.append((label, cells))

    row("captions", (stream.n for stream in streams), "{:,}")
    row("missing", (stream.missing for stream in streams), "{:,}")
    if any(stream.empty for stream in streams):
        row("empty", (stream.empty for stream in streams), "{:,}")
    row("unique", (stream.unique for stream in streams), "{:,}")
    row("redundancy", (stream.redundancy for stream in streams))
    for name in next(iter(streams)).normalised_redundancy:
        label = f"  {name.replace('_', ' ')}"
        row(label, (stream.normalised_redundancy[name] for stream in streams))
    row("  near-duplicates", (stream.near_duplicate_redundancy for stream in streams))
    if any(stream.means["unread"] for stream in streams):
        row("unread", (stream.means["unread"] for stream in streams))
    row("words", (stream.means["n_words"] for stream in streams), "{:.1f}")
    row("with percentages", (stream.means["percentage_rate"] for stream in streams))
    for name, score in scores_of("score", "file").items():
        if pa.types.is_floating(score.type):
            row(name, (stream.means[name] for stream in streams), "{:.3f}")
    nulls = [stream.null_grounding for stream in streams]
    row("grounding, shuffled", (null.shuffled if null else None for null in nulls), "{:.3f}")
    same = (null.shuffled_same_dominant if null else None for null in nulls)
    row("  same dominant class", same, "{:.3f}")
    structural = [stream.structural_leakage for stream in streams]
    row("R² without digits", (leak.r2_text if leak else None for leak in structural), "{:.3f}")
    row("  on captions", (leak.n if leak else None for leak in structural), "{:,}")
    sources = [stream.source_leak for stream in streams]
    row("AUC real/synthetic", (leak.auc if leak else None for leak in sources), "{:.3f}")
    widths = [max(len(cells[i]) for _, cells in table) for i in range(len(streams))]
    left = max(len(label) for label, _ in table)
    lines = [_source_in_words(summary)]
    if summary.references:
        lines.append(f"  discrimination among {', '.join(summary.references)}")
    lines += [f"  {note}" for note in summary.notes]
    lines += [f"  “{text if len(text) <= 90 else text[:89] + '…'}”" for text in summary.examples]
    lines += [
        f"{label:<{left}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        for label, cells in table
    ]
    for name, stream in summary.streams.items():
        if sentence := source_sentence(name, stream.source_leak):
            lines.append(sentence)
    if summary.failed_captions:
        lines.append(f"{summary.failed_captions:,} captions are error texts, counted as missing")
    for name, kinds in summary.cut.items():
        counts = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in kinds.items())
        lines.append(f"{name}: captions with {counts}")
    if summary.repeated_header_lines:
        lines.append(f"{summary.repeated_header_lines:,} repeated header lines skipped")
    return lines
