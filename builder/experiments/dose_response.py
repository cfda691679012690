"""The dose–response experiment: arms that differ in how good the synthetic tiles are.

Held-out real tiles stand for a perfect generator. A dose makes them worse, or draws them anew; what
captions say, the layouts of the scenes and the numbers of distinct tiles and of steps are the same
in all doses, so arms of one ratio differ in pixels alone.
"""

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import Field
from scipy import ndimage

from builder.core.errors import ArasError
from builder.core.fields import Name, Positive, Rate, Section
from builder.core.files import atomic, digest_of, read_json, write_json
from builder.core.seeds import generator, seed
from builder.experiments.doses import Dose, Known, given
from builder.experiments.experiment import Loss, Record, Trial
from builder.experiments.imbalance import SetFacts
from builder.experiments.mosaics import Mosaics, Scenes, picture
from builder.experiments.rows import Arm, TrainRows, balanced
from builder.experiments.statistics import Factor
from builder.experiments.validity import Validity
from builder.models.settings import RetrieverSettings
from builder.retrieval.ranks import Array, Ints
from builder.retrieval.result import Checks
from builder.scores.controls import shuffled as captions_of_others

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = 1
VALIDITY = 2
"""Of what is measured of doses."""
DEPTHS = (1, 5, 10)
LAST = 10
"""Ranks beyond are recorded as this: they earn nothing."""
DIGITS = "0123456789a"
CONTROLS = (
    "real",
    "repeated",
    "longer",
    "exposures",
    "again",
    "shuffled",
    "unrelated",
    "blurred",
)
BLUR = 2.0
"""Standard deviation in pixels of the blur that must cost an encoder recall if it sees texture."""
Tower = Literal["convolutions", "random"]
Pixels = npt.NDArray[np.uint8]


class Training(Section):
    """How every arm is trained."""

    encoder: Tower = "convolutions"
    steps: Positive = 250
    batch: Positive = 64
    learning_rate: Rate = 3e-3

    def settings(self, size: int) -> RetrieverSettings:
        return RetrieverSettings(
            stream="layout", steps=self.steps, batch=self.batch, size=size, patch=8, width=64,
            layers=1, text_layers=1, projection=64, tokens=48, vocabulary=400,
            learning_rate=self.learning_rate,
        )  # fmt: skip


class Table(Section):
    """The table of doses: what is declared of an experiment, in one file."""

    training: Training = Training()
    controls: tuple[str, ...] = CONTROLS
    doses: dict[Name, Dose] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Raises ArasError naming the file and the key for a table that cannot be used."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArasError(f"{path}: {error}") from error
        return cls.of(values, path)

    @classmethod
    def of(cls, values: Mapping[str, Any], path: Path) -> "Table":
        try:
            return cls.model_validate(values, strict=False)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ArasError(f"{path}: {place}: {first['msg']}") from error


@dataclass(frozen=True)
class Plan:
    """What an arm is trained on: real scenes, synthetic scenes of a dose, and for how long."""

    what: str
    rows: Ints
    """Rows of the real scenes; a row listed twice is drawn twice as often."""
    dose: str = ""
    shares: str = ""
    """"balanced" or "natural", of the synthetic scenes; "alone": balanced, and no real ones."""
    ratio: float = 0.0
    steps: float = 1.0
    """By what the steps are multiplied."""
    other: str = ""
    """"shuffled": captions of other scenes; "unrelated": scenes of noise are added; "blurred": test
    tiles are blurred."""

    @property
    def factors(self) -> dict[str, Factor]:
        if not self.dose:
            return {}
        return {"dose": self.dose, "kind": self.shares, "ratio": self.ratio}


class Hits(Record):
    """The rank of each test scene's right answer, both ways, `LAST` where it is no less."""

    ranks: dict[str, str]

    def array(self) -> Ints:
        """(N, 2) ranks from 0: of the image for each caption, of the caption for each image."""
        ways = [[DIGITS.index(digit) for digit in self.ranks[way]] for way in ("t2i", "i2t")]
        return np.array(ways, dtype=np.int64).T


@dataclass(frozen=True)
class Material:
    """Mosaics with their facts; ``out`` holds the tiles of each dose once they are made.

    ``protocol`` "S": the right answer to a caption is its scene; "C": any scene of its class.
    """

    facts: SetFacts
    mosaics: Mosaics
    out: Path
    protocol: Literal["S", "C"] = "S"
    limits: Sequence[str] = ()
    synthetic: Known | None = None
    """Synthetic tiles of a release, for the dose of kind "release"."""

    def dosed(self, dose: Dose, name: str, number: int) -> Pixels:
        """The first ``number`` held-out tiles after a dose, mapped from disk; made in whole blocks
        where they are not yet."""
        held, real = self.mosaics.held, self.mosaics.real
        blocks = self._blocks
        if dose.kind == "file":
            tiles: Pixels = np.load(self.out / dose.file, mmap_mode="r")
            if len(tiles) < number or tiles.shape[1:] != held.pixels.shape[1:]:
                raise ArasError(
                    f"{dose.file}: {number:,} tiles of {held.pixels.shape[1:]} are needed, it has "
                    f"{len(tiles):,} of {tiles.shape[1:]}"
                )
            return tiles
        train = Known(real.pixels, real.labels, len(self.mosaics.classes))
        if dose.kind == "release":
            if self.synthetic is None:
                raise ArasError(f"doses.{name}: there is no release to take tiles from")
            train = self.synthetic
        parts = []
        for block, (first, last) in enumerate(blocks):
            if first >= number:
                break
            digest = digest_of([self.facts.content_sha256, dose.identity(self.out)])[:12]
            path = self.out / "doses" / f"{name}-{block}-{digest}.npy"
            if not path.exists():
                rng = generator(0, "dose", name, block)
                part = slice(first, last)
                tiles = given(dose, held.pixels[part], held.labels[part], train, rng)
                with atomic(path) as temporary, temporary.open("wb") as file:
                    np.save(file, tiles)
            parts.append(np.load(path, mmap_mode="r"))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def _blocks(self) -> list[tuple[int, int]]:
        """Held-out tiles that balanced arms at ratio 1 need, then natural ones at 1, the rest."""
        mosaics = self.mosaics
        ends = [0, len(mosaics.balanced(1.0))]
        ends.append(max(ends[-1], int(mosaics.natural(1.0).max()) + 1))
        ends.append(len(mosaics.held.labels))
        return [(a, b) for a, b in itertools.pairwise(ends) if b > a]


def measured(bench: "Bench") -> dict[str, Validity]:
    """The validity of every dose's tiles at ratio 1, class-balanced; kept in validity.json.

    Its models learn from tiles that are in no arm and judge against test tiles.
    """
    from builder.experiments.mosaics import Tiles
    from builder.experiments.validity import Judge, OpenJudge

    mosaics, material = bench.mosaics, bench.material
    path = material.out / "validity.json"
    known = read_json(path) if path.exists() else {}
    where = mosaics.balanced(1.0)
    labels, opened = mosaics.held.labels[where], None
    each = len(where) // len(mosaics.classes)
    kept = {}
    for name, dose in bench.table.doses.items():
        key = digest_of(["validity", VALIDITY, bench.material.facts.content_sha256,
                         name, dose.identity(material.out)])  # fmt: skip
        if key not in known:
            opened = opened or OpenJudge(
                Judge(
                    mosaics.judge,
                    mosaics.test.first(each),
                    mosaics.real,
                    Tiles(mosaics.held.pixels[where], labels),
                    len(mosaics.classes),
                    # A trial table is measured by a trial classifier.
                    min(Judge.steps, 10 * bench.table.training.steps),
                )
            )
            tiles = material.dosed(dose, name, int(where.max()) + 1)[where]
            known[key] = opened.measure(Tiles(tiles, labels)).as_json()
            write_json(path, known)
        kept[name] = Validity.model_validate(known[key])
    return kept


def plans(table: Table, mosaics: Mosaics, real: Scenes) -> dict[str, Plan]:
    """Every arm of a table, in the order of the report."""
    every = np.arange(len(real.texts))
    rows = TrainRows(
        [f"real-{i}" for i in every], np.zeros(len(every), bool), real.shares, real.texts,
        classes=mosaics.classes,
    )  # fmt: skip
    repeats = balanced(rows, every, len(every), 0)
    controls = {
        "real": Plan("real scenes", every),
        "repeated": Plan(
            "real scenes and as many repeats, drawn towards equal class shares",
            np.concatenate([every, repeats]),
        ),
        "longer": Plan("real scenes, twice the steps", every, steps=2.0),
        "exposures": Plan(
            "real scenes, half the steps: as many exposures of real scenes as at ratio 1",
            every,
            steps=0.5,
        ),
        "again": Plan("real scenes once more, other initial weights and batches (A/A)", every),
        "shuffled": Plan("real scenes, captions of other real scenes", every, other="shuffled"),
        "unrelated": Plan(
            "real scenes and as many of noise with captions that name nothing tested",
            every,
            other="unrelated",
        ),
        "blurred": Plan("real scenes, judged on blurred test tiles", every, other="blurred"),
    }
    if unknown := sorted(set(table.controls) - set(controls)):
        raise ArasError(f"controls: {unknown[0]!r} is not one of {', '.join(controls)}")
    arms = {name: controls[name] for name in controls if name in table.controls}
    for name, dose in table.doses.items():
        for shares in ("balanced", "natural", "alone"):
            for ratio in dose.at(shares):
                what = f"{ratio:g} × as many scenes of {name} tiles, {shares}"
                real_rows = every[:0] if shares == "alone" else every
                arms[f"{name}-{shares}-{ratio:g}"] = Plan(what, real_rows, name, shares, ratio)
    return arms


@dataclass(frozen=True)
class Pictures:
    """Pictures of scenes, put together from tiles when they are asked for.

    ``parts`` are (tiles (m, …), scenes (n, cells)); rows count through the parts. Tiles are pixels
    (m, h, w, 3), or features (m, d), which come as (n, cells, d).
    """

    parts: Sequence[tuple[Any, Ints]]

    def __len__(self) -> int:
        return sum(len(scenes) for _, scenes in self.parts)

    def __getitem__(self, rows: Any) -> Any:
        asked = np.arange(len(self))[rows]
        out: Any = None
        first = 0
        for tiles, scenes in self.parts:
            mine = np.flatnonzero((asked >= first) & (asked < first + len(scenes)))
            own = scenes[asked[mine] - first]
            drawn = picture(tiles, own) if tiles.ndim == 4 else tiles[own]
            out = np.empty((len(asked), *drawn.shape[1:]), drawn.dtype) if out is None else out
            out[mine] = drawn
            first += len(scenes)
        return out


@dataclass(frozen=True)
class Set:
    """What an arm is trained on, ready: pictures, captions and the pool that batches come from."""

    pictures: Pictures
    texts: list[str]
    pool: Ints
    factors: Mapping[str, Factor] = field(default_factory=dict)


class Bench:
    """The arms of a table on a material; see `builder.experiments.experiment.Bench`."""

    name, floor, record = "dose-response", "shuffled", Hits
    untrained: Sequence[str] = ()
    checks: Checks | None = None
    empty = "no test scene holds these classes"
    floor_model = (
        "one trained on shuffled captions, so differences between arms say nothing about what "
        "captions and tiles teach"
    )

    def __init__(self, source: Callable[[], Material], table: Table) -> None:
        self.material, self.table = source(), table
        self.mosaics = self.material.mosaics
        self.real, self.test = self.mosaics.real_scenes(), self.mosaics.test_scenes()
        self.tiles = len(self.test.texts)
        self.plans = plans(table, self.mosaics, self.real)
        self.rows = TrainRows(
            [f"real-{i}" for i in range(len(self.real.texts))],
            np.zeros(len(self.real.texts), bool),
            self.real.shares,
            self.real.texts,
            classes=self.mosaics.classes,
        )
        self.arms = {
            name: Arm(plan.what, plan.rows, self.real.texts, plan.factors)
            for name, plan in self.plans.items()
        }

    @property
    def size(self) -> int:
        """Side of a scene in pixels."""
        return self.mosaics.sizes.side * int(self.mosaics.test.pixels.shape[1])

    def inputs(self, trial: Trial) -> dict[str, Any]:
        plan = self.plans[trial[0]]
        return {
            "version": VERSION,
            "content": self.material.facts.content_sha256,
            "training": self.table.training.model_dump(mode="json"),
            "rows": plan.rows.tolist(),
            "plan": [plan.shares, plan.ratio, plan.steps, plan.other],
            "dose": self.table.doses[plan.dose].identity(self.material.out) if plan.dose else {},
            "name": "again" if trial[0] == "again" else "",
            "seed": trial[1],
        }

    def synthetic(self, plan: Plan) -> tuple[Pixels, Scenes]:
        """The tiles of a plan's dose, and the scenes of them."""
        mosaics = self.mosaics
        shares = "natural" if plan.shares == "natural" else "balanced"
        where = mosaics.natural(plan.ratio) if shares == "natural" else mosaics.balanced(plan.ratio)
        scenes = mosaics.scenes(mosaics.held.labels[where], where, f"{shares}-{plan.ratio:g}")
        dose = self.table.doses[plan.dose]
        return self.material.dosed(dose, plan.dose, int(where.max()) + 1), scenes

    def set_of(self, arm: str) -> Set:
        plan, texts = self.plans[arm], list(self.real.texts)
        parts: list[tuple[Any, Ints]] = [(self._seen(self.mosaics.real.pixels), self.real.tiles)]
        if plan.other == "shuffled":
            ids = self.rows.ids
            others = captions_of_others(ids, texts, seed=0)
            texts = [other or own for other, own in zip(others, texts, strict=True)]
        extra = 0
        if plan.other == "unrelated":
            tiles, scenes = noise(self.mosaics, len(texts))
            parts.append((self._seen(tiles), scenes.tiles))
            texts, extra = texts + scenes.texts, len(scenes.texts)
        if plan.dose:
            tiles, scenes = self.synthetic(plan)
            parts.append((self._seen(tiles), scenes.tiles))
            texts, extra = texts + scenes.texts, len(scenes.texts)
        pool = np.concatenate([plan.rows, len(self.real.texts) + np.arange(extra)])
        return Set(Pictures(parts), texts, pool, plan.factors)

    def train(self, trial: Trial, key: str, folder: Path) -> Hits:
        from builder.models import retriever, towers

        arm, number = trial
        plan, given = self.plans[arm], self.set_of(arm)
        training = self.table.training
        number = seed("again", number) % 2**31 if arm == "again" else number
        settings = replace(training.settings(self.size), seed=number)
        settings = replace(settings, steps=round(settings.steps * plan.steps))
        shape = (self.mosaics.sizes.side**2, 4 * towers.FILTERS)
        # The vocabulary comes from real captions, so that all arms read text alike.
        dual = towers.start(training.encoder, settings, self.real.texts, shape)
        ids = [str(i) for i in range(len(given.texts))]
        pictures: Any = given.pictures
        pairs = retriever.Pairs(ids, pictures, given.texts)
        losses, _ = retriever.train_pairs(folder, key, pairs, settings, dual, given.pool)
        pixels = self.mosaics.test.pixels
        if plan.other == "blurred":
            pixels = ndimage.gaussian_filter(pixels, (0, BLUR, BLUR, 0))
        tested: Any = Pictures([(self._seen(pixels), self.test.tiles)])
        images, texts = retriever.embed(dual, tested, self.test.texts)
        ranks = ranks_of(images, texts, self.test, self.material.protocol)
        return Hits(ranks=written(ranks)).plus(loss=Loss.of(losses))

    def _seen(self, tiles: Pixels) -> Any:
        """Tiles as the encoder reads them: pixels, or their random features."""
        if self.table.training.encoder == "convolutions":
            return tiles
        return self._features(tiles)

    @cached_property
    def _features(self) -> Callable[[Pixels], Any]:
        from builder.models.towers import random_features

        known: dict[bytes, Any] = {}
        of = random_features(self.mosaics.real.pixels)

        def features(tiles: Pixels) -> Any:
            key = bytes(np.ascontiguousarray(tiles[:: max(1, len(tiles) // 50)])) + bytes(
                str(len(tiles)), "ascii"
            )
            if key not in known:
                known[key] = of(tiles)
            return known[key]

        return features


def noise(mosaics: Mosaics, count: int) -> tuple[Pixels, Scenes]:
    """``count`` scenes of smooth noise, whose captions name no class."""
    rng, cells = generator(0, "unrelated"), mosaics.sizes.side**2
    number = len(mosaics.real.labels)
    shape = mosaics.real.pixels.shape[1:]
    tiles = np.empty((number, *shape), np.uint8)
    for i in range(number):
        field = ndimage.gaussian_filter(rng.standard_normal(shape), (rng.uniform(1, 8),) * 2 + (0,))
        field = 128 + 60 * (field - field.mean()) / field.std()
        tiles[i] = field.clip(0, 255).astype(np.uint8)
    order = np.concatenate([rng.permutation(number) for _ in range(mosaics.sizes.uses)])
    order = order[: count * cells].reshape(-1, cells)
    texts = [f"A pattern of noise, number {i}." for i in range(len(order))]
    return tiles, Scenes(order, texts, np.zeros((len(order), len(mosaics.classes))))


def ranks_of(images: Array, texts: Array, test: Scenes, protocol: str) -> Ints:
    """(N, 2) how many wrong answers come before the first right one, or as near: of images for
    each caption, of captions for each image."""
    scores = np.asarray(texts @ images.T, np.float64)
    if protocol == "S":
        right = np.eye(len(scores), dtype=bool)
    else:
        labels = test.shares.argmax(1)
        right = labels[:, None] == labels[None]
    ranks = []
    for part in (scores, scores.T):
        best = np.where(right, part, -np.inf).max(1, keepdims=True)
        ranks.append(((part >= best - 1e-6) & ~right).sum(1))
    return np.asarray(np.minimum(np.stack(ranks, 1), LAST))


def written(ranks: Ints) -> dict[str, str]:
    ways = zip(("t2i", "i2t"), ranks.T, strict=True)
    return {way: "".join(DIGITS[rank] for rank in column) for way, column in ways}
