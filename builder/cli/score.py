"""``aras score``: how grounded, leaky and repetitive captions are, ours or anybody's."""

import json
from pathlib import Path
from typing import Any

import click

from builder.cli.common import stage_options
from builder.cli.make import run_command


@click.group(invoke_without_command=True)
@stage_options
@click.pass_context
def score(context: click.Context, /, **options: Any) -> None:
    """Score every caption of the dataset, or those of any file.

    Without a subcommand, a stage like the others: each caption's claims are compared with the
    mask of its tile, and the scores become the column caption_scores.

    \b
      aras score
      aras score captions captions.csv
    """
    if context.invoked_subcommand is None:
        run_command(context.obj, lambda project: project.scores(), **options)


@score.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--text",
    multiple=True,
    metavar="COLUMN",
    help="Column that holds the captions; repeat it for several streams. Default: the five "
    "streams of ARAS400k, else caption, captions, text, sentence or description.",
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
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the sampled rows.")
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
    """Score the captions of FILE: a CSV, TSV, JSONL or Parquet file with one image a row.

    Any captions: number, unique, redundancy (1 − unique/total on raw strings) and the same after
    normalising, near-duplicates (MinHash, similarity of word pairs at least 0.8), and how many
    captions state percentages.

    With the columns Tree, Shrub, Grass, Crop, Built-up, Barren and Water beside the text
    (fractions or per cent; or the pixels or percent column of a release): accuracy of the claims,
    coverage of the composition, grounding (their harmonic mean), share of named classes that are
    absent (chair_i) and share of present classes whose percentage stands in the text (leak).
    Read grounding together with leak, and against the two nulls: the same captions on other
    tiles, and on other tiles of the same dominant class. With a split or kind column that marks
    synthetic rows, also how well the words tell them from real ones.

    \b
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
        click.echo(json.dumps(summary, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(summary)))
        if out is not None:
            click.echo(f"scores of each caption: {folder / out}")


def _lines(summary: dict[str, Any]) -> list[str]:
    """The summary as text, one column per stream."""
    streams: dict[str, dict[str, Any]] = summary["streams"]
    table: list[tuple[str, list[str]]] = [("", list(streams))]

    def row(label: str, *path: str, form: str = "{:.2%}") -> None:
        cells = []
        for one in streams.values():
            value: Any = one
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            cells.append("–" if value is None else form.format(value))
        if any(cell != "–" for cell in cells):
            table.append((label, cells))

    row("captions", "n", form="{:,}")
    row("missing", "missing", form="{:,}")
    row("unique", "unique", form="{:,}")
    row("redundancy", "redundancy")
    for name in next(iter(streams.values()))["normalised_redundancy"]:
        row(f"  {name.replace('_', ' ')}", "normalised_redundancy", name)
    row("  near-duplicates", "near_duplicate_redundancy")
    row("words", "means", "n_words", form="{:.1f}")
    row("with percentages", "means", "percentage_rate")
    for name in ("grounding", "accuracy", "coverage", "chair_i", "f1", "tau_b", "leak"):
        row(name, "means", name, form="{:.3f}")
    row("grounding, shuffled", "null_grounding", "shuffled", form="{:.3f}")
    row("  same dominant class", "null_grounding", "shuffled_same_dominant", form="{:.3f}")
    row("R² without digits", "structural_leakage", "r2_text", form="{:.3f}")
    row("  on captions", "structural_leakage", "n", form="{:,}")
    row("AUC real/synthetic", "source_leak", "auc", form="{:.3f}")
    widths = [max(len(cells[i]) for _, cells in table) for i in range(len(streams))]
    left = max(len(label) for label, _ in table)
    lines = [f"{summary['file']}: {summary['rows']:,} rows"]
    if summary["composition"]:
        lines[0] += f", composition in {summary['composition']}"
    lines += [
        f"{label:<{left}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        for label, cells in table
    ]
    for name, one in streams.items():
        if telling := one.get("source_leak", {}).get("telling"):
            words = ", ".join(word for word, _ in telling["synthetic"][:6])
            lines.append(f"{name}: words that mark synthetic images: {words}")
    if summary["failed_captions"]:
        lines.append(f"{summary['failed_captions']:,} captions are error texts, taken as missing")
    if summary["repeated_header_lines"]:
        lines.append(f"{summary['repeated_header_lines']:,} repeated header lines skipped")
    return lines
