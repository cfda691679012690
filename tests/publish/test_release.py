"""What publishing does to each file of a destination follows from the two lists alone."""

import hashlib

import pytest

from builder.core.errors import ArasError
from builder.publish.hub_client import Held, git_blob
from builder.publish.release import File, Plan, Removal, compare, lines, read_release
from tests.makers.tiny_release import tiny_release


def file_of(name, content, sha256=None):
    return File(name, len(content), sha256 or hashlib.sha256(content).hexdigest(), "", content)


SMALL = file_of("small.txt", b"hello\n")


def test_git_blob_is_what_git_hash_object_prints():
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_each_file_is_added_kept_replaced_or_removed():
    ours = [file_of(name, b"xyz", f"{name}-sha") for name in ("new", "kept", "changed")]
    theirs = {
        "kept": Held(3, "kept-sha", "x"),
        "changed": Held(3, "other", "x"),
        "gone": Held(7, None, "x"),
        "small.txt": Held(6, None, git_blob(b"hello\n")),
    }
    plan = compare([*ours, SMALL], theirs)
    assert [file.name for file in plan.add] == ["new"]
    assert [file.name for file in plan.keep] == ["kept", "small.txt"]
    assert [file.name for file in plan.replace] == ["changed"]
    assert plan.remove == (Removal("gone", 7),)
    assert plan.send_bytes == 6
    assert plan.changed == ["new", "changed", "gone"]


def test_a_small_file_of_the_same_length_but_other_bytes_is_replaced():
    plan = compare([SMALL], {"small.txt": Held(6, None, git_blob(b"hallo\n"))})
    assert plan.replace == (SMALL,)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 9])
def test_parts_of_a_plan_make_the_whole(most):
    def some(kind, n):
        return tuple(file_of(f"{kind}{i}", b"x") for i in range(n))

    whole = Plan(some("add", 2), some("keep", 4), some("replace", 3), (Removal("gone", 1),))
    left, seen = whole, []
    for _ in range(7):
        part = left.first(most)
        assert len(part.changed) == min(most, len(left.changed))
        seen += part.changed
        left = Plan(
            left.add[len(part.add) :],
            left.keep,
            left.replace[len(part.replace) :],
            left.remove[len(part.remove) :],
        )
    assert seen == whole.changed


def test_a_release_is_read_with_its_checksum_files(tmp_path):
    release = read_release(tiny_release(tmp_path))
    assert release.version == "0.1.0"
    paths = (path for path in release.path.rglob("*") if path.is_file())
    assert set(release.files) == {path.relative_to(release.path).as_posix() for path in paths}
    for file in release.files.values():
        assert hashlib.sha256(file.read()).hexdigest() == file.sha256
        assert hashlib.md5(file.read()).hexdigest() == file.md5


def test_a_manifest_of_another_format_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(ArasError, match=r"manifest.json: .*its format is 2, not 1"):
        read_release(tmp_path)


def test_long_lists_are_cut():
    assert lines("wrong:", ["a", "b", "c"], most=2) == "wrong:\n  a\n  b\n  … and 1 more"
