"""Realism: real tiles rank as real, and no fault of a picture raises it."""

import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.classes import CLASSES, count_pixels
from builder.quality.pixels import Quality
from builder.quality.realism import Realism, Usual, realism
from builder.quality.statistics import FEATURES, pixel_statistics
from builder.steps.plan import run
from builder.steps.stage import shards
from tests.makers.landlike import FAULTS, Ruler, landlike, speckle
from tests.makers.tiles import make_store

EUROSAT = Path(__file__).parents[3] / "shared" / "data" / "eurosat_rgb.tar"
KNOWN, UNSEEN = 240, 60


def made(n: int, first: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    tiles = [landlike(first + i) for i in range(n)]
    shares = np.stack([count_pixels(mask) / mask.size for _, mask in tiles])
    return [image for image, _ in tiles], shares


def of_eurosat(n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Real Sentinel-2 tiles; the share of a tile's folder is 1."""
    with tarfile.open(EUROSAT) as tar:
        members = [member for member in tar if member.name.endswith(".jpg")]
        chosen = [members[i] for i in np.random.default_rng(0).permutation(len(members))[:n]]
        images = [np.asarray(Image.open(io.BytesIO(tar.extractfile(m).read()))) for m in chosen]
    folders = [member.name.split("/")[-2] for member in chosen]
    names = sorted(set(folders))
    return images, np.eye(len(names))[[names.index(folder) for folder in folders]]


@pytest.fixture(scope="module", params=["made", "EuroSAT"])
def tiles(request: pytest.FixtureRequest):
    """A ruler by some tiles, and others with their class shares that it has not seen."""
    if request.param == "EuroSAT" and not EUROSAT.is_file():
        pytest.skip(f"{EUROSAT.name} is not here")
    images, shares = (of_eurosat if request.param == "EuroSAT" else made)(KNOWN + UNSEEN)
    ruler = Ruler(images[:KNOWN], shares[:KNOWN])
    return ruler, images[KNOWN:], shares[KNOWN:]


def test_unseen_real_tiles_rank_as_real(tiles) -> None:
    values = tiles[0].realism(*tiles[1:])
    assert 0.4 < np.median(values) < 0.65
    assert (values < 0.05).mean() < 0.15
    assert values.max() > 0.9


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_lowers_realism_and_more_of_it_lowers_it_further(tiles, fault: str) -> None:
    """Until all tiles are farther from usual than every real tile, where they stay."""
    ruler, images, shares = tiles
    lowest = 1 / (len(ruler.held_out) + 1)
    spoil, strengths = FAULTS[fault]
    means = [ruler.realism(images, shares).mean()]
    for strength in strengths:
        means.append(ruler.realism([spoil(image, strength) for image in images], shares).mean())
    for before, after in itertools.pairwise(means):
        assert after < max(before, lowest)
    assert means[-1] < 0.1 * means[0]


def test_speckle_in_the_colours_of_real_tiles_ranks_below_every_real_tile(tiles) -> None:
    ruler, images, shares = tiles
    real = ruler.realism(images, shares)
    for strength in (3, 10, 30, 60):
        values = ruler.realism([speckle(image, strength) for image in images], shares)
        assert values.max() < np.quantile(real, 0.05)


def test_tiles_of_another_mixture_of_classes_are_no_less_real() -> None:
    """Balanced synthetic tiles hold other classes than the held-out tiles, and that is no fault."""
    images, shares = made(KNOWN)
    ruler = Ruler(images, shares)
    unseen, theirs = made(300, first=1_000)
    rare = np.argsort(-theirs[:, 3])[:40]  # most of the class that lies apart from the mean
    values = ruler.realism([unseen[i] for i in rare], theirs[rare])
    assert 0.3 < np.median(values) < 0.7


def test_a_tile_beyond_every_real_tile_still_has_a_rank() -> None:
    held_out = np.array([0.5, 1.0, 2.0])
    assert realism([0.1, 0.5, 1.5, 2.0], held_out).tolist() == [1.0, 1.0, 0.5, 0.5]
    assert realism([4.0, 8.0], held_out) == pytest.approx([0.125, 0.0625])


def test_statistics_are_named_and_finite_for_any_picture() -> None:
    rng = np.random.default_rng(0)
    for image in (
        np.zeros((32, 48, 3)),
        np.full((64, 64, 3), 255),
        rng.integers(0, 256, (33, 35, 3)),
    ):
        values = pixel_statistics(image.astype(np.uint8))
        assert values.shape == (len(FEATURES),)
        assert np.isfinite(values).all()
    with pytest.raises(ArasError, match="at least 32 pixels"):
        pixel_statistics(np.zeros((16, 64, 3), np.uint8))


def test_deviations_are_what_class_shares_do_not_explain() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(CLASSES)), 400)
    slopes = rng.normal(0, 5, (len(CLASSES), len(FEATURES)))
    statistics = shares @ slopes + rng.normal(0, 1, (400, len(FEATURES)))
    usual = Usual.fit(statistics, shares)
    far = usual.distances(usual.deviations(statistics, shares))
    assert np.sqrt((far**2).mean()) == pytest.approx(1.0, abs=0.1)
    moved = usual.deviations(shares @ slopes + 3.0, shares)
    assert moved.mean(axis=0) == pytest.approx(np.full(len(FEATURES), 3.0), abs=0.5)


def test_the_stage_measures_each_tile_by_others(tmp_path: Path) -> None:
    store = make_store(tmp_path, ["train"] * 60 + ["validation"] * 8 + ["test"] * 8)
    for stage in (Quality("real"), Realism()):
        assert not run(stage, store, Engine()).failed
    rows = [
        row
        for _, t in store.scan(shards(store, ("real",)), Realism().adds)
        for row in t.to_pylist()
    ]
    values = np.array([row["realism"] for row in rows])
    assert np.isfinite(values).all()
    assert 0.3 < np.median(values[:60]) < 0.7  # a train tile is not usual because it was fitted
    assert {len(row["deviations"]) for row in rows} == {len(FEATURES)}


def test_realism_is_missing_where_there_are_too_few_train_tiles(tmp_path: Path) -> None:
    store: Store = make_store(tmp_path, ["train"] * 6 + ["test"] * 2)
    for stage in (Quality("real"), Realism()):
        assert not run(stage, store, Engine()).failed
    for _, table in store.scan(shards(store, ("real",)), ("realism",)):
        assert table.column("realism").null_count == table.num_rows
