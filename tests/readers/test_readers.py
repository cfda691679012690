"""A release, with nulls wherever there may be any, read by the libraries that people have.

Run by ``make readers``, in the environments of ``cards/readers.json``.
"""

import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.arrow import options, rows_per_group
from builder.land.pictures import decode_mask, decode_png
from builder.pipeline.project import Project
from builder.release.card import write_cards
from builder.release.exports import Options, export
from builder.release.readers import environments, spans
from tests.makers.damage import restamp
from tests.readers.environments import ask
from tests.readers.read_release import array_digest, digest, files_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = [pytest.mark.readers, pytest.mark.timeout(1500)]

PROGRAM = Path(__file__).with_name("read_release.py")
ROOT = Path(__file__).parents[2]
BY_FILE = {
    "pyarrow": "pyarrow",
    "pyarrow.dataset": "pyarrow",
    "pandas": "pandas",
    "polars": "polars",
    "duckdb": "duckdb",
    "datasets": "datasets",
    "datasets streaming": "datasets",
    "datasets one file": "datasets",
}
"""Reader → the library that it needs."""
CASES = [
    (environment, reader)
    for environment, versions in environments().items()
    for reader, library in BY_FILE.items()
    if library in versions
]
KEPT = {"id", "kind", "split", "image", "mask", "pixels", "percent", "dominant", "owner", "caption"}
"""Columns that are never null."""

RECORDS = {"captions", "caption_scores"}
"""Columns of lists of records."""

Digests = dict[tuple[str, str], dict[str, str]]


def having(library: str) -> list[str]:
    return [name for name, versions in environments().items() if library in versions]


@pytest.fixture(scope="module")
def release(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project's release, its second row of each file null wherever a row may be null."""
    copy = tmp_path_factory.mktemp("readers") / "release"
    shutil.copytree(project.releases / project.recipe.dataset.version, copy)
    for path in copy.glob("*/*-of-*.parquet"):
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
    restamp(copy)
    write_cards(copy)
    return copy


@pytest.fixture(scope="module")
def tables(release: Path) -> dict[tuple[str, str], pa.Table]:
    """(config, split) → rows, read by the pyarrow that wrote them."""
    return {
        key: pa.concat_tables([pq.read_table(path) for path in paths])
        for key, paths in files_of(release).items()
    }


def digests_of(table: pa.Table) -> dict[str, str]:
    return {name: digest(table.column(name).to_pylist()) for name in table.column_names}


def read(environment: str, reader: str, folder: Path, cwd: Path, **options: bool) -> Digests:
    lines = ask(environment, PROGRAM, reader, str(folder), cwd=cwd, **options)
    return {(line["config"], line["split"]): line["columns"] for line in lines}


@pytest.mark.parametrize(("environment", "reader"), CASES)
def test_every_value_of_every_config_is_read(
    release: Path,
    tables: dict[tuple[str, str], pa.Table],
    environment: str,
    reader: str,
    tmp_path: Path,
) -> None:
    columns = read(environment, reader, release, tmp_path)
    assert tables.keys() <= columns.keys()
    for key, table in tables.items():
        assert columns[key] == digests_of(table), key


@pytest.mark.parametrize("environment", having("datasets"))
def test_images_and_masks_decode_to_the_same_pixels_and_ids(
    tables: dict[tuple[str, str], pa.Table], release: Path, environment: str, tmp_path: Path
) -> None:
    columns = read(environment, "datasets decoded", release, tmp_path, borrow=True)
    for key in columns:
        rows = tables[key].select(["image", "mask"]).to_pylist()
        images = digest([array_digest(decode_png(row["image"]["bytes"])) for row in rows])
        masks = digest([array_digest(decode_mask(row["mask"]["bytes"], "m")) for row in rows])
        assert columns[key] == {
            "image": images,
            "image mode": digest(["RGB"] * len(rows)),
            "image numpy": images,
            "mask": masks,
            "mask mode": digest(["P"] * len(rows)),
            "mask numpy": masks,
            "mask torch": masks,
        }, key
    assert {config for config, _ in columns} == {"real", "synthetic"}


@pytest.mark.parametrize("environment", having("mlcroissant"))
def test_the_records_of_croissant_json_hold_every_value(
    tables: dict[tuple[str, str], pa.Table], release: Path, environment: str, tmp_path: Path
) -> None:
    columns = read(environment, "mlcroissant", release, tmp_path)
    assert tables.keys() <= columns.keys()
    for (config, split), table in tables.items():
        rows = {name: table.column(name).to_pylist() for name in table.column_names}
        for name, decode in (("image", decode_png), ("mask", partial(decode_mask, name="m"))):
            if name in rows:
                rows[name] = [array_digest(decode(value["bytes"])) for value in rows[name]]
        for name in RECORDS & rows.keys():  # to mlcroissant, no list is a list of nothing
            rows[name] = [[None] if value is None else value for value in rows[name]]
        if "split" in rows:  # by its name, from the path of the file
            rows["split"] = [split] * table.num_rows
        expected = {name: digest(values) for name, values in rows.items()}
        assert columns[config, split] == expected, (config, split)


@pytest.mark.parametrize("environment", having("webdataset"))
def test_a_webdataset_export_holds_the_rows(
    tables: dict[tuple[str, str], pa.Table], release: Path, environment: str, tmp_path: Path
) -> None:
    export(release, tmp_path / "export", "webdataset", Options())
    columns = read(environment, "webdataset", tmp_path / "export", tmp_path)
    pictured = {key: table for key, table in tables.items() if key[0] in ("real", "synthetic")}
    assert columns.keys() == pictured.keys()
    for key, table in pictured.items():
        rows = table.to_pylist()
        assert columns[key]["id"] == digest([row["id"] for row in rows])
        assert columns[key]["png"] == digest([row["image"]["bytes"] for row in rows])
        assert columns[key]["mask.png"] == digest([row["mask"]["bytes"] for row in rows])


def test_the_card_names_the_versions_that_were_compared(release: Path) -> None:
    card = (release / "README.md").read_text(encoding="utf-8")
    for library, (lowest, highest) in spans().items():
        held = {versions[library] for versions in environments().values() if library in versions}
        assert {lowest, highest} <= held
        assert re.search(rf"\b{library} {lowest} to {highest}\b", card)


def test_the_floor_is_what_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = dict(
        re.match(r"([\w-]+)>=([\d.]+)", line).groups()
        for line in project["dependencies"]
        if ">=" in line and "torch" not in line
    )
    for library in ("datasets", "pyarrow", "pillow", "numpy"):
        pinned = environments()["floor"][library].split(".")
        assert pinned[: len(declared[library].split("."))] == declared[library].split(".")


def test_a_seed_beside_nulls_keeps_every_digit_in_pandas(release: Path) -> None:
    import pandas

    path = next((release / "metadata").glob("train-*.parquet"))
    seeds = pq.read_table(path, columns=["gen_seed"]).column(0).to_pylist()
    frame = pandas.read_parquet(path, columns=["gen_seed"])["gen_seed"].tolist()
    assert [seed for seed in frame if isinstance(seed, str)] == [s for s in seeds if s is not None]
    assert any(int(seed) > 2**53 for seed in seeds if seed is not None)
