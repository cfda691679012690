"""``aras bench imbalance`` and ``aras bench augmentation``: what synthetic tiles are good for."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import echo, experiment_options, print_json, release_argument, say

if TYPE_CHECKING:
    from builder.core.engine import Engine
    from builder.experiments.experiment import Bench
    from builder.experiments.report import Report


def run_and_report(
    bench: "Callable[[], Bench[Any]]",
    report_of: "Callable[..., Report]",
    out: Path,
    seeds: int,
    engine: str,
    workers: int,
    as_json: bool,
) -> None:
    """Run what has no record yet, write the report, and print what it concludes and cannot."""
    from builder.core.engine import Engine
    from builder.experiments.experiment import Experiment

    experiment = Experiment(bench, out, seeds)
    report = report_of(experiment.bench, experiment.run_all(Engine(engine, workers)))
    report.write(out)
    if as_json:
        print_json(report.as_json())
    else:
        echo("\n".join([*report.conclusions, *report.limits]))
    say(f"wrote {out / 'report.md'}")


@click.command()
@release_argument
@click.option("--stream", default="", metavar="NAME", help="Captions of all arms.")
@click.option(
    "--doses",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Run this table of doses instead; the arms above and their options take no part.",
)
@click.option("--small", is_flag=True, help="60 steps of a tiny model, for trials.")
@click.option("--weights", default="", metavar="MODEL", help="Fine-tune this CLIP in every arm.")
@click.option("--zero-shot", default="", metavar="MODEL", help="Judge this CLIP untrained as well.")
@click.option("--batch", type=click.IntRange(2), help="Pairs in a step.")
@click.option(
    "--ratio",
    "ratios",
    multiple=True,
    type=click.FloatRange(0, min_open=True),
    help="Synthetic rows per real row; repeatable; default 0.25, 0.5, 1 and 3 as rows allow.",
)
@experiment_options("reports/imbalance", "retriever")
@click.pass_obj
def imbalance(
    directory: Path | None,
    release: Path,
    stream: str,
    doses: Path | None,
    small: bool,
    profile: str,
    weights: str,
    zero_shot: str,
    steps: int | None,
    batch: int | None,
    seeds: int,
    ratios: tuple[float, ...],
    min_km: float,
    near: str,
    out: Path,
    engine: str,
    workers: int,
    as_json: bool,
) -> None:
    """Does class-balanced synthesis help or hurt retrieval on real tiles?

    Trains a small CLIP for every arm and seed, from scratch or from --weights, with equal steps,
    batch size, initial weights and caption stream, and judges all on the same real test tiles.
    Arms:

    \b
      real           real rows
      oversampled    real rows repeated to the class shares of the balanced arm: the control
      synthetic      synthetic rows only
      natural-R      real + R synthetic rows per real row, in the real class shares
      balanced-R     the same number, class-balanced
      filtered       balanced, from synthetic rows that pass a quality filter
      shuffled       real rows with captions of other rows: the floor
      stripped       real rows, numbers removed from captions
      zero-shot      the weights of --weights or --zero-shot as they are

    With --doses, how good must synthetic tiles be? Scenes of 2 × 2 real tiles of a single class
    each, with captions of their layout; held-out real tiles as a perfect generator, and in doses
    what makes them worse (wrong classes, colours, phases, blur), what is drawn from the train
    tiles (texture, quilt) and the release's own synthetic tiles. Says first what it will cost,
    and in the end at which measured validity synthesis equals repeating real scenes.

    You can stop it at any time; run it again to continue: finished runs and checkpoints are kept.
    Writes report.md, report.html, report.json and plots; the report begins with what can be
    concluded, and says so when nothing can.

    \b
    Examples:
      aras bench imbalance release/0.1.0 --stream full --small
      aras bench imbalance release/0.1.0 --doses doses.toml --seeds 5
      aras bench imbalance release/0.1.0 --stream full --weights openai/clip-vit-base-patch32

    Exit codes: 0 done; 1 some runs failed, the same command tries them again; 2 refused input.
    """
    from dataclasses import replace
    from functools import partial

    from builder.core.engine import Engine
    from builder.experiments import imbalance as declared
    from builder.experiments.imbalance_report import report_of

    root = directory or Path()
    if doses is not None:
        run_doses(root, release, doses, seeds, min_km, near, out, Engine(engine, workers), as_json)
        return
    if not stream:
        raise click.UsageError("give --stream NAME, or --doses FILE")
    given = {k: v for k, v in (("steps", steps), ("batch", batch)) if v is not None}
    preset = declared.PRESETS["small" if small else profile]
    settings = replace(preset, stream=stream, weights=weights, **given)
    material = partial(declared.release_material, root / release, stream, min_km, near)
    bench = partial(
        declared.Bench, material, settings, ratios or declared.RATIOS, zero_shot or weights
    )
    run_and_report(bench, report_of, root / out, seeds, engine, workers, as_json)


def run_doses(
    root: Path,
    release: Path,
    doses: Path,
    seeds: int,
    min_km: float,
    near: str,
    out: Path,
    engine: "Engine",
    as_json: bool,
) -> None:
    """Run a table of doses on a release and print what follows."""
    from functools import partial

    from builder.experiments import dose_report
    from builder.experiments.dose_release import release_material
    from builder.experiments.dose_response import Bench, Table
    from builder.experiments.dose_run import run

    folder = root / out / "doses"
    material = partial(release_material, root / release, folder, min_km, near)
    analysis = run(partial(Bench, material, Table.read(root / doses)), folder, seeds, engine)
    if as_json:
        print_json(analysis.as_json())
    else:
        echo("\n".join(dose_report.answer(analysis, [])))
    say(f"wrote {folder / 'report.md'}")


EVEN = "tempered:0"


@click.command()
@release_argument
@click.option("--small", is_flag=True, help="20 steps of a tiny model, for trials.")
@click.option("--batch", type=click.IntRange(1), help="Crops in a step.")
@click.option("--crop", type=click.IntRange(8), help="Side of a crop in pixels.")
@click.option(
    "--ratio",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Synthetic rows per real row; fewer where there are fewer.",
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
    """Do synthetic tiles help a segmenter on real tiles?

    Trains a segmenter from scratch for every arm and seed, with equal steps, batch size and
    initial weights, and judges all on the same real test tiles, class by class. Arms:

    \b
      real           real rows
      oversampled    real rows repeated to the class shares of arm balanced: the control
      synthetic      the synthetic rows of arm natural alone
      natural        real + synthetic rows with the class shares of real rows
      balanced       real + as many synthetic rows, with the class shares of --balance

    The synthetic rows of natural and balanced are drawn from all of the release by their
    composition, some repeated, so that they differ in nothing else.

    You can stop it at any time; run it again to continue: finished runs and checkpoints are kept.
    Writes report.md, report.html, report.json and report.png; the report begins with what can be
    concluded, and says so when nothing can.

    \b
    Example:
      aras bench augmentation release/0.1.0
      aras bench augmentation release/0.1.0 --balance tempered:0.5 --steps 400

    Exit codes: 0 done; 1 some runs failed, the same command tries them again; 2 refused input.
    """
    from dataclasses import replace
    from functools import partial

    from builder.experiments import augmentation as declared

    root = directory or Path()
    asked = {"steps": steps, "batch": batch, "crop": crop}
    given: dict[str, Any] = {name: n for name, n in asked.items() if n is not None}
    settings = replace(declared.PRESETS["small" if small else profile], **given)
    bench = partial(
        declared.Bench, root / release, root / out, settings, balance, ratio, min_km, near
    )
    run_and_report(bench, declared.report_of, root / out, seeds, engine, workers, as_json)
