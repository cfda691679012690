"""Copies of train tiles, whole and in parts, are marked with the piece they copy."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy import ndimage

from builder.core.engine import Engine
from builder.core.store import Store
from builder.land.pictures import encode_png, image_column
from builder.quality import copies
from builder.quality.copies import Block, Copies, Copy, Frames, find_copies
from builder.quality.memorize import symmetries
from builder.quality.patches import frame_of, patches_of
from builder.steps.plan import run
from builder.synthesis.transforms import DIHEDRAL, apply

SIZE = 128
PLAIN = np.zeros((SIZE, SIZE), np.uint8)


def land(seed: int, mask: np.ndarray = PLAIN, size: int = SIZE) -> np.ndarray:
    """A tile of grain at three scales, in a colour for each class."""
    rng = np.random.default_rng(seed)
    grain = sum(
        ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma) * sigma * 20
        for sigma in (1.5, 3, 6)
    )
    levels = 90 + 40.0 * mask + grain
    return np.repeat(np.clip(levels, 0, 255)[..., None], 3, axis=2).astype(np.uint8)


TRAIN = [land(seed) for seed in range(24)]
FRESH = land(1000)


def gallery(tiles: list[np.ndarray], masks: list[np.ndarray] | None = None) -> list[Block]:
    """Tiles as two blocks, so that places are gathered over blocks."""
    pairs = zip(tiles, masks or [PLAIN] * len(tiles), strict=True)
    frames = [frame_of(tile, mask) for tile, mask in pairs]
    cut = len(frames) // 2
    blocks = []
    for start, stop in ((0, cut), (cut, len(frames))):
        ids = [str(i) for i in range(start, stop)]
        blocks.append(Block(ids, frames[start:stop], [patches_of(f) for f in frames[start:stop]]))
    return blocks


def copied(*tiles: np.ndarray, mask: np.ndarray = PLAIN) -> list[tuple[str, Copy] | None]:
    return find_copies([frame_of(tile, mask) for tile in tiles], gallery(TRAIN))


def moved(tile: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A tile moved down and right over a fresh one."""
    planted = FRESH.copy()
    planted[rows:, columns:] = tile[: SIZE - rows, : SIZE - columns]
    return planted


def test_a_moved_copy_names_its_tile_and_the_place_in_both() -> None:
    for shift in (4, 13, 32):
        (result,) = copied(moved(TRAIN[7], shift, 0))
        assert result is not None
        name, copy = result
        assert name == "7"
        assert copy.turn == 0
        assert copy.scale == 1
        assert copy.own[0] - copy.other[0] == pytest.approx(shift / 2, abs=1)  # frames have 64
        assert copy.own[1] - copy.other[1] == pytest.approx(0, abs=1)
        assert copy.share > 0.6


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_brightened_half_names_the_turn(turn: int) -> None:
    half = FRESH.copy()
    half[:, : SIZE // 2] = TRAIN[3][:, : SIZE // 2]
    bright = np.clip(symmetries(half)[turn] * 1.1 + 8, 0, 255).astype(np.uint8)
    (result,) = copied(np.ascontiguousarray(bright))
    assert result is not None
    assert result[0] == "3"
    assert result[1].turn == turn
    piece = np.zeros((64, 64), np.uint8)
    row, column, height, width = (round(value) for value in result[1].other)
    piece[row : row + height, column : column + width] = 1
    own = np.nonzero(apply(DIHEDRAL[turn], piece))
    row, column, height, width = result[1].own  # what the turn makes of the piece lies there
    assert (own[0].min(), own[1].min()) == pytest.approx((row, column), abs=1.5)
    assert (np.ptp(own[0]) + 1, np.ptp(own[1]) + 1) == pytest.approx((height, width), abs=1.5)


def test_an_enlarged_crop_names_its_scale_and_place() -> None:
    crop = Image.fromarray(TRAIN[11][10:110, 20:120]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    (result,) = copied(np.asarray(crop))
    assert result is not None
    assert result[0] == "11"
    assert result[1].scale == pytest.approx(1.28, abs=0.04)
    row, column, height, width = (2 * value for value in result[1].other)
    assert (row >= 8, column >= 18, row + height <= 112, column + width <= 122) == (True,) * 4


def test_a_quarter_anywhere_is_a_copy_and_less_is_none() -> None:
    planted = [FRESH.copy(), FRESH.copy()]
    planted[0][40:104, 30:94] = TRAIN[5][10:74, 50:114]
    planted[1][40:72, 30:62] = TRAIN[5][10:42, 50:82]
    quarter, less = copied(*planted)
    assert quarter is not None
    assert quarter[0] == "5"
    assert less is None


def test_the_layout_of_a_train_tile_is_no_copy_of_it() -> None:
    mask = (ndimage.gaussian_filter(np.random.default_rng(5).random((SIZE, SIZE)), 9) > 0.5) * 1
    mask = mask.astype(np.uint8)
    blocks = gallery([land(seed, mask) for seed in range(8)], [mask] * 8)
    drawn = [frame_of(land(seed, mask), mask) for seed in range(50, 58)]
    assert find_copies(drawn, blocks, suspects=[str(i) for i in range(8)]) == [None] * 8
    (copy,) = find_copies([frame_of(land(2, mask), mask)], blocks)
    assert copy is not None
    assert copy[0] == "2"


def test_fresh_and_empty_tiles_are_no_copies_and_copy_nothing() -> None:
    grey = np.full((SIZE, SIZE, 3), 90, np.uint8)
    assert copied(FRESH, grey) == [None, None]
    assert find_copies([frame_of(FRESH, PLAIN)], gallery([grey, grey])) == [None]
    assert find_copies([frame_of(FRESH, PLAIN)], []) == [None]


def ploughed(seed: int) -> np.ndarray:
    """Furrows as in every field of the region, and grain of its own."""
    furrows = 14 * np.sin(np.arange(SIZE) * 2 * np.pi / 11)[None, :, None]
    return np.clip(90.0 + furrows + 0.12 * (land(seed) - 90.0), 0, 255).astype(np.uint8)


def test_a_field_like_another_is_no_copy_and_a_copied_field_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = [ploughed(seed) for seed in range(6)]
    asked = [frame_of(tile, PLAIN) for tile in (ploughed(50), fields[4])]
    other, copy = find_copies(asked, gallery(fields))
    assert other is None
    assert copy is not None
    assert copy[0] == "4"
    monkeypatch.setattr(copies, "_agrees_best_here", lambda ours, theirs: True)
    assert find_copies(asked[:1], gallery(fields))[0] is not None  # as alike as a copy otherwise


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Real tiles of train and test in two shards, one that cannot be read, and three drawn."""
    store = Store(tmp_path / "work")

    def write(stage: str, shard: str, ids: list[str], tiles: list[np.ndarray], **more) -> None:
        pictures = [encode_png(tile) for tile in tiles]
        masks = [encode_png(PLAIN)] * len(ids)
        names = [f"{i}.png" for i in range(len(ids))]
        columns = {
            "id": pa.array(ids),
            "image": image_column(pictures, names),
            "mask": image_column(masks, names),
            **more,
        }
        store.write(stage, shard, pa.table(columns), key="k")

    test, train = pa.array([2, 2], pa.int64()), pa.array([0, 0, None], pa.int64())
    write("tiles", "real-0", ["real/a", "real/b", "real/c"], TRAIN[:3], split=train)
    write("tiles", "real-1", ["real/d", "real/e"], TRAIN[3:5], split=test)
    drawn = [moved(TRAIN[1], 16, 8), moved(TRAIN[3], 16, 8), FRESH]
    ids = [f"synthetic/a/{i}" for i in range(3)]
    near = {
        "nearest_real_id": pa.array(["real/b"] * 3),
        "suspected": pa.array([False, False, True]),
    }
    write("layouts", "synthetic-a-00000", ids, drawn, **near)
    for kind in ("real", "synthetic"):
        assert not run(Frames(kind=kind), store, Engine()).failed
    return store


def test_only_train_tiles_are_copied_from_and_pixels_are_those_of_the_tiles(store: Store) -> None:
    summary = run(Copies(), store, Engine())
    rows = store.read("synthetic-a-00000", ("copy", "copied_from")).to_pylist()
    assert [row["copy"] for row in rows] == [True, False, False]
    assert summary.counts == {"copies": 1}
    piece = rows[0]["copied_from"]
    assert (piece["id"], piece["turn"], piece["scale"]) == ("real/b", "identity", 1.0)
    assert piece["own_row"] - piece["row"] == pytest.approx(16, abs=2)
    assert piece["own_column"] - piece["column"] == pytest.approx(8, abs=2)
    assert piece["height"] * piece["width"] == pytest.approx(piece["share"] * SIZE**2, rel=0.05)


def test_every_tile_of_a_quilt_is_a_copy(store: Store) -> None:
    assert run(Copies(quilt=True), store, Engine()).counts == {"copies": 3}
