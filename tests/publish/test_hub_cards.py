"""What the cards of a release on a Hub tell: the repo they lie in, and a DOI that came later."""

# ruff: noqa: F811 - a fixture is imported and then named as an argument

import json
import shutil

import pytest

from builder.core import files
from builder.core.errors import ArasError, WorkFailed
from builder.publish.cards import check_doi
from builder.release.published import Publication, publications, published_path, record_publication
from tests.loopback.hub_kit import REPO, desk, server  # noqa: F401
from tests.makers.tiny_release import digest_tree, seal, tiny_release

SHARD = "real/train-00001-of-00002.parquet"


def write_card(release, *, repo=None, endpoint=None, doi=None, concept_doi=None):
    """What write_cards does, for a tiny release."""
    manifest = files.read_json(release / "manifest.json")
    facts = manifest["facts"]["recipe"]["release"]
    facts["repo"] = repo or facts["repo"]
    edit_card(release, f'load_dataset("{facts["repo"]}", "real")\n', facts)


def edit_card(release, text="DOI 10.5281/zenodo.1\n", facts=None):
    """Change README.md and what the manifest tells of it; the data stay."""
    card = release / "README.md"
    card.write_text(f"{card.read_text()}\n{text}")
    manifest = files.read_json(release / "manifest.json")
    seal(release, release.name, manifest["configs"], manifest["content_sha256"])
    if facts:
        manifest = files.read_json(release / "manifest.json")
        manifest["facts"]["recipe"]["release"] = facts
        files.write_json(release / "manifest.json", manifest)


CARDS = ["MD5SUMS", "README.md", "SHA256SUMS", "manifest.json"]


# The repo that the cards name.


def test_the_repo_is_that_of_the_recipe_unless_another_is_given(desk):
    assert desk.publish(repo=None)["repo"] == REPO
    desk.assert_published()


def test_no_repo_at_all_is_refused(desk):
    manifest = files.read_json(desk.release / "manifest.json")
    manifest["facts"] = {}
    files.write_json(desk.release / "manifest.json", manifest)
    with pytest.raises(ArasError, match="give --repo ORG/NAME, or set repo in "):
        desk.publish(repo=None)
    assert desk.hub.log == []


def test_cards_that_name_another_repo_are_written_for_the_one_they_go_to(desk):
    planned = desk.publish(repo="lab/tiles", dry_run=True)
    assert digest_tree(desk.release) == desk.packaged
    assert any("/datasets/lab/tiles first" in line for line in desk.said)
    desk.publish(repo="lab/tiles", render=write_card)
    repo = desk.hub.repo("lab/tiles")
    card = desk.hub.content(repo.files("0.1.0")["README.md"]).decode()
    assert 'load_dataset("lab/tiles", "real")' in card
    assert {file["path"] for file in planned["plan"]["add"]} == {*repo.files("0.1.0")} - {
        ".gitattributes"
    }
    assert desk.publish(repo="lab/tiles")["status"] == "already published"


def test_a_run_that_dies_while_it_writes_the_cards_is_finished_by_the_next(desk):
    def dies(release, **values):
        card = release / "README.md"
        card.write_text(card.read_text() + "half of the new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.publish(repo="lab/tiles", render=dies)
    desk.publish(repo="lab/tiles", render=write_card)
    card = desk.hub.content(desk.hub.repo("lab/tiles").files("0.1.0")["README.md"]).decode()
    assert 'load_dataset("lab/tiles", "real")' in card
    assert list((desk.release.parent / ".publish").glob("*-cards.json")) == []


def test_cards_cut_while_written_for_one_repo_do_not_go_to_another(desk):
    def dies(release, **values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.publish(repo="lab/tiles", render=dies)
    desk.publish(repo=REPO, render=write_card)
    card = desk.hub.content(desk.hub.repo(REPO).files("0.1.0")["README.md"]).decode()
    assert card.rstrip().endswith(f'load_dataset("{REPO}", "real")')


# Cards that learn something after the tag.


@pytest.mark.parametrize(
    "fault",
    [None, ("refuse", 409), ("refuse", 503), ("commit", 504), ("lose", 0)],
    ids=["fresh", "409", "503", "504 but committed", "answer lost"],
)
def test_newer_cards_of_a_tagged_version_go_to_main_and_the_tag_stays(desk, fault):
    desk.publish()
    tagged = desk.hub.repo(REPO).tags["0.1.0"]
    edit_card(desk.release)
    if fault:
        desk.fault("POST", "/commit/", fault[0], status=fault[1])
    received = list(desk.hub.received)

    result = desk.publish()
    repo = desk.hub.repo(REPO)
    assert (result["status"], result["commit"]) == ("cards renewed", tagged)
    assert result["cards"] == repo.resolve("main") != tagged
    assert repo.tags == {"0.1.0": tagged}
    assert [file["path"] for file in result["plan"]["replace"]] == CARDS
    for name in CARDS:
        assert desk.hub.content(repo.files("main")[name]) == (desk.release / name).read_bytes()
        assert repo.files("0.1.0")[name] != repo.files("main")[name]
    assert [commit.title for commit in repo.history()].count("Cards of 0.1.0") == 1
    assert desk.hub.received == received

    writes = len(desk.hub.writes())
    assert desk.publish()["status"] == "already published"
    assert len(desk.hub.writes()) == writes
    (entry,) = publications(desk.release)
    assert entry.commit == tagged


def test_newer_cards_of_an_old_version_leave_a_later_version_on_main_alone(desk):
    desk.publish()
    second = desk.folder / "release/0.2.0"
    shutil.copytree(desk.release, second)
    edit_card(second, "Later.\n")
    desk.publish(second)
    edit_card(desk.release)
    head, writes = desk.hub.repo(REPO).resolve("main"), len(desk.hub.writes())
    assert desk.publish()["status"] == "already published"
    assert any("main holds other data (version 0.2.0)" in line for line in desk.said)
    assert desk.hub.repo(REPO).resolve("main") == head
    assert len(desk.hub.writes()) == writes


def test_newer_cards_leave_what_others_added_to_main(desk):
    desk.publish()
    desk.hub.put(REPO, "NOTES.md", b"mine\n")
    edit_card(desk.release)
    assert desk.publish()["status"] == "cards renewed"
    assert "NOTES.md" in desk.hub.repo(REPO).files()


def test_newer_cards_do_not_go_beside_other_data_of_the_same_version(desk):
    desk.publish()
    head = desk.hub.put(REPO, SHARD, b"edited by hand")
    edit_card(desk.release)
    assert desk.publish()["status"] == "already published"
    assert desk.hub.repo(REPO).resolve("main") == head


def test_newer_cards_do_not_go_over_a_version_that_comes_to_main_meanwhile(desk):
    desk.publish()
    edit_card(desk.release)
    manifest = {**files.read_json(desk.release / "manifest.json"), "version": "0.2.0"}
    theirs = json.dumps(manifest).encode()
    desk.fault("POST", "/commit/", lambda: desk.hub.put(REPO, "manifest.json", theirs))
    assert desk.publish()["status"] == "already published"
    repo = desk.hub.repo(REPO)
    assert desk.hub.content(repo.files()["manifest.json"]) == theirs
    assert repo.files()["README.md"] == repo.files("0.1.0")["README.md"]


def test_newer_cards_that_do_not_load_or_arrive_whole_are_told(desk):
    desk.publish()
    edit_card(desk.release)
    desk.hub.damages = ["README.md"]
    with pytest.raises(WorkFailed, match="did not arrive whole on main; run again"):
        desk.publish()
    for _ in range(2):  # the cards are on main now, and still no user has loaded them
        with pytest.raises(WorkFailed, match="does not load as it was packaged"):
            desk.publish(count=lambda *job: {})
    assert desk.publish()["status"] == "already published"
    never = {"count": lambda *job: pytest.fail("counted twice")}
    assert desk.publish(**never)["status"] == "already published"
    edit_card(desk.release, "And more.\n")
    assert desk.publish()["status"] == "cards renewed"


def test_a_tagged_version_whose_data_changed_is_refused(desk):
    desk.publish()
    shutil.copy(tiny_release(desk.folder / "other", seed=1) / SHARD, desk.release / SHARD)
    edit_card(desk.release)
    writes = len(desk.hub.writes())
    with pytest.raises(ArasError, match=rf"(?s)has a tag 0\.1\.0 with other content.*{SHARD}"):
        desk.publish()
    assert len(desk.hub.writes()) == writes


def tree(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_dry_run_on_a_tagged_version_shows_the_plan_and_writes_nothing(desk):
    desk.publish()
    published_path(desk.release).unlink()
    before, writes = tree(desk.release.parent), len(desk.hub.writes())
    result = desk.publish(dry_run=True)
    assert result["status"] == "planned"
    assert len(result["plan"]["keep"]) == 19
    assert result["plan"]["bytes"] == 0
    edit_card(desk.release)
    before.update(tree(desk.release))
    assert [file["path"] for file in desk.publish(dry_run=True)["plan"]["replace"]] == CARDS
    assert tree(desk.release.parent) == before
    assert len(desk.hub.writes()) == writes


# A DOI that does not resolve.


@pytest.mark.parametrize(
    ("doi", "kind", "what"),
    [
        ("10.5281/zenodo.7", None, "that of an unpublished draft"),
        ("10.5072/zenodo.7", None, "the sandbox's"),
        ("10.5072/zenodo.7", "zenodo-sandbox", "the sandbox's"),
        ("10.5281/zenodo.7", "zenodo-sandbox", "that of an unpublished draft"),
    ],
)
def test_a_doi_that_does_not_resolve_is_refused_before_anything_is_asked(desk, doi, kind, what):
    if kind:
        record_publication(desk.release, Publication(kind=kind, destination="z", doi=doi))
    manifest = files.read_json(desk.release / "manifest.json")
    files.write_json(desk.release / "manifest.json", {**manifest, "doi": doi})
    with pytest.raises(ArasError, match=rf"README\.md: DOI {doi} does not resolve: it is {what}"):
        desk.publish()
    assert desk.hub.log == []
    assert desk.publish(unpublished_doi=True)["status"] == "published"


def test_a_published_doi_is_fine(tmp_path):
    doi = "10.5281/zenodo.7"
    record_publication(tmp_path / "0.1.0", Publication(kind="zenodo", destination="z", doi=doi))
    check_doi(tmp_path / "0.1.0", doi)
    check_doi(tmp_path / "0.1.0", None)
