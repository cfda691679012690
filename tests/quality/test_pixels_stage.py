"""Quality, realism and duplicates as columns of every row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from builder.core.engine import Engine
from builder.core.store import Store
from builder.land.columns import BY_NAME
from builder.land.pictures import decode_png, encode_png, image_column
from builder.pipeline.project import Project
from builder.quality.duplicates import Duplicates, DuplicatesSection, pixel_digest
from builder.quality.pixels import MEASURES, Quality, measure_pixels
from builder.steps.plan import run
from builder.steps.stage import shards
from tests.makers.stages import by_default

REAL, DRAWN = "real-X-0", "synthetic-a-00000"


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


def near(image: np.ndarray) -> np.ndarray:
    """Another picture to a computer, the same one to the eye."""
    return np.where(image < 255, image + 1, image).astype(np.uint8)


def write(store: Store, shard: str, images: list[np.ndarray], splits: list[int | None]) -> None:
    ids = [f"{shard.split('-')[0]}/{i}" for i in range(len(images))]
    columns = {
        "id": pa.array(ids, pa.string()),
        "image": image_column([encode_png(image) for image in images], ids),
        "mask": image_column([encode_png(np.ones(i.shape[:2], np.uint8)) for i in images], ids),
        "split": pa.array(splits, pa.int64()),
    }
    stage = "tiles" if shard == REAL else "layouts"
    store.write(stage, shard, pa.table(columns), key="k")


def clusters(store: Store) -> dict[str, tuple[str | None, str | None, bool]]:
    for stage in (
        Quality("real"),
        Quality("synthetic"),
        by_default(Duplicates, DuplicatesSection()),
    ):
        assert not run(stage, store, Engine()).failed
    return {
        row["id"]: (
            row["duplicate_cluster"],
            row["near_duplicate_cluster"],
            row["repeats_held_out"],
        )
        for _, table in store.scan([REAL, DRAWN], ("id", *Duplicates.adds))
        for row in table.to_pylist()
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "work")


def test_every_row_of_a_project_has_its_measures(project: Project) -> None:
    for shard in shards(project.store, ("real", "synthetic")):
        table = project.store.read(shard, ("id", "image", "pixel_sha256", "realism", *MEASURES))
        for row in table.to_pylist()[:1]:
            image = decode_png(row["image"]["bytes"])
            measures = measure_pixels(image)
            assert [row[name] for name in MEASURES] == pytest.approx(list(measures.values()))
            assert row["pixel_sha256"] == pixel_digest(image)
            assert row["realism"] > 0
    assert all(BY_NAME[name].made_by == "quality" for name in MEASURES)


def test_clusters_join_equal_and_nearly_equal_tiles_of_both_kinds(store: Store) -> None:
    a, b, c = picture(0), picture(1), picture(2)
    write(store, REAL, [a, b, c, near(c)], [0, 0, 2, 2])
    write(store, DRAWN, [b, near(b), picture(3)], [0, 0, 0])
    assert clusters(store) == {
        "real/0": (None, None, False),
        "real/1": ("real/1", "real/1", False),
        "real/2": (None, "real/2", False),
        "real/3": (None, "real/2", False),
        "synthetic/0": ("real/1", "real/1", False),
        "synthetic/1": (None, "real/1", False),
        "synthetic/2": (None, None, False),
    }


def test_a_synthetic_tile_that_repeats_a_test_tile_is_marked_and_bridges_nothing(
    store: Store,
) -> None:
    a = picture(0)
    far = np.clip(a.astype(int) + 6, 0, 255).astype(np.uint8)  # too far from a, not from a + 3
    middle = np.clip(a.astype(int) + 3, 0, 255).astype(np.uint8)
    write(store, REAL, [a, far, picture(1)], [0, 2, None])
    write(store, DRAWN, [middle, picture(1)], [0, 0])
    assert clusters(store) == {
        "real/0": (None, None, False),
        "real/1": (None, None, False),
        "real/2": (None, None, False),  # no split took it
        "synthetic/0": (None, "real/0", True),
        "synthetic/1": (None, None, False),
    }


def test_shards_without_rows_go_through(store: Store) -> None:
    write(store, REAL, [], [])
    write(store, DRAWN, [], [])
    assert clusters(store) == {}
