"""Publishing to a Hub: what is sent, what is kept, what is refused before anything is sent."""

# ruff: noqa: F811 - a fixture is imported and then named as an argument

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from builder.core import files
from builder.core.errors import ArasError, WorkFailed
from builder.publish import hub_steps
from builder.publish.hub_load import LoadFailed, count_rows_apart
from builder.release.published import publications
from tests.loopback import hub as loopback
from tests.loopback.hub import READER, TOKEN
from tests.loopback.hub_kit import REPO, desk, server  # noqa: F401
from tests.makers.tiny_release import seal, tiny_release

SHARD = "real/train-00001-of-00002.parquet"


def reseal(release, version="0.1.0"):
    manifest = files.read_json(release / "manifest.json")
    seal(release, version, manifest["configs"], manifest["content_sha256"] + "'")


def test_a_dry_run_names_every_file_and_sends_nothing(desk):
    result = desk.publish(dry_run=True)
    assert result["status"] == "planned"
    names = sorted(p.relative_to(desk.release).as_posix() for p in desk.release.rglob("*.*"))
    assert {"LICENSE", *names} <= {file["path"] for file in result["plan"]["add"]}
    size = sum(p.stat().st_size for p in desk.release.rglob("*") if p.is_file())
    assert result["plan"]["bytes"] == size
    assert desk.hub.writes() == []
    assert desk.hub.repos == {}
    assert publications(desk.release) == []


def test_a_dry_run_needs_no_token_where_the_repo_is_public(desk):
    desk.hub.create(REPO)
    assert len(desk.publish(dry_run=True, token=None)["plan"]["add"]) == 19


@pytest.mark.parametrize("offline", [False, True])
def test_a_dry_run_shows_the_plan_where_no_hub_answers(desk, offline, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    endpoint = desk.hub.url if offline else "http://127.0.0.1:9"  # a port without a listener
    checked = []
    result = desk.publish(dry_run=True, token=None, check=checked.append, endpoint=endpoint)
    assert (result["status"], checked) == ("planned", [])
    assert len(result["plan"]["add"]) == 19
    assert desk.hub.writes() == []
    why = "HF_HUB_OFFLINE is set" if offline else "cannot be reached"
    assert any(why in line and "`aras check` was not run" in line for line in desk.said)


def test_the_next_version_sends_only_what_changed_and_removes_what_is_gone(desk):
    desk.publish()
    sent = len(desk.hub.received)
    second = desk.folder / "release/0.2.0"
    shutil.copytree(desk.release, second)
    (second / "pictures/contact-sheet.png").unlink()
    changed = tiny_release(desk.folder / "other", seed=1) / SHARD
    shutil.copy(changed, second / SHARD)
    reseal(second, "0.2.0")

    planned = desk.publish(second, dry_run=True)["plan"]
    assert [file["path"] for file in planned["remove"]] == ["pictures/contact-sheet.png"]
    replaced = [file["path"] for file in planned["replace"]]
    assert replaced == ["MD5SUMS", "SHA256SUMS", "manifest.json", SHARD]
    assert planned["add"] == []
    assert planned["bytes"] == sum((second / path).stat().st_size for path in replaced)

    first = desk.hub.repo(REPO).tags["0.1.0"]
    desk.publish(second)
    assert desk.hub.received[sent:] == [(files.sha256_file(second / SHARD), changed.stat().st_size)]
    repo = desk.hub.repo(REPO)
    assert repo.tags == {"0.1.0": first, "0.2.0": repo.resolve("main")}
    assert "pictures/contact-sheet.png" in repo.files("0.1.0")
    assert "pictures/contact-sheet.png" not in repo.files("0.2.0")


def test_a_published_version_stays_published_when_main_moves_on(desk):
    desk.publish()
    tagged = desk.hub.repo(REPO).tags["0.1.0"]
    desk.hub.put(REPO, "README.md", b"# edited on the web\n")
    before = len(desk.hub.writes())
    assert desk.publish()["status"] == "already published"
    assert desk.hub.repo(REPO).tags == {"0.1.0": tagged}
    assert len(desk.hub.writes()) == before


@pytest.mark.parametrize("desk", ["basic", "multipart", "xet"], indirect=True)
def test_a_large_change_goes_through_one_pull_request(desk):
    for i in range(100):
        (desk.release / f"pictures/{i:03d}.png").write_bytes(b"%03d" % i)
    reseal(desk.release)
    desk.fault("POST", "/merge", "commit", status=504)

    desk.publish()

    repo = desk.hub.repo(REPO)
    assert [pull["status"] for pull in repo.pulls.values()] == ["merged"]
    on_pull = desk.hub.requests("POST", r"/commit/refs%2Fpr%2F1$")
    assert len(on_pull) == 2
    assert desk.hub.requests("POST", r"/commit/main$") == []
    assert len(repo.files("0.1.0")) == 120
    assert repo.tags["0.1.0"] == repo.resolve("main")
    assert desk.sent_twice() == []


def test_a_pull_request_that_conflicts_is_closed_and_made_anew(desk, monkeypatch):
    monkeypatch.setattr(hub_steps, "LARGEST_COMMIT", 10)
    desk.hub.create(REPO)
    desk.fault("POST", "/merge", lambda: desk.hub.put(REPO, "README.md", b"# mine\n"))
    desk.publish()
    repo = desk.hub.repo(REPO)
    assert [pull["status"] for pull in repo.pulls.values()] == ["closed", "merged"]
    desk.assert_published(commits=0)


def test_a_pull_request_of_a_cut_run_is_found_again(desk, monkeypatch):
    monkeypatch.setattr(hub_steps, "LARGEST_COMMIT", 10)
    desk.fault("POST", "/merge", "refuse", status=503, times=6)
    with pytest.raises(WorkFailed):
        desk.publish()
    assert desk.hub.repo(REPO).tags == {}
    desk.publish()
    assert [pull["status"] for pull in desk.hub.repo(REPO).pulls.values()] == ["merged"]
    desk.assert_published(commits=0)


def test_a_pull_request_that_holds_other_bytes_is_mended_before_main_has_them(desk, monkeypatch):
    monkeypatch.setattr(hub_steps, "LARGEST_COMMIT", 10)
    desk.hub.damages = [SHARD] * 3  # in every commit of the first round
    desk.publish()
    retry = f"committing: pull request 1 holds other bytes of {SHARD}; again "
    assert any(line.startswith(retry) for line in desk.said)
    repo, right = desk.hub.repo(REPO), files.sha256_file(desk.release / SHARD)
    on_main = [commit.files[SHARD].sha256 for commit in repo.history() if SHARD in commit.files]
    assert on_main == [right]
    desk.assert_published(commits=0)


def test_a_file_that_comes_to_main_while_a_pull_request_is_merged_goes(desk, monkeypatch):
    monkeypatch.setattr(hub_steps, "LARGEST_COMMIT", 10)
    desk.fault("POST", "/merge", lambda: desk.hub.put(REPO, "NOTES.md", b"mine\n"))
    desk.publish()
    assert not any("holds other bytes" in line for line in desk.said)
    desk.assert_published()


def test_a_shard_that_travels_with_its_commit_is_not_noted_as_sent(desk, monkeypatch):
    monkeypatch.setattr(loopback, "LFS_SUFFIXES", (".png",))
    desk.fault("POST", "/commit/", "refuse", times=6)
    with pytest.raises(WorkFailed):
        desk.publish()
    desk.publish()
    statuses = [status for _, _, status in desk.hub.requests("POST", "/commit/")]
    assert statuses == [503] * 6 + [200]
    desk.assert_published()


def test_a_private_repo_is_created_private_and_verified_with_the_token(desk):
    desk.fault("POST", "/commit/", "refuse", times=6)
    with pytest.raises(WorkFailed):
        desk.publish(private=True)
    assert desk.hub.repo(REPO).private
    desk.publish(private=True)
    desk.assert_published()
    desk.hub.repo(REPO).private = False
    assert desk.publish(private=True)["status"] == "already published"


def test_files_that_the_release_does_not_hold_are_named_before_they_go(desk):
    holds(desk, version="0.0.1")
    desk.hub.put(REPO, "data/old.csv", b"a,b\n")
    desk.publish()
    assert any("removes them:\n  data/old.csv" in line for line in desk.said)
    desk.assert_published()


def test_what_the_journal_notes_of_other_bytes_is_not_taken_for_sent(desk):
    desk.fault("POST", "/commit/", "refuse", times=6)
    with pytest.raises(WorkFailed):
        desk.publish()
    (path,) = (desk.release.parent / ".publish").glob("0.1.0-hub-*.json")
    journal = files.read_json(path)
    journal["uploaded"][SHARD]["sha256"] = "0" * 64
    files.write_json(path, journal)
    before = len(desk.hub.preuploaded)
    desk.publish()
    again = [path for path in desk.hub.preuploaded[before:] if path.endswith(".parquet")]
    assert again == [SHARD]
    desk.assert_published()


def test_where_it_was_published_is_written_beside_the_release(desk):
    result = desk.publish()
    (entry,) = publications(desk.release)
    assert entry.kind == "hub"
    assert entry.destination == entry.url == f"{desk.hub.url}/datasets/{REPO}"
    assert entry.commit == result["commit"]
    beside = {p.name for p in desk.release.parent.iterdir()}
    assert beside == {"0.1.0", "0.1.0.published.json", ".publish"}


def test_a_second_publisher_of_the_same_release_is_kept_out(desk):
    def meanwhile(release):
        with pytest.raises(ArasError, match="another aras command is publishing"):
            desk.publish()
        assert desk.publish(dry_run=True, check=lambda release: [])["status"] == "planned"
        return []

    desk.publish(check=meanwhile)
    desk.assert_published()


# Refused before anything is sent.


def refused(desk, match, **options):
    with pytest.raises(ArasError, match=match) as caught:
        desk.publish(**options)
    assert caught.value.exit_code == 2
    assert TOKEN not in str(caught.value)
    assert desk.hub.writes() == []
    assert desk.hub.received == []
    assert publications(desk.release) == []


def test_no_token(desk):
    refused(desk, "no token .*hf auth login", token=None)
    assert desk.hub.log == []


def test_a_wrong_token_that_the_server_repeats_in_its_answer(desk):
    wrong = "hf_wrongTokenThatNobodyGaveOut"
    with pytest.raises(ArasError, match="token is not valid") as caught:
        desk.publish(token=wrong, check=lambda release: pytest.fail("read before the token"))
    assert wrong not in str(caught.value)
    assert wrong in desk.hub.said_last
    assert desk.hub.writes() == []


def test_a_token_that_can_only_read(desk):
    refused(desk, "can only read", token=READER)


def test_a_token_that_may_not_write_there_is_told_at_the_first_refusal(desk):
    fault = desk.fault("POST", "/preupload/", "refuse", status=403, times=99)
    with pytest.raises(ArasError, match=r"HTTP 403(?s:.*)may not write there") as caught:
        desk.publish()
    assert caught.value.exit_code == 2
    assert fault.seen == 1


def test_a_hub_without_xet_is_told_at_once(desk, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with pytest.raises(ArasError, match="has no Xet: set HF_HUB_DISABLE_XET=1"):
        desk.publish()
    asked = desk.hub.requests("GET", "/xet-write-token/")
    assert len(asked) == 1
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    desk.publish()
    desk.assert_published()


@pytest.mark.parametrize("kind", ["model", "space"])
def test_a_repo_of_another_type(desk, kind):
    desk.hub.create(REPO, kind)
    refused(desk, f"{REPO} is a {kind} .* not a dataset")


def test_a_release_that_fails_the_check(desk):
    desk.violations = [f"row {i}: no caption" for i in range(30)]
    refused(desk, r"(?s)fails `aras check`.*row 0: no caption.*and 20 more")
    assert {method for method, _, _ in desk.hub.log} == {"GET"}


def test_a_card_that_the_hub_refuses(desk):
    desk.hub.card_errors = [f'"license" must be one of apache-2.0, mit, … (said to {TOKEN})']
    refused(desk, r'(?s)README.md: the Hub refuses its metadata.*"license" must be one of')


def test_a_tag_with_other_content(desk):
    desk.hub.create(REPO)
    head = desk.hub.put(REPO, "real/old.parquet", b"old")
    desk.hub.repo(REPO).refs["refs/tags/0.1.0"] = head
    refused(desk, r"(?s)has a tag 0\.1\.0 with other content.*new version")
    assert desk.hub.repo(REPO).tags == {"0.1.0": head}


def holds(desk, **facts):
    """Let main hold another release; its manifest says ``told``."""
    desk.hub.create(REPO)
    manifest = {**files.read_json(desk.release / "manifest.json"), **facts}
    desk.hub.put(REPO, "manifest.json", json.dumps(manifest).encode())


def test_an_older_version_than_main_holds(desk):
    holds(desk, version="0.10.0")
    refused(desk, r"main of org/name is at version 0\.10\.0: publishing 0\.1\.0 would give")
    refused(desk, r"at version 0\.10\.0", dry_run=True)


def test_a_later_version_that_comes_to_main_meanwhile_stays(desk):
    manifest = {**files.read_json(desk.release / "manifest.json"), "version": "0.3.0"}
    theirs = json.dumps(manifest).encode()
    desk.fault("POST", "/commit/", lambda: desk.hub.put(REPO, "manifest.json", theirs))
    with pytest.raises(ArasError, match=r"main of org/name is at version 0\.3\.0"):
        desk.publish()
    repo = desk.hub.repo(REPO)
    assert desk.hub.content(repo.files()["manifest.json"]) == theirs
    assert repo.tags == {}


def test_another_dataset_on_main(desk):
    holds(desk, name="bathymetry", version="0.0.1")
    refused(desk, r"holds another dataset, bathymetry 0\.0\.1: .*--repo")


@pytest.mark.parametrize("name", ["data/old.csv", "LICENSE", "manifest.json"])
def test_a_repo_of_other_files_that_are_no_release(desk, name):
    desk.hub.create(REPO)
    head = desk.hub.put(REPO, name, b"{}")
    for options in ({}, {"dry_run": True}):
        refused(desk, rf"(?s)not a release of aras; .*\n  {name}\n.*--repo", **options)
    assert desk.hub.repo(REPO).resolve("main") == head


def test_a_repo_that_holds_a_readme_alone_is_free(desk):
    desk.hub.create(REPO)
    desk.hub.put(REPO, "README.md", b"# To come\n")
    desk.publish()
    desk.assert_published()


def test_a_public_repo_where_a_private_one_is_asked_for(desk):
    desk.hub.create(REPO)
    refused(desk, "org/name already exists and is public", private=True)


def test_a_branch_of_the_versions_name(desk):
    desk.hub.create(REPO)
    desk.hub.repo(REPO).refs["refs/heads/0.1.0"] = desk.hub.repo(REPO).resolve("main")
    refused(desk, r"has a branch 0\.1\.0")


@pytest.mark.parametrize(("skew", "word"), [(900, "15 min behind"), (-900, "15 min ahead")])
def test_a_clock_that_is_wrong(desk, skew, word):
    desk.hub.skew = skew
    refused(desk, word)


def test_a_server_that_is_no_hub(desk):
    desk.fault("GET", "/api/whoami-v2", "refuse", status=200)
    refused(desk, "does not answer like a Hub")


@pytest.mark.parametrize(
    "repo", ["name", "a/b/c", "org/na me", "org/-name", "org/x..y", "", "org/"]
)
def test_a_name_the_hub_would_refuse(desk, repo):
    refused(desk, "ORG/NAME", repo=repo)
    assert desk.hub.log == []


@pytest.mark.parametrize(
    "endpoint", ["http://hub.example.org", "http://127.0.0.1.example.org", "ftp://x", "hub", ""]
)
def test_an_address_that_would_carry_the_token_in_the_clear(desk, endpoint):
    refused(desk, "--endpoint", endpoint=endpoint)


def test_a_folder_that_is_no_release(desk):
    (desk.release / "manifest.json").unlink()
    refused(desk, r"no manifest\.json")


def test_a_release_with_a_missing_a_strange_and_a_short_file(desk):
    (desk.release / SHARD).unlink()
    (desk.release / "notes.txt").write_text("mine")
    (desk.release / "LICENSE").write_text("")
    refused(
        desk, r"(?s)00001-of-00002.parquet is missing.*notes.txt is not in.*LICENSE has 0 bytes"
    )


def test_bytes_that_changed_after_packaging_are_not_sent(desk):
    data = (desk.release / SHARD).read_bytes()
    (desk.release / SHARD).write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(ArasError, match=f"{SHARD}: not the bytes that were packaged"):
        desk.publish()
    assert files.sha256_file(desk.release / SHARD) not in {oid for oid, _ in desk.hub.received}
    assert desk.hub.requests("POST", "/commit/") == []


def test_bytes_that_change_after_they_were_sent_are_told_and_not_tagged(desk):
    data = (desk.release / SHARD).read_bytes()
    flipped = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    desk.fault("POST", "/commit/", lambda: (desk.release / SHARD).write_bytes(flipped))
    with pytest.raises(ArasError, match=f"{SHARD}: not the bytes that were packaged"):
        desk.publish()
    assert desk.hub.repo(REPO).tags == {}
    (desk.release / SHARD).write_bytes(data)
    desk.publish()
    desk.assert_published()


def test_a_tag_that_somebody_sets_elsewhere_at_the_last_moment(desk):
    def theirs():
        repo = desk.hub.repo(REPO)
        repo.refs["refs/tags/0.1.0"] = next(iter(repo.commits))

    desk.fault("POST", "/tag/", theirs)
    with pytest.raises(ArasError, match=r"has a tag 0\.1\.0 with other content"):
        desk.publish()
    assert publications(desk.release) == []


# Not tagged unless a user can load it.


def test_a_release_that_loads_with_other_counts_is_not_tagged(desk):
    manifest = files.read_json(desk.release / "manifest.json")
    manifest["configs"]["real"]["train"]["rows"] += 1
    (desk.release / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WorkFailed, match=r"(?s)not tagged.*'train': 7.*'train': 6"):
        desk.publish()
    assert desk.hub.repo(REPO).tags == {}


def test_a_release_that_does_not_load_is_not_tagged(desk):
    desk.fault("GET", "/resolve/.*/real/train", "refuse", status=404, times=99)
    with pytest.raises(WorkFailed, match="load_dataset"):
        desk.publish()
    assert desk.hub.repo(REPO).tags == {}
    desk.hub.faults.clear()
    desk.publish()
    desk.assert_published()


def test_pictures_that_do_not_open_are_not_tagged(desk):
    shard = desk.release / "real/train-00000-of-00002.parquet"
    table = pq.read_table(shard)
    rows = [{**row, "image": {"bytes": b"no PNG", "path": "x.png"}} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), shard)
    reseal(desk.release)
    with pytest.raises(WorkFailed, match=r"load_dataset .*UnidentifiedImageError"):
        desk.publish()
    assert desk.hub.repo(REPO).tags == {}


def test_rows_are_counted_at_the_commit_that_gets_the_tag(desk):
    asked = []

    def count(*job):
        asked.append(job[3])
        return desk.loader(*job)

    commit = desk.publish(count=count)["commit"]
    assert asked == [commit] == [*desk.hub.repo(REPO).tags.values()]


def test_counting_apart_tells_why_loading_failed(desk):
    with pytest.raises(LoadFailed, match=r"^[\w.]+Error: .*org/name"):
        count_rows_apart(desk.hub.url, None, REPO, "main", ["real"])
