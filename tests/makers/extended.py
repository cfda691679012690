"""Runs `aras` in a process of its own with a toy registered, as a file and a line would be.

``python -m tests.makers.extended TOY DIRECTORY COMMAND … [+ COMMAND …]``: TOY is a module of
tests.makers with ``register()``, which is called before the command line is imported.
"""

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def aras_with(toy: str, directory: Path, *commands: str) -> str:
    """Run the commands, each a line as a user types it without `aras`; what they print."""
    words = itertools.chain.from_iterable((*command.split(), "+") for command in commands)
    done = subprocess.run(
        [sys.executable, "-m", "tests.makers.extended", toy, str(directory), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def main() -> None:
    toy, directory, *words = sys.argv[1:]
    importlib.import_module(f"tests.makers.{toy}").register()
    from builder.cli import cli

    for is_end, command in itertools.groupby(words, key=lambda word: word == "+"):
        if not is_end:
            cli(["-C", directory, *command], prog_name="aras", standalone_mode=False)


if __name__ == "__main__":
    main()
