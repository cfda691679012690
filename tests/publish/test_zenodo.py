"""Publishing to Zenodo ends with one right version, whatever goes wrong on the way."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.core.errors import ArasError, WorkFailed
from builder.publish.zenodo_plan import Limits, read_flat, record_files
from tests.loopback.zenodo import Fault, LoopbackZenodo
from tests.makers.zenodo_publisher import (
    TOKEN,
    Publisher,
    assert_ended_well,
    assert_holds_what_it_must,
    assert_nothing_sent_twice,
    facts,
    held,
)
from tests.makers.zenodo_release import SHARDS, make_release, write_cards

CHANGED, REMOVED = "real/train-00001-of-00002.parquet", "real/test-00000-of-00001.parquet"
SHARDS_2 = {
    **{name: content for name, content in SHARDS.items() if name != REMOVED},
    CHANGED: b"real train 1, mended" * 450,
}


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with LoopbackZenodo(TOKEN) as server:
        yield Publisher(server, tmp_path)


# Where a case begins: each returns the release to publish.


def fresh(publisher: Publisher, early: list[Fault]) -> Path:
    publisher.server.faults += early
    return make_release(publisher.root)


def interrupted(publisher: Publisher, early: list[Fault]) -> Path:
    release = make_release(publisher.root)
    outage = Fault("PUT", "real-train-00000", "502", nth=tuple(range(6)))
    publisher.server.faults += [*early, outage]
    with pytest.raises(WorkFailed, match="502"):
        publisher.draft(release)
    [draft] = publisher.server.drafts()
    assert "LICENSE" in draft.files
    return release


def next_version(publisher: Publisher, early: list[Fault]) -> Path:
    publisher.publish(make_release(publisher.root))
    publisher.server.faults += early
    return make_release(publisher.root, "0.2.0", SHARDS_2)


def divided(publisher: Publisher, early: list[Fault]) -> Path:
    """Two records, and the second one's draft was interrupted."""
    publisher.limits = Limits(files=14)
    publisher.server.faults += early
    release = make_release(publisher.root)
    publisher.server.faults.append(Fault("PUT", "synthetic-train", "502", nth=tuple(range(6))))
    with pytest.raises(WorkFailed, match="502"):
        publisher.draft(release)
    return release


SHARD = r"/api/files/.*(real-train-00001|synthetic-train)"
DEPOSIT = r"/deposit/depositions/\d+$"
CREATE = r"(/deposit/depositions|/versions)$"


@dataclass
class Case:
    """Faults from the start (``early``) or from the case's own step on, and what the user sees."""

    rules: tuple[tuple[str, str, str], ...] = ()
    early: tuple[tuple[str, str, str], ...] = ()
    breaks: Callable[[LoopbackZenodo], None] = lambda server: None
    error: str | None = None


def _set(**values: object) -> Callable[[LoopbackZenodo], None]:
    return lambda server: [setattr(server, k, v) for k, v in values.items()] and None


SOUND = _set(quota=50_000_000_000, max_files=100, token=TOKEN, forgets=set())

CASES = {
    "dropped mid-upload": Case(rules=(("PUT", SHARD, "drop"),)),
    "wrong md5": Case(rules=(("PUT", SHARD, "corrupt"),)),
    "429": Case(
        rules=(("PUT", SHARD, "429"), ("GET", DEPOSIT, "429"), ("POST", "publish$", "429")),
        early=(("POST", CREATE, "429"),),
    ),
    "502": Case(
        rules=(("PUT", SHARD, "502"), ("PUT", DEPOSIT, "502"), ("POST", "publish$", "502")),
        early=(("POST", CREATE, "502"),),
    ),
    "upload stored, answer lost": Case(rules=(("PUT", SHARD, "drop-done"),)),
    "504 but published": Case(rules=(("POST", "publish$", "504-done"),)),
    "published, answer lost": Case(rules=(("POST", "publish$", "drop-done"),)),
    "lost answer to create": Case(early=(("POST", CREATE, "drop-done"),)),
    "504 but created": Case(early=(("POST", CREATE, "504-done"),)),
    "quota": Case(breaks=_set(quota=3_000), error=r"Bucket quota exceeded"),
    "101 files": Case(breaks=_set(max_files=3), error="max amount per record"),
    "bad token": Case(breaks=_set(token="another"), error="refused the token"),
    "token revoked mid-upload": Case(rules=(("PUT", SHARD, "403"),), error="refused the token"),
    "metadata dropped": Case(
        breaks=_set(forgets={"references"}), error=r"references: sent \[.A work.*stored null"
    ),
}  # fmt: skip


@pytest.mark.parametrize("start", [fresh, interrupted, next_version, divided])
@pytest.mark.parametrize("name", CASES)
def test_one_right_version_is_published(
    publisher: Publisher, name: str, start: Callable[[Publisher, list[Fault]], Path]
) -> None:
    case, server = CASES[name], publisher.server
    release = start(publisher, [Fault(*rule) for rule in case.early])
    server.faults += [Fault(*rule) for rule in case.rules]
    case.breaks(server)
    if case.error:
        with pytest.raises(ArasError, match=case.error):
            publisher.publish(release)
        assert [x for x in server.published() if x.metadata.get("version") == release.name] == []
        SOUND(server)
    publisher.publish(release)
    assert all(fault.struck for fault in server.faults), "the fault never struck"
    assert_holds_what_it_must(publisher, release)
    if start is not divided:
        assert_ended_well(publisher, release)


def test_a_101st_file_is_refused_by_zenodo_and_sent_once_it_is_allowed(
    publisher: Publisher,
) -> None:
    """The real limit. ("101 files" above is the same answer at a fourth file, in every start.)"""
    names = [f"real/train-{i:05d}-of-00091.parquet" for i in range(91)]
    release = make_release(publisher.root, shards={name: name.encode() for name in names})
    granted = Limits(files=1000)
    assert len(record_files(read_flat(release))) == 101
    with pytest.raises(ArasError, match=r"101 files of at most 100"):
        publisher.draft(release)
    assert publisher.server.log == []

    with pytest.raises(WorkFailed, match=r"result in 101 files but only 100 is the max amount"):
        publisher.draft(release, limits=granted)
    assert publisher.server.published() == []
    publisher.server.max_files = 1000
    publisher.draft(release, limits=granted)
    publisher.finish(release)
    assert_ended_well(publisher, release)


def test_a_new_version_sends_what_changed_and_drops_what_is_gone(publisher: Publisher) -> None:
    release = next_version(publisher, [])
    before = len(publisher.server.log)
    record = publisher.publish(release)
    sent = {request.name for request in publisher.server.log[before:] if request.name}
    assert "real-train-00001-of-00002.parquet" in sent
    assert not any("train-00000" in name for name in sent)
    assert "real-test-00000-of-00001.parquet" not in held(publisher.server, "0.2.0")
    first, second = publisher.server.published()
    assert first.concept == second.concept
    assert record["concept_doi"] == facts(release.with_name("0.1.0"))["concept_doi"]
    assert record["doi"] != facts(release.with_name("0.1.0"))["doi"]


def test_a_data_set_published_by_other_means_is_followed(publisher: Publisher) -> None:
    elsewhere = make_release(publisher.root / "elsewhere")
    old = publisher.publish(elsewhere)
    release = make_release(publisher.root, "0.2.0", SHARDS_2)
    concept = old["concept_doi"].rpartition(".")[2]
    publisher.draft(release, follows=concept)
    record = publisher.finish(release)
    assert record["concept_doi"] == old["concept_doi"]
    assert_ended_well(publisher, release)


def test_it_stops_for_review_with_everything_in_one_draft(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    outcome = publisher.draft(release)
    server = publisher.server
    [draft] = server.drafts()
    assert server.published() == []
    held_now = {name: content for name, (_, content) in draft.files.items()}
    assert {"main": held_now} == publisher.expected(release)
    assert outcome["records"]["main"]["html"] == f"{server.url}/deposit/{draft.id}"
    assert server.counted("POST", "publish") == 0
    assert not (release.parent / "0.1.0.published.json").exists()


def test_the_cards_on_zenodo_tell_both_dois_and_the_checksums_are_theirs(
    publisher: Publisher,
) -> None:
    release = make_release(publisher.root)
    record = publisher.publish(release)
    files = held(publisher.server, "0.1.0")
    for name in ("README.md", "CITATION.cff", "croissant.json"):
        assert record["doi"] in files[name].decode()
        assert record["concept_doi"] in files[name].decode()
    listed = dict(reversed(line.split("  ")) for line in files["MD5SUMS"].decode().splitlines())
    hashed = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    assert listed == {name: md5 for name, md5 in hashed.items() if not name.endswith("SUMS")}


def test_running_again_sends_nothing(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release)
    outcome = publisher.draft(release)
    assert outcome["records"]["main"]["sent"] == 0
    published = publisher.finish(release)
    assert publisher.draft(release)["state"] == "published"
    assert publisher.finish(release) == published
    assert publisher.server.counted("POST", "publish") == 1
    assert_ended_well(publisher, release)


def test_a_draft_deleted_by_its_reviewer_is_made_anew(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release)
    publisher.server.deposits.clear()
    with pytest.raises(WorkFailed, match="is gone"):
        publisher.finish(release)
    publisher.publish(release)
    assert_ended_well(publisher, release)


def test_what_was_published_by_hand_is_recorded(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release)
    [draft] = publisher.server.drafts()
    publisher.server.publish(draft)
    with pytest.raises(ArasError, match="--finish to record it"):
        publisher.draft(release)
    publisher.finish(release)
    assert publisher.server.counted("POST", "publish$") == 0
    assert_ended_well(publisher, release)


def test_a_release_packaged_again_is_not_published_from_its_old_draft(
    publisher: Publisher,
) -> None:
    publisher.draft(make_release(publisher.root))
    release = make_release(publisher.root, shards=SHARDS_2)
    with pytest.raises(
        WorkFailed,
        match=r"real-train-00001.*\n.*update the draft: `aras publish zenodo .*0\.1\.0 --url http",
    ):
        publisher.finish(release)
    assert publisher.server.published() == []
    publisher.publish(release)
    assert_ended_well(publisher, release)


def test_a_draft_changed_by_another_hand_is_not_published(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release)
    [draft] = publisher.server.drafts()
    draft.files["extra.txt"] = ("file-1", b"not ours")
    with pytest.raises(WorkFailed, match=r"extra\.txt: not part of the release"):
        publisher.finish(release)
    outcome = publisher.draft(release)
    assert outcome["records"]["main"]["removed"] == 1
    publisher.finish(release)
    assert_ended_well(publisher, release)


def test_over_the_limits_real_and_synthetic_are_two_records_that_point_at_each_other(
    publisher: Publisher,
) -> None:
    release = make_release(publisher.root)
    whole = sum(file.size for file in record_files(read_flat(release)))
    publisher.draft(release, limits=Limits(bytes=whole - 1))
    outcome = publisher.finish(release)
    records = {str(deposit.id): deposit for deposit in publisher.server.published()}
    assert len(records) == 2
    main, synthetic = (records[outcome["records"][role]["id"]] for role in ("main", "synthetic"))
    there = {
        role: {name: content for name, (_, content) in deposit.files.items()}
        for role, deposit in (("main", main), ("synthetic", synthetic))
    }
    assert there == publisher.expected(release)
    for deposit, twin in ((main, synthetic), (synthetic, main)):
        card = deposit.files["README.md"][1].decode()
        assert f"README.md: {deposit.doi}, all versions 10.5072/zenodo.{deposit.concept};" in card
        assert card.endswith(f" {twin.doi}\n")
    assert f"; {synthetic.doi} " in (release / "README.md").read_text()
    assert "synthetic-train-00000-of-00001.parquet" in synthetic.files
    assert not any(name.startswith("synthetic-") for name in main.files)
    links = [deposit.metadata["related_identifiers"][-1] for deposit in (main, synthetic)]
    assert [(x["relation"], x["identifier"]) for x in links] == [
        ("isSupplementTo", synthetic.doi),
        ("isSupplementTo", main.doi),
    ]
    assert facts(release)["records"]["synthetic"]["doi"] == synthetic.doi
    assert publisher.server.drafts() == []
    assert_nothing_sent_twice(publisher.server)


def test_a_second_draft_that_is_not_needed_any_more_is_deleted(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    publisher.draft(release, limits=Limits(files=14))
    [_, second] = publisher.server.drafts()
    assert publisher.preview(release)["delete"] == []
    assert publisher.preview(release, limits=Limits())["delete"] == [str(second.id)]
    publisher.draft(release, limits=Limits())
    deleting = f"deleting draft {second.id}: one record holds the release now"
    assert deleting in publisher.said
    publisher.publish(release)
    assert_ended_well(publisher, release)


def test_two_records_stay_two_until_other_limits_are_given(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    outcome = publisher.draft(release, limits=Limits(files=14))
    ids = {role: record["id"] for role, record in outcome["records"].items()}
    release = make_release(publisher.root, shards={**SHARDS, CHANGED: b"mended"})
    again = publisher.draft(release)
    assert {role: record["id"] for role, record in again["records"].items()} == ids
    assert publisher.server.counted("DELETE", r"/depositions/\d+$") == 0
    publisher.finish(release)
    assert_holds_what_it_must(publisher, release)


def test_one_record_within_granted_limits_stays_one(publisher: Publisher) -> None:
    names = [f"{kind}/train-{i:05d}.parquet" for kind in ("real", "synthetic") for i in range(50)]
    release = make_release(publisher.root, shards={name: name.encode() for name in names})
    publisher.server.max_files = 1000
    publisher.draft(release, limits=Limits(files=1000))
    assert list(publisher.draft(release)["records"]) == ["main"]
    [draft] = publisher.server.drafts()
    assert list(publisher.draft(release, limits=Limits(files=100))["records"]) == [
        "main",
        "synthetic",
    ]
    assert f"two records hold the release now: draft {draft.id} keeps real files" in publisher.said


def test_two_records_get_their_next_versions(publisher: Publisher) -> None:
    publisher.draft(make_release(publisher.root), limits=Limits(files=14))
    old = publisher.finish(publisher.root / "release/0.1.0")
    release = make_release(publisher.root, "0.2.0", SHARDS_2)
    publisher.draft(release, limits=Limits(files=13))
    new = publisher.finish(release)
    for role in ("main", "synthetic"):
        assert new["records"][role]["concept_doi"] == old["records"][role]["concept_doi"]
    assert_nothing_sent_twice(publisher.server)


@pytest.mark.parametrize("harm", ["changed", "deleted"])
def test_when_one_of_two_is_public_the_other_draft_can_still_be_mended(
    publisher: Publisher, harm: str
) -> None:
    release = divided(publisher, [])
    publisher.draft(release)
    server = publisher.server
    server.faults = [Fault("POST", "publish$", "502", nth=tuple(range(1, 7)))]
    with pytest.raises(WorkFailed, match="still not published"):
        publisher.finish(release)
    server.faults = []
    [public], [draft] = server.published(), server.drafts()
    if harm == "changed":
        draft.files["extra.txt"] = ("file-1", b"not ours")
    else:
        del server.deposits[draft.id]
    with pytest.raises(WorkFailed, match=r"is gone; make it again|extra\.txt: not part"):
        publisher.finish(release)
    publisher.limits = Limits()  # one record would do, but one of two is public
    if harm == "changed":
        publisher.draft(release)
        publisher.finish(release)
        assert public.id in {x.id for x in server.published()}
        assert_holds_what_it_must(publisher, release)
    else:
        publisher.draft(release)
        with pytest.raises(WorkFailed, match="is published and cannot change: raise the version"):
            publisher.finish(release)


# Refused before anything is sent.


def test_a_release_with_violations_is_refused_unsent(publisher: Publisher) -> None:
    release = make_release(publisher.root)
    shard = release / CHANGED
    shard.write_bytes(shard.read_bytes()[::-1])
    with pytest.raises(ArasError, match=r"1 violation.*\n.*real/train-00001"):
        publisher.draft(release)
    assert [(request.method, request.target) for request in publisher.server.log] == [
        ("GET", "/api/deposit/depositions?size=1")
    ]


def test_finishing_what_was_never_begun_is_refused_unsent(publisher: Publisher) -> None:
    with pytest.raises(ArasError, match=r"no draft of it on .* yet; first `aras publish zenodo "):
        publisher.finish(make_release(publisher.root))
    assert publisher.server.log == []


def test_a_version_that_zenodo_has_is_refused(publisher: Publisher) -> None:
    publisher.publish(make_release(publisher.root))
    again = make_release(publisher.root, shards=SHARDS_2)
    with pytest.raises(ArasError, match=r"0\.1\.0 is published with other content as 10\.5072"):
        publisher.draft(again)
    (publisher.root / "release/0.1.0.published.json").rename(
        publisher.root / "release/0.0.9.published.json"
    )
    for journal in (publisher.root / "release/.publish").iterdir():
        journal.unlink()
    with pytest.raises(ArasError, match=r"already has version 0\.1\.0, as 10\.5072"):
        publisher.draft(again)
    assert len(publisher.server.deposits) == 1


def test_a_renderer_that_forgets_the_doi_is_caught_before_the_upload(
    publisher: Publisher,
) -> None:
    with pytest.raises(
        WorkFailed, match=r"README\.md, CITATION\.cff, croissant\.json does not name"
    ):
        publisher.draft(make_release(publisher.root), render=lambda path, **dois: None)
    assert publisher.server.counted("PUT", "/api/files/") == 0


def test_a_second_publisher_of_the_same_release_is_kept_out(publisher: Publisher) -> None:
    release = make_release(publisher.root)

    def meanwhile(path: Path, **dois: str | None) -> None:
        with pytest.raises(ArasError, match="another aras command is publishing"):
            publisher.draft(release)
        write_cards(path, **dois)

    publisher.draft(release, render=meanwhile)
    assert len(publisher.server.drafts()) == 1


def test_the_preview_tells_the_delta_and_changes_nothing(publisher: Publisher) -> None:
    release = next_version(publisher, [])
    before = {p: p.read_bytes() for p in publisher.root.rglob("*") if p.is_file()}
    log = len(publisher.server.log)
    plan = publisher.preview(release, limits=Limits())["records"]["main"]
    assert "real-train-00001-of-00002.parquet" in plan["replace"]
    assert plan["remove"] == ["real-test-00000-of-00001.parquet"]
    assert plan["add"] == []
    assert {request.method for request in publisher.server.log[log:]} == {"GET"}
    assert {p: p.read_bytes() for p in publisher.root.rglob("*") if p.is_file()} == before
