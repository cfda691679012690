"""What planning may not import: the libraries that take seconds to load."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from builder.pipeline.project import Project

HEAVY = {"torch", "diffusers", "transformers", "rasterio"}
HEAVY |= {"scipy", "sklearn", "requests", "datasets"}

SCRIPT = """
import json, sys
from click.testing import CliRunner
from builder.cli import cli

answer = CliRunner().invoke(cli, sys.argv[1:])
assert answer.exit_code == 0, answer.output
print(json.dumps([name for name in sys.modules if "." not in name]))
"""


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["build", "--dry-run"]])
def test_planning_a_built_project_loads_no_heavy_library(
    project: Project, command: Sequence[str]
) -> None:
    words = [sys.executable, "-c", SCRIPT, "-C", str(project.directory), *command]
    loaded = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert "builder" in loaded
    assert not HEAVY & set(loaded)
