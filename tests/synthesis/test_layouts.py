"""Layouts of synthetic rows: from train tiles only, balanced as asked, recorded and repeatable."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.classes import CLASSES, count_pixels
from builder.land.pictures import (
    composition_columns,
    decode_mask,
    encode_png,
    image_bytes,
    image_column,
)
from builder.steps.plan import plan, run, survey
from builder.steps.stage import shards
from builder.synthesis import transforms
from builder.synthesis.layouts import Layouts
from builder.synthesis.section import GeneratorSection
from tests.makers.stages import by_default

GRASS, WATER = CLASSES.index("Grass"), CLASSES.index("Water")


def layouts(**settings: Any) -> Layouts:
    values = {"seed": 0, "target": "natural", "shard_rows": 8, **settings}
    return by_default(Layouts, GeneratorSection(), **values)


def half_water(share: float) -> np.ndarray:
    mask = np.full((256, 256), GRASS, dtype=np.uint8)
    mask[: round(256 * share)] = WATER
    mask[-1, :7] = np.arange(7)  # every class is there
    return mask


@pytest.fixture
def store(tmp_path) -> Store:
    """Twelve tiles of two shards, mostly grass, some with water; every third is a test tile."""
    store = Store(tmp_path / "work")
    for shard in range(2):
        ids = [f"real/N00E00{shard}_000_{i:03d}" for i in range(6)]
        masks = [half_water(0.1 * (i % 4)) for i in range(6)]
        names = [name.split("/")[1] + ".png" for name in ids]
        table = pa.table(
            {
                "id": pa.array(ids),
                "mask": image_column([encode_png(mask) for mask in masks], names),
                **composition_columns(np.stack([count_pixels(mask) for mask in masks])),
                "split": pa.array([2 if i % 3 == 2 else 0 for i in range(6)], pa.int64()),
            }
        )
        store.write("tiles", f"real-N00E00{shard}-00", table, key="k")
    return store


def rows_of(store: Store) -> list[dict]:
    names = ("id", "gen_layout", "gen_transform", "gen_seed", "layout", "split")
    return [row for s in shards(store, ("synthetic",)) for row in store.read(s, names).to_pylist()]


def test_layouts_come_from_train_tiles_only_and_say_how_they_were_changed(store):
    run(layouts(rows=20, shard_rows=7), store, Engine())
    rows = rows_of(store)
    assert [row["id"] for row in rows] == [f"synthetic/a/{i:07d}" for i in range(20)]
    source = {}
    for shard in shards(store, ("real",)):
        table = store.read(shard, ("id", "mask", "split"))
        masks = image_bytes(table.column("mask"))
        for id_, data, split in zip(
            table.column("id").to_pylist(), masks, table.column("split").to_pylist(), strict=True
        ):
            source[id_] = (decode_mask(data, id_), split)
    for row in rows:
        mask, split = source[row["gen_layout"]]
        assert split == 0
        expected = transforms.apply(transforms.parse(row["gen_transform"]), mask)
        assert (decode_mask(row["layout"]["bytes"], row["id"]) == expected).all()
    assert len({(row["gen_layout"], row["gen_transform"]) for row in rows}) == 20
    assert len({row["gen_seed"] for row in rows}) == 20


def write_tiles(store: Store, masks: list[np.ndarray]) -> None:
    """Train tiles of one shard."""
    ids = [f"real/N00E000_000_{i:03d}" for i in range(len(masks))]
    table = {
        "id": pa.array(ids),
        "mask": image_column([encode_png(mask) for mask in masks], ids),
        **composition_columns(np.stack([count_pixels(mask) for mask in masks])),
        "split": pa.array([0] * len(ids), pa.int64()),
    }
    store.write("tiles", "real-N00E000-00", pa.table(table), key="k")


@pytest.mark.parametrize(("shape", "looks"), [("one class", 1), ("halves", 4), ("every class", 8)])
def test_repeats_differ_as_far_as_masks_do_and_the_others_are_counted(tmp_path, shape, looks):
    store = Store(tmp_path / "work")
    plain = [np.full((256, 256), k, dtype=np.uint8) for k in range(3)]
    for k, mask in enumerate(plain):
        mask[:128] = k + (shape == "halves")
        if shape == "every class":
            mask[0] = np.arange(256) % 7
    write_tiles(store, plain)
    summary = run(layouts(rows=24), store, Engine())
    rows = rows_of(store)
    assert len({row["gen_seed"] for row in rows}) == 24  # the noise differs anyway
    assert len({(row["gen_layout"], row["gen_transform"]) for row in rows}) == 24
    assert len({row["layout"]["bytes"] for row in rows}) == 3 * looks
    assert summary.counts == {"repeats_that_look_alike": 24 - 3 * looks}


def test_a_target_is_met_in_the_layouts_that_are_written(store):
    target = "Water=0.15"
    run(layouts(rows=40, target=target, seed=3), store, Engine())
    counts = sum(
        count_pixels(decode_mask(row["layout"]["bytes"], row["id"])) for row in rows_of(store)
    )
    assert counts[WATER] / counts.sum() == pytest.approx(0.15, abs=0.01)


def test_variants_make_a_target_reachable_that_tiles_alone_do_not_reach(store):
    alone = layouts(rows=16, target="Water=0.5")
    with pytest.raises(ArasError, match="NOT met"):
        survey(alone, store)
    nearest = layouts(rows=16, target="Water=0.5", nearest=True)
    assert not survey(nearest, store).plan.feasible
    changed = survey(layouts(rows=16, target="Water=0.29", variants=6), store)
    assert changed.plan.feasible
    assert any(candidate.change != transforms.Transform() for candidate in changed.candidates)


def test_no_rows_make_no_shards_and_a_changed_target_remakes_all(store):
    assert run(layouts(rows=0), store, Engine()).shards == 0
    run(layouts(rows=8), store, Engine())
    assert not plan(layouts(rows=8), store).stale
    assert plan(layouts(rows=8, target="Water=0.15"), store).stale


def test_processes_and_parts_write_what_serial_writes(store, tmp_path):
    stage = layouts(rows=24, shard_rows=5)
    digest = run(stage, store, Engine()).digest
    for shard in shards(store, ("synthetic",)):
        store.remove("layouts", shard)
    assert run(stage, store, Engine("processes", 2)).digest == digest
    for shard in shards(store, ("synthetic",)):
        store.remove("layouts", shard)
    for part in (2, 1):
        run(stage, store, Engine(), (part, 2))
    assert run(stage, store, Engine()).digest == digest


def test_no_train_tile_is_a_clear_error(store):
    for shard in store.shards("tiles"):
        table = store.load("tiles", shard)
        held_out = pa.array([2] * table.num_rows, pa.int64())
        place = table.column_names.index("split")
        store.write("tiles", shard, table.set_column(place, "split", held_out), key="k")
    with pytest.raises(ArasError, match=r"no train tile .*\[split\]"):
        run(layouts(rows=4), store, Engine())
    with pytest.raises(ArasError, match="there are no tiles yet: run `aras tiles`"):
        run(layouts(rows=4), Store(store.root / "empty"), Engine())
