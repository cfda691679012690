"""A file under its name is whole; a damaged one is found, and never used."""

import io
import os
import pickle
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.bucket import Bucket, StoreSection
from builder.core.errors import ArasError
from builder.core.store import CorruptShard, Footer, Store
from tests.loopback import s3

SHARD = "tiles/real-0.parquet"


def table(rows: int = 40, word: str = "row") -> pa.Table:
    return pa.table(
        {
            "id": pa.array([f"{word}/{i}" for i in range(rows)]),
            "longitude": pa.array([i / 7 for i in range(rows)]),
            "image": pa.array(
                [{"bytes": random.Random(i).randbytes(60), "path": f"{i}.png"} for i in range(rows)]
            ),
        }
    )


@pytest.fixture(scope="module")
def server() -> Iterator[s3.S3]:
    with s3.serving() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(Store(tmp_path / "work"))


@pytest.fixture
def bucket(tmp_path: Path, server: s3.S3, monkeypatch: pytest.MonkeyPatch) -> Store:
    server.empty()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    section = StoreSection(url="s3://tiles/demo")
    return filled(Store.of_recipe(tmp_path / "work", section))


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> Store:
    """What holds of both places: the contract of `ShardFiles`."""
    return request.getfixturevalue(request.param)


def filled(store: Store) -> Store:
    store.write("tiles", "real-0", table(), key="k", errors=2, counts={"kept": 40})
    return store


def again(store: Store) -> Store:
    """The store as another process sees it."""
    return pickle.loads(pickle.dumps(store))


def body_of(store: Store, name: str) -> bytes:
    if isinstance(store.files, Bucket):
        return store.files.objects.get(name)
    return (store.root / name).read_bytes()


def put(store: Store, name: str, body: bytes) -> None:
    """Somebody else's bytes; in a folder with the time that the file had, if it was there."""
    if isinstance(store.files, Bucket):
        store.files.objects.overwrite(name, body)
        return
    path = store.root / name
    stamp = path.stat().st_mtime_ns if path.exists() else None
    path.write_bytes(body)
    if stamp is not None:
        os.utime(path, ns=(stamp, stamp))


def flipped(body: bytes, place: int) -> bytes:
    changed = bytearray(body)
    changed[place] ^= 1 << (place % 8)
    return bytes(changed)


def test_what_is_written_is_read_back_with_its_footer(store: Store) -> None:
    assert store.load("tiles", "real-0").equals(table())
    assert store.load("tiles", "real-0", ["longitude"]).column_names == ["longitude"]
    footer = again(store).footer("tiles", "real-0")
    assert footer is not None
    assert (footer.key, footer.rows, footer.errors) == ("k", 40, 2)
    assert footer.counts == {"kept": 40}
    assert footer.digests.keys() == {"id", "longitude", "image"}
    assert [store.stages(), store.shards("tiles")] == [["tiles"], ["real-0"]]


def test_equal_tables_have_equal_digests_and_others_have_not(store: Store) -> None:
    footers = [
        store.write("tiles", f"real-{i}", rows, key=str(i))
        for i, rows in enumerate([table(), table(), table(word="other")])
    ]
    assert footers[0].digest == footers[1].digest != footers[2].digest


def test_a_missing_shard_has_no_footer(store: Store) -> None:
    assert store.footer("tiles", "real-1") is None
    assert store.fresh("nothing", "real-0") is None
    assert Store(store.root / "nowhere").stages() == []


def test_columns_are_found_in_whatever_stage_made_them(store: Store) -> None:
    store.write("caption-a", "real-0", pa.table({"caption_a": ["x"] * 40}), key="k")
    store.write("caption-b", "real-0", pa.table({"caption_b": ["y"] * 40}), key="k")
    columns = store.read("real-0", ["caption_b", "id", "caption_a"])
    assert columns.column_names == ["caption_b", "id", "caption_a"]
    assert columns.column("id").equals(table().column("id"))
    assert [stage for stage, _ in store.find("real-0", ["id", "caption_a"]).values()] == [
        "tiles",
        "caption-a",
    ]
    with pytest.raises(ArasError, match=r"real-0 has no column split yet.*aras build"):
        store.read("real-0", ["id", "split"])


def test_every_truncation_is_found(store: Store) -> None:
    body = body_of(store, SHARD)
    for length in [0, 1, 4, 100, len(body) // 2, len(body) - 8, len(body) - 1]:
        put(store, SHARD, body[:length])
        with pytest.raises(CorruptShard, match=r"work/tiles/real-0\.parquet is corrupt"):
            again(store).footer("tiles", "real-0")
        assert again(store).fresh("tiles", "real-0") is None
        with pytest.raises(CorruptShard):
            again(store).load("tiles", "real-0")


def test_a_file_that_was_touched_is_hashed_again_before_it_is_trusted(folder: Store) -> None:
    store = folder
    path = store.path("tiles", "real-0")
    os.utime(path)
    assert again(store).fresh("tiles", "real-0") is not None
    footer = store.footer("tiles", "real-0")
    assert footer is not None
    assert path.stat().st_mtime_ns == footer.written * 10**9  # and then left in peace
    path.write_bytes(flipped(path.read_bytes(), path.read_bytes().index(b"0.png")))
    assert store.fresh("tiles", "real-0") is None  # also by who has read its footer before
    assert again(store).fresh("tiles", "real-0") is None


def test_no_flipped_bit_is_ever_used(store: Store) -> None:
    """Whatever bit flips, with the file's time as it was: the footer read is the one
    that was written or none, and the values read are the ones that were written or none."""
    body = body_of(store, SHARD)
    written, caught = again(store).footer("tiles", "real-0"), 0
    footer_starts = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    rng = random.Random(5)
    few = 20 if isinstance(store.files, Bucket) else 100
    places = {
        *rng.sample(range(footer_starts), few),
        *rng.sample(range(footer_starts, len(body)), few + few // 2),
    }
    for place in sorted(places):
        put(store, SHARD, body)
        put(store, SHARD, flipped(body, place))
        footer = again(store).fresh("tiles", "real-0")
        assert footer in (None, written), f"byte {place}"
        try:
            assert again(store).load("tiles", "real-0").equals(table()), f"byte {place}"
        except CorruptShard:
            caught += 1
            assert again(store).fresh("tiles", "real-0") is None, f"byte {place}"
    assert caught > len(places) / 2


def test_a_shard_that_fails_on_reading_counts_as_missing_until_it_is_made_again(
    store: Store,
) -> None:
    body = body_of(store, SHARD)
    put(store, SHARD, flipped(body, body.index(b"0.png")))
    assert again(store).fresh("tiles", "real-0") is not None  # a plan reads footers only
    with pytest.raises(CorruptShard, match="column image does not match its digest"):
        again(store).load("tiles", "real-0")
    assert again(store).fresh("tiles", "real-0") is None
    store.files.look("tiles", "real-0")
    assert store.fresh("tiles", "real-0") is None
    assert store.shards("tiles") == ["real-0"]  # it keeps its place among the shards
    store.write("tiles", "real-0", table(), key="k")
    assert again(store).fresh("tiles", "real-0") is not None


def test_columns_that_are_not_read_are_not_doubted(store: Store) -> None:
    body = body_of(store, SHARD)
    put(store, SHARD, flipped(body, body.index(b"0.png")))
    assert store.load("tiles", "real-0", ["id"]).column("id").equals(table().column("id"))


def test_a_damaged_file_of_a_stage_that_is_not_needed_does_no_harm(store: Store) -> None:
    store.write("caption-a", "real-0", pa.table({"caption_a": ["x"] * 40}), key="k")
    name = "caption-a/real-0.parquet"
    put(store, name, body_of(store, name)[:50])
    assert again(store).read("real-0", ["id"]).num_rows == 40
    with pytest.raises(CorruptShard, match="caption-a/real-0"):
        again(store).read("real-0", ["id", "caption_a"])


def test_a_parquet_file_of_somebody_else_is_not_a_shard(store: Store) -> None:
    buffer = io.BytesIO()
    pq.write_table(table(), buffer)
    put(store, "tiles/real-1.parquet", buffer.getvalue())
    with pytest.raises(CorruptShard, match="not written by aras"):
        again(store).footer("tiles", "real-1")


def test_trouble_of_the_system_is_not_taken_for_damage(folder: Store) -> None:
    store = folder
    path = store.path("tiles", "real-0")
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        again(store).footer("tiles", "real-0")


def test_a_shard_replaced_by_another_process_is_read_anew(store: Store) -> None:
    assert store.footer("tiles", "real-0") is not None
    again(store).write("tiles", "real-0", table(word="new"), key="new")
    footer = store.look("tiles", "real-0")
    assert footer is not None
    assert footer.key == "new"


def test_a_column_has_one_maker_the_last_that_ran(store: Store) -> None:
    first, two = pa.table({"mask": ["a"] * 3}), pa.table({"mask": ["b"] * 3, "other": [1] * 3})
    for shard in ("synthetic-0", "synthetic-1"):
        store.write("label", shard, two, key="k")
        store.write("generate", shard, first, key="k")
    store.claim("generate", ["mask"], ["synthetic-0"])
    assert store.shards("label") == ["synthetic-1"]
    assert store.read("synthetic-0", ["mask"]).column("mask").to_pylist() == ["a"] * 3
    assert store.shards("tiles") == ["real-0"]


def test_prune_removes_the_shards_that_are_no_longer_wanted(store: Store) -> None:
    store.write("tiles", "real-1", table(), key="k")
    assert store.prune("tiles", ["real-1", "real-2"]) == 1
    assert store.shards("tiles") == ["real-1"]


def test_hidden_files_and_folders_are_no_shards_and_no_stages(store: Store) -> None:
    if not isinstance(store.files, Bucket):
        (store.root / ".cache").mkdir()
    for name in (".cache/x.parquet", "tiles/.real-9.parquet.host.1.0.tmp", ".inputs.json"):
        put(store, name, b"torn")
    store = again(store)
    assert [store.stages(), store.shards("tiles")] == [["tiles"], ["real-0"]]


def test_memory_of_a_scan_is_that_of_one_shard(store: Store) -> None:
    store.write("tiles", "real-1", table(word="two"), key="k")
    scan = store.scan(["real-0", "real-1"], ["id"])
    assert next(scan)[0] == "real-0"
    store.remove("tiles", "real-1")
    with pytest.raises(ArasError):  # it had not been read ahead
        next(scan)


def test_footer_says_nothing_that_was_not_measured(store: Store) -> None:
    footer = store.footer("tiles", "real-0")
    assert isinstance(footer, Footer)
    assert footer.rows == pq.read_metadata(io.BytesIO(body_of(store, SHARD))).num_rows
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in footer.digests.values())


def test_what_footers_say_is_kept_so_that_the_next_plan_opens_no_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    footer = store.footer("tiles", "real-0")
    store.remember("tiles", ["real-0"])
    opened = []
    real = pq.ParquetFile
    monkeypatch.setattr(
        pq, "ParquetFile", lambda *arguments, **more: opened.append(1) or real(*arguments)
    )
    assert again(store).footer("tiles", "real-0") == footer
    assert opened == []
    if isinstance(store.files, Bucket):
        put(store, SHARD, body_of(store, SHARD)[:-9])
        assert again(store).fresh("tiles", "real-0") is None
    else:
        os.utime(store.path("tiles", "real-0"))  # touched: its content is looked at again
        assert again(store).footer("tiles", "real-0") == footer
    assert opened


def test_a_kept_footer_is_not_believed_of_a_file_that_was_replaced(store: Store) -> None:
    store.footer("tiles", "real-0")
    store.remember("tiles", ["real-0"])
    again(store).write("tiles", "real-0", table(word="new"), key="new")
    footer = again(store).footer("tiles", "real-0")
    assert footer is not None
    assert footer.key == "new"


@pytest.mark.parametrize("text", ["", "[]", '{"real-0": [[1, 2, 3, 4], {"key": "x"}]}'])
def test_kept_footers_that_are_damaged_are_passed_over(store: Store, text: str) -> None:
    footer = store.footer("tiles", "real-0")
    store.remember("tiles", ["real-0"])
    put(store, ".footers/tiles.json", text.encode())
    assert again(store).footer("tiles", "real-0") == footer


def test_kept_footers_are_no_stage_and_forget_what_is_gone(store: Store) -> None:
    store.footer("tiles", "real-0")
    store.remember("tiles", ["real-0"])
    store.remove("tiles", "real-0")
    assert again(store).footer("tiles", "real-0") is None
    assert ".footers" not in again(store).stages()
