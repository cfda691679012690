"""Training data: exactly the tiles of a split, decoded once, cropped without tearing."""

import threading
from pathlib import Path

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.pictures import decode_mask, decode_png
from builder.models import data
from builder.steps.stage import shards
from tests.makers.tiles import make_store

SPLITS = ["train", "test", "train", None, "validation", "train", "train", "test", "train"]


def tiles_in(store: Store, split: int) -> list[np.ndarray]:
    """RGB and id of every tile of a split, read the slow way."""
    return [
        np.dstack([decode_png(row["image"]["bytes"]), decode_mask(row["mask"]["bytes"], row["id"])])
        for shard in shards(store, ("real",))
        for row in store.read(shard, data.NEEDS).to_pylist()
        if row["split"] == split
    ]


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("validation", 1), ("test", 2)])
def test_a_split_holds_its_tiles_and_no_others(tmp_path: Path, split: str, count: int) -> None:
    store = make_store(tmp_path, SPLITS)
    tiles = data.load(store, split)
    assert len(tiles) == count
    expected = tiles_in(store, ("train", "validation", "test").index(split))
    np.testing.assert_array_equal(tiles.pixels, expected)


def test_tiles_are_decoded_once_and_mapped_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, SPLITS)
    first = data.load(store, "train")
    assert isinstance(first.pixels, np.memmap)
    monkeypatch.delattr(data, "decode_png")
    again = data.load(store, "train")
    np.testing.assert_array_equal(first.pixels, again.pixels)


def test_changed_tiles_are_decoded_anew_and_the_old_file_goes(tmp_path: Path) -> None:
    store = make_store(tmp_path, SPLITS)
    before = data.load(store, "train")
    changed = make_store(tmp_path, SPLITS, seed=1)
    after = data.load(changed, "train")
    assert before.digest != after.digest
    assert (before.pixels != after.pixels).any()
    assert len(list((tmp_path / ".cache").glob("train-*.npy"))) == 1


def test_the_digest_changes_when_a_tile_changes_its_split(tmp_path: Path) -> None:
    first = data.digest(make_store(tmp_path / "a", ["train", "train", "test"]), "train")
    two = data.digest(make_store(tmp_path / "b", ["train", "test", "test"]), "train")
    same = data.digest(make_store(tmp_path / "c", ["train", "train", "test"]), "train")
    assert first == same != two


def test_a_split_without_tiles_says_what_to_change(tmp_path: Path) -> None:
    store = make_store(tmp_path, ["train", "train", None])
    with pytest.raises(ArasError, match=r"split test has no tiles: change shares, block or buffer"):
        data.load(store, "test")


def test_tiles_of_several_sizes_are_refused_by_name(tmp_path: Path) -> None:
    make_store(tmp_path, ["train"] * 4)
    store = make_store(tmp_path, ["train"] * 8, size=32)
    make_store(tmp_path, ["train"] * 4, size=64)
    with pytest.raises(ArasError, match="real/004: is"):
        data.load(store, "train")
    assert not list((tmp_path / ".cache").glob("*.npy"))


def windows(tile: np.ndarray, size: int) -> set[bytes]:
    """Every window of a tile in its eight orientations."""
    places = range(len(tile) - size + 1)
    crops = set()
    for patch in (tile[y : y + size, x : x + size] for y in places for x in places):
        for turns in range(4):
            turned = np.rot90(patch, turns)
            crops |= {turned.tobytes(), turned[:, ::-1].tobytes()}
    return crops


def test_a_crop_is_a_window_of_a_tile_turned_with_its_mask(tmp_path: Path) -> None:
    store = make_store(tmp_path, ["train"] * 2, size=24)
    tiles = data.load(store, "train")
    known = windows(tiles.pixels[0], 16) | windows(tiles.pixels[1], 16)
    images, masks = tiles.crops(np.random.default_rng(0), 40, 16)
    crops = np.concatenate([images, masks[..., None]], axis=-1)
    assert all(crop.tobytes() in known for crop in crops)
    assert len({crop.tobytes() for crop in crops}) > 30


def test_crops_are_those_of_the_generator_they_are_given(tmp_path: Path) -> None:
    tiles = data.load(make_store(tmp_path, ["train"] * 3), "train")
    first, two, other = (tiles.crops(np.random.default_rng(s), 5, 32)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, two)
    assert (first != other).any()


def test_a_crop_larger_than_the_tiles_names_the_setting(tmp_path: Path) -> None:
    tiles = data.load(make_store(tmp_path, ["train"]), "train")
    with pytest.raises(ArasError, match=r"crop = 128 is larger than the tiles of 64×64 pixels"):
        tiles.crops(np.random.default_rng(0), 1, 128)


def test_what_is_made_ahead_is_what_would_have_been_made() -> None:
    """Each step once, in any order that a training asks for, and not in the asking thread."""
    asked: list[tuple[int, str]] = []

    def make(step: int) -> int:
        asked.append((step, threading.current_thread().name))
        return step * step

    with data.ahead(make) as take:
        assert [take(step) for step in (3, 4, 5, 9)] == [9, 16, 25, 81]
    assert [step for step, _ in asked] == [3, 4, 5, 6, 9, 10]
    assert all(name != threading.current_thread().name for _, name in asked)


def test_an_error_ahead_comes_when_its_step_is_taken() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ArasError("no second step")
        return step

    with data.ahead(make) as take:
        assert take(1) == 1
        with pytest.raises(ArasError, match="no second step"):
            take(2)
