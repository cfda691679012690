"""The script of `aras slurm`, run against an sbatch that does the first jobs at once."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from builder.core.store import Store
from builder.pipeline.project import Project
from builder.pipeline.slurm import jobs
from tests.makers.project import RECIPE, make_project
from tests.makers.shards import digests

SBATCH = f"""#!{sys.executable}
\"\"\"Does what sbatch would have a cluster do: the command once, or once for each part; of those
behind the tiles it only asks whether there is such a command.\"\"\"
import os, subprocess, sys
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
log = os.environ["SBATCH_LOG"]
known = open(log).read().split() if os.path.exists(log) else []
assert options["kill-on-invalid-dep"] == "yes"
if known:
    assert options["dependency"] == "afterok:" + known[-1], options
first, _, last = options.get("array", "0").partition("-")
for part in range(int(first), int(last or first) + 1):
    environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(part)}}
    command = options["wrap"] + (" --help" if known else "")
    subprocess.run(command, shell=True, check=True, env=environment, stdout=sys.stderr)
number = str(100 + len(known))
open(log, "a").write(number + "\\n")
print(number)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH with this sbatch, and with the aras of these tests."""
    tools = tmp_path / "tools"
    tools.mkdir()
    aras = f'#!/bin/sh\nexec {sys.executable} -m builder "$@"\n'
    for name, text in (("sbatch", SBATCH), ("aras", aras)):
        (tools / name).write_text(text)
        (tools / name).chmod(stat.S_IRWXU)
    return {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SBATCH_LOG": str(tmp_path / "jobs"),
        "OMP_NUM_THREADS": "1",
    }


def test_jobs_follow_the_way_of_the_rows(project: Project) -> None:
    assert [(job.command, job.parts, job.gpu) for job in jobs(project)] == [
        ("tiles", True, False),
        ("split", False, False),
        ("train segmenter", False, True),
        ("train generator", False, True),
        ("generate", True, True),
        ("segment", True, True),
        ("caption", True, True),
        ("build", False, True),
    ]


def test_the_script_has_its_parts_make_what_one_command_makes(
    project: Project, tmp_path: Path, environment: dict[str, str]
) -> None:
    made = make_project(tmp_path / "my data", recipe=RECIPE)
    command = [sys.executable, "-m", "builder", "-C", str(made.directory), "slurm"]
    command += ["--parts", "2", "--options", "--time=1:00:00", "--out", "slurm.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        ["sh", str(made.directory / "slurm.sh")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "submitted; the last job is 107\n"
    whole = digests(project.store)
    assert digests(Store(made.store.root)) == {n: d for n, d in whole.items() if "tiles/" in n}


def test_options_are_one_line(project: Project, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "builder", "-C", str(project.directory), "slurm"]
    done = subprocess.run(
        [*command, "--options", "--time=1\nrm"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, "expected options of sbatch on one line" in done.stderr) == (2, True)
