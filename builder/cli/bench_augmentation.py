"""``aras bench augmentation``: do synthetic tiles help a segmenter?"""

from pathlib import Path
from typing import Any

import click

from builder.cli.common import json_option, print_json, say

EVEN = "tempered:0"
_RULE = click.Choice(["refuse", "leave-out", "keep"])


@click.command()
@click.argument("release", type=click.Path(path_type=Path, file_okay=False))
@click.option("--small", is_flag=True, help="20 steps of a tiny model, for trials.")
@click.option(
    "--profile",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="Size of the segmenter.",
)
@click.option("--steps", type=click.IntRange(1), help="Training steps of every run.")
@click.option("--batch", type=click.IntRange(1), help="Crops in a step.")
@click.option("--crop", type=click.IntRange(8), help="Side of a crop in pixels.")
@click.option(
    "--seeds",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="Seeds of every arm; at least three for a result.",
)
@click.option(
    "--ratio",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Synthetic rows per real one; fewer where there are fewer.",
)
@click.option(
    "--balance",
    default=EVEN,
    show_default=True,
    metavar="TARGET",
    help="Class shares of the balanced rows, as in [generator].",
)
@click.option("--min-km", default=1.0, show_default=True, help="As in `aras bench retrieval`.")
@click.option(
    "--near",
    type=_RULE,
    default="refuse",
    show_default=True,
    help="Nearer test tiles.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="reports/augmentation",
    show_default=True,
    help="Folder of runs and report.",
)
@click.option(
    "--engine",
    type=click.Choice(["serial", "processes", "ray"]),
    default="serial",
    show_default=True,
    help="Where runs are made.",
)
@click.option("--workers", type=click.IntRange(0), default=0, help="Runs at once; 0: one a core.")
@json_option
@click.pass_obj
def augmentation(
    directory: Path | None,
    release: Path,
    small: bool,
    profile: str,
    steps: int | None,
    batch: int | None,
    crop: int | None,
    seeds: int,
    ratio: float,
    balance: str,
    min_km: float,
    near: str,
    out: Path,
    engine: str,
    workers: int,
    as_json: bool,
) -> None:
    """Do synthetic tiles help a segmenter on real ones?

    Trains a segmenter from scratch for every arm and seed, with equal steps, batch size and
    initial weights, and judges all on the same real test tiles, class by class. Arms:

    \b
      real           real rows
      oversampled    real rows repeated to the class shares of arm balanced: the control
      synthetic      the synthetic rows of arm natural alone
      natural        real + synthetic rows with the class shares of real ones
      balanced       real + as many synthetic rows, with the class shares of --balance

    The synthetic rows of natural and balanced are drawn from all of the release by their
    composition, some repeated, so that they differ in nothing else.

    An interrupted experiment goes on where it stopped: finished runs and checkpoints are kept.
    Writes report.md, report.html, report.json and report.png; the report begins with what can be
    concluded, and says so when nothing can.

    \b
    Example:
      aras bench augmentation release/0.1.0
      aras bench augmentation release/0.1.0 --balance tempered:0.5 --steps 400

    Exit codes: 0 done; 1 some runs failed, the same command tries them again; 2 refused input.
    """
    from dataclasses import replace

    from builder.bench import augmentation_report
    from builder.bench.augmentation import PRESETS, Experiment, run
    from builder.engine import Engine

    root = directory or Path()
    asked = {"steps": steps, "batch": batch, "crop": crop}
    given: dict[str, Any] = {name: n for name, n in asked.items() if n is not None}
    settings = replace(PRESETS["small" if small else profile], **given)
    experiment = Experiment(
        root / release, root / out, settings, balance, ratio, seeds, min_km, near
    )
    found = augmentation_report.write(*run(experiment, Engine(engine, workers)))
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join([*found["conclusions"], *found["limits"]]))
    say(f"wrote {experiment.out / 'report.md'}")
