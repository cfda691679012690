"""Rows that are sewn of train tiles: marked as copies, and left out unless the recipe asks."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from builder.core.engine import Engine
from builder.pipeline.project import Project
from builder.pipeline.run import run_steps
from builder.release.package import package
from tests.makers.project import RECIPE

QUILT = RECIPE.replace("sampling_steps = 2\n", 'kind = "quilt"\n')


def test_quilts_are_copies_and_enter_a_release_only_when_asked(
    project: Project, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(project.directory, tmp_path / "quilt"))
    shutil.rmtree(folder / "release")
    shutil.rmtree(folder / "models" / "generator")
    (folder / "dataset.toml").write_text(QUILT)
    sewn = Project(folder)
    run_steps(sewn, sewn.steps(), Engine("serial"))
    package(sewn.inputs())
    [release] = (folder / "release").iterdir()
    [path] = (release / "synthetic").glob("*.parquet")
    rows = pq.read_table(path, columns=["copy", "gen_model"])
    assert rows.column("copy").to_pylist() == [True] * rows.num_rows
    assert set(rows.column("gen_model").to_pylist()) == {"aras quilt, patches of train tiles"}
    card = " ".join((release / "README.md").read_text().split())
    assert "**Every pixel is copied from a train tile**" in card
    assert "diffusion" not in card

    shutil.rmtree(folder / "release")
    (folder / "dataset.toml").write_text(QUILT.replace("drop_copies = false", "drop_copies = true"))
    package(Project(folder).inputs())
    [release] = (folder / "release").iterdir()
    assert not list((release / "synthetic").glob("*.parquet"))
    card = " ".join((release / "README.md").read_text().split())
    assert f"{rows.num_rows} synthetic tiles copying a train tile" in card
