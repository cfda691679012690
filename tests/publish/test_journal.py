"""The journal survives interruptions; publications are listed once per destination."""

import pytest

from builder.core import files
from builder.core.errors import ArasError
from builder.publish import journal
from builder.release import published


def test_a_journal_is_read_back_by_the_next_run(tmp_path):
    release = tmp_path / "0.1.0"
    first = journal.open_journal(release, "hub", "https://hub/org/name", {"content": "a"})
    first.add_uploaded("real/a.parquet", sha256="00")
    first.set(commit="c1")

    again = journal.open_journal(release, "hub", "https://hub/org/name", {"content": "a"})
    assert again.uploaded("real/a.parquet") == {"sha256": "00"}
    assert again.facts["commit"] == "c1"
    again.set(commit=None)
    assert "commit" not in files.read_json(again.path)


def test_destinations_and_contents_do_not_share_a_journal(tmp_path):
    release = tmp_path / "0.1.0"
    journal.open_journal(release, "hub", "here", {"content": "a"}).add_uploaded("x", sha256="00")

    assert journal.open_journal(release, "hub", "there", {"content": "a"}).uploaded("x") is None
    assert journal.open_journal(release, "zenodo", "here", {"content": "a"}).uploaded("x") is None
    assert journal.open_journal(release, "hub", "here", {"content": "b"}).uploaded("x") is None


def test_the_journal_lies_beside_the_release_not_in_it(tmp_path):
    release = tmp_path / "0.1.0"
    release.mkdir()
    journal.open_journal(release, "hub", "here", {}).set(commit="c1")
    published.record_publication(release, "hub", {"destination": "here"})
    assert list(release.iterdir()) == []


def test_a_publication_replaces_the_one_at_the_same_place(tmp_path):
    release = tmp_path / "0.1.0"
    assert published.publications(release) == []
    published.record_publication(release, "hub", {"destination": "here", "commit": "c1"})
    published.record_publication(release, "zenodo", {"destination": "here", "doi": "10.1/1"})
    published.record_publication(release, "hub", {"destination": "here", "commit": "c2"})
    assert published.publications(release) == [
        {"kind": "zenodo", "destination": "here", "doi": "10.1/1"},
        {"kind": "hub", "destination": "here", "commit": "c2"},
    ]


def test_a_damaged_file_is_named_not_overwritten(tmp_path):
    release = tmp_path / "0.1.0"
    published.published_path(release).write_text("{")
    with pytest.raises(ArasError, match=r"0\.1\.0\.published\.json is damaged"):
        published.record_publication(release, "hub", {"destination": "here"})
    assert published.published_path(release).read_text() == "{"

    path = journal.open_journal(release, "hub", "here", {}).path
    path.parent.mkdir()
    path.write_text("[]")
    with pytest.raises(ArasError, match="not a JSON object"):
        journal.open_journal(release, "hub", "here", {})
