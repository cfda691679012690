"""Cost and yield of image quality, realism and near-duplicates on a folder of real tiles.

    python scripts/bench_images.py FOLDER [--altered 500] [--crops 100000]

FOLDER holds RGB pictures of one size, such as EuroSAT's. Prints, in CPU seconds of one thread, what
the quality stage costs per 256×256 tile; the realism of unseen tiles and of the same with a fault
(a tile's folder is its land cover); the near-duplicates among the tiles, against brute force; how
many altered copies are found again; and the cost of clustering as many crops of the tiles.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from builder.core.clusters import join
from builder.land.pictures import decode_png, encode_png
from builder.models.neighbours import hamming, perceptual_hash
from builder.quality import pixels
from builder.quality.discriminant import block_features
from builder.quality.duplicates import (
    DuplicatesSection,
    exact_clusters,
    near_clusters,
    pixel_digest,
    thumbnail,
)
from builder.quality.realism import Usual, realism
from builder.quality.statistics import pixel_statistics

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], npt.NDArray[np.generic]]


LIMITS = DuplicatesSection()


def jpeg(image: Pixels, quality: int) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "jpeg", quality=quality)
    return np.asarray(Image.open(out))


def halved(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


CHANGES: dict[str, Change] = {
    "JPEG of quality 75": lambda tile, rng: jpeg(tile, 75),
    "JPEG of quality 50": lambda tile, rng: jpeg(tile, 50),
    "3 levels brighter": lambda tile, rng: tile + 3.0,
    "noise of 3 levels": lambda tile, rng: tile + rng.normal(0, 3, tile.shape),
    "halved and enlarged": lambda tile, rng: halved(tile),
    "shifted by a pixel": lambda tile, rng: np.roll(tile, 1, axis=1),
}

FAULTS: dict[str, tuple[Callable[[Pixels, float], npt.NDArray[np.generic]], tuple[float, ...]]] = {
    "noise, sd": (
        lambda tile, s: tile + NOISE[: tile.shape[0], : tile.shape[1]] * s,
        (2, 4, 8, 16),
    ),
    "blur, sigma": (lambda tile, s: ndimage.gaussian_filter(tile * 1.0, (s, s, 0)), (0.5, 1, 2, 4)),
    "JPEG, quality": (lambda tile, s: jpeg(tile, int(s)), (90, 75, 50, 30)),
    "red cast, levels": (lambda tile, s: tile + np.array([s, 0, 0]), (10, 20, 40, 80)),
    "blocks, side": (lambda tile, s: blocks(tile, int(s)), (2, 4, 8, 16)),
    "flattened, share": (lambda tile, s: tile + s * (tile.mean((0, 1)) - tile), (0.3, 0.6, 0.9, 1)),
}
"""Fault and unit → how to give it to a tile, and strengths that grow."""
NOISE = np.random.default_rng(1).standard_normal((256, 256, 3))


def blocks(tile: Pixels, side: int) -> npt.NDArray[np.generic]:
    tall, wide = (length // side for length in tile.shape[:2])
    means = tile[: tall * side, : wide * side].reshape(tall, side, wide, side, 3).mean(axis=(1, 3))
    return np.kron(means, np.ones((side, side, 1)))


def show_realism(images: list[Pixels], folders: list[str], rng: np.random.Generator) -> None:
    """Fits to a half of the tiles, with a quarter to say what is usual; prints the others'."""
    names = sorted(set(folders))
    chosen = rng.permutation(len(images))[:2_000]
    shares = np.eye(len(names))[[names.index(folders[i]) for i in chosen]]
    statistics = np.stack([pixel_statistics(images[i]) for i in chosen])
    half, rest = len(chosen) // 2, 3 * len(chosen) // 4
    usual = Usual.fit(statistics[:half], shares[:half])
    held_out = usual.deviations(statistics[half:rest], shares[half:rest])
    far = np.sort(usual.distances(held_out))

    def values(tiles: list[Pixels]) -> npt.NDArray[np.float64]:
        own = np.stack([pixel_statistics(tile) for tile in tiles])
        return realism(usual.distances(usual.deviations(own, shares[rest:])), far)

    unseen = [images[i] for i in chosen[rest:]]
    plain = values(unseen)
    print(f"realism of {len(unseen)} unseen tiles, {len(far)} others as the measure:")
    print(f"  {'as they are':<18} mean {plain.mean():.3f}, median {np.median(plain):.3f}")
    for name, (change, strengths) in FAULTS.items():
        line = []
        for strength in strengths:
            spoilt = [np.clip(change(t, strength), 0, 255).round().astype(np.uint8) for t in unseen]
            own = values(spoilt)
            line.append(f"{strength:g}: {own.mean():.4f} ({(own > plain).mean():.0%} higher)")
        print(f"  {name:<18} {', '.join(line)}")


def looks(images: list[Pixels]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    """Perceptual hashes (n,) and thumbnails (n, 768)."""
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)
    small = np.array([np.frombuffer(thumbnail(image), np.uint8) for image in images], np.float64)
    return hashes, small


def cost(image: Pixels) -> None:
    tile = np.tile(image, (256 // image.shape[0] + 1, 256 // image.shape[1] + 1, 1))[:256, :256]
    encoded = encode_png(tile)
    for work in (
        pixels.measure_pixels,
        pixel_statistics,
        perceptual_hash,
        thumbnail,
        pixel_digest,
        block_features,
    ):
        started = time.process_time()
        for _ in range(50):
            work(tile)
        print(f"  {work.__name__:<16} {(time.process_time() - started) * 20:.2f} ms")
    started = time.process_time()
    for _ in range(50):
        decode_png(encoded)
    print(f"  {'decode_png':<16} {(time.process_time() - started) * 20:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--altered", type=int, default=500, help="Tiles to alter and find again")
    parser.add_argument("--crops", type=int, default=100_000, help="Crops to cluster")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.rglob("*") if p.suffix in (".jpg", ".png", ".tif"))
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    rng = np.random.default_rng(0)

    print("one 256×256 tile:")
    cost(images[0])

    show_realism(images, [path.parent.name for path in paths], rng)

    hashes, small = looks(images)
    exact = exact_clusters([pixel_digest(image) for image in images])
    clusters = near_clusters(
        exact,
        hashes,
        [thumb.astype(np.uint8).tobytes() for thumb in small],
        LIMITS.bits,
        LIMITS.rms,
    )
    brute = exact
    for i in range(len(images)):
        close = hamming(hashes[i], hashes) <= LIMITS.bits
        near = np.flatnonzero(close & (((small - small[i]) ** 2).mean(axis=1) <= LIMITS.rms**2))
        brute = join(brute, np.full(len(near), i), near)
    size = np.bincount(clusters, minlength=len(clusters))
    print(f"{len(images):,} tiles: {len(images) - len(np.unique(exact))} equal to another;")
    print(f"  {int(size[size > 1].sum())} nearly, in {int((size > 1).sum())} clusters;", end=" ")
    print(f"as brute force: {np.array_equal(clusters, brute)}")

    chosen = images[:: max(1, len(images) // options.altered)][: options.altered]
    hashes, small = looks(chosen)
    print(f"found again of {len(chosen)} tiles:")
    for name, change in CHANGES.items():
        altered = [np.clip(change(tile, rng), 0, 255).astype(np.uint8) for tile in chosen]
        others, thumbs = looks(altered)
        again = (hamming(hashes, others) <= LIMITS.bits) & (
            ((small - thumbs) ** 2).mean(1) <= LIMITS.rms**2
        )
        print(f"  {name:<20} {again.mean():.1%}")

    crops = []
    for _ in range(options.crops):
        tile = np.rot90(images[rng.integers(len(images))], rng.integers(4))
        y, x = rng.integers(0, (tile.shape[0] // 2 + 1, tile.shape[1] // 2 + 1))
        crops.append(tile[y : y + tile.shape[0] // 2, x : x + tile.shape[1] // 2])
    hashes, small = looks(crops)
    started = time.process_time()
    thumbs_ = [thumb.astype(np.uint8).tobytes() for thumb in small]
    label = near_clusters(np.arange(len(crops)), hashes, thumbs_, LIMITS.bits, LIMITS.rms)
    size = np.bincount(label)
    print(f"{len(crops):,} crops: {int((size > 1).sum()):,} clusters in", end=" ")
    print(f"{time.process_time() - started:.1f} CPU s")


if __name__ == "__main__":
    main()
