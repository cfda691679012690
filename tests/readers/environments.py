"""Environments with the libraries of ``cards/readers.json``, made once and kept in a cache folder.

The folder is ``ARAS_READERS``, else ``~/.cache/aras-readers``; other versions make an environment
anew, beside the old one.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.release.readers import environments

GIS = (
    *("geopandas>=1.1", "pyogrio>=0.12", "stac-geoparquet>=0.8", "stac-valid>=4.6", "pystac>=1.15"),
    *("duckdb-extension-spatial>=1.5", "duckdb-extensions>=1.5", "pytz", "tzdata"),
    *("webdataset>=1.0", "pycocotools>=2.0.11", "pillow"),
)
"""Geographic and training libraries; stac-valid asks for a jsonschema that cffconvert, in the
environment of the tests, refuses."""


def installed(name: str) -> Path:
    """The folder of an environment of ``cards/readers.json``, made where it is missing."""
    versions = environments()[name]
    return folder_with(name, [f"{library}=={version}" for library, version in versions.items()])


def folder_with(name: str, packages: Sequence[str]) -> Path:
    """The folder of an environment with these packages, made where it is missing."""
    cache = Path(os.environ.get("ARAS_READERS", "~/.cache/aras-readers")).expanduser()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(" ".join((version, *packages)).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{key}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        half = cache / f".{name}-{os.getpid()}"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(half)]
        subprocess.run([*command, *packages], check=True)
        half.rename(folder)
    return folder


def ask(
    name: str, program: Path, *arguments: str, cwd: Path, borrow: bool = False, given: Any = None
) -> list[dict[str, Any]]:
    """The lines of JSON that a program prints in an environment, as `ask_in`.

    With ``borrow`` a library that the environment lacks (torch, say) is that of these tests.
    """
    folders = [folder_with(name, GIS) if name == "gis" else installed(name)]
    if borrow:
        folders += [Path(path) for path in sys.path if path.endswith("site-packages")]
    return ask_in(folders, program, *arguments, cwd=cwd, given=given)


def ask_in(
    folders: Sequence[Path], program: Path, *arguments: str, cwd: Path, given: Any = None
) -> list[dict[str, Any]]:
    """The lines of JSON that a program, ``given`` JSON on stdin, prints with these packages.

    It must end well, and no line may name an error.
    """
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hf")}
    variables["MPLBACKEND"] = "agg"
    variables["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    command = [sys.executable, "-S", str(program), *arguments]
    run = subprocess.run(
        command,
        env=variables,
        cwd=cwd,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    errors = [line for line in lines if "error" in line]
    assert not errors, f"{errors}\n{run.stderr[-3000:]}"
    return lines
