"""What publishing to Zenodo remembers beside a release."""

import json
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.publish.journal import alone, concept_beside, kind_of, load_journal, save_journal
from builder.publish.zenodo_client import PRODUCTION, SANDBOX
from builder.release.published import record_publication


@pytest.fixture
def release(tmp_path: Path) -> Path:
    path = tmp_path / "release" / "0.2.0"
    path.mkdir(parents=True)
    return path


def facts(url: str, concept: str, record: str, doi: str = "10.1/x") -> dict:
    main = {"id": record, "conceptrecid": concept, "doi": doi}
    return {"destination": url, "doi": doi, "records": {"main": main}}


def test_each_server_has_a_journal_of_its_own(release: Path) -> None:
    entry = load_journal(release, SANDBOX)
    assert entry["state"] == "draft"
    entry["records"]["main"] = {"id": "7"}
    save_journal(release, SANDBOX, entry)
    assert load_journal(release, SANDBOX)["records"] == {"main": {"id": "7"}}
    assert load_journal(release, PRODUCTION)["records"] == {}
    assert list(release.iterdir()) == [], "the release itself stays as it was packaged"


def test_a_damaged_journal_stops_instead_of_starting_over(release: Path) -> None:
    save_journal(release, SANDBOX, load_journal(release, SANDBOX))
    [path] = (release.parent / ".publish").iterdir()
    path.write_text('{"records": ')
    with pytest.raises(ArasError, match=rf"{path.name}.*restore it"):
        load_journal(release, SANDBOX)


def test_publications_of_every_kind_and_place_stand_side_by_side(release: Path) -> None:
    path = release.parent / "0.2.0.published.json"
    hub = {"kind": "hub", "destination": "org/name", "commit": "abc"}
    path.write_text(json.dumps({"format": 1, "publications": [hub]}))
    record_publication(release, kind_of(SANDBOX), facts(SANDBOX, "1", "2"))
    record_publication(release, kind_of(PRODUCTION), facts(PRODUCTION, "3", "4", "10.1/old"))
    record_publication(release, kind_of(PRODUCTION), facts(PRODUCTION, "3", "4", "10.1/new"))
    told = json.loads(path.read_text())["publications"]
    assert told[0] == hub
    assert [(x["kind"], x.get("doi")) for x in told[1:]] == [
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
        other = release.with_name(version)
        record_publication(other, kind_of(url), facts(url, concept, record))
    assert concept_beside(release, PRODUCTION, "main") == "40"
    assert concept_beside(release, PRODUCTION, "synthetic") is None


def test_a_release_is_published_by_one_process_at_a_time(release: Path) -> None:
    with (
        alone(release),
        pytest.raises(ArasError, match="another aras is publishing"),
        alone(release),
    ):
        pass
    with alone(release):
        pass


def test_what_is_no_folder_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="no such release"), alone(tmp_path / "absent"):
        pass
