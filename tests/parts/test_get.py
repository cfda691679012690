"""Parts of a release: chosen, fetched, resumed and written as releases of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import builder
from builder.cli import cli
from builder.core.engine import Engine
from builder.core.errors import ArasError, CorruptFile, WorkFailed
from builder.core.files import read_json, write_json
from builder.core.manifest import listed_files, read_manifest
from builder.core.store import Store
from builder.land.columns import ALWAYS, COLUMN_NAMES, DERIVED
from builder.official.import_ import ImportSection
from builder.official.import_release import ImportRelease, streams_of
from builder.parts import ranges
from builder.parts.get import Got, get
from builder.parts.opened import OpenRelease, Request
from builder.parts.sources import Folder, open_source
from builder.pipeline.project import Project
from builder.release.check import lacking_columns, violations
from builder.steps.plan import run
from tests.loopback.files import Fault, FileServer, file_server
from tests.loopback.hub import Hub
from tests.makers.damage import copy_of, restamp, rewrite, rows_edited, without_columns
from tests.makers.stages import by_default

ROOT = Path(__file__).parents[2]
TREES = Request("dominant = 'Tree'")
TEST = "real/test-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def whole(project: Project) -> Path:
    return project.releases / "0.1.0"


@pytest.fixture
def server(whole: Path) -> Iterator[FileServer]:
    """The release behind a web server, under /tiles."""
    with file_server() as files:
        for name in [*listed_files(whole), "manifest.json"]:
            files.put(f"/tiles/{name}", (whole / name).read_bytes())
        yield files


def take(place: str | Path, out: Path, request: Request = TREES, **options: Any) -> Got:
    return get(OpenRelease(open_source(str(place), base=0.001)), out, request, **options)


def rows_of(release: Path, config: str) -> list[dict[str, Any]]:
    files = sorted((release / config).glob("*.parquet"))
    return [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]


def same_rows(part: Path, whole: Path, kind: str) -> list[str]:
    """Ids of the rows of a kind in a part, each of which is in the whole, value for value."""
    rows = {row["id"]: row for row in rows_of(whole, kind)}
    held = rows_of(part, kind)
    for row in held:
        assert row == rows[row["id"]]
    return [row["id"] for row in held]


def test_a_part_is_a_release_with_the_same_rows(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    got = take(whole, tmp_path / "trees")
    assert got.is_new
    assert violations(tmp_path / "trees") == []
    expected = [row["id"] for row in rows_of(whole, "metadata") if row["dominant"] == 0]
    ids = [row for kind in ("real", "synthetic") for row in same_rows(got.release, whole, kind)]
    assert sorted(ids) == sorted(expected)
    manifest, of = read_manifest(got.release), read_manifest(whole)
    for config, splits in manifest.configs.items():
        data = datasets.load_dataset(str(got.release), config)
        assert {name: split.num_rows for name, split in data.items()} == got.rows[config]
        assert list(splits) == [name for name in of.configs[config] if name in splits]
    image = datasets.load_dataset(str(got.release), "real", split="test")[0]["image"]
    assert np.asarray(image).shape == (64, 64, 3)


def test_a_part_says_of_which_release_and_by_which_condition(whole: Path, tmp_path: Path) -> None:
    request = Request("dominant = 'Tree'", splits=("train",), limit=9, seed=4)
    got = take(whole, tmp_path / "few", request)
    manifest, of = read_manifest(got.release), read_manifest(whole)
    selection = manifest.selection
    assert selection is not None
    assert (selection.name, selection.version) == (of.name, of.version)
    assert selection.content_sha256 == of.content_sha256 != manifest.content_sha256
    assert (selection.rows, selection.of_rows, selection.address) == (9, 101, "0.1.0")
    assert (manifest.subsets, manifest.doi, manifest.facts.split) == ({}, None, None)
    assert sum(manifest.facts.census.rows.values()) == 9
    card = (got.release / "README.md").read_text()
    assert "**This is a part of “Tiny: tiles for tests”**" in card
    assert "`dominant = 'Tree'`; split train; at most 9 rows, drawn with seed 4" in card
    assert of.content_sha256 in card
    assert "someone/tiny" not in card
    assert str(whole.parent) not in card


def test_every_door_gives_the_same_part(
    whole: Path, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = take(whole, tmp_path / "here")
    there = take(f"{server.url}/tiles", tmp_path / "there")
    assert there.content_sha256 == here.content_sha256
    assert there.moved == sum(asked.sent for asked in server.log)
    pictures = [asked for asked in server.log if "/real/" in asked.path]
    pictures += [asked for asked in server.log if "/synthetic/" in asked.path]
    assert sum(asked.sent for asked in pictures) <= (1 + ranges.WASTE) * here.picture_bytes
    assert len(pictures) < here.pictures
    with Hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        repo = hub.create("someone/tiny")
        for name in [*listed_files(whole), "manifest.json"]:
            commit = hub.put("someone/tiny", name, (whole / name).read_bytes())
        repo.refs["refs/tags/0.1.0"] = commit
        hub.put("someone/tiny", "manifest.json", b"{}")  # main went on
        got = take("hf://datasets/someone/tiny@0.1.0", tmp_path / "hub-part")
        assert got.content_sha256 == here.content_sha256
        selection = read_manifest(got.release).selection
        assert selection
        assert selection.address == f"hf://datasets/someone/tiny@{commit}"
        with pytest.raises(ArasError, match=r"the repo has no tag or branch 0\.9\.9"):
            take("hf://datasets/someone/tiny@0.9.9", tmp_path / "no")
        with pytest.raises(ArasError, match="no such repo at http"):
            take("hf://datasets/someone/else@0.1.0", tmp_path / "no")


def test_a_part_of_a_part_says_both(whole: Path, tmp_path: Path) -> None:
    take(whole, tmp_path / "trees")
    got = take(tmp_path / "trees", tmp_path / "real", Request(configs=("real",)))
    assert violations(got.release) == []
    ids = same_rows(got.release, whole, "real")
    assert ids == same_rows(tmp_path / "trees", whole, "real")
    assert not (got.release / "synthetic").exists()
    selection = read_manifest(got.release).selection
    assert selection
    assert selection.of
    assert selection.of.condition == "`dominant = 'Tree'`"
    card = (got.release / "README.md").read_text()
    assert "That release is itself a part of `tiny` 0.1.0" in card


def test_a_dry_run_counts_rows_and_bytes_and_fetches_no_picture(
    server: FileServer, whole: Path, tmp_path: Path
) -> None:
    planned = take(f"{server.url}/tiles", tmp_path / "x", dry=True)
    assert not any("/real/" in asked.path or "/synthetic/" in asked.path for asked in server.log)
    assert not list(tmp_path.iterdir())
    got = take(whole, tmp_path / "x")
    assert planned.picture_bytes == got.picture_bytes
    assert planned.rows == {kind: got.rows[kind] for kind in ("real", "synthetic")}
    assert "rows would be fetched" in planned.lines()[0]


def test_a_smaller_limit_takes_some_of_the_rows_of_a_larger(whole: Path) -> None:
    release = OpenRelease(Folder(whole))
    few, more = (release.query(limit=n, seed=1).ids for n in (5, 20))
    assert len(few) == 5
    assert set(few) < set(more)
    assert release.query(limit=5, seed=2).ids != few
    assert len(release.query(limit=1000)) == len(release) == 101


def test_a_row_is_taken_by_its_number_as_of_a_list(whole: Path) -> None:
    rows = builder.open_release(whole).query("dominant = 'Tree'")
    ids = rows.ids
    assert len(ids) > 3
    assert [rows[n].id for n in (0, 2, len(ids) - 1, -1)] == [ids[0], ids[2], ids[-1], ids[-1]]
    assert rows[1].image.shape == (64, 64, 3)
    for beyond in (len(ids), -len(ids) - 1):
        with pytest.raises(IndexError, match=f"there are {len(ids):,} rows"):
            rows[beyond]


def test_a_box_holds_the_tiles_whose_centres_are_in_it(whole: Path) -> None:
    release = OpenRelease(Folder(whole))
    rows = [row for row in rows_of(whole, "metadata") if row["longitude"] is not None]
    middle = float(np.median([row["longitude"] for row in rows]))
    west = release.query(bbox=(-180, -90, middle, 90))
    across = release.query(bbox=(middle, -90, -179, 90))
    assert set(west.ids) == {row["id"] for row in rows if row["longitude"] <= middle}
    assert set(across.ids) == {row["id"] for row in rows if row["longitude"] >= middle}
    assert len(release.query(bbox=(100, 0, 101, 1))) == 0


BAD_REQUESTS = [
    (Request(bbox=(0, 10, 1, 5)), "expected WEST SOUTH EAST NORTH in degrees, south below north"),
    (Request(splits=("dev",)), "--split dev: the release has train, validation, test"),
    (Request(configs=("augmented",)), "--config augmented: the release has real, synthetic"),
    (Request(columns=("blok",)), "--columns blok: the release has id, kind, split, pixels"),
    (Request("dominant = 'Lava'"), "0.1.0: no row of 101 is as asked for"),
    (Request("no_such > 1"), 'column "no_such" not found'),
]


@pytest.mark.parametrize(("request_", "words"), BAD_REQUESTS, ids=[w for _, w in BAD_REQUESTS])
def test_a_request_that_cannot_be_met_is_refused(
    whole: Path, tmp_path: Path, request_: Request, words: str
) -> None:
    with pytest.raises(ArasError, match=words):
        take(whole, tmp_path / "x", request_)
    assert not list(tmp_path.iterdir())


def test_columns_that_were_left_out_are_missing_and_the_part_is_right(
    whole: Path, tmp_path: Path
) -> None:
    got = take(whole, tmp_path / "few", Request(columns=("sharpness",)))
    assert violations(got.release) == []
    assert lacking_columns(got.release) == []
    names = pq.read_schema(got.release / TEST).names
    assert names == [n for n in COLUMN_NAMES if n in (*ALWAYS, "sharpness")]
    texts = take(whole, tmp_path / "texts", Request(columns=("captions",)))
    assert violations(texts.release) == []
    assert "caption_scores" in pq.read_schema(texts.release / TEST).names


def test_controls_and_embeddings_come_with_their_rows(whole: Path, tmp_path: Path) -> None:
    got = take(whole, tmp_path / "few", Request(splits=("test",), limit=3))
    ids = set(same_rows(got.release, whole, "real"))
    held = {row["id"] for row in rows_of(got.release, "controls")}
    assert held == ids & {row["id"] for row in rows_of(whole, "controls")}
    card = (got.release / "README.md").read_text()  # its snippets name a split that it has
    assert 'row = data["test"][0]' in card
    assert 'split="train"' not in card
    plain = take(whole, tmp_path / "plain", Request(splits=("test",), configs=("real",)))
    assert "controls" not in plain.rows


def test_the_same_command_again_moves_nothing_and_another_changes_nothing(
    whole: Path, tmp_path: Path
) -> None:
    take(whole, tmp_path / "x")
    (tmp_path / ".x.get").mkdir()  # as a kill just before the end leaves it
    again = take(whole, tmp_path / "x")
    assert not again.is_new
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert again.requests == 0
    with pytest.raises(ArasError, match=r"x: already exists with other content; not changed"):
        take(whole, tmp_path / "x", Request("dominant = 'Water'"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ArasError, match="already exists with other content"):
        take(whole, tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    assert take(whole, tmp_path / "empty").is_new


def test_a_killed_get_goes_on_where_it_was(whole: Path, server: FileServer, tmp_path: Path) -> None:
    server.fault(f"/tiles/{TEST}", always=Fault(stall_after=10))
    command = [sys.executable, "-m", "builder", "get", f"{server.url}/tiles", "all"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    try:
        assert server.stalled.wait(60)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "all").exists()
    fetched = len(server.log)
    server._always.clear()
    got = take(f"{server.url}/tiles", tmp_path / "all", Request())
    assert got.resumed == 73  # train and validation rows
    again = {asked.path for asked in server.log[fetched:]}
    assert f"/tiles/{TEST}" in again
    assert "/tiles/real/train-00000-of-00001.parquet" not in again
    assert got.content_sha256 == take(whole, tmp_path / "plain", Request()).content_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "plain"]


def test_other_work_than_was_begun_is_not_mixed_in(whole: Path, tmp_path: Path) -> None:
    (tmp_path / ".x.get").mkdir()
    write_json(tmp_path / ".x.get/key.json", "of another request")
    (tmp_path / ".x.get/0000-00000000.arrow").write_bytes(b"not ours")
    got = take(whole, tmp_path / "x")
    assert got.resumed == 0
    assert violations(got.release) == []


def test_an_answer_that_ends_early_is_asked_for_again(
    whole: Path, server: FileServer, tmp_path: Path
) -> None:
    server.fault(f"/tiles/{TEST}", Fault(drop_after=50), Fault(status=503), Fault(drop_after=0))
    got = take(f"{server.url}/tiles", tmp_path / "x")
    assert got.content_sha256 == take(whole, tmp_path / "here").content_sha256


FAULTS = [
    (TEST, Fault(drop_after=50), WorkFailed, r"test-.*: .*run the same command again to continue"),
    (TEST, Fault(status=500), WorkFailed, "answers 500 .*; run the same command again"),
    (TEST, Fault(ignore_range=True), ArasError, "sends no ranges, only whole files; download"),
    (TEST, Fault(shift=3), ArasError, r"the server answers a range with another \(bytes"),
    (TEST, Fault(status=404), ArasError, "listed in manifest.json but missing"),
    (TEST, Fault(status=403), ArasError, "answers 403 .*; does it need a token"),
    (TEST, Fault(status=416), ArasError, "is shorter than manifest.json lists"),
    ("manifest.json", Fault(status=404), ArasError, r"tiles: not a release of aras \(there is no"),
]


@pytest.mark.parametrize(("name", "fault", "kind", "words"), FAULTS, ids=[f[3] for f in FAULTS])
def test_a_server_that_misbehaves_gets_one_clear_line(
    server: FileServer, tmp_path: Path, name: str, fault: Fault, kind: type, words: str
) -> None:
    server.fault(f"/tiles/{name}", always=fault)
    with pytest.raises(kind, match=words) as raised:
        take(f"{server.url}/tiles", tmp_path / "x")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "x").exists()


def test_a_file_that_changes_meanwhile_is_refused(
    whole: Path, server: FileServer, tmp_path: Path
) -> None:
    data = (whole / TEST).read_bytes()
    release = OpenRelease(open_source(f"{server.url}/tiles", base=0.001))
    row = next(iter(release.query("split = 'test'")))
    assert row.image.shape == (64, 64, 3)
    server.put(f"/tiles/{TEST}", data, etag='"two"')
    with pytest.raises(ArasError, match="changed while it was read; run the same command again"):
        row.mask  # noqa: B018
    server.put(f"/tiles/{TEST}", data + b"more")
    with pytest.raises(ArasError, match=r"has .* bytes, manifest\.json lists"):
        take(f"{server.url}/tiles", tmp_path / "x")


def test_other_bytes_than_the_digests_say_are_named_by_their_row(
    whole: Path, server: FileServer, tmp_path: Path
) -> None:
    row = next(row for row in rows_of(whole, "metadata") if row["shard"] == TEST)
    data = bytearray((whole / TEST).read_bytes())
    data[row["image_offset"] + 40] ^= 255
    server.put(f"/tiles/{TEST}", bytes(data))
    with pytest.raises(CorruptFile, match=rf"{row['id']}: its image at byte \d+ of real/test"):
        take(f"{server.url}/tiles", tmp_path / "x", Request(splits=("test",)))


def test_metadata_that_cannot_be_decoded_is_named(whole: Path, tmp_path: Path) -> None:
    release = copy_of(whole, tmp_path)
    light = release / "metadata/train-00000-of-00001.parquet"
    data = bytearray(light.read_bytes())
    data[5000:5400] = bytes(400)
    light.write_bytes(bytes(data))
    opened = OpenRelease(Folder(release))
    with pytest.raises(CorruptFile, match=r"release: metadata/train\S+: pyarrow \S+ cannot decode"):
        opened.query().table(opened.columns().names)


HOSTILE = [
    ({"shard": "../../secret"}, "said to lie in '../../secret', which is not a file of its config"),
    ({"shard": "metadata/test-00000-of-00001.parquet"}, "is not a file of its config and split"),
    ({"image_offset": 10**12}, "said to end at byte 1,000,000,0"),
    ({"image_offset": -5}, "said to end at byte"),
    ({"image_size": None}, "said to lie in"),
]


@pytest.mark.parametrize(("change", "words"), HOSTILE, ids=[str(c) for c, _ in HOSTILE])
def test_a_place_outside_the_release_is_never_opened(
    whole: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    release = copy_of(whole, tmp_path)
    (tmp_path / "secret").write_bytes(b"secret" * 10_000)
    light = release / "metadata/test-00000-of-00001.parquet"
    rewrite(light, rows_edited(lambda rows: rows[0].update(change)))
    restamp(release)
    with pytest.raises(CorruptFile, match=words):
        take(release, tmp_path / "x", Request())


def test_a_hostile_manifest_is_refused_at_once(
    whole: Path, server: FileServer, tmp_path: Path
) -> None:
    value = read_json(whole / "manifest.json")
    value["configs"]["metadata"]["test"]["files"] = ["../../../etc/passwd"]
    server.put("/tiles/manifest.json", json.dumps(value).encode())
    with pytest.raises(ArasError, match="does not lead to a file of the release"):
        take(f"{server.url}/tiles", tmp_path / "x")
    value["configs"]["metadata"]["test"]["files"] = ["metadata/unlisted.parquet"]
    server.put("/tiles/manifest.json", json.dumps(value).encode())
    with pytest.raises(ArasError, match=r"names metadata/unlisted\.parquet and does not list it"):
        take(f"{server.url}/tiles", tmp_path / "x")
    assert {asked.path for asked in server.log} <= {
        "/tiles/manifest.json",
        "/tiles/metadata/train-00000-of-00001.parquet",
        "/tiles/metadata/validation-00000-of-00001.parquet",
    }


def test_an_older_release_is_told_what_it_lacks(whole: Path, tmp_path: Path) -> None:
    release = copy_of(whole, tmp_path)
    without_columns(release, DERIVED)
    with pytest.raises(ArasError, match=r"lacks .*shard, image_offset.*\(an older aras made it\)"):
        take(release, tmp_path / "x")
    assert len(OpenRelease(Folder(release)).query("dominant = 'Tree'").ids) == 23


def test_an_id_that_occurs_twice_is_refused(whole: Path, tmp_path: Path) -> None:
    release = copy_of(whole, tmp_path)
    light = release / "metadata/test-00000-of-00001.parquet"
    rewrite(light, rows_edited(lambda rows: rows[0].update(id=rows[1]["id"])))
    restamp(release)
    with pytest.raises(ArasError, match=r"release: id real/\S+ occurs twice"):
        take(release, tmp_path / "x", Request())


ADDRESSES = [
    ("http://example.org/tiles", "SOURCE http://example.org/tiles: plain http would send"),
    ("https://me:secret@example.org/tiles", "SOURCE: must not hold a user or password"),
    (
        "ftp://example.org/tiles",
        "expected a folder, https://…, s3://… or hf://datasets/ORG/NAME@TAG",
    ),
    ("hf://models/a/b", "expected hf://datasets/ORG/NAME@TAG"),
    ("hf://datasets/a@0.1.0", "expected hf://datasets/ORG/NAME@TAG"),
]


@pytest.mark.parametrize(("address", "words"), ADDRESSES)
def test_an_address_of_another_kind_is_refused(tmp_path: Path, address: str, words: str) -> None:
    with pytest.raises(ArasError, match=words):
        take(address, tmp_path / "x")
    with pytest.raises(ArasError, match=r"nothing: not a release directory \(no manifest\.json\)"):
        take(tmp_path / "nothing", tmp_path / "x")


def test_rows_are_read_when_they_are_looked_at(whole: Path, server: FileServer) -> None:
    release = builder.open_release(f"{server.url}/tiles/manifest.json")
    rows = release.query("dominant = 'Tree'", split="test", config="real")
    assert not any("/real/" in asked.path for asked in server.log)
    row = next(iter(rows))
    assert (row["dominant"], row["kind"], row["split"]) == ("Tree", "real", "test")
    own = next(r for r in rows_of(whole, "real") if r["id"] == row.id)
    assert row["captions"] == own["captions"]
    assert np.bincount(row.mask.ravel(), minlength=7).tolist() == list(own["pixels"].values())
    assert row.image.shape == (64, 64, 3)
    assert len([asked for asked in server.log if "/real/" in asked.path]) == 2
    assert rows.table(["id", "block"]).num_rows == len(rows) == len(rows.ids)


def test_importing_builder_stays_light() -> None:
    code = (
        "import builder, sys\n"
        "heavy = {'duckdb', 'pyarrow', 'torch', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert builder.open_release.__name__ == 'open_release'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_the_command_prints_what_it_moved(whole: Path, tmp_path: Path) -> None:
    arguments = ["-C", str(tmp_path), "get", str(whole), "out", "--json"]
    options = ["--where", "dominant = 'Tree'", "--bbox", "26", "-90", "180", "90"]
    options += ["--split", "train", "--columns", "captions, block", "--limit", "4"]
    result = CliRunner().invoke(cli, [*arguments, *options])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["kind"] == "get"
    assert said["rows"]["real"] == {"train": 4}
    assert said["moved"] > said["picture_bytes"] > 0
    bad = CliRunner().invoke(cli, [*arguments[:3], str(whole), "new", "--where", "nothing = 1"])
    assert bad.exit_code == 2
    assert "Referenced column" in bad.output


def test_a_part_without_captions_is_imported(whole: Path, tmp_path: Path) -> None:
    got = take(whole, tmp_path / "few", Request(columns=(), limit=6))
    store = Store(tmp_path / "work")
    options = {"release": got.release, "streams": streams_of(got.release)}
    stage = by_default(ImportRelease, ImportSection(), **options)
    summary = run(stage, store, Engine("serial"))
    assert not summary.failed
    assert summary.report.account.rows_out == 6
