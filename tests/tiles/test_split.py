"""The split: whole blocks, a buffer, fair shares of every class, and honest figures about it."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.land.columns import SPLITS
from builder.land.grid import EARTH_KM, PER_DEGREE
from builder.land.pictures import composition_columns
from builder.models.neighbours import perceptual_hash
from builder.quality.duplicates import DuplicatesSection, pixel_digest, thumbnail
from builder.steps.plan import Summary, run
from builder.tiles.split import (
    Split,
    SplitSection,
    assign,
    block_names,
    set_aside,
    smallest_distance,
    without_repeats,
)
from tests.makers.stages import by_default

SIZE = 256 / PER_DEGREE


def grid(rows: int, columns: int, west: float = 33.0, north: float = 37.0) -> np.ndarray:
    """(n, 2) centres of neighbouring tiles, longitudes wrapped at the date line."""
    y, x = np.mgrid[:rows, :columns]
    longitude = (west + (x + 0.5) * SIZE + 180) % 360 - 180
    return np.column_stack([longitude.ravel(), (north - (y + 0.5) * SIZE).ravel()])


def counts_of(n: int) -> np.ndarray:
    """(n, 7) pixels per class, uneven."""
    return np.random.default_rng(0).multinomial(1000, [0.4, 0.2, 0.1, 0.1, 0.1, 0.07, 0.03], n)


def split(
    folder: Path,
    place: np.ndarray,
    counts: np.ndarray | None = None,
    looks: list[np.ndarray] | None = None,
    **settings: object,
) -> tuple[Summary, list[dict]]:
    """Run the stage on tiles in two shards: the summary and the rows. Unless ``looks`` gives the
    pictures, no two are alike."""
    store = Store(folder / "work")
    counts = counts_of(len(place)) if counts is None else counts
    for number, part in enumerate(np.array_split(np.arange(len(place)), 2)):
        table = pa.table(
            {
                "id": pa.array([f"real/{i:05d}" for i in part]),
                "longitude": pa.array(place[part, 0]),
                "latitude": pa.array(place[part, 1]),
                **composition_columns(counts[part]),
                **looks_of(part, looks),
            }
        )
        store.write("tiles", f"real-X-{number}", table, key="k")
    summary = run(stage_of(**settings), store, Engine("serial"))
    names = ("id", "split", "block", "longitude", "latitude", "pixels")
    return summary, [
        row for _, table in store.scan(["real-X-0", "real-X-1"], names) for row in table.to_pylist()
    ]


def stage_of(**settings: object) -> Split:
    limits = DuplicatesSection().model_dump()
    values = {"shares": (0.8, 0.1, 0.1), "size": 256 / PER_DEGREE, "seed": 0, **limits, **settings}
    return by_default(Split, SplitSection(), **values)


def looks_of(part: np.ndarray, images: list[np.ndarray] | None) -> dict[str, pa.Array]:
    """The columns that duplicates are found by, of real pictures or of none that are alike."""
    shown = [_noise(i) if images is None else images[i] for i in part]
    return {
        "pixel_sha256": pa.array([pixel_digest(tile) for tile in shown], pa.string()),
        "phash": pa.array([perceptual_hash(tile) for tile in shown], pa.uint64()),
        "thumbnail": pa.array([thumbnail(tile) for tile in shown], pa.binary()),
    }


def _noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)


def edge_km(a: dict, b: dict) -> float:
    """Kilometres between the edges of two tiles, written out."""
    dx = abs((a["longitude"] - b["longitude"] + 180) % 360 - 180) - SIZE
    dy = abs(a["latitude"] - b["latitude"]) - SIZE
    middle = np.radians((a["latitude"] + b["latitude"]) / 2)
    x, y = (max(0.0, gap) if gap > 1e-9 else 0.0 for gap in (dx, dy))
    return float(np.radians(np.hypot(x * np.cos(middle), y)) * EARTH_KM)


SETTINGS = {"block": 0.064, "buffer_km": 1.0, "shares": (0.6, 0.2, 0.2)}


def test_every_tile_of_a_block_goes_to_one_split_or_is_set_aside(tmp_path: Path) -> None:
    _, rows = split(tmp_path, grid(15, 18), **SETTINGS)
    blocks: dict[str, set] = {}
    for row in rows:
        blocks.setdefault(row["block"], set()).add(row["split"])
    assert len(blocks) > 20
    assert all(len(splits - {None}) <= 1 for splits in blocks.values())


@pytest.mark.parametrize("west", [33.0, 179.8])
def test_no_tile_lies_within_the_buffer_of_a_split_it_must_not_see(
    tmp_path: Path, west: float
) -> None:
    _, rows = split(tmp_path, grid(12, 20, west), **SETTINGS)
    parts = {i: [r for r in rows if r["split"] == i] for i in range(3)}
    assert all(parts.values())
    for a, b in itertools.combinations(range(3), 2):
        assert min(edge_km(x, y) for x in parts[a] for y in parts[b]) >= 1.0


@pytest.mark.parametrize("west", [33.0, 179.8])
def test_the_smallest_distance_and_the_class_shares_are_those_of_brute_force(
    tmp_path: Path, west: float
) -> None:
    summary, rows = split(tmp_path, grid(12, 20, west), **SETTINGS)
    for pair, value in summary.report.figures.smallest_distance_km.items():
        a, b = (SPLITS.index(name) for name in pair.split("-"))
        here, there = ([r for r in rows if r["split"] == i] for i in (a, b))
        assert value == pytest.approx(min(edge_km(x, y) for x in here for y in there), abs=0.001)
    for i, name in enumerate(SPLITS):
        total = np.sum([list(r["pixels"].values()) for r in rows if r["split"] == i], axis=0)
        value = list(summary.report.figures.class_shares[name].values())
        assert value == pytest.approx((100 * total / total.sum()).tolist(), abs=0.01)


def test_the_date_line_separates_nobody() -> None:
    place = np.array([[179.98, 0.0], [-179.98, 0.0], [170.0, 0.0]])
    distance = smallest_distance(place, np.array([0, 2, 1]), SIZE)
    expected = np.radians(0.04 - SIZE) * EARTH_KM
    assert distance["train-test"] == pytest.approx(expected, abs=0.001)


def test_the_counts_say_where_every_tile_went(tmp_path: Path) -> None:
    summary, rows = split(tmp_path, grid(15, 18), **SETTINGS)
    splits = [row["split"] for row in rows]
    assert summary.counts == {
        "train": splits.count(0),
        "validation": splits.count(1),
        "test": splits.count(2),
        "set_aside": splits.count(None),
        "repeats": 0,
    }
    assert summary.counts["set_aside"] > 0


def test_without_a_buffer_nothing_is_set_aside(tmp_path: Path) -> None:
    summary, _ = split(tmp_path, grid(15, 18), **{**SETTINGS, "buffer_km": 0.0})
    assert summary.counts["set_aside"] == 0
    assert summary.report.figures.smallest_distance_km["train-test"] == 0


def test_only_tiles_nearer_than_the_buffer_are_set_aside() -> None:
    place = grid(1, 8)
    chosen = np.array([0, 0, 0, 0, 0, 0, 0, 2])
    step = SIZE * np.pi / 180 * EARTH_KM * np.cos(np.radians(37 - SIZE / 2))
    for gap in range(5):
        out = set_aside(chosen, place, SIZE, (gap + 0.5) * step)
        assert (out == -1).tolist() == [i >= 6 - gap for i in range(7)] + [False]


def test_validation_gives_way_to_test_and_test_to_nobody() -> None:
    out = set_aside(np.array([1, 1, 1, 2]), grid(1, 4), SIZE, 0.1)
    assert out.tolist() == [1, 1, -1, 2]


def test_every_split_gets_its_share_of_every_class(tmp_path: Path) -> None:
    place = grid(30, 40)
    rng = np.random.default_rng(1)
    blocks, member = np.unique(block_names(place, 0.064), return_inverse=True)
    tilt = rng.dirichlet([0.5] * len(CLASSES), len(blocks))
    counts = np.array([rng.multinomial(1000, tilt[b]) for b in member])
    _, rows = split(tmp_path, place, counts, **{**SETTINGS, "buffer_km": 0.0})
    total = counts.sum(axis=0)
    for i, share in enumerate(SETTINGS["shares"]):
        part = np.sum([list(r["pixels"].values()) for r in rows if r["split"] == i], axis=0)
        assert part / total == pytest.approx([share] * len(CLASSES), abs=0.03)


def test_stratifying_beats_dealing_blocks_out_blindly() -> None:
    rng = np.random.default_rng(3)
    weights = rng.dirichlet([0.2] * 8, 40) * 1000
    shares, names = np.array([0.8, 0.1, 0.1]), [f"b{i}" for i in range(40)]

    def unfairness(chosen: np.ndarray) -> float:
        have = np.array([weights[chosen == i].sum(0) for i in range(3)]) / weights.sum(0)
        return float((((have - shares[:, None]) ** 2) / shares[:, None]).sum())

    blind = [unfairness(rng.permutation([0] * 32 + [1] * 4 + [2] * 4)) for _ in range(200)]
    assert unfairness(assign(weights, shares, names, 0)) < min(blind)


def test_the_seed_decides_and_the_order_of_tiles_does_not(tmp_path: Path) -> None:
    place, equal = grid(15, 18), np.full((270, 7), 100)
    _, rows = split(tmp_path / "a", place, equal, **SETTINGS, seed=1)
    _, again = split(tmp_path / "b", place, equal, **SETTINGS, seed=1)
    _, other = split(tmp_path / "c", place, equal, **SETTINGS, seed=2)
    _, back = split(tmp_path / "d", place[::-1], equal, **SETTINGS, seed=1)
    where = {row["block"]: row["split"] for row in rows if row["split"] is not None}
    assert [r["split"] for r in rows] == [r["split"] for r in again]
    assert [r["split"] for r in rows] != [r["split"] for r in other]
    assert all(
        where.get(r["block"], r["split"]) == r["split"] for r in back if r["split"] is not None
    )


def test_each_split_has_a_block_where_there_are_enough() -> None:
    weights = np.ones((3, 8))
    chosen = assign(weights, np.array([0.98, 0.01, 0.01]), ["a", "b", "c"], 0)
    assert sorted(chosen) == [0, 1, 2]


def test_a_split_with_no_share_gets_nothing(tmp_path: Path) -> None:
    settings = {**SETTINGS, "shares": (0.7, 0.0, 0.3)}
    summary, _ = split(tmp_path, grid(12, 12), **settings)
    assert summary.counts["validation"] == 0
    assert summary.report.figures.smallest_distance_km["train-validation"] is None


def test_blocks_that_are_too_large_are_refused_with_a_size_that_works(tmp_path: Path) -> None:
    place = grid(12, 12)
    with pytest.raises(
        ArasError, match=r"no validation and no test tile .*write block = "
    ) as error:
        split(tmp_path / "large", place, **{**SETTINGS, "block": 2.0})
    block = float(str(error.value).partition("write block = ")[2].split()[0])
    summary, _ = split(tmp_path / "advised", place, **{**SETTINGS, "block": block})
    assert summary.report is not None
    assert summary.report.advice == ""


def test_a_class_that_a_split_lacks_is_named_with_a_way_out(tmp_path: Path) -> None:
    counts = counts_of(144)
    counts[:, 6] = 0
    counts[:2, 6] = 500  # water in a single block
    summary, _ = split(tmp_path, grid(12, 12), counts, **SETTINGS)
    assert "has no Water" in summary.report.advice
    assert "no smaller block" in summary.report.lines()[-1]


def test_an_empty_train_split_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match=r"no .* tile is left .*buffer_km smaller"):
        split(tmp_path, grid(4, 4), **{**SETTINGS, "buffer_km": 500.0})


def test_no_tiles_at_all_point_to_the_funnel(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="no tiles to split: see the funnel"):
        split(tmp_path, np.zeros((0, 2)), **SETTINGS)


def test_blocks_are_fixed_to_the_earth() -> None:
    place = grid(6, 6)
    names = dict(zip(map(tuple, place), block_names(place, 0.064), strict=True))
    alone = block_names(place[20:22], 0.064)
    assert alone.tolist() == [names[tuple(corner)] for corner in place[20:22]]


def test_a_tile_that_repeats_one_of_a_split_it_must_not_see_is_set_aside(tmp_path: Path) -> None:
    place = grid(12, 12)
    settings = {**SETTINGS, "buffer_km": 0.0}
    before = [row["split"] for row in split(tmp_path / "apart", place, **settings)[1]]
    train, validation, test = (before.index(i) for i in range(3))
    other = before.index(0, train + 1)
    pictures = [_noise(i) for i in range(len(place))]
    pictures[train] = pictures[test]  # equal
    pictures[other] = (pictures[validation] ^ 1).astype(np.uint8)  # nearly
    summary, rows = split(tmp_path / "alike", place, looks=pictures, **settings)
    after = [row["split"] for row in rows]
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == sorted(
        [train, other]
    )
    assert after[train] is None
    assert after[other] is None
    assert (summary.counts["repeats"], summary.counts["set_aside"]) == (2, 0)


def test_test_tiles_that_repeat_each_other_stay() -> None:
    cluster = np.array([0, 0, 2, 2, 2, 5, 6])
    chosen = np.array([2, 2, 0, 1, 0, 0, -1])
    assert without_repeats(chosen, cluster).tolist() == [2, 2, -2, 1, -2, 0, -1]
