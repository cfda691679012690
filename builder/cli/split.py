"""The split stage and the report on any split."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import echo, json_option, print_json, release_argument, say, stage_options
from builder.cli.make import run_command
from builder.core.progress import counted

if TYPE_CHECKING:
    from builder.tiles.split_report import SplitLeakage

WITHIN_KM = (0.0, 1.0, 2.5, 5.0, 10.0)


@click.group(invoke_without_command=True)
@stage_options
@click.pass_context
def split(ctx: click.Context, /, **options: Any) -> None:
    """Assign tiles to train, validation and test by Earth-fixed blocks.

    Each block goes whole to one split, so that every split has its share of tiles and of each
    class. Tiles within the buffer of another split are set aside, and so are tiles that repeat a
    tile of a split that they must not see. The summary gives class shares per split and the
    smallest distance between splits.

    `aras split report` measures the split of any release instead.

    \b
    Examples:
      aras split --dry-run              # what each split would get
      aras split
      aras split report release/0.1.0   # what the split of a release leaks
    """
    if ctx.invoked_subcommand is None:
        run_command(ctx.obj, lambda project: [project.qualities()[0], project.split()], **options)


@split.command()
@release_argument
@click.option(
    "--ids",
    type=click.Path(path_type=Path),
    help="CSV of ids and splits to measure: a path, or a file of RELEASE.",
)
@click.option("--km", multiple=True, type=click.FloatRange(0), help="Distances to report, in km.")
@click.option("--map", "map_file", type=click.Path(path_type=Path), help="Draw a map (PNG).")
@json_option
@click.pass_obj
def report(
    directory: Path,
    release: Path,
    ids: Path | None,
    km: tuple[float, ...],
    map_file: Path | None,
    as_json: bool,
) -> None:
    """Measure how much the split of RELEASE leaks.

    The share of test tiles with a train tile within so many kilometres (edge to edge; 0 means
    touching), the smallest distances, and each split's class shares with their divergence.

    \b
    Examples:
      aras split report release/0.1.0
      aras split report release/0.1.0 --km 5 --map split.png
      aras split report release/0.1.0 --ids subsets/mini.csv --json
    """
    import numpy as np

    from builder.core.manifest import read_manifest
    from builder.land.grid import PER_DEGREE
    from builder.release.rows import real_rows
    from builder.tiles import split_report, subsets

    release = directory / release
    every = rows = real_rows(release)
    if ids is not None:
        beside, inside = directory / ids, release / ids
        file = inside if inside.is_file() and not beside.is_file() else beside
        rows = subsets.apply(every, subsets.read(file))
    facts = read_manifest(release).facts
    size = facts.setting("tiles", "size") / PER_DEGREE
    leakage = split_report.measure(rows, size, tuple(sorted(km)) or WITHIN_KM)
    if map_file is not None:
        chosen = set(rows.ids)
        left = every.take(np.array([row_id not in chosen for row_id in every.ids]))
        shown = split_report.with_blocks(rows, facts.setting("split", "block"))
        split_report.draw_map(shown, size, directory / map_file, left)
    if as_json:
        print_json({"kind": "split-report", "release": str(release), **leakage.as_json()})
        return
    echo(_describe(leakage))
    if map_file is not None:
        say(f"map: {map_file}")


def _describe(leakage: "SplitLeakage") -> str:
    lines = [counted(leakage.tiles, "real tile")]
    if unknown := leakage.without_place:
        verb = "is" if unknown == 1 else "are"
        lines.append(f"  {counted(unknown, 'tile')} without a place {verb} not judged")
    for km, share in leakage.test_near_train.items():
        value = "–" if share is None else f"{100 * share:.1f} %"
        what = "touch a train tile" if km == "0" else f"have a train tile within {km} km"
        lines.append(f"  {value:>8} of test tiles {what}")
    for pair, distance in leakage.smallest_distance_km.items():
        lines.append(f"  smallest distance {pair}: {'–' if distance is None else f'{distance} km'}")
    blocks = leakage.blocks_in_several_splits
    lines.append(f"  blocks in several splits: {'–' if blocks is None else blocks}")
    for name, part in leakage.splits.items():
        line = f"  {name:<11}{part.tiles:>8,} {'tile' if part.tiles == 1 else 'tiles'}"
        if part.tiles:
            shares = " ".join(f"{k} {100 * v:.1f}" for k, v in part.class_shares.items())
            line += f", % {shares}; {part.divergence} JSD"
        lines.append(line)
    return "\n".join(lines)
