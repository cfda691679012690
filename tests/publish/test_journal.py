"""Journals survive interruptions; publications are listed once per destination."""

import json
from pathlib import Path

import pytest

from builder.core import files
from builder.core.errors import ArasError
from builder.publish.journal import Journal, alone
from builder.publish.release import File
from builder.publish.zenodo_client import PRODUCTION, SANDBOX
from builder.publish.zenodo_plan import Limits, Record
from builder.publish.zenodo_steps import ZenodoJournal, concept_beside, kind_of
from builder.release.published import (
    Publication,
    PublishedRecord,
    publications,
    published_path,
    record_publication,
)

SHARD = File("real/a.parquet", 3, "00", "11", b"abc")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    path = tmp_path / "release" / "0.2.0"
    path.mkdir(parents=True)
    return path


def test_a_journal_is_read_back_by_the_next_run(release: Path) -> None:
    first = Journal(release, "hub", "https://hub/org/name", "a")
    first.add(SHARD)
    first.counted = "c1"

    again = Journal(release, "hub", "https://hub/org/name", "a")
    assert again.has(SHARD)
    assert not again.has(File(SHARD.name, 3, "other bytes", "11", b"abd"))
    assert again.counted == "c1"
    again.forget_files()
    assert not Journal(release, "hub", "https://hub/org/name", "a").has(SHARD)


def test_a_journal_of_an_earlier_version_of_aras_is_read_and_written_alike(release: Path) -> None:
    journal = Journal(release, "hub", "here", "a")
    old = {
        "identity": {"format": 1, "kind": "hub", "destination": "here", "content_sha256": "a"},
        "uploaded": {SHARD.name: {"bytes": 3, "sha256": "00"}},
        "counted": "c1",
    }
    files.write_json(journal.path, old)
    text = journal.path.read_text()
    assert Journal(release, "hub", "here", "a").has(SHARD)
    again = Journal(release, "hub", "here", "a")
    again.add(SHARD)
    assert journal.path.read_text() == text


def test_destinations_and_contents_do_not_share_a_journal(release: Path) -> None:
    Journal(release, "hub", "here", "a").add(SHARD)
    for target, destination, content in (
        ("hub", "there", "a"),
        ("zenodo", "here", "a"),
        ("hub", "here", "b"),
    ):
        assert not Journal(release, target, destination, content).has(SHARD)


def test_the_journal_lies_beside_the_release_not_in_it(release: Path) -> None:
    Journal(release, "hub", "here", "a").add(SHARD)
    ZenodoJournal(release, SANDBOX).save()
    record_publication(release, Publication(kind="hub", destination="here"))
    assert list(release.iterdir()) == []


def test_a_publication_replaces_the_one_at_the_same_place(release: Path) -> None:
    assert publications(release) == []
    record_publication(release, Publication(kind="hub", destination="here", commit="c1"))
    record_publication(release, Publication(kind="zenodo", destination="here", doi="10.1/1"))
    record_publication(release, Publication(kind="hub", destination="here", commit="c2"))
    assert publications(release) == [
        Publication(kind="zenodo", destination="here", doi="10.1/1"),
        Publication(kind="hub", destination="here", commit="c2"),
    ]


def test_a_damaged_file_is_named_not_overwritten(release: Path) -> None:
    published_path(release).write_text("{")
    with pytest.raises(ArasError, match=r"0\.2\.0\.published\.json is damaged"):
        record_publication(release, Publication(kind="hub", destination="here"))
    assert published_path(release).read_text() == "{"

    path = Journal(release, "hub", "here", "a").path
    path.parent.mkdir()
    path.write_text("[]")
    with pytest.raises(ArasError, match="not a JSON object"):
        Journal(release, "hub", "here", "a")


def test_each_zenodo_server_has_a_journal_of_its_own(release: Path) -> None:
    journal = ZenodoJournal.load(release, SANDBOX)
    assert journal.state == "draft"
    journal.records["main"] = Record(id="7")
    journal.save()
    assert ZenodoJournal.load(release, SANDBOX).records == {"main": Record(id="7")}
    assert ZenodoJournal.load(release, PRODUCTION).records == {}
    assert list(release.iterdir()) == [], "the release itself does not change"


def test_a_zenodo_journal_of_an_earlier_version_of_aras_is_written_alike(release: Path) -> None:
    main = {
        **{"marker": "aras1f", "doubtful": True, "id": "7"},
        "previous": {"id": "5", "doi": "10.5072/zenodo.5"},
        **{"doi": "10.5072/zenodo.7", "conceptrecid": "4", "concept_doi": "10.5072/zenodo.4"},
        **{"html": f"{SANDBOX}/deposit/7", "bucket": f"{SANDBOX}/api/files/b"},
        **{"files": 12, "bytes": 3456},
    }
    old = {
        **{"format": 1, "destination": SANDBOX, "state": "ready", "content_sha256": "c0ffee"},
        **{"records": {"main": main}, "limits": {"files": 200, "bytes": 50_000_000_000}},
    }
    ZenodoJournal(release, SANDBOX).save()
    [path] = (release.parent / ".publish").iterdir()
    files.write_json(path, old)
    text = path.read_text()
    journal = ZenodoJournal.load(release, SANDBOX)
    assert journal.limits == Limits(files=200)
    assert journal.records["main"].previous_doi == "10.5072/zenodo.5"
    journal.save()
    assert path.read_text() == text


def test_a_damaged_zenodo_journal_stops_instead_of_starting_over(release: Path) -> None:
    ZenodoJournal(release, SANDBOX).save()
    [path] = (release.parent / ".publish").iterdir()
    path.write_text('{"records": ')
    with pytest.raises(ArasError, match=rf"{path.name}.*restore it"):
        ZenodoJournal.load(release, SANDBOX)


def on_zenodo(url: str, concept: str, record: str, doi: str = "10.1/x") -> Publication:
    main = PublishedRecord(id=record, conceptrecid=concept, doi=doi)
    return Publication(kind=kind_of(url), destination=url, doi=doi, records={"main": main})


def test_publications_of_every_kind_and_place_stand_side_by_side(release: Path) -> None:
    hub = {"kind": "hub", "destination": "org/name", "commit": "abc"}
    path = published_path(release)
    path.write_text(json.dumps({"format": 1, "publications": [hub]}))
    record_publication(release, on_zenodo(SANDBOX, "1", "2"))
    record_publication(release, on_zenodo(PRODUCTION, "3", "4", "10.1/old"))
    record_publication(release, on_zenodo(PRODUCTION, "3", "4", "10.1/new"))
    entries = json.loads(path.read_text())["publications"]
    assert entries[0] == hub
    assert [(entry["kind"], entry.get("doi")) for entry in entries[1:]] == [
        ("zenodo-sandbox", "10.1/x"),
        ("zenodo", "10.1/new"),
    ]


def test_the_newest_other_version_on_the_same_server_tells_the_concept(release: Path) -> None:
    assert concept_beside(release, PRODUCTION, "main") is None
    for version, url, concept, record in (
        ("0.0.9", PRODUCTION, "30", "31"),
        ("0.1.0", PRODUCTION, "40", "410"),
        ("0.1.1", SANDBOX, "50", "510"),
        ("0.2.0", PRODUCTION, "60", "610"),
    ):
        record_publication(release.with_name(version), on_zenodo(url, concept, record))
    assert concept_beside(release, PRODUCTION, "main") == "40"
    assert concept_beside(release, PRODUCTION, "synthetic") is None


def test_a_release_is_published_by_one_process_at_a_time(release: Path) -> None:
    with (
        alone(release),
        pytest.raises(ArasError, match="another aras command is publishing"),
        alone(release),
    ):
        pass
    with alone(release):
        pass


def test_what_is_not_a_folder_is_not_a_release(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="no such release"), alone(tmp_path / "absent"):
        pass
