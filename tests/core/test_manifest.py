"""The release directory: what its manifest lists, and sums that other tools can check."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core import budgets, manifest
from builder.core.errors import ArasError
from builder.core.files import write_json
from builder.pipeline.project import Project
from tests.makers.damage import copy_of
from tests.makers.fuzz import tries

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


MINIMAL = {
    "format": 1, "version": "0.1.0", "content_sha256": "", "configs": {}, "files": [], "facts": {},
}  # fmt: skip
OUTSIDE = ["/etc/passwd", "../a", "real/../../a", "C:/a", "c:a", "real\\a", "a\0b", "", ".", "a//b"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leaves_the_release_is_refused_wherever_it_stands(
    tmp_path: Path, path: str
) -> None:
    file = {"path": path, "bytes": 1, "sha256": ""}
    part = {"real": {"train": {"rows": 1, "files": [path]}}}
    subset = {path: {"rows": 1, "digest": ""}}
    for change in ({"files": [file]}, {"configs": part}, {"subsets": subset}):
        write_json(tmp_path / "manifest.json", {**MINIMAL, **change})
        with pytest.raises(ArasError, match="does not lead to a file of the release"):
            manifest.read_manifest(tmp_path)


@pytest.mark.parametrize("path", ["linked.txt", "linked/secret.txt"])
def test_a_link_that_leaves_the_release_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    release = tmp_path / "release"
    release.mkdir()
    (release / "linked").symlink_to(tmp_path)
    (release / "linked.txt").symlink_to(tmp_path / "secret.txt")
    file = {"path": path, "bytes": 6, "sha256": ""}
    write_json(release / "manifest.json", {**MINIMAL, "files": [file]})
    with pytest.raises(ArasError, match=r"a link to .*secret\.txt, outside the release"):
        manifest.read_manifest(release)


def test_a_snapshot_in_the_cache_of_huggingface_hub_is_read_through_its_links(
    tmp_path: Path,
) -> None:
    release, blob = tmp_path / "snapshots" / "c0ffee", tmp_path / "blobs" / "b10b"
    release.mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_text("text")
    (release / "a.txt").symlink_to(blob)
    file = {"path": "a.txt", "bytes": 4, "sha256": ""}
    write_json(release / "manifest.json", {**MINIMAL, "files": [file]})
    assert manifest.read_manifest(release).files[0].path == "a.txt"


HOSTILE = {
    "depth": b"[" * 1_000_000,
    "digits": b'{"format": ' + b"9" * 1_000_000 + b"}",
    "size": b" " * (budgets.JSON_BYTES + 1),
    "encoding": b"\xff\xfe{}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_that_would_cost_more_than_it_may_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "manifest.json").write_bytes(HOSTILE[kind])
    with pytest.raises(ArasError, match="not readable"):
        manifest.read_manifest(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@tries(300)
@given(st.data())
def test_whatever_a_manifest_holds_it_is_read_or_refused(data: st.DataObject) -> None:
    names = sorted(manifest.Manifest.model_fields)
    value = MINIMAL | data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=3))
    text = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + 1] = data.draw(st.binary(max_size=4))
    try:
        read = manifest.parse_manifest(bytes(text), "manifest.json")
    except ArasError:
        return
    assert manifest.parse_manifest(json.dumps(read.as_json()).encode(), "again") == read
