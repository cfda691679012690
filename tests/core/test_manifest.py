"""The release directory: what its manifest lists, and sums that other tools can check."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.core import manifest
from builder.core.errors import ArasError
from builder.core.files import write_json
from builder.pipeline.project import Project
from tests.makers.damage import copy_of

EXPECTED = {
    "README.md",
    "CITATION.cff",
    ".zenodo.json",
    "LICENSE",
    "CHANGELOG.md",
    "pictures/contact-sheet.png",
    "pictures/class-shares.png",
    "pictures/balance.png",
    "real/train-00000-of-00001.parquet",
    "synthetic/train-00000-of-00001.parquet",
    "metadata/test-00000-of-00001.parquet",
}


@pytest.fixture
def release(project: Project) -> Path:
    return project.releases / "0.1.0"


def test_the_manifest_lists_every_file_once(release: Path) -> None:
    listed = [file.path for file in manifest.read_manifest(release).files]
    there = {p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()}
    assert len(listed) == len(set(listed))
    assert set(listed) == there - manifest.UNLISTED
    assert set(listed) >= EXPECTED


@pytest.mark.parametrize(("tool", "sums"), [("sha256sum", "SHA256SUMS"), ("md5sum", "MD5SUMS")])
def test_the_usual_tools_confirm_the_sums(release: Path, tool: str, sums: str) -> None:
    done = subprocess.run(
        [tool, "--check", "--strict", sums], cwd=release, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "manifest.json: OK" in done.stdout
    assert done.stdout.count("OK") == len(manifest.read_manifest(release).files) + 1


def test_nothing_in_the_texts_names_a_place_on_this_machine(release: Path) -> None:
    texts = [p for p in release.iterdir() if p.is_file()]
    assert not [p.name for p in texts if str(release.parents[2]) in p.read_text(encoding="utf-8")]


def test_a_directory_without_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="not a release directory"):
        manifest.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArasError, match=r"manifest\.json: not readable .*package again"):
        manifest.read_manifest(tmp_path)


def test_a_manifest_that_is_read_and_written_again_keeps_its_bytes(
    release: Path, tmp_path: Path
) -> None:
    copy = copy_of(release, tmp_path)
    manifest.write_manifest(copy, manifest.read_manifest(release))
    for name in sorted(manifest.UNLISTED):
        assert (copy / name).read_bytes() == (release / name).read_bytes(), name


def test_keys_that_a_manifest_lacks_have_defaults_and_unknown_ones_are_kept(
    tmp_path: Path,
) -> None:
    value = {
        "format": 1,
        "version": "0.1.0",
        "content_sha256": "c0ffee",
        "configs": {"real": {"train": {"rows": 2, "files": ["real/train.parquet"], "later": 1}}},
        "files": [],
        "facts": {"recipe": {"release": {"repo": "org/name"}}},
        "later": {"a": None},
    }
    write_json(tmp_path / "manifest.json", value)
    read = manifest.read_manifest(tmp_path)
    assert (read.repo, read.doi, read.history) == ("org/name", None, None)
    assert read.facts.census.rows == {}
    assert read.split_files("real", "train") == ("real/train.parquet",)
    assert read.split_files("real", "test") == ()
    assert read.as_json() == {
        **value,
        "files": (),
        "configs": {"real": {"train": {"rows": 2, "files": ("real/train.parquet",), "later": 1}}},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"its format is 2, not 1"),
        ({"configs": {"real": {"train": {"rows": "many"}}}}, r"configs\.real\.train\.rows: "),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_with_the_reason(
    release: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write_json(tmp_path / "manifest.json", {**manifest.read_manifest(release).as_json(), **change})
    with pytest.raises(ArasError, match=rf"not a manifest that aras can read \({message}"):
        manifest.read_manifest(tmp_path)
