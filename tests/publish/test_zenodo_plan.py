"""What Zenodo is to hold of a release, and what makes a release impossible to hold."""

import datetime
import json
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.core.files import hash_file
from builder.publish.zenodo_plan import (
    Limits,
    foreseen,
    lost_metadata,
    needs_two_records,
    payload,
    read_flat,
    record_files,
)
from builder.release.card import flat_name
from tests.makers.zenodo_release import METADATA, SHARDS, make_release, write_cards


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_folders_become_prefixes_of_flat_names(release: Path) -> None:
    assert flat_name("real/train-00000-of-00002.parquet") == "real-train-00000-of-00002.parquet"
    names = {file.name for file in record_files(read_flat(release))}
    assert names == {
        *(flat_name(shard) for shard in SHARDS),
        *("README.md", "CITATION.cff", "croissant.json", ".zenodo.json", "LICENSE"),
        *("CHANGELOG.md", "manifest.json", "pictures-contact sheet.png", "SHA256SUMS", "MD5SUMS"),
    }


def test_every_size_and_digest_is_that_of_the_bytes(release: Path) -> None:
    for file in record_files(read_flat(release)):
        content = file.open().read()
        assert len(content) == file.size
        if isinstance(file.source, Path):
            digests = hash_file(file.source, "md5", "sha256")
            assert (file.md5, file.sha256) == (digests["md5"], digests["sha256"])


def test_checksum_files_list_the_flat_names_of_their_own_record(release: Path) -> None:
    for files in foreseen(read_flat(release), split=True).values():
        by_name = {file.name: file for file in files}
        lines = by_name["SHA256SUMS"].open().read().decode().splitlines()
        assert {line.split("  ", 1)[1]: line.split("  ", 1)[0] for line in lines} == {
            file.name: file.sha256 for file in files if not file.name.endswith("SUMS")
        }


def test_two_records_hold_every_shard_once_and_the_cards_twice(release: Path) -> None:
    plan = foreseen(read_flat(release), split=True)
    main, synthetic = ({file.name for file in plan[role]} for role in ("main", "synthetic"))
    assert {name for name in main & synthetic if name.endswith(".parquet")} == set()
    assert {flat_name(shard) for shard in SHARDS} <= main | synthetic
    assert {"README.md", "LICENSE", "CITATION.cff", "croissant.json"} <= main & synthetic


def test_the_limits_count_the_cards_and_the_checksum_files(release: Path) -> None:
    files = record_files(read_flat(release))
    size = sum(file.size for file in files)
    plan = read_flat(release)
    assert not needs_two_records(plan, Limits(files=len(files), bytes=size))
    assert needs_two_records(plan, Limits(files=len(files) - 1, bytes=size))
    assert needs_two_records(plan, Limits(files=len(files), bytes=size - 1))


def test_a_hundred_shards_and_the_cards_are_too_many_for_one_record(tmp_path: Path) -> None:
    shards = {f"real/train-{n:05d}-of-00060.parquet": b"r" for n in range(60)}
    synthetic = {f"synthetic/train-{n:05d}-of-00031.parquet": b"s" for n in range(31)}
    release = read_flat(make_release(tmp_path, shards={**shards, **synthetic}))
    assert len(record_files(release)) == 101
    assert needs_two_records(release, Limits())
    fits = {name: content for name, content in synthetic.items() if "00030" not in name}
    release = read_flat(make_release(tmp_path, "0.1.1", shards={**shards, **fits}))
    assert not needs_two_records(release, Limits())


def test_what_two_records_cannot_hold_is_refused_with_the_figures(release: Path) -> None:
    with pytest.raises(ArasError, match=r"main record: 14 files of at most 9.*--max-files"):
        needs_two_records(read_flat(release), Limits(files=9))
    with pytest.raises(ArasError, match=r"main record: [\d,]+ bytes of at most 1,000\b"):
        needs_two_records(read_flat(release), Limits(bytes=1_000))


def test_without_synthetic_shards_there_is_nothing_to_divide(tmp_path: Path) -> None:
    shards = {name: content for name, content in SHARDS.items() if "synthetic" not in name}
    release = read_flat(make_release(tmp_path, shards=shards))
    with pytest.raises(ArasError, match="even as two"):
        needs_two_records(release, Limits(files=5))


def test_two_paths_with_one_flat_name_are_named(tmp_path: Path) -> None:
    shards = {"real/a-b.parquet": b"1", "real-a/b.parquet": b"2"}
    with pytest.raises(ArasError, match=r"real-a/b\.parquet and real/a-b\.parquet get the same"):
        read_flat(make_release(tmp_path, shards=shards))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.json", None, "not a release"),
        ("manifest.json", "{", "not readable"),
        ("manifest.json", "[]", "has no format"),
        ("manifest.json", '{"version": "0.1.0"}', "has no format, content_sha256"),
        (".zenodo.json", None, r"\.zenodo\.json is missing"),
        ("LICENSE", None, "LICENSE is missing"),
        ("LICENSE", "longer than before, by a lot\n" * 3, "bytes, the manifest says 25"),
    ],
)
def test_a_broken_release_is_refused_by_file(
    release: Path, name: str, content: str | None, said: str
) -> None:
    (release / name).unlink()
    if content is not None:
        (release / name).write_text(content)
    with pytest.raises(ArasError, match=said) as caught:
        read_flat(release)
    assert name in str(caught.value)


TODAY = datetime.datetime.now(datetime.timezone.utc).date()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"creators": [], "title": ""}, "needs title, creators"),
        ({"version": "9"}, r"version 9 where the manifest says 0\.1\.0"),
        ({"publication_date": "next week"}, "not YYYY-MM-DD"),
        ({"publication_date": str(TODAY + datetime.timedelta(days=9))}, "lies in the future"),
    ],
)
def test_metadata_that_zenodo_would_refuse_is_refused_first(
    release: Path, changes: dict[str, object], said: str
) -> None:
    edit(release / ".zenodo.json", **changes)
    write_cards(release, doi=None, concept_doi=None)
    with pytest.raises(ArasError, match=said):
        read_flat(release)


def test_a_doi_in_the_metadata_is_not_sent() -> None:
    sent = payload({**METADATA, "doi": "10.5072/zenodo.1", "prereserve_doi": True})
    assert sent == METADATA


STORED = {
    **METADATA,
    "creators": [{**METADATA["creators"][0], "name": "Tiny Tiles", "gnd": None}],
    "description": "<p>Land cover in a few bytes, <b>for  tests</b>.</p>\n",
    "license": "cc-by-4.0",
    "keywords": ["captions", "land cover"],
    "related_identifiers": [
        {"identifier": "10.1000/182", "relation": "isDerivedFrom", "scheme": "doi"}
    ],
    "publication_date": "2031-01-01",
    "access_right": "open",
}


def test_what_zenodo_writes_its_own_way_counts_as_kept() -> None:
    assert lost_metadata(METADATA, STORED) == []
    assert lost_metadata({"license": "CC0-1.0"}, {"license": "cc-zero"}) == []
    assert lost_metadata({"language": "en", "notes": ""}, {"language": "eng"}) == []


@pytest.mark.parametrize(
    ("key", "stored"),
    [
        ("references", None),
        ("license", "mit"),
        ("language", "tur"),
        ("description", "<p>Land cover.</p>"),
        ("keywords", ["captions"]),
        ("creators", [{**METADATA["creators"][0], "orcid": None}]),
        ("creators", []),
        ("related_identifiers", [{"identifier": "10.1000/182", "relation": "cites"}]),
        ("related_identifiers", [{"identifier": "10.1000/183", "relation": "isDerivedFrom"}]),
    ],
)
def test_what_was_dropped_or_changed_is_named(key: str, stored: object) -> None:
    [line] = lost_metadata(METADATA, {**STORED, key: stored})
    assert line.startswith(f"{key}: sent ")


def test_the_order_of_authors_matters() -> None:
    two = [{"name": "First, A."}, {"name": "Second, B."}]
    assert lost_metadata({"creators": two}, {"creators": two}) == []
    assert len(lost_metadata({"creators": two}, {"creators": two[::-1]})) == 1
