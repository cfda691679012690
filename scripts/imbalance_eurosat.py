"""The imbalance experiment on real EuroSAT tiles, ten scene classes made long-tailed.

    python scripts/imbalance_eurosat.py eurosat_rgb.tar --out OUT

Draws test tiles of every class and a long-tailed train part, writes captions from class names,
trains a small class-conditional generator on the train part alone, draws synthetic tiles from it,
and runs `aras bench imbalance` on all that. Interrupted, the same command goes on. With --small and
fewer tiles and steps it ends within seconds.
"""

import argparse
import io
import tarfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from builder.core.engine import Engine
from builder.core.files import atomic, digest_of, sha256_file
from builder.core.progress import bar
from builder.core.seeds import generator, seed
from builder.experiments.experiment import Experiment
from builder.experiments.imbalance import PRESETS, Bench, Material, SetFacts, Test
from builder.experiments.imbalance_report import report_of
from builder.experiments.rows import TrainRows
from builder.models import generator as generators
from builder.models.data import Tiles
from builder.models.record import Record, require
from builder.models.settings import GeneratorSettings

Pixels = npt.NDArray[np.uint8]

NOUNS = {
    "AnnualCrop": ("annual crops", "arable fields"),
    "Forest": ("forest", "woodland"),
    "HerbaceousVegetation": ("herbaceous vegetation", "open shrubs and herbs"),
    "Highway": ("a highway", "a major road"),
    "Industrial": ("industrial buildings", "factories and warehouses"),
    "Pasture": ("pasture", "grazing land"),
    "PermanentCrop": ("permanent crops", "orchards and vineyards"),
    "Residential": ("residential buildings", "houses and gardens"),
    "River": ("a river", "a stream with its banks"),
    "SeaLake": ("open water", "a sea or lake"),
}
FRAMES = (
    "A satellite image of {}.",
    "The tile shows {}.",
    "Seen from above: {}.",
    "{} at a resolution of ten metres.",
)
CLASSES = tuple(NOUNS)
RATIOS = (0.25, 0.5, 1.0)
SIDE = 64
LIMITS = (
    "EuroSAT gives no places: test tiles may lie beside train tiles, in every arm alike, so "
    "absolute figures are too high for unseen places.",
    "Captions name the scene class and nothing else, so this is retrieval of a class (protocol "
    "C, a tile or caption of the same class is right), not of a tile; D and S say little here.",
    "Classes were made rare by leaving tiles out, at random: a class that is rare in nature may "
    "differ in more than its number.",
)


@dataclass(frozen=True)
class Sizes:
    """Test tiles of every class, train tiles of the largest, and by what factor the smallest has
    fewer."""

    test: int = 100
    largest: int = 300
    factor: float = 50.0

    @property
    def train(self) -> list[int]:
        """Train tiles of each class: an exponential tail over the classes in a random order."""
        order = generator(0, "eurosat", "order").permutation(len(CLASSES))
        sizes = self.largest * self.factor ** (-np.arange(len(CLASSES)) / (len(CLASSES) - 1))
        counts = [0] * len(CLASSES)
        for label, size in zip(order, sizes, strict=True):
            counts[label] = round(float(size))
        return counts


def read(path: Path) -> tuple[Pixels, npt.NDArray[np.int64], list[str]]:
    """Tiles (n, 64, 64, 3), class of each, and names, in the order of their names."""
    images = []
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".jpg"):
                body = tar.extractfile(member)
                assert body is not None
                image = Image.open(io.BytesIO(body.read())).convert("RGB")
                images.append((Path(member.name).stem, np.asarray(image)))
    images.sort(key=lambda named: named[0])
    names = [name for name, _ in images]
    label = np.array([CLASSES.index(name.rsplit("_", 1)[0]) for name in names])
    return np.stack([image for _, image in images]), label, names


def caption(name: str, label: int) -> str:
    rng = generator(0, "eurosat", "caption", name)
    noun = NOUNS[CLASSES[label]][rng.integers(len(NOUNS[CLASSES[label]]))]
    text = FRAMES[rng.integers(len(FRAMES))].format(noun)
    return text[0].upper() + text[1:]


def draw(folder: Path, wanted: list[int], steps: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """``wanted`` tiles of each class from the generator in ``folder``; kept beside it."""
    label = np.repeat(np.arange(len(CLASSES)), wanted)
    record = require(folder, "generator")
    path = folder / f"tiles-{digest_of([record.weights_sha256, wanted, steps])[:16]}.npy"
    if not path.exists():
        model = generators.load(folder, CLASSES)
        how = generators.Sampling(steps=steps)
        drawn = np.empty((len(label), SIDE, SIDE, 3), np.uint8)
        with bar("draw", len(label), "tiles") as advance:
            for i in range(0, len(label), 16):
                some = label[i : i + 16]
                layouts = np.broadcast_to(some[:, None, None], (len(some), SIDE, SIDE))
                numbers = [seed(0, "eurosat", "noise", i + k) for k in range(len(some))]
                drawn[i : i + 16] = generators.sample(model, layouts.astype(np.uint8), numbers, how)
                advance(len(some))
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, drawn)
    return np.load(path), label


def material(
    tar: Path, out: Path, sizes: Sizes, settings: GeneratorSettings, sampling: int
) -> Material:
    """Everything the experiment needs; trains the generator and draws where that is not done."""
    pixels, label, names = read(tar)
    counts = sizes.train
    train, test = [], []
    for k, count in enumerate(counts):
        order = generator(0, "eurosat", "split", k).permutation(np.flatnonzero(label == k))
        test += order[: sizes.test].tolist()
        train += order[sizes.test : sizes.test + count].tolist()
    shown = np.broadcast_to(label[train][:, None, None, None], (len(train), SIDE, SIDE, 1))
    tiles = Tiles(np.concatenate([pixels[train], shown.astype(np.uint8)], axis=3), "")
    data: list[Any] = [sha256_file(tar), [names[i] for i in train], settings.steps]
    if settings != GeneratorSettings(steps=settings.steps):
        data.append(asdict(settings))
    key = digest_of(data)
    folder = out / "generator"
    record = Record.read(folder)
    if not record or record.key != key:
        generators.train_tiles(folder, key, tiles, settings, CLASSES)
    most = round(max(RATIOS) * len(train))
    wanted = [max(round(max(RATIOS) * n), -(-most // len(CLASSES))) for n in counts]
    synthetic_pixels, synthetic_label = draw(folder, wanted, sampling)

    ids = [names[i] for i in train] + [f"synthetic-{i:05d}" for i in range(len(synthetic_label))]
    every = np.concatenate([label[train], synthetic_label])
    synthetic = np.arange(len(ids)) >= len(train)
    rows = TrainRows(
        ids,
        synthetic,
        shares=np.eye(len(CLASSES))[every],
        texts=[caption(name, int(k)) for name, k in zip(ids, every, strict=True)],
        classes=CLASSES,
    )
    asked = Test(
        [names[i] for i in test],
        [caption(names[i], int(label[i])) for i in test],
        np.eye(len(CLASSES))[label[test]],
        None,
    )
    record = require(folder, "generator")
    limits = [
        *LIMITS,
        "The generator saw the long-tailed train part alone: of the rarest class, "
        f"{min(counts)} tiles.",
    ]
    facts: dict[str, Any] = {
        "name": "EuroSAT, long-tailed",
        "version": f"{sizes.largest}:{min(counts)}",
        "content_sha256": digest_of([key, record.weights_sha256, wanted, sampling]),
        "generator": {
            "steps": record.steps,
            "final_loss": record.final_loss,
            "weights_sha256": record.weights_sha256,
        },
        "sampling_steps": sampling,
        "limits": limits,
    }

    pictures = {"train": np.concatenate([pixels[train], synthetic_pixels]), "test": pixels[test]}
    whole = {split: [(np.arange(len(part)), list(part))] for split, part in pictures.items()}
    about = SetFacts.model_validate(facts)
    return Material(about, rows, asked, whole.__getitem__, judged="C", depth=1, limits=limits)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tar", type=Path, help="64-pixel JPEGs named CLASS_NUMBER.jpg")
    parser.add_argument("--out", type=Path, required=True)
    sizes = Sizes()
    parser.add_argument("--test", type=int, default=sizes.test, help="test tiles of every class")
    parser.add_argument("--largest", type=int, default=sizes.largest, help="train tiles of a class")
    parser.add_argument("--factor", type=float, default=sizes.factor, help="largest : rarest class")
    parser.add_argument("--generator-steps", type=int, default=500)
    parser.add_argument("--sampling-steps", type=int, default=12)
    parser.add_argument("--steps", type=int, default=150, help="of every retriever")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="tiny models, for trials")
    given = parser.parse_args()
    drawing = GeneratorSettings(steps=given.generator_steps)
    if given.small:
        drawing = replace(drawing, batch=2, crop=16, widths=(8, 16))
    settings = replace(
        PRESETS["small" if given.small else "cpu"],
        stream="class",
        steps=given.steps,
        tokens=24,
        vocabulary=400,
    )
    sizes = Sizes(given.test, given.largest, given.factor)
    tiles = material(given.tar, given.out, sizes, drawing, given.sampling_steps)
    bench = Bench(lambda: tiles, settings, RATIOS)
    experiment = Experiment(lambda: bench, given.out, given.seeds)
    report = report_of(bench, experiment.run_all(Engine("serial", 1)))
    report.write(given.out)
    print("\n".join([*report.conclusions, *report.limits]))


if __name__ == "__main__":
    main()
