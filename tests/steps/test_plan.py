"""What is stale is remade, all of it and nothing else, on any engine and in any number of parts."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from builder.core import files
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land import columns
from builder.steps.plan import Summary, plan, run
from builder.steps.stage import Maker, Output, Stage
from tests.makers.shards import damage, digests, marks
from tests.makers.toy import Caption, Halves, Score, Source

CHAIN: tuple[Stage, ...] = (Source(), Halves(), Caption(), Score())


def build(store: Store, stages: Any = CHAIN, engine: Engine | None = None) -> dict[str, Summary]:
    return {stage.name: run(stage, store, engine or Engine()) for stage in stages}


def remade(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Stages of which a file is new or was written again."""
    return {name.split("/")[0] for name in after if before.get(name) != after[name]}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = Store(tmp_path_factory.mktemp("reference"))
    build(store)
    return digests(store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


@pytest.fixture
def built(store: Store) -> Store:
    build(store)
    return store


def test_processes_give_the_digest_of_serial(store: Store, reference: dict[str, str]) -> None:
    summaries = build(store, engine=Engine("processes", 2))
    assert digests(store) == reference
    assert {summary.shards_made for summary in summaries.values()} == {4}


def test_three_parts_together_give_the_digest_of_the_whole(
    store: Store, reference: dict[str, str]
) -> None:
    for stage in CHAIN:
        shards = [run(stage, Store(store.root), Engine(), (i, 3)).shards_made for i in (1, 2, 3)]
        assert sorted(shards) == [1, 1, 2]
    assert digests(store) == reference
    assert {summary.shards_made for summary in build(store).values()} == {
        0
    }  # the whole finds nothing to do


def test_the_summary_of_a_rerun_is_that_of_the_run(built: Store) -> None:
    first, second = (build(Store(root))["tiles"] for root in (built.root, built.root))
    assert (second.shards_made, second.rows_made) == (0, 0)
    assert (second.shards, second.rows, second.counts) == (4, 32, {"kept": 32})
    assert second.digest == first.digest


def test_a_rerun_with_nothing_to_do_writes_nothing(built: Store) -> None:
    before = marks(built.root)
    build(Store(built.root))
    assert marks(built.root) == before


CHANGES = [
    (Source(seed=1), {"tiles", "split", "caption-toy", "segment"}),
    (Halves(margin=0.1), {"split"}),
    (Caption(word="spot"), {"caption-toy", "segment"}),
    (Score(scale=2.0), {"segment"}),
]


@pytest.mark.parametrize(("changed", "stages"), CHANGES, ids=[repr(stage) for stage, _ in CHANGES])
def test_a_changed_setting_remakes_exactly_the_stages_that_depend_on_it(
    built: Store, changed: Stage, stages: set[str]
) -> None:
    before = marks(built.root)
    build(Store(built.root), [changed if stage.name == changed.name else stage for stage in CHAIN])
    assert remade(before, marks(built.root)) == stages


def test_the_same_bytes_upstream_stop_the_propagation(built: Store) -> None:
    before, source = marks(built.root), digests(built)

    @dataclasses.dataclass(frozen=True)
    class Renewed(Source):
        version = 2

    build(Store(built.root), [Renewed(), *CHAIN[1:]])
    assert remade(before, marks(built.root)) == {"tiles"}
    assert digests(built) == source


def test_a_setting_that_only_changes_the_speed_remakes_nothing(built: Store) -> None:
    before = marks(built.root)
    build(Store(built.root), [*CHAIN[:2], Caption(mute="real-00001"), *CHAIN[3:]])
    assert marks(built.root) == before


def test_a_new_member_of_a_column_makes_exactly_its_stages_stale(
    built: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = pa.struct([*columns.CAPTION, pa.field("language", pa.string())])
    monkeypatch.setitem(columns._BY_PREFIX, columns.STREAM_PREFIX, wider)
    stale = {stage.name: len(plan(stage, Store(built.root)).stale) for stage in CHAIN}
    assert stale == {"tiles": 0, "split": 0, "caption-toy": 4, "segment": 0}


def test_another_model_remakes_what_it_made(built: Store) -> None:
    @dataclasses.dataclass(frozen=True)
    class Modelled(Score):
        sha256: str = dataclasses.field(default="", metadata={"identity": False})

        def models(self) -> dict[str, str]:
            return {"scorer": self.sha256}

    for sha256, remade in (("a", 4), ("a", 0), ("b", 4)):
        assert run(Modelled(sha256=sha256), built, Engine()).shards_made == remade


def test_new_shards_are_made_and_surveyed_and_old_ones_stay(built: Store) -> None:
    before = marks(built.root)
    build(Store(built.root), [Source(shards=5), *CHAIN[1:]])
    after = marks(built.root)
    again = {name for name in before if after[name] != before[name]}
    assert {name.split("/")[0] for name in again} == {"split"}  # the survey saw another shard
    assert len(after) == len(before) + 4


def test_shards_that_are_no_longer_wanted_disappear_everywhere(built: Store) -> None:
    build(Store(built.root), [Source(shards=2), *CHAIN[1:]])
    assert {name.split("/")[1] for name in marks(built.root)} == {
        "real-00000.parquet",
        "real-00001.parquet",
    }


@pytest.mark.parametrize(
    "engine", [Engine(), Engine("processes", 2)], ids=lambda engine: engine.kind
)
def test_a_failed_shard_is_named_and_does_not_stop_the_others(
    store: Store, reference: dict[str, str], engine: Engine
) -> None:
    summary = run(Source(troubles=(("real-00001", "fail"),)), store, engine)
    assert summary.failed == {"real-00001": "real-00001 was told to fail"}
    assert (summary.shards_made, summary.rows) == (3, 24)
    before = marks(store.root)
    assert len(before) == 3
    summary = run(Source(), store, engine)  # the reason is gone: only that one is made
    assert (summary.shards_made, summary.failed) == (1, {})
    assert {name: marks(store.root)[name] for name in before} == before
    assert digests(store) == {k: v for k, v in reference.items() if k.startswith("tiles")}


def test_a_worker_that_dies_fails_only_its_own_shard(store: Store) -> None:
    summary = run(Source(troubles=(("real-00002", "die"),)), store, Engine("processes", 2))
    assert list(summary.failed) == ["real-00002"]
    assert "its worker process died" in summary.failed["real-00002"]
    assert store.shards("tiles") == ["real-00000", "real-00001", "real-00003"]
    assert all(not name.split("/")[1].startswith(".") for name in marks(store.root))


def test_rows_with_errors_are_tried_again_alone(store: Store) -> None:
    run(Source(), store, Engine())
    summary = run(Caption(mute="real-00001/"), store, Engine())
    assert (summary.shards_made, summary.row_errors, summary.failed) == (4, 7, {})
    before = marks(store.root)
    first = store.load("caption-toy", "real-00001").column(0).to_pylist()
    assert [cell["text"] is None for cell in first] == [False] + [True] * 7

    summary = run(Caption(), Store(store.root), Engine())
    assert (summary.shards_made, summary.row_errors) == (1, 0)
    cells = store.load("caption-toy", "real-00001").column(0).to_pylist()
    assert cells[0] == first[0]  # the text that the first run wrote, not a new one
    assert all(cell["text"].endswith("by nobody") for cell in cells[1:])
    changed = {name for name, mark in marks(store.root).items() if before[name] != mark}
    assert changed == {"caption-toy/real-00001.parquet"}


def test_a_changed_setting_makes_all_rows_again_not_only_the_failed_ones(store: Store) -> None:
    run(Source(), store, Engine())
    run(Caption(mute="real-00001/"), store, Engine())
    run(Caption(word="spot"), store, Engine())
    cells = store.load("caption-toy", "real-00001").column(0).to_pylist()
    assert all(cell["text"].startswith("spot ") for cell in cells)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("stage", [stage.name for stage in CHAIN])
def test_a_damaged_shard_is_found_by_its_time_and_remade(
    built: Store, reference: dict[str, str], stage: str, how: str
) -> None:
    before = marks(built.root)
    damage(built, f"{stage}/real-00002.parquet", how)
    summaries = build(Store(built.root))
    assert {name: summary.shards_made for name, summary in summaries.items()} == {
        member.name: int(member.name == stage) for member in CHAIN
    }
    assert digests(built) == reference
    after = marks(built.root)
    assert {name for name in after if after[name] != before[name]} == {
        f"{stage}/real-00002.parquet"
    }


def test_a_flipped_bit_under_an_old_time_fails_the_shards_that_read_it(built: Store) -> None:
    damage(built, "tiles/real-00002.parquet", "flipped, time kept")
    summary = run(Caption(word="spot"), Store(built.root), Engine())
    assert summary.corrupt == ["tiles/real-00002"]
    assert "work/tiles/real-00002.parquet is corrupt" in summary.failed["real-00002"]
    assert summary.shards_made == 3
    assert [task.unit.shard for task in plan(Source(), built).stale] == ["real-00002"]


def test_planning_changes_nothing_not_even_what_is_damaged(built: Store) -> None:
    damage(built, "tiles/real-00002.parquet", "truncated")
    before = marks(built.root)
    assert [task.unit.shard for task in plan(Source(), Store(built.root)).stale] == ["real-00002"]
    assert marks(built.root) == before


def test_a_stage_that_needs_what_nobody_made_says_so(store: Store) -> None:
    run(Source(), store, Engine())
    with pytest.raises(ArasError, match=r"real-00000 has no column caption_toy yet"):
        plan(Score(), store)


def test_a_stage_that_loses_rows_fails_its_shards_and_writes_nothing(store: Store) -> None:
    class Forgetful(Score):
        def open(self, store: Store, survey: Any) -> Maker:
            return lambda table: Output(pa.table({"mask_agreement": pa.array([1.0], pa.float32())}))

    build(store, CHAIN[:3])
    summary = run(Forgetful(), store, Engine())
    assert set(summary.failed.values()) == {
        f"segment returned 1 rows for 8 in {shard}" for shard in store.shards("tiles")
    }
    assert store.shards("segment") == []
    assert summary.shards_made == 0


def test_a_column_left_by_a_stage_of_another_recipe_is_never_read(built: Store) -> None:
    class Rival(Score):
        name = "label"

    run(Rival(scale=9.0), built, Engine())
    wanted = built.load("label", "real-00000").column(0)
    assert built.read("real-00000", ["mask_agreement"]).column(0).equals(wanted)
    build(Store(built.root))
    assert built.shards("label") == []
    assert not built.read("real-00000", ["mask_agreement"]).column(0).equals(wanted)


def test_a_source_is_never_removed_for_a_column_that_a_stage_makes_anew(built: Store) -> None:
    class Rival(Caption):
        name = "caption-rival"
        adds = ("source",)

        def open(self, store: Store, survey: Any) -> Maker:
            return lambda table: Output(pa.table({"source": table.column("id")}))

    run(Rival(), built, Engine())
    assert len(built.shards("tiles")) == 4


def test_leftovers_of_a_killed_run_are_swept(built: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = built.root / "tiles" / f".real-00000.parquet.{files._HOST}.{process.pid}.0.tmp"
    left.write_bytes(b"torn")
    run(Source(), built, Engine())
    assert not left.exists()
