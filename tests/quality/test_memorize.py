"""Copies of train tiles are found, named and counted; unseen-looking tiles are not."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.pictures import decode_png, encode_png, image_bytes, image_column
from builder.models import segmenter
from builder.models.neighbours import matrix
from builder.pipeline.project import Project
from builder.quality.copies import Copies, Frames
from builder.quality.memorize import SYMMETRIES, MemorizationSection, Memorize, Turned, symmetries
from builder.quality.pixels import Quality
from builder.quality.segment import Segment
from builder.steps.plan import run, survey
from builder.steps.stage import shards
from builder.synthesis.transforms import DIHEDRAL
from tests.makers.stages import by_default

D = 8


def memorize(**settings: float) -> Memorize:
    return by_default(Memorize, MemorizationSection(), **settings)


def write(store: Store, stage: str, shard: str, ids, features, hashes, **more) -> None:
    """Rows that look the same however they are turned."""
    columns = {
        "id": pa.array(ids),
        "features": pa.array(list(features), pa.list_(pa.float32())),
        "turned_features": pa.array([np.tile(f, 7) for f in features], pa.list_(pa.float32())),
        "phash": pa.array(hashes, pa.uint64()),
        "turned_hashes": pa.array([[h] * 7 for h in hashes], pa.list_(pa.uint64())),
    }
    columns |= {name: pa.array(values, pa.int64()) for name, values in more.items()}
    store.write(stage, shard, pa.table(columns), key="k")


@pytest.fixture
def store(tmp_path) -> Store:
    """Forty real tiles in two shards (30 train, 8 test, 2 set aside) and four synthetic ones."""
    store = Store(tmp_path / "work")
    rng = np.random.default_rng(0)
    real = rng.standard_normal((40, D)).astype(np.float32)
    splits = [0] * 30 + [2] * 8 + [None] * 2
    hashes = rng.integers(0, 2**63, 40, dtype=np.uint64)
    for i, part in enumerate((slice(0, 25), slice(25, 40))):
        ids = [f"real/{n:02d}" for n in range(40)][part]
        write(store, "tiles", f"real-{i}", ids, real[part], hashes[part], split=splits[part])
    write(store, "tiles", "real-2", [], [], [], split=[])
    fresh = rng.standard_normal(D).astype(np.float32)
    synthetic = [real[7] + 1e-3, fresh, real[35], real[3] + 0.1]
    bits = np.array([1, 2, 3, int(hashes[3]) ^ 0b111], dtype=np.uint64)
    ids = [f"synthetic/a/{i}" for i in range(4)]
    write(store, "layouts", "synthetic-a-00000", ids, synthetic, bits)
    return store


def made_of(store: Store, *more: str) -> list[dict]:
    names = ("id", "nearest_real_id", "nearest_real_ratio", "suspected", *more)
    return store.read("synthetic-a-00000", names).to_pylist()


def test_a_near_tile_is_named_and_suspected_and_a_fresh_tile_is_not(store):
    summary = run(memorize(copy_ratio=0.01, copy_bits=-1), store, Engine())
    rows = made_of(store)
    assert rows[0]["nearest_real_id"] == "real/07"
    assert [row["suspected"] for row in rows] == [True, False, False, False]
    assert summary.counts == {"suspected": 1}


def test_the_ratio_is_the_distance_over_the_usual_one_from_test_to_train(store):
    run(memorize(), store, Engine())
    tables = [store.read(f"real-{i}", ("split", "features")) for i in range(2)]
    features = np.concatenate([matrix(t.column("features")) for t in tables])
    splits = [s for t in tables for s in t.column("split").to_pylist()]
    train = features[[s == 0 for s in splits]]
    test = features[[s == 2 for s in splits]]
    usual = np.median([np.linalg.norm(train - features, axis=1).min() for features in test])
    fake = matrix(store.read("synthetic-a-00000", ("features",)).column("features"))
    expected = [np.linalg.norm(train - features, axis=1).min() / usual for features in fake]
    assert [row["nearest_real_ratio"] for row in made_of(store)] == pytest.approx(expected)


def test_test_and_set_aside_tiles_are_not_in_the_gallery(store):
    gallery = survey(memorize(), store)
    assert gallery.ids == [f"real/{n:02d}" for n in range(30)]
    run(memorize(), store, Engine())
    assert made_of(store)[2]["nearest_real_id"] != "real/35"  # a test tile's own features


def test_a_perceptual_hash_alone_can_make_a_suspect(store):
    run(memorize(copy_ratio=0, copy_bits=3), store, Engine())
    rows = made_of(store)
    assert rows[3]["nearest_real_id"] == "real/03"
    assert [row["suspected"] for row in rows] == [False, False, False, True]


def test_a_hash_is_compared_with_that_of_every_train_tile(store):
    table = store.read("real-0", ("phash",))
    hashes = [int(table.column("phash")[11].as_py()) ^ 0b11]
    features = store.read("real-0", ("features",)).column("features").to_pylist()[7]
    write(store, "layouts", "synthetic-a-00001", ["synthetic/a/4"], np.array([features]), hashes)
    run(memorize(copy_ratio=0), store, Engine())
    (row,) = store.read("synthetic-a-00001", ("nearest_real_id", "suspected")).to_pylist()
    assert row == {
        "nearest_real_id": "real/11",
        "suspected": True,
    }  # nearest in features is real/07


def test_without_test_tiles_there_is_nothing_to_calibrate_with(tmp_path):
    empty = Store(tmp_path / "work")
    write(empty, "tiles", "real-0", ["real/0"], np.ones((1, D)), [1], split=[0])
    write(empty, "layouts", "synthetic-a-00000", ["synthetic/a/0"], np.ones((1, D)), [1])
    with pytest.raises(ArasError, match=r"split is empty.*\[split\]"):
        run(memorize(), empty, Engine())


TRAIN, TEST = 0, 2


@pytest.fixture(scope="module")
def forged(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project's real tiles and its segmenter, and synthetic tiles that are to be drawn."""
    copy = Project(tmp_path_factory.mktemp("forged"))
    shutil.copy(project.directory / "dataset.toml", copy.directory)
    shutil.copytree(project.directory / "inputs", copy.directory / "inputs")
    shutil.copytree(project.models / "segmenter", copy.models / "segmenter")
    for stage in ("tiles", "split", "quality-real"):
        shutil.copytree(project.store.root / stage, copy.store.root / stage)
    return copy


def tiles_of(project: Project, split: int) -> dict[str, np.ndarray]:
    """Pictures of the real tiles of a split, by id."""
    tiles = {}
    for shard in shards(project.store, ("real",)):
        table = project.store.read(shard, ("id", "image", "split"))
        for row in table.to_pylist():
            if row["split"] == split:
                tiles[row["id"]] = decode_png(row["image"]["bytes"])
    return tiles


def judge(project: Project, images: list[np.ndarray], **settings) -> list[dict]:
    """What `Memorize` says of ``images`` as synthetic tiles; all stages before it are run."""
    ids = [f"synthetic/a/{i:07d}" for i in range(len(images))]
    names = [f"{i}.png" for i in range(len(images))]
    blank = encode_png(np.zeros(images[0].shape[:2], np.uint8))
    table = {
        "id": pa.array(ids),
        "image": image_column([encode_png(np.ascontiguousarray(image)) for image in images], names),
        "mask": image_column([blank] * len(images), names),
    }
    project.store.write("layouts", "synthetic-a-00000", pa.table(table), key="k")
    model = project.models / "segmenter"
    turned = [Turned(kind=kind, model=model) for kind in ("real", "synthetic")]
    frames = [Frames(kind=kind) for kind in ("real", "synthetic")]
    judges = (*turned, memorize(**settings), *frames, Copies())
    for stage in (Quality(kind="synthetic"), Segment(model=model), *judges):
        assert not run(stage, project.store, Engine()).failed
    return made_of(project.store, "copy", "copied_from")


def test_a_turned_or_flipped_copy_of_a_train_tile_is_a_copy(forged: Project) -> None:
    known = list(tiles_of(forged, TRAIN).items())[:3]
    copies = [(name, copy) for name, tile in known for copy in symmetries(tile)]
    for settings in ({"copy_bits": -1}, {"copy_ratio": 0.0}):  # by features, by hash
        rows = judge(forged, [copy for _, copy in copies], **settings)
        assert [row["nearest_real_id"] for row in rows] == [name for name, _ in copies]
        assert [row["suspected"] for row in rows] == [True] * len(copies)
        assert [row["nearest_real_ratio"] for row in rows] == [0.0] * len(copies)
    assert [row["copied_from"]["id"] for row in rows] == [name for name, _ in copies]
    turns = [row["copied_from"]["turn"] for row in rows]
    assert turns == [str(transform) for transform in DIHEDRAL] * len(known)


def test_a_brightened_copy_is_a_copy_and_names_its_tile(forged: Project) -> None:
    known = list(tiles_of(forged, TRAIN).items())[:6]
    bright = [np.clip(tile.astype(int) + 10, 0, 255).astype(np.uint8) for _, tile in known]
    rows = judge(forged, [np.rot90(tile) for tile in bright], copy_ratio=0.01)
    assert [row["nearest_real_ratio"] > 0.01 for row in rows] == [True] * len(rows)
    assert [(row["nearest_real_id"], row["copy"]) for row in rows] == [
        (name, True) for name, _ in known
    ]
    assert [row["copied_from"]["id"] for row in rows] == [name for name, _ in known]


def test_another_tile_is_no_copy(forged: Project) -> None:
    rows = judge(forged, list(tiles_of(forged, TEST).values()), copy_ratio=0.01)
    assert [row["copy"] for row in rows] == [False] * len(rows)


def test_test_tiles_are_turned_too_so_that_their_median_ratio_is_one(forged: Project) -> None:
    rows = judge(forged, list(tiles_of(forged, TEST).values()))
    assert np.median([row["nearest_real_ratio"] for row in rows]) == pytest.approx(1, rel=1e-5)


def test_only_rows_that_are_compared_are_turned(forged: Project) -> None:
    judge(forged, list(tiles_of(forged, TEST).values())[:1])
    model = segmenter.load(forged.models / "segmenter")
    for shard in shards(forged.store, ("real",)):
        table = forged.store.read(shard, ("split", "image", "turned_features", "turned_hashes"))
        for row, data in zip(table.to_pylist(), image_bytes(table.column("image")), strict=True):
            assert (row["turned_hashes"] is None) == (row["split"] != TEST)
            if row["turned_hashes"] is not None:
                others = symmetries(decode_png(data))[1:]
                assert len(others) == len(row["turned_hashes"]) == SYMMETRIES - 1
                expected = segmenter.look(model, others)[1].ravel()
                assert row["turned_features"] == pytest.approx(expected)
