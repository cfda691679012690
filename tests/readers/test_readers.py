"""A release, with nulls wherever there may be any, read by the libraries that people have.

Run by ``make readers``. Each environment is made once by ``pip install --target`` in a cache folder
(``ARAS_READERS``, else ``~/.cache/aras-readers``) and kept; other packages make it anew.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.arrow import options, rows_per_group
from builder.pipeline.project import Project
from tests.readers.read_release import digest, files_of

pytestmark = [pytest.mark.readers, pytest.mark.timeout(1500)]

PROGRAM = Path(__file__).with_name("read_release.py")
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "oldest": (
        *("datasets==2.18.0", "pyarrow==14.0.2", "numpy<2", "pandas<2.3", "pillow"),
        *("polars==0.20.31", "duckdb==0.10.3"),
    ),
    "middle": ("datasets==3.6.0", "pyarrow==18.1.0", "pandas<3", "pillow", "polars", "duckdb"),
    "floor": ("datasets==4.0.0", "pyarrow==21.0.0", "pillow"),
    "today": (),  # the environment that the tests run in
}
READERS = {
    "oldest": ("pyarrow", "pyarrow.dataset", "pandas", "polars", "duckdb"),
    "middle": ("pyarrow", "pandas", "polars", "duckdb"),
    "floor": ("pyarrow", "pandas"),
    "today": ("pyarrow", "pyarrow.dataset", "pandas"),
}
OF_DATASETS = ("datasets", "datasets streaming", "datasets one file")
CASES = [
    (environment, reader)
    for environment in ENVIRONMENTS
    for reader in (*READERS[environment], *OF_DATASETS)
]
KEPT = {"id", "kind", "split", "image", "mask", "pixels", "percent", "dominant", "owner", "caption"}
"""Columns that are never null."""


def installed(name: str) -> Path | None:
    """The folder of an environment, made where it is missing; None for that of the tests."""
    packages = ENVIRONMENTS[name]
    if not packages:
        return None
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


@pytest.fixture(scope="module")
def release(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project's release, its second row of each file null wherever a row may be null."""
    folder = tmp_path_factory.mktemp("readers") / "release"
    shutil.copytree(project.releases / project.recipe.dataset.version, folder)
    for path in folder.glob("*/*.parquet"):
        table = pq.read_table(path)
        schema = table.schema
        columns = []
        for name, column in zip(table.column_names, table.columns, strict=True):
            values = column.to_pylist()
            if name not in KEPT and len(values) > 1:
                values[1] = None
            columns.append(pa.array(values, schema.field(name).type))
        with pq.ParquetWriter(path, schema, **options(schema)) as writer:
            writer.write_table(pa.table(columns, schema), row_group_size=rows_per_group(schema))
    return folder


@pytest.fixture(scope="module")
def expected(release: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(config, split) → digest of each column, read by the pyarrow that wrote it."""
    digests = {}
    for key, paths in files_of(release).items():
        table = pa.concat_tables([pq.read_table(path) for path in paths])
        digests[key] = {name: digest(table.column(name).to_pylist()) for name in table.column_names}
    return digests


@pytest.mark.parametrize(("environment", "reader"), CASES)
def test_every_value_of_every_config_is_read(
    release: Path,
    expected: dict[tuple[str, str], dict[str, str]],
    environment: str,
    reader: str,
    tmp_path: Path,
) -> None:
    folder = installed(environment)
    isolated = ["-S"] if folder else []
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    variables["PYTHONPATH"] = str(folder) if folder else ""
    command = [sys.executable, *isolated, str(PROGRAM), reader, str(release)]
    run = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert not [line for line in lines if "error" in line], run.stderr[-2000:]
    assert run.returncode == 0, run.stderr[-2000:]
    read = {(line["config"], line["split"]): line["columns"] for line in lines}
    assert expected.keys() <= read.keys()
    assert {key: read[key] for key in expected} == expected


def test_a_seed_beside_nulls_keeps_every_digit_in_pandas(release: Path) -> None:
    import pandas

    path = next((release / "metadata").glob("train-*.parquet"))
    seeds = pq.read_table(path, columns=["gen_seed"]).column(0).to_pylist()
    read = pandas.read_parquet(path, columns=["gen_seed"])["gen_seed"].tolist()
    assert [seed for seed in read if isinstance(seed, str)] == [s for s in seeds if s is not None]
    assert any(int(seed) > 2**53 for seed in seeds if seed is not None)
