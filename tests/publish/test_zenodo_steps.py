"""Each step on a Zenodo record comes to one end, even when its answer is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.errors import ArasError, CorruptFile, WorkFailed
from builder.publish.zenodo_record import ROUNDS
from builder.publish.zenodo_steps import ZenodoJournal
from tests.loopback.zenodo import Fault, LoopbackZenodo
from tests.makers.zenodo_publisher import TOKEN, Publisher, assert_ended_well, held
from tests.makers.zenodo_release import make_release, write_cards

CREATE = "/deposit/depositions$"
SHARD = "real/train-00001-of-00002.parquet"


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with LoopbackZenodo(TOKEN) as server:
        yield Publisher(server, tmp_path)


@pytest.mark.parametrize("action", ["drop-done", "504-done"])
def test_a_draft_whose_answer_was_lost_is_found_not_made_again(
    publisher: Publisher, action: str
) -> None:
    release = make_release(publisher.root)
    publisher.server.faults = [Fault("POST", CREATE, action)]
    publisher.publish(release)
    assert publisher.server.counted("POST", CREATE) == 1
    assert_ended_well(publisher, release)


def test_a_draft_is_in_the_journal_before_anything_is_done_with_it(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.server.faults = [Fault("POST", "pids/doi$", "404")]
    with pytest.raises(WorkFailed, match="404"):
        publisher.draft(release)
    [draft] = publisher.server.drafts()
    assert ZenodoJournal.load(release, publisher.server.url).records["main"].id == str(draft.id)


def test_a_death_between_create_and_its_answer_leaves_one_draft(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    server = publisher.server
    # The answer is lost and no search works any more: the run ends not knowing.
    server.faults = [
        Fault("POST", CREATE, "drop-done"),
        Fault("GET", CREATE, "502", nth=tuple(range(1, 7))),  # after the look at the token
    ]
    with pytest.raises(WorkFailed, match="502"):
        publisher.draft(release)
    publisher.publish(release)
    assert server.counted("POST", CREATE) == 1
    assert_ended_well(publisher, release)


def test_a_draft_that_the_search_shows_too_late_is_swept_away(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.server.faults = [Fault("POST", CREATE, "drop-done")]
    publisher.server.index_lag = 6  # every look after the lost answer comes too early
    publisher.draft(release)
    assert publisher.server.counted("POST", CREATE) == 2
    publisher.finish(release)
    assert_ended_well(publisher, release)


def test_a_reserved_doi_that_a_metadata_update_drops_is_reserved_again(
    publisher: Publisher,
) -> None:
    publisher.server.put_drops_doi = True
    release = make_release(publisher.root)
    publisher.publish(release)
    assert publisher.server.counted("POST", "pids/doi") == 2
    assert_ended_well(publisher, release)


def test_a_shard_that_changes_under_the_upload_is_named(publisher: Publisher) -> None:
    release = make_release(publisher.root)

    def rendered_late(path: Path, **dois: str | None) -> None:
        write_cards(path, **dois)
        shard = path / SHARD
        shard.write_bytes(b"?" * shard.stat().st_size)
        # The manifest still tells the old digest, as when another program writes the shard.

    with pytest.raises(CorruptFile, match=r"real/train-00001.*no longer the manifest's"):
        publisher.draft(release, render=rendered_late)


def test_what_zenodo_finds_wrong_at_publishing_is_told(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release)
    [draft] = publisher.server.drafts()
    del draft.metadata["creators"]
    with pytest.raises(WorkFailed, match=r"metadata\.creators: Missing data"):
        publisher.finish(release)
    publisher.publish(release)
    assert_ended_well(publisher, release)


def test_a_file_that_always_arrives_damaged_stops_the_draft(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.server.faults = [Fault("PUT", "LICENSE", "corrupt", nth=tuple(range(ROUNDS)))]
    with pytest.raises(WorkFailed, match=rf"LICENSE arrived damaged {ROUNDS} times"):
        publisher.draft(release)
    with pytest.raises(ArasError, match=r"is not complete.*First `aras publish zenodo "):
        publisher.finish(release)
    publisher.publish(release)
    assert_ended_well(publisher, release)


def test_publishing_is_asked_for_again_only_after_a_look(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release)
    publisher.server.faults = [Fault("POST", "publish$", "502", nth=tuple(range(ROUNDS)))]
    begin = len(publisher.server.log)
    with pytest.raises(WorkFailed, match="still not published"):
        publisher.finish(release)
    methods = [request.method for request in publisher.server.log[begin:]]
    asked = [i for i, method in enumerate(methods) if method == "POST"]
    assert len(asked) == ROUNDS
    assert all(methods[i - 1] == methods[i + 1] == "GET" for i in asked)
    publisher.finish(release)
    assert_ended_well(publisher, release)


def test_files_that_cannot_be_taken_over_are_sent(publisher: Publisher) -> None:
    publisher.publish(make_release(publisher.root))
    release = make_release(publisher.root, "0.2.0")
    publisher.server.faults = [Fault("POST", "files-import$", "404")]
    outcome = publisher.draft(release)
    assert outcome["records"]["main"]["kept"] == 0
    publisher.finish(release)
    assert {"main": held(publisher.server, "0.2.0")} == publisher.expected(release)
