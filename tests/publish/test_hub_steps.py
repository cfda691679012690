"""What publishing does to each file of a repo follows from the two lists alone."""

import hashlib

import pytest

from builder.core.errors import ArasError
from builder.publish.hub_client import Held, git_blob
from builder.publish.hub_steps import File, Plan, lines, plan, read_release
from tests.makers.tiny_release import tiny_release


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.txt").write_text("hello\n")
    return tmp_path


def ours(folder, **sizes):
    files = {name: File(name, size, f"{name}-sha") for name, size in sizes.items()}
    small = (folder / "small.txt").read_bytes()
    text = File("small.txt", len(small), hashlib.sha256(small).hexdigest())
    return {**files, "small.txt": text}


def test_git_blob_is_what_git_hash_object_prints():
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_each_file_is_added_kept_replaced_or_removed(folder):
    theirs = {
        ".gitattributes": Held(5, None, "x"),
        "kept": Held(2, "kept-sha", "x"),
        "changed": Held(3, "other", "x"),
        "gone": Held(7, None, "x"),
        "small.txt": Held(6, None, git_blob(b"hello\n")),
    }
    made = plan(folder, ours(folder, new=1, kept=2, changed=3), theirs)
    assert [f.path for f in made.add] == ["new"]
    assert [f.path for f in made.keep] == ["kept", "small.txt"]
    assert [f.path for f in made.replace] == ["changed"]
    assert [(f.path, f.bytes) for f in made.remove] == [("gone", 7)]
    assert made.summary()["bytes"] == 4
    assert made.changes == 3


def test_a_small_file_of_the_same_length_but_other_bytes_is_replaced(folder):
    made = plan(folder, ours(folder), {"small.txt": Held(6, None, git_blob(b"hallo\n"))})
    assert [f.path for f in made.replace] == ["small.txt"]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 9])
def test_parts_of_a_plan_make_the_whole(most):
    def some(kind, n):
        return tuple(File(f"{kind}{i}", 1, "") for i in range(n))

    whole = Plan(some("add", 2), some("keep", 4), some("replace", 3), some("remove", 1))
    left, seen = whole, []
    for _ in range(7):
        part = left.first(most)
        assert part.changes == min(most, left.changes)
        seen += [f.path for f in (*part.send, *part.remove)]
        left = Plan(
            left.add[len(part.add) :],
            left.keep,
            left.replace[len(part.replace) :],
            left.remove[len(part.remove) :],
        )
    assert seen == [f.path for f in (*whole.send, *whole.remove)]


def test_a_release_is_read_with_its_checksum_files(tmp_path):
    release = tiny_release(tmp_path)
    manifest, files = read_release(release)
    assert manifest["version"] == "0.1.0"
    assert set(files) == {
        p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()
    }
    for file in files.values():
        assert hashlib.sha256((release / file.path).read_bytes()).hexdigest() == file.sha256


def test_a_manifest_of_another_format_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(ArasError, match=r"manifest.json: .*its format is 2, not 1"):
        read_release(tmp_path)


def test_long_lists_are_cut():
    assert lines("wrong:", ["a", "b", "c"], most=2) == "wrong:\n  a\n  b\n  … and 1 more"
