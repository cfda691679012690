"""The snippets of docs/how-to/get-a-part.md run as they are written."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.parts.opened import OpenRelease
from builder.parts.sources import Folder
from builder.pipeline.project import Project

PAGE = Path(__file__).parents[2] / "docs/how-to/get-a-part.md"


@pytest.fixture
def folder(project: Project, tmp_path: Path) -> Path:
    """A folder with the release where the page has it."""
    shutil.copytree(project.releases / "0.1.0", tmp_path / "release/0.1.0")
    return tmp_path


def test_the_python_snippets_print_rows(folder: Path) -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"real/\S+ Tree \d+ \(64, 64, 3\) \d\n", done.stdout)


def test_the_commands_that_read_a_folder_run(folder: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    local = [command for command in commands if command[2] == "release/0.1.0"]
    assert len(local) == 2
    said = [
        subprocess.run(
            [sys.executable, "-m", "builder", *command[1:]],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        ).stderr
        for command in local
    ]
    assert "no row of 101 is as asked for" in said[0]  # the tiny tiles are elsewhere
    assert "rows would be fetched" in said[1]


def test_every_condition_of_the_page_is_one(folder: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    cells = re.findall(r"^\| [^|]+ \| (`[^|]+`) \|$", page.split("## What a part")[0], re.MULTILINE)
    conditions = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    assert len(conditions) == 7
    release = OpenRelease(Folder(folder / "release/0.1.0"))
    for condition in conditions:
        try:
            release.query(condition)
        except ArasError as error:
            pytest.fail(str(error))
