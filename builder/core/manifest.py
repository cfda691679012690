"""A release directory's manifest as types, with its reader and writer, and the checksum files."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, JsonValue

from builder.core import budgets
from builder.core.errors import ArasError
from builder.core.fields import REPO, SHAPES, VERSION, Author, Name
from builder.core.files import hash_file, parse_json, write_json, write_text
from builder.core.progress import counted

MANIFEST = "manifest.json"
SUMS = {"sha256": "SHA256SUMS", "md5": "MD5SUMS"}
UNLISTED = frozenset({MANIFEST, *SUMS.values()})
"""Files that the manifest does not list, because they are written from it."""

FORMAT = 1
NEEDED = ("format", "version", "content_sha256", "configs", "files", "facts")
"""Keys that every manifest has."""

CONFIGS = ("real", "synthetic", "augmented", "metadata", "controls", "embeddings")
"""Configs of a release; ``real`` is the default."""


def _inside(path: str) -> str:
    """A path of the manifest, which must lead to a file of its own folder."""
    parts = path.split("/")
    if (
        not path
        or {"\\", "\0"} & set(path)
        or ":" in parts[0]
        or not {"", ".", ".."}.isdisjoint(parts)
    ):
        raise ValueError(f"{path!r} does not lead to a file of the release")
    return path


RelativePath = Annotated[str, pydantic.AfterValidator(_inside)]
"""A path from the manifest's folder to a file below it, with slashes."""


class Record(pydantic.BaseModel):
    """An object in the manifest.

    A key that a file lacks gets a default and is not written back, a key that only a newer
    version knows is kept: reading and writing a manifest gives the same bytes.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    def as_json(self) -> dict[str, Any]:
        """The JSON object, keys in the order of the fields."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class ListedFile(Record):
    """A file of the release, its path relative to the manifest."""

    path: RelativePath
    bytes: int
    sha256: str
    md5: str = ""


class SplitFiles(Record):
    """The Parquet files of a split of a config, in the order of their rows."""

    rows: int
    bytes: int = 0
    files: tuple[RelativePath, ...] = ()
    content_sha256: str | None = None
    """Digest of the rows, however they are cut into files; None for ``augmented``, which has none
    of its own."""


Version = Annotated[str, Field(pattern=VERSION)]
Configs = dict[Name, dict[Name, SplitFiles]]
"""Config → split → its files."""


class SubsetNote(Record):
    """How a split's part of a subset misses its class balance: classes that no row holds, and
    classes of which there are too few rows."""

    absent: tuple[str, ...] = ()
    short: tuple[str, ...] = ()


class SubsetFile(Record):
    """subsets/NAME.csv: ids and splits of some of the real rows. ``notes`` is by split."""

    rows: int
    digest: str
    balance: str = "natural"
    notes: dict[str, SubsetNote] = {}


class ChangelogEntry(Record):
    """What a version changed; ``asks`` is the least version that these changes ask for."""

    version: str
    date: str
    asks: str | None = None
    lines: tuple[str, ...] = ()


class Part(Record):
    """Of a folder that holds one kind of tiles of a release: which, and where the other kind is."""

    kind: str
    title: str
    of: str
    """Content digest of the whole release."""
    twin_doi: str = ""
    twin_concept_doi: str = ""


class Selection(Record):
    """Of a part of a release: which release it is of, and which of its rows."""

    name: Name
    title: str
    version: Version
    content_sha256: str
    """Content digest of that release."""
    address: str
    """Where it was read: a web address, hf://datasets/ORG/NAME@COMMIT, or the name of a folder."""
    doi: str | None = None
    rows: int
    """Rows of the part, of ``of_rows`` rows of the release."""
    of_rows: int
    where: str = ""
    """The condition that rows meet, an expression of SQL over config metadata; empty for all."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east and north of the centres of the tiles, in degrees."""
    splits: tuple[str, ...] = ()
    """The splits that were asked for; empty for all."""
    configs: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    """The columns that were kept, beside those that every part has; None for all."""
    limit: int | None = None
    seed: int = 0
    """Seed that the rows were drawn with, where there were more than ``limit``."""
    of: "Selection | None" = None
    """Where that release is a part itself: of which one."""

    @property
    def condition(self) -> str:
        """The choice in words, as Markdown."""
        where = " ".join(self.where.split())
        words = [f"`` {where} ``" if "`" in where else f"`{where}`"] if where else []
        if self.bbox:
            west, south, east, north = self.bbox
            words.append(f"tile centres within {west}…{east}° E, {south}…{north}° N")
        if self.splits:
            words.append(f"split {' or '.join(self.splits)}")
        if self.configs:
            words.append(f"config {', '.join(self.configs)}")
        if self.columns is not None:
            words.append(f"columns {', '.join(self.columns) or 'none beside the usual'}")
        if self.limit is not None:
            words.append(f"at most {self.limit:,} rows, drawn with seed {self.seed}")
        return "; ".join(words) or "all rows"


class Source(Record):
    """Third-party data that the release uses; texts are empty where it uses none."""

    name: str
    license: str = ""
    notice: str = ""
    doi: str = ""
    url: str = ""


class Balance(Record):
    """How layouts were drawn: shares by class name, and how near they come to the target."""

    target: str
    rows: int
    layouts: int
    feasible: bool
    shares_before: dict[str, float]
    shares_target: dict[str, float]
    shares_planned: dict[str, float]
    shortfall: dict[str, float]
    distance: float
    distance_bound: float
    repeats_needed: int | None
    effective_layouts: float
    effective_size: float
    max_expected_repeats: float
    capped: int
    divergence: float
    iterations: int
    shares_drawn: dict[str, float] = {}
    """Of the rows as drawn, each a whole one; empty in releases that did not count them."""


class SplitReport(Record):
    """Splits of the real tiles: class shares in per cent, and the smallest distance between two
    splits in km (None where either has no tile)."""

    class_shares: dict[str, dict[str, float]] = {}
    smallest_distance_km: dict[str, float | None] = {}
    without_place: int = 0
    """Tiles whose place is unknown, and so their distance."""

    def lines(self) -> list[str]:
        lines = [
            f"{split:<11}" + " ".join(f"{name} {share:.1f} %" for name, share in shares.items())
            for split, shares in self.class_shares.items()
        ]
        if distances := self.smallest_distance_km:
            known = [f"{pair} {km} km" for pair, km in distances.items() if km is not None]
            lines.append(f"smallest distance: {', '.join(known) or 'only one split has tiles'}")
        if self.without_place:
            verb = "is" if self.without_place == 1 else "are"
            lines.append(f"{counted(self.without_place, 'tile')} without a place {verb} not judged")
        return lines


class SegmentationScores(Record):
    """Scores of the segmenter on real test tiles, all pixels pooled; None where there are none."""

    tiles: int
    accuracy: float | None = None
    macro_f1: float | None = None
    mean_iou: float | None = None
    f1: dict[str, float | None] = {}
    iou: dict[str, float | None] = {}
    confusion: tuple[tuple[int, ...], ...] = ()
    """Pixels by true class and by predicted class, in the order of CLASSES."""


class Estimate(Record):
    """A figure with its 95 % interval, in four digits."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, low: float, high: float) -> "Estimate":
        short = [float(f"{float(edge):.4g}") for edge in (value, low, high)]
        return cls(value=short[0], low=short[1], high=short[2])

    def within(self, low: float, high: float) -> bool:
        """Whether any of the interval lies between two values."""
        return self.low <= high and self.high >= low


class Agreement(Record):
    """Mean share of a tile on which a judge agrees with what it was drawn on, and on real tiles
    with their masks; ``error`` is the standard error of the difference."""

    synthetic: float
    real: float
    error: float

    @classmethod
    def of(cls, synthetic: Sequence[float], real: Sequence[float]) -> "Agreement":
        """From the shares of each tile."""
        means = [math.fsum(side) / len(side) for side in (synthetic, real)]
        variances = [
            math.fsum((x - mean) ** 2 for x in side) / max(1, len(side) - 1) / len(side)
            for side, mean in zip((synthetic, real), means, strict=True)
        ]
        return cls(
            synthetic=round(means[0], 4),
            real=round(means[1], 4),
            error=round(math.sqrt(sum(variances)), 4),
        )


class TileComparison(Record):
    """Synthetic tiles beside held-out real tiles of like composition (`quality.comparison`).

    Ratios are of synthetic to real: 1 is like real tiles. Floors are between two sets of real
    tiles, held-out and train.
    """

    real: int
    """Held-out real tiles that were compared."""
    synthetic: int
    realism: float
    """Median of the synthetic tiles."""
    realism_of_real: float
    told_apart: Estimate
    """How often a classifier knows the synthetic one of two tiles: .5 is chance, 1 always."""
    told_apart_floor: Estimate | None = None
    kid_x1000: Estimate
    kid_floor: Estimate | None = None
    precision: float
    recall: float
    sharpness: Estimate
    """Ratio of the energy of the finest detail."""
    contrast: Estimate
    """Ratio of the variance of the luminance."""
    spectrum: dict[str, Estimate] = {}
    """Ratio of energy by plane and period in pixels."""
    colour: dict[str, Estimate] = {}
    """Difference of the mean of each channel in levels of 255."""
    spread: Estimate
    """Ratio of how much the mean colour varies from tile to tile."""
    agreement: dict[str, Agreement] = {}
    """By judge: ``segmenter``, and ``discriminant``, a classifier of another kind."""
    copies: int = 0
    """Tiles that copy a train tile, of ``drawn``, those left out among them."""
    drawn: int = 0


class Limit(Record):
    """A threshold of [quality]: rows whose ``measure`` is beyond ``value`` are flagged."""

    measure: str
    bound: Literal["min", "max"]
    value: float | None
    """None where there is none, for the reason in ``origin``."""
    origin: str
    """Where it comes from, in words."""
    kinds: tuple[str, ...] = ("synthetic",)
    """Kinds of rows that it is for."""


class Yardsticks(Record):
    """A generator beside what draws without training: Fréchet distances in the segmenter's features
    between ``crops`` crops of validation tiles and as many drawn on their layouts, with standard
    errors over crops."""

    crops: int
    generator: float
    generator_error: float
    texture: float
    texture_error: float
    quilt: float
    """Of patches of train tiles: as near as copying comes."""

    @property
    def beats_texture(self) -> bool:
        """Whether the generator is nearer than textures by more than two standard errors."""
        error = math.hypot(self.generator_error, self.texture_error)
        return self.texture - self.generator > 2 * error


class ModelRecord(Record):
    """A model that was trained for the release: its settings, scores and digest."""

    settings: dict[str, JsonValue] = {}
    steps: int = 0
    stopped: str = ""
    best: dict[str, int | float] | None = None
    """Step and scores of the weights that were kept; None for those of the last step."""
    waited: int | None = None
    """Evaluations since the best one; None in releases of an earlier version."""
    final_loss: float | None = None
    weights_sha256: str = ""
    test: SegmentationScores | None = None
    yardsticks: Yardsticks | None = None
    """A generator's; None where no segmenter judged it."""
    libraries: dict[str, str] = {}


class EncoderRecord(Record):
    """A pretrained encoder that scores were computed with."""

    model: str
    digest: str = ""


class EmbeddingsRecord(Record):
    """The baseline whose vectors the config ``embeddings`` holds."""

    model: str
    revision: str | None = None


class Account(Record):
    """Rows of an import: ``rows_in`` = ``rows_out`` + ``rejects``."""

    rows_in: int
    rows_out: int
    rejects: int


class CaptionFile(Record):
    """How a file of captions was read: the columns that hold them, how many an image has, and what
    had to be guessed."""

    file: str
    text_columns: tuple[str, ...]
    images: int
    captions_per_image: dict[str, float]
    """Under min, mean and max."""
    examples: tuple[str, ...]
    """Up to three of its captions."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        file: str | Path,
        columns: Sequence[str],
        counts: tuple[int, int, int, int],
        examples: Sequence[str],
        notes: Sequence[str],
    ) -> "CaptionFile":
        """``counts``: images, the fewest and the most captions of an image, and all captions."""
        images, few, many, every = counts
        mean = every / images if images else 0.0
        return cls(
            file=str(file),
            text_columns=tuple(columns),
            images=images,
            captions_per_image={"min": few, "mean": mean, "max": many},
            examples=tuple(examples),
            notes=tuple(notes),
        )

    def lines(self) -> list[str]:
        few, many = (int(self.captions_per_image[name]) for name in ("min", "max"))
        each = str(few) if few == many else f"{few} to {many}"
        what = "caption" if each == "1" else "captions"
        lines = [
            f"{self.file}: {counted(self.images, 'image')}, {each} {what} each, from "
            f"{', '.join(self.text_columns)}"
        ]
        lines += [f"  {note}" for note in self.notes]
        return lines + [f"  “{t if len(t) <= 90 else t[:89] + '…'}”" for t in self.examples]


class ImportReport(Record):
    """Where imported rows come from. Only the official layout has more than ``account`` and
    ``official``; ``sources`` is set in a manifest alone."""

    sources: tuple[str, ...] = ()
    account: Account
    captions: bool = False
    provenance: str = "nobody"
    """Who names the models of the captions: ``record``, ``sidecar`` or ``nobody``."""
    md5: dict[str, str] | None = None
    """Name of each verified zip → md5."""
    official: bool = False
    """Whether all of these zips are those of the official record."""
    reasons: dict[str, int] = {}
    """Rejects by reason, most first."""
    set_aside: dict[str, int] = {}
    """Entries outside every row by reason, most first."""
    captions_elsewhere: int = 0
    percentages_elsewhere: int = 0
    """Lines of splits that have no pictures."""
    percent_differs: int = 0
    """Rows published with other percentages than those of the mask."""
    lists: tuple[str, ...] = ()
    """Files that list all of these, from the project's directory."""
    caption_files: tuple[CaptionFile, ...] = ()
    """How each file of captions was read."""
    captions_unmatched: int = 0
    """Rows of caption files that name no picture of the sources."""

    def lines(self) -> list[str]:
        rows_in, rows_out = (
            counted(n, "row") for n in (self.account.rows_in, self.account.rows_out)
        )
        rejects = counted(self.account.rejects, "reject")
        lines = [f"{rows_in} in = {rows_out} out + {rejects}", *_by_reason(self.reasons)]
        if entries := self.set_aside:
            others = counted(sum(entries.values()), "other entry", "other entries")
            lines += [f"{others} set aside", *_by_reason(entries)]
        elsewhere = {"captions": self.captions_elsewhere, "percentages": self.percentages_elsewhere}
        lines += [
            f"{counted(n, 'line')} of {what} of splits without pictures ignored"
            for what, n in elsewhere.items()
            if n
        ]
        if self.captions_unmatched:
            lines.append(
                f"{counted(self.captions_unmatched, 'row')} of captions without a picture among "
                "the sources ignored"
            )
        if self.percent_differs:
            verb = "was" if self.percent_differs == 1 else "were"
            lines.append(
                f"{counted(self.percent_differs, 'row')} {verb} published with percentages that "
                "the mask does not have"
            )
        if self.lists:
            lines.append(f"listed in {', '.join(self.lists)}")
        return [*lines, *(line for file in self.caption_files for line in file.lines())]


def _by_reason(reasons: dict[str, int]) -> list[str]:
    return [f"  {n:>9,} {reason}" for reason, n in reasons.items()]


class Extent(Record):
    """Where the centres of the real tiles are, in degrees; of how many 1° cells and which years."""

    west: float
    south: float
    east: float
    north: float
    cells: int
    years: tuple[int, ...] = ()
    """Years of the tiles that are of a yearly composite."""
    acquired: tuple[str, str] | None = None
    """First and last instant of the tiles that are of single scenes, ISO 8601 in UTC."""
    scenes: int = 0
    """How many such scenes there are."""
    footprint: tuple[float, float, float, float] | None = None
    """West, south, east and north of the whole tiles; -180 and 180 where one crosses the
    antimeridian. None where no tile has a transform, and in older releases."""
    crs: tuple[str, ...] = ()
    """Reference systems of the tiles."""
    pixel: tuple[float, ...] = ()
    """Widths of a pixel, in units of the CRS."""

    @property
    def interval(self) -> tuple[str, str] | None:
        """First and last instant of all tiles, ISO 8601 in UTC; None where none has a time."""
        first = [f"{year}-01-01T00:00:00Z" for year in self.years]
        last = [f"{year}-12-31T23:59:59Z" for year in self.years]
        if self.acquired:
            first, last = [*first, self.acquired[0]], [*last, self.acquired[1]]
        return (min(first), max(last)) if first else None

    @property
    def all_years(self) -> tuple[int, ...]:
        """Years of composites, and those from the first to the last scene."""
        first, last = (int(at[:4]) for at in self.acquired) if self.acquired else (1, 0)
        return tuple(sorted({*self.years, *range(first, last + 1)}))

    def time_words(self) -> str:
        """When the tiles were taken, in words; empty where it is not known."""
        parts = []
        if self.years:
            parts.append(f"{', '.join(map(str, self.years))}, composites of a whole year")
        if self.acquired:
            days = list(dict.fromkeys(at[:10] for at in self.acquired))
            parts.append(f"{' to '.join(days)}, {counted(self.scenes, 'scene')}")
        return "; ".join(parts)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the tiles; of their centres where no more is known."""
        return self.footprint or (self.west, self.south, self.east, self.north)


class Clusters(Record):
    """Clusters of duplicate images, their rows, and how many of them span which parts."""

    clusters: int = 0
    rows: int = 0
    spans: dict[str, int] = {}


class Agent(Record):
    """What wrote captions or drew tiles, at which revision, and how many."""

    model: str
    revision: str | None = None
    n: int

    def __str__(self) -> str:
        return f"{self.model}@{self.revision}" if self.revision else self.model


class StreamSummary(Record):
    """Captions of a stream and kind: how many, how many differ, and `means` of their scores."""

    n: int
    unique: int
    redundancy: float | None = None
    agents: tuple[Agent, ...] = ()
    """What wrote them, most first; captions that do not say are left out."""
    __pydantic_extra__: dict[str, float | None]

    @property
    def means(self) -> dict[str, float | None]:
        """Score that the card shows → its mean, as beside the counts in the manifest; the scores
        are those of `builder.land.score_columns`."""
        return self.__pydantic_extra__


class ExampleCaption(Record):
    stream: Name
    text: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt_sha256: str | None = None
    seed: int | None = None
    error: str | None = None


class ExampleRow(Record):
    id: str
    percent: dict[str, int] = {}
    longitude: float | None = None
    latitude: float | None = None
    captions: tuple[ExampleCaption, ...] = ()


class RetrievalFigures(Record):
    """Figures of a model on a caption stream, by the strict protocol (S), in per cent.

    ``t2i`` and ``i2t`` hold R@1, R@5, R@10 and MedR (a rank); ``interval`` is the 95 % of mR.
    """

    model: str
    role: str = ""
    """Of a bundled baseline: ``oracle`` or ``baseline``; empty for a model."""
    meaning: str = ""
    stream: str
    split: str
    images: int
    texts: int
    t2i: dict[str, float]
    i2t: dict[str, float]
    mR: float
    interval: tuple[float, ...] | None = None


class ReviewedStream(Record):
    """What people who read captions of a stream (or looked at masks) say: ``right`` of ``decided``,
    with its 95 % interval (Wilson), and ``weighted``, classes weighted as in the release."""

    right: int
    decided: int
    unsure: int = 0
    precision: float | None = None
    interval: tuple[float, ...] | None = None
    weighted: float | None = None


class ReviewFigures(Record):
    """A review by people, which the publisher put into the card: by stream, ``mask`` for masks."""

    readers: int
    kappa: tuple[float, ...] = ()
    """Lowest and highest Cohen's κ of two readers."""
    streams: dict[str, ReviewedStream] = {}


BY_KIND = (
    "rows",
    "left_out",
    "flags",
    "pixels",
    "mask_agreement",
    "nulls",
    "generators",
    "streams",
    "examples",
)
"""Counts of the census that follow one kind of rows; their keys are, or begin with, a kind."""


class Census(Record):
    """Counts of the rows of a release, and of those left out. A part is ``kind/split``."""

    extent: Extent | None = None
    rows: dict[str, int] = {}
    """By part."""
    left_out: dict[str, dict[str, int]] = {}
    """By kind and reason."""
    flags: dict[str, dict[str, int]] = {}
    """By kind and measure."""
    duplicates: Clusters = Clusters()
    near_duplicates: Clusters = Clusters()
    pixels: dict[str, dict[str, int]] = {}
    """By part and class."""
    mask_agreement: dict[str, float] = {}
    generators: dict[str, tuple[Agent, ...]] = {}
    """By part: what drew its synthetic tiles, most first."""
    measures: dict[str, dict[str, float]] = {}
    """By part and measure: the median over the rows that have a value."""
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    """By part and measure: the 5 % and 95 % quantiles."""
    nulls: dict[str, tuple[str, ...]] = {}
    """By kind: columns that are null in some of its rows."""
    streams: dict[str, StreamSummary] = {}
    """By ``kind/stream``."""
    source_leaks: dict[str, str] = {}
    """By stream: what its words give away of which rows are synthetic; only streams that do."""
    examples: dict[str, ExampleRow] = {}
    """The first row of each kind."""

    def of_kind(self, kind: str) -> "Census":
        """The counts of a kind of rows; clusters of duplicates stay those of all rows, and so do
        measures, which mean something beside those of the other kind."""
        by_kind = {
            name: {part: n for part, n in getattr(self, name).items() if part.split("/")[0] == kind}
            for name in BY_KIND
        }
        extent = self.extent if kind == "real" else None  # it is of real rows
        return self.model_copy(update={**by_kind, "extent": extent})


class Facts(Record):
    """What a release records beside its rows."""

    balance: Balance | None = None
    recipe: dict[str, dict[str, JsonValue]] = {}
    """The recipe as published, by section; which keys there are depends on the version of aras."""
    counts: dict[str, dict[str, int]] = {}
    """By stage and what it counts."""
    split: SplitReport | None = None
    models: dict[str, ModelRecord] = {}
    encoders: dict[str, EncoderRecord] = {}
    embeddings: EmbeddingsRecord | None = None
    imported: ImportReport | None = Field(
        default=None, validation_alias="import", serialization_alias="import"
    )
    census: Census = Census()
    comparison: TileComparison | None = None
    """None without synthetic tiles, with too few tiles, and in older releases."""
    limits: tuple[Limit, ...] = ()
    sources: tuple[Source, ...] = ()
    retrieval: tuple[RetrievalFigures, ...] = ()
    """Figures of baselines, which the publisher put into the card."""
    review: ReviewFigures | None = None

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        """A value of the recipe; ``default`` where the release lacks it."""
        return self.recipe.get(section, {}).get(key, default)

    def with_setting(self, section: str, key: str, value: Any) -> "Facts":
        """The same with one value of the recipe changed."""
        recipe = {**self.recipe, section: {**self.recipe.get(section, {}), key: value}}
        return self.model_copy(update={"recipe": recipe})


class Manifest(Record):
    """What a release holds and how it was built. DOIs are None until they are known."""

    format: int
    name: Name | Literal[""] = ""
    title: str = ""
    version: Version
    date: str = ""
    authors: tuple[Author, ...] = ()
    license: str = ""
    key: str | None = None
    """Digest of all that the release is built from."""
    content_sha256: str
    configs: Configs
    files: tuple[ListedFile, ...]
    facts: Facts
    subsets: dict[RelativePath, SubsetFile] = {}
    doi: str | None = None
    concept_doi: str | None = None
    history: tuple[ChangelogEntry, ...] | None = None
    """The changelog, newest version first; None before it is written."""
    synthetic_doi: str | None = None
    """DOI of a second record, with the synthetic tiles."""
    endpoint: str | None = None
    """The Hub that holds the repo, where it is not huggingface.co."""
    part: Part | None = None
    selection: Selection | None = None
    """Set where `aras get` took the rows from another release."""
    copies: dict[str, str] = {}
    """Publishing target → address of a copy there; a Hub's and Zenodo's have fields above."""

    def as_json(self) -> dict[str, Any]:
        value = super().as_json()
        if self.endpoint is None:
            value.pop("endpoint", None)  # back on huggingface.co: as if it had been nowhere else
        return value

    @pydantic.model_validator(mode="after")
    def _repo_is_a_name(self) -> "Manifest":
        if not re.fullmatch(REPO, self.repo):
            raise ValueError(f"the repo {self.repo!r}: {SHAPES[REPO]}")
        return self

    @property
    def repo(self) -> str:
        """The repo that the card's snippets load; empty where the recipe names none."""
        return str(self.facts.setting("release", "repo") or "")

    def split_files(self, config: str, split: str) -> tuple[str, ...]:
        """Paths of the files of a split of a config; empty where there is no such split."""
        files = self.configs.get(config, {}).get(split)
        return files.files if files else ()


def read_manifest(release: Path) -> Manifest:
    """The manifest of a release. Raises ArasError when there is none or it cannot be read."""
    path = release / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(budgets.JSON_BYTES + 1)
    except FileNotFoundError:
        raise not_a_release(release) from None
    except NotADirectoryError:
        raise ArasError(f"{release}: is a file, not a release directory") from None
    manifest = parse_manifest(text, str(path))
    _refuse_links_outside(release, manifest)
    return manifest


def not_a_release(release: Path) -> ArasError:
    """The error of a folder without a manifest; it names what lies there instead."""
    return ArasError(f"{release}: not a release directory (no {MANIFEST}); {_instead(release)}")


def _instead(release: Path) -> str:
    """What lies where somebody looked for a release: in that folder, or beside it."""
    folder = release if release.is_dir() else release.parent
    near = sorted({*folder.glob(f"*/{MANIFEST}"), *folder.glob(f"release/*/{MANIFEST}")})
    if near:
        return "there are " + ", ".join(str(path.parent) for path in near[:5])
    if folder.is_dir() and folder != release:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if names:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            return f"beside it: {shown}; `aras package` writes a release"
    return "`aras package` writes it"


def _refuse_links_outside(release: Path, manifest: Manifest) -> None:
    """Raises ArasError when a path of the manifest leads out of the release by a link.

    The cache of huggingface_hub keeps the files of a snapshot in a folder beside it, and links.
    """
    parts = (part for splits in manifest.configs.values() for part in splits.values())
    paths = {file.path for file in manifest.files}.union(*(part.files for part in parts))
    root = release.resolve()
    inside = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    for name in sorted(paths.union(manifest.subsets)):
        target = (release / name).resolve()
        if not any(target.is_relative_to(folder) for folder in inside):
            raise ArasError(
                f"{release / name}: a link to {target}, outside the release; put the file itself "
                "there"
            )


def parse_manifest(text: bytes, place: str) -> Manifest:
    """The manifest that ``text`` holds, read at ``place``.

    Raises ArasError for any other JSON, and for more than `budgets.JSON_BYTES`.
    """
    try:
        value = parse_json(text, budgets.JSON_BYTES)
    except ValueError as error:
        raise ArasError(f"{place}: not readable ({error}); package again") from error
    values = value if isinstance(value, dict) else {}
    if values.get("format", FORMAT) != FORMAT:
        raise _not_ours(place, f"its format is {str(values['format'])[:40]}, not {FORMAT}")
    if missing := [name for name in NEEDED if name not in values]:
        raise _not_ours(place, f"it has no {', '.join(missing)}")
    try:
        return Manifest.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _not_ours(place, f"{where}: {first['msg']}") from error


def _not_ours(place: str, why: str) -> ArasError:
    return ArasError(f"{place}: not a manifest that aras can read ({why}); package again")


def listed_files(release: Path) -> list[str]:
    """Relative paths of all files that a manifest lists, sorted."""
    paths = (path for path in release.rglob("*") if path.is_file())
    names = (path.relative_to(release).as_posix() for path in paths)
    return sorted(name for name in names if name not in UNLISTED)


def describe_files(release: Path, names: Iterable[str]) -> list[ListedFile]:
    """Sizes and digests of files of a release."""
    return [
        ListedFile(
            path=name,
            bytes=(release / name).stat().st_size,
            **hash_file(release / name, "sha256", "md5"),
        )
        for name in names
    ]


def write_manifest(release: Path, manifest: Manifest) -> None:
    """Write the manifest and the checksum files that follow from its list."""
    write_json(release / MANIFEST, manifest.as_json())
    for name, text in checksum_files(release, manifest).items():
        write_text(release / name, text)


def checksum_files(release: Path, manifest: Manifest) -> dict[str, str]:
    """Name and text of each checksum file: the listed files and the manifest as it is on disk."""
    digests = {file.path: {"sha256": file.sha256, "md5": file.md5} for file in manifest.files}
    digests[MANIFEST] = hash_file(release / MANIFEST, *SUMS)
    return {
        name: "".join(f"{digests[path][algorithm]}  {path}\n" for path in sorted(digests))
        for algorithm, name in SUMS.items()
    }
