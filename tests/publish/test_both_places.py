"""A real release goes to a Hub and to Zenodo, in either order, and its cards tell of both."""

# ruff: noqa: F811 - a fixture is imported and then named as an argument

import json
import shutil
from pathlib import Path

import pytest
import yaml

from builder.core.errors import ArasError
from builder.core.manifest import checksum_files, read_manifest
from builder.release.card import write_cards
from builder.release.check import violations
from builder.release.published import publications
from tests.loopback.hub_kit import desk, server  # noqa: F401
from tests.loopback.zenodo import LoopbackZenodo
from tests.makers.damage import restamp
from tests.makers.project import built_project
from tests.makers.tiny_release import digest_tree
from tests.makers.zenodo_publisher import (
    TOKEN,
    Publisher,
    assert_nothing_sent_twice,
    held,
)

REPO = "someone/tiny"


@pytest.fixture
def release(tmp_path, tmp_path_factory):
    project = built_project(tmp_path_factory.getbasetemp())
    return Path(shutil.copytree(project.releases / "0.1.0", tmp_path / "packaged/0.1.0"))


@pytest.fixture
def zenodo(tmp_path):
    with LoopbackZenodo(TOKEN, prefix="10.5281") as server:
        yield Publisher(server, tmp_path, render=write_cards, violations=violations)


def to_hub(desk, release, **options):
    """As `aras publish hub RELEASE`: the repo of the recipe, real cards, the real check."""
    return desk.publish(release, repo=None, render=write_cards, check=violations, **options)


def on_main(desk, name):
    repo = desk.hub.repo(REPO)
    return desk.hub.content(repo.files("main")[name])


def assert_cards_tell(desk, zenodo, release, record):
    """Main and the record hold the release as it is now, DOI and concept DOI in its cards."""
    for path in (p for p in release.rglob("*") if p.is_file()):
        assert on_main(desk, path.relative_to(release).as_posix()) == path.read_bytes()
    assert {"main": held(zenodo.server, "0.1.0")} == zenodo.expected(release)
    for name in ("README.md", "CITATION.cff", "croissant.json", "manifest.json"):
        assert record["doi"] in on_main(desk, name).decode(), name
        assert record["concept_doi"] in on_main(desk, name).decode(), name
    assert yaml.safe_load(on_main(desk, "README.md").decode().split("---\n")[1])["configs"]
    for name, text in checksum_files(release, read_manifest(release)).items():
        assert on_main(desk, name).decode() == text
    assert violations(release) == []
    places = {place.kind: place for place in publications(release)}
    assert places["zenodo"].doi == record["doi"]
    assert places["hub"].commit == desk.hub.repo(REPO).tags["0.1.0"]
    assert desk.sent_twice() == []
    assert_nothing_sent_twice(zenodo.server)


def test_first_zenodo_then_the_hub(desk, zenodo, release):
    write_cards(release, endpoint=desk.hub.url)  # both places get the same cards
    zenodo.draft(release)
    with pytest.raises(ArasError, match="does not resolve: it is that of an unpublished draft"):
        to_hub(desk, release)
    assert desk.hub.log == []

    record = zenodo.finish(release)
    assert to_hub(desk, release)["status"] == "published"
    assert desk.hub.repo(REPO).tags == {"0.1.0": desk.hub.repo(REPO).resolve("main")}
    assert_cards_tell(desk, zenodo, release, record)
    assert to_hub(desk, release)["status"] == "already published"


def test_cards_on_another_hub_tell_its_address(desk, release):
    to_hub(desk, release)
    place = f"{desk.hub.url}/datasets/{REPO}"
    assert yaml.safe_load(on_main(desk, "CITATION.cff"))["url"] == place
    assert json.loads(on_main(desk, "croissant.json"))["url"] == place
    card = on_main(desk, "README.md").decode()
    assert f"  url = {{{place}}},\n" in card
    assert f"set `HF_ENDPOINT={desk.hub.url}`\nbefore Python starts" in card
    assert "huggingface.co" not in card


def test_cards_that_went_to_another_hub_come_back_as_they_were(release):
    before = digest_tree(release)
    write_cards(release, endpoint="https://hub.example.org")
    assert "https://hub.example.org/datasets/someone/tiny" in (release / "README.md").read_text()
    assert violations(release) == []
    write_cards(release, endpoint="https://huggingface.co")
    assert digest_tree(release) == before


def test_first_the_hub_then_zenodo_then_the_hub_again(desk, zenodo, release):
    first = to_hub(desk, release)
    record = zenodo.publish(release)
    again = to_hub(desk, release)
    assert (again["status"], again["commit"]) == ("cards renewed", first["commit"])
    assert desk.hub.repo(REPO).tags == {"0.1.0": first["commit"]}
    assert {file["path"] for file in again["plan"]["replace"]} <= {
        *("README.md", "CITATION.cff", "croissant.json", ".zenodo.json", "manifest.json"),
        *("SHA256SUMS", "MD5SUMS", "stac/collection.json"),
    }
    assert_cards_tell(desk, zenodo, release, record)
    writes = len(desk.hub.writes())
    assert to_hub(desk, release)["status"] == "already published"
    assert len(desk.hub.writes()) == writes
    assert zenodo.draft(release)["state"] == "published"


def test_a_new_version_of_a_real_release_on_zenodo_sends_the_cards_alone(zenodo, release):
    old = zenodo.publish(release)
    second = Path(shutil.copytree(release, release.with_name("0.2.0")))
    restamp(second, lambda manifest: manifest.update(version="0.2.0", doi=None))
    write_cards(second)
    before = len(zenodo.server.log)
    record = zenodo.publish(second)
    assert record["concept_doi"] == old["concept_doi"]
    sent = {request.name for request in zenodo.server.log[before:] if request.name}
    assert "README.md" in sent
    assert not any(name.endswith(".parquet") for name in sent)
    assert {"main": held(zenodo.server, "0.2.0")} == zenodo.expected(second)
    assert_nothing_sent_twice(zenodo.server)
