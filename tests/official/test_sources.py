"""Sources are found liberally, their entries told apart by path, their sums checked."""

import hashlib
import os
from pathlib import Path

import pytest

from builder.core.errors import ArasError, CorruptFile
from builder.official import sources
from builder.official.names import OFFICIAL_MD5
from builder.official.sources import Entry, Odd, Source, classify, entries, find_sources
from tests.makers.official import official

LAYOUT = official(train=1, val=1, test=1, synth=1, size=64)


def roles(paths: list[Path]) -> set[tuple[str, str | None, str]]:
    listed = [entry for source in find_sources(paths) for entry in entries(source)]
    assert not [entry for entry in listed if isinstance(entry, Odd)]
    return {(entry.role, entry.group, entry.name) for entry in listed if isinstance(entry, Entry)}


@pytest.mark.parametrize("top", ["", "ARAS400k/", "some/where/"])
def test_a_top_folder_or_none_is_the_same(tmp_path: Path, top: str) -> None:
    zips = LAYOUT.write_zips(tmp_path / "zips", top=top)
    LAYOUT.write_folder(tmp_path / "folder")
    assert roles(zips) == roles([tmp_path / "folder"])


def test_captions_are_found_inside_beside_and_one_level_up(tmp_path: Path) -> None:
    inside = LAYOUT.write_zips(tmp_path / "inside", captions="inside")
    beside = LAYOUT.write_zips(tmp_path / "beside")
    folder = LAYOUT.write_folder(tmp_path / "folder")
    for paths in (inside, beside, [folder], [folder / "test"], [tmp_path / "beside"]):
        assert any(role == "captions" for role, *_ in roles(paths))
    assert not sources.has_captions(LAYOUT.write_zips(tmp_path / "none", captions="none"))


def test_a_folder_of_zips_stands_for_them(tmp_path: Path) -> None:
    zips = LAYOUT.write_zips(tmp_path)
    assert [source.path for source in find_sources([tmp_path]) if source.kind == "zip"] == sorted(
        zips
    )


def test_a_folder_of_both_is_not_guessed_about(tmp_path: Path) -> None:
    LAYOUT.write_zips(tmp_path)
    LAYOUT.write_folder(tmp_path)
    with pytest.raises(ArasError, match="holds zips"):
        find_sources([tmp_path])


def test_a_split_without_a_folder_of_its_own_is_named_by_its_source() -> None:
    entry = classify("images/N36E032_000_001.png", "val", "")
    assert isinstance(entry, Entry)
    assert (entry.role, entry.group, entry.name) == ("image", "val", "N36E032_000_001")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../../etc/train/images/x.png", "unsafe name"),
        ("train/images/../../../x.png", "unsafe name"),
        ("/train/images/x.png", "unsafe name"),
        ("C:/train/images/x.png", "unsafe name"),
        ("..\\train\\images\\x.png", "unsafe name"),
        ("train/images/x\0.png", "unsafe name"),
        ("train/images/.x.png", "bad name"),
        ("other/images/x.png", "unknown split"),
        ("test/generated/x.png", "unknown split"),
        ("train/images/x.jpg", "not part of the layout"),
        ("train/README.txt", "not part of the layout"),
        ("__MACOSX/train/images/x.png", "not part of the layout"),
    ],
)
def test_what_is_no_part_of_the_layout_says_why(path: str, reason: str) -> None:
    entry = classify(path, None, "")
    assert isinstance(entry, Odd)
    assert entry.reason.startswith(reason)


def test_a_missing_or_strange_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for name, message in (("no.zip", "no such zip"), ("notes.txt", "not a zip")):
        with pytest.raises(ArasError, match=f"{name}: {message}"):
            find_sources([tmp_path / name])
    zips = LAYOUT.write_zips(tmp_path)
    with pytest.raises(ArasError, match="given twice"):
        find_sources([zips[0], zips[0]])


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    folder = LAYOUT.write_folder(tmp_path / "folder")
    os.symlink(folder, folder / "train" / "loop")
    assert sum(1 for _ in entries(Source(folder, "folder"))) < 1000


def test_a_changed_file_changes_the_identity_of_its_source(tmp_path: Path) -> None:
    folder = LAYOUT.write_folder(tmp_path / "folder")
    source = Source(folder, "folder")
    before = sources.identity(source)
    assert sources.identity(source) == before
    (folder / "train" / "images" / "new.png").write_bytes(b"x")
    assert sources.identity(source) != before


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_sums_are_taken_from_the_caller_then_from_beside_then_from_the_record(
    tmp_path: Path,
) -> None:
    path = tmp_path / "train.zip"
    assert sources.expected_md5(path, {}) == (OFFICIAL_MD5["train.zip"], "record 18890661")
    (tmp_path / "MD5SUMS").write_text("0123  train.zip\n4567  val.zip\n")
    assert sources.expected_md5(path, {}) == ("0123", "MD5SUMS beside it")
    assert sources.expected_md5(path, {"train.zip": "ABCD"}) == ("abcd", "given")
    assert sources.expected_md5(path, {"train.zip": "any"}) is None
    assert sources.expected_md5(tmp_path / "mine.zip", {}) is None


def test_a_zip_that_is_not_the_official_one_is_refused_with_both_sums(tmp_path: Path) -> None:
    path = LAYOUT.write_zips(tmp_path)[0]
    source = Source(path, "zip")
    with pytest.raises(CorruptFile) as error:
        sources.verify([source], {}, {})
    for part in (md5(path), OFFICIAL_MD5[path.name], "18890661", "--md5 train.zip="):
        assert part in str(error.value)
    assert sources.verify([source], {path.name: md5(path)}, {})[str(path)][1] == md5(path)


def test_a_zip_that_was_checked_before_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = LAYOUT.write_zips(tmp_path)[0]
    source, given = Source(path, "zip"), {path.name: md5(path)}
    known = sources.verify([source], given, {})
    read: list[Path] = []
    monkeypatch.setattr(
        sources, "hash_file", lambda path, *_, **__: read.append(path) or {"md5": "other"}
    )
    assert sources.verify([source], given, known) == known
    assert not read
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorruptFile):
        sources.verify([source], given, known)


def test_a_sum_for_a_zip_that_is_not_imported_is_an_error(tmp_path: Path) -> None:
    path = LAYOUT.write_zips(tmp_path)[0]
    with pytest.raises(ArasError, match=r"typo\.zip, which is not among the zips"):
        sources.verify([Source(path, "zip")], {"typo.zip": "0" * 32}, {})
