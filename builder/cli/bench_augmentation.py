"""``aras bench augmentation``: do synthetic tiles help a segmenter?"""

from pathlib import Path
from typing import Any

import click

from builder.cli.common import experiment_options, print_findings

EVEN = "tempered:0"


@click.command()
@click.argument("release", type=click.Path(path_type=Path, file_okay=False))
@click.option("--small", is_flag=True, help="20 steps of a tiny model, for trials.")
@click.option("--batch", type=click.IntRange(1), help="Crops in a step.")
@click.option("--crop", type=click.IntRange(8), help="Side of a crop in pixels.")
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
@experiment_options("reports/augmentation", "segmenter")
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
    print_findings(found, experiment.out / "report.md", as_json)
