"""A build as jobs of a Slurm cluster: each stage an array of parts, each training a job."""

import shlex
from dataclasses import dataclass

from builder.models.step import Training
from builder.pipeline.project import RETRIEVER, Project


@dataclass(frozen=True)
class Job:
    """A command of aras, once or, with ``parts``, as an array of parts."""

    command: str
    parts: bool = False
    gpu: bool = False


def jobs(project: Project) -> list[Job]:
    """What builds the project, each after the one before it.

    An array makes what follows from single shards; the last job, `aras build`, makes what looks at
    all of them, whatever is still missing, and the release.
    """
    listed = [Job("import" if project.is_imported else "tiles", parts=True)]
    if not project.is_imported:
        listed.append(Job("split"))
    for step in project.steps(with_tiles=False):
        if isinstance(step, Training) and step.model != RETRIEVER:  # it needs captions
            listed.append(Job(f"train {step.model}", gpu=True))
    if project.synthetic_rows:
        listed.append(Job("generate", parts=True, gpu=True))
    listed.append(Job("segment", parts=True, gpu=True))
    if project.recipe.captions:
        listed.append(Job("caption", parts=True, gpu=True))
    return [*listed, Job("build", gpu=True)]


def script(project: Project, parts: int, options: str, gpu_options: str) -> str:
    """A shell script that submits the jobs; ``options`` are sbatch's own, for every job, and
    ``gpu_options`` those of jobs that want a GPU."""
    lines = [
        "#!/bin/sh",
        f"# Submits the build of {project.recipe.dataset.name} to Slurm, in the folder of this",
        "# script: each job starts when the one before it is done. Run it again after a failure:",
        "# finished shards and checkpoints are kept.",
        "set -eu",
        'cd "$(dirname "$0")"',
        "submit() { sbatch --parsable --kill-on-invalid-dep=yes "
        '--output="slurm-%x-%A_%a.out" "$@"; }',
        "",
    ]
    before = ""
    for job in jobs(project):
        name = job.command.replace(" ", "-")
        words = ["submit", f"--job-name=aras-{name}"]
        words += [f'--dependency="afterok:${before}"'] if before else []
        words += [f"--array=1-{parts}"] if job.parts else []
        words += [options] if options else []
        words += [gpu_options] if job.gpu and gpu_options else []
        command = f"aras {job.command}"
        command += f" --part $SLURM_ARRAY_TASK_ID/{parts}" if job.parts else ""
        before = name.replace("-", "_")
        lines.append(f"{before}=$({' '.join(words)} --wrap={shlex.quote(command)})")
    return "\n".join([*lines, f'echo "submitted; the last job is ${before}"', ""])
