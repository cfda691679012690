"""The command that hands a build to a Slurm cluster."""

from pathlib import Path

import click

from builder.cli.common import echo
from builder.core.errors import ArasError
from builder.core.progress import note


@click.command()
@click.option(
    "--parts",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Jobs of each array: so many machines work at once.",
)
@click.option(
    "--options",
    default="",
    metavar="TEXT",
    help="Options of sbatch for every job, such as '--partition=cpu --time=4:00:00'.",
)
@click.option(
    "--gpu-options",
    default="",
    metavar="TEXT",
    help="More for jobs that want a GPU, such as '--partition=gpu --gres=gpu:1'.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.pass_obj
def slurm(directory: Path, parts: int, options: str, gpu_options: str, out: Path | None) -> None:
    """Write a shell script that submits the build as jobs of a Slurm cluster.

    Each stage becomes an array of parts and each training a job; a job starts when the one before
    it is done. All jobs need the same folder on a disk that they share, or a bucket in [store].
    Submit the script again after a failure: finished shards and checkpoints are kept.

    \b
    Examples:
      aras slurm --parts 16 --gpu-options '--gres=gpu:1'
      aras slurm --parts 16 --out slurm.sh && sh slurm.sh
    """
    from builder.pipeline.project import Project
    from builder.pipeline.slurm import script

    for name, text in (("--options", options), ("--gpu-options", gpu_options)):
        if "\n" in text:
            raise ArasError(f"{name}: expected options of sbatch on one line")
    text = script(Project(directory), parts, options, gpu_options)
    if out is None:
        echo(text, nl=False)
        return
    path = directory / out
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    note(f"{path}: run it where sbatch is (sh {path.name})")
