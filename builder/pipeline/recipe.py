"""dataset.toml → validated settings; every error names the file, the key and the way out."""

import datetime
import difflib
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import pydantic
from pydantic import Field, Strict, field_validator, model_validator

from builder.captions import section as caption_keys
from builder.captions.section import CaptionSection
from builder.core.errors import ArasError
from builder.core.fields import Author, AuthorField, Place
from builder.core.files import write_text
from builder.core.templates import environment
from builder.land import prompts
from builder.land.classes import CLASSES, DEFAULT_REMAP, WORLDCOVER
from builder.synthesis.target import Target
from builder.synthesis.transforms import MOST_REPEATS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "dataset.toml"

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Widths = Annotated[
    tuple[Annotated[int, Field(gt=0, multiple_of=16)], ...], Strict(False), Field(min_length=2)
]
Crop = Annotated[int, Field(gt=0, multiple_of=8)]
Balance = TypeVar("Balance", str, str | dict[str, float])
Range = Annotated[tuple[float, float], Strict(False)]  # TOML has lists only
Code = Annotated[int, Strict(False)]  # and its keys are strings
Patterns = Annotated[list[str], Field(min_length=1), Place.FILE]
Model = Annotated[str, Place.MODEL]
Precision = Literal["auto", "float32", "bf16"]
SHAPES = {
    r"^[a-z0-9][a-z0-9._-]*$": "expected small letters, digits, '.', '_' and '-', without spaces",
    r"^\d+\.\d+\.\d+$": "expected MAJOR.MINOR.PATCH, for example 0.2.0",
    r"^\d{4}-\d{2}-\d{2}$": "expected a date, for example 2026-05-31",
    r"^([0-9a-fA-F]{32}|any)$": "expected an md5 of 32 hex digits, or any",
    r"^(10\.\d{4,9}/\S+)?$": "expected a DOI, for example 10.5281/zenodo.18890661",
    r"^(https?://\S+)?$": "expected an address that begins with https://",
    r"^([\w.-]+/[\w.-]+)?$": "expected a Hub repository, for example my-lab/my-tiles",
}
"""Patterns of the recipe's texts, and what is expected in words."""
NAME, VERSION, DATE, MD5, DOI, URL, REPO = SHAPES

Name = Annotated[str, Field(pattern=NAME)]


class Section(pydantic.BaseModel):
    """A table of the recipe: unknown keys are errors, values are never coerced ("3" is not 3)."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


def _known_target(value: Balance) -> Balance:
    try:
        Target.parse(value)
    except ArasError as error:
        raise ValueError(str(error)) from error
    return value


class DatasetSection(Section):
    name: Name = "my-land-cover"
    title: str = "Land-cover tiles with masks and captions"
    version: Annotated[str, Field(pattern=VERSION)] = "0.1.0"
    date: Annotated[str, Field(pattern=DATE)] = "2026-01-01"
    seed: int = 0
    authors: Annotated[list[AuthorField], Field(min_length=1)] = [
        Author(name="The dataset's maintainers")
    ]
    license: str = "CC-BY-4.0"

    @field_validator("date", mode="before")
    @classmethod
    def _date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime.date) else value

    @field_validator("date")
    @classmethod
    def _day(cls, value: str) -> str:
        datetime.date.fromisoformat(value)  # ValueError: no such day
        return value


class EngineSection(Section):
    kind: Literal["serial", "processes", "ray"] = "processes"
    workers: Annotated[int, Field(ge=0)] = 0


class ImportSection(Section):
    sources: Annotated[list[str], Place.FILE] = []
    md5: dict[str, Annotated[str, Field(pattern=MD5)]] = {}
    run: Name = "official"
    split: Literal["official", "blocks"] = "official"
    captions: bool = True
    segmenter: bool = False
    shard_rows: Annotated[int, Field(ge=1, le=2048)] = 128


class TilesSection(Section):
    maps: Patterns = ["inputs/*_Map.tif"]
    composites: Patterns = ["inputs/*_S2RGBNIR.tif"]
    size: Literal[64, 128, 256, 512] = 256
    reflectance: Range = (0.0, 0.275)
    max_water: Fraction = 0.9
    max_black: Annotated[float, Field(ge=0, lt=1)] = 0.0
    resample: Literal["refuse", "nearest", "bilinear"] = "refuse"
    remap: dict[Code, Literal[CLASSES]] = DEFAULT_REMAP  # type: ignore[valid-type]

    @field_validator("reflectance")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 6.5535:
            raise ValueError("expected two reflectances, 0 ≤ low < high ≤ 6.5535")
        return value

    @field_validator("remap")
    @classmethod
    def _codes(cls, value: dict[int, str]) -> dict[int, str]:
        if bad := [code for code in value if not 1 <= code <= 250]:
            raise ValueError(f"map codes are 1…250, not {bad[0]}")
        return {**DEFAULT_REMAP, **value}


class Shares(Section):
    train: Fraction = 0.8
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train, validation and test must sum to 1")
        return self


class SplitSection(Section):
    block: Annotated[float, Field(gt=0, le=10)] = 0.25
    buffer_km: Annotated[float, Field(ge=0)] = 1.0
    shares: Shares = Shares()


class SegmenterSection(Section):
    profile: Literal["cpu", "gpu"] = "cpu"
    steps: Positive | None = None
    batch: Positive | None = None
    crop: Crop | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None


class RetrieverSection(Section):
    profile: Literal["cpu", "gpu"] = "cpu"
    stream: Name = "full"
    steps: Positive | None = None
    batch: Positive | None = None
    size: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    weights: Annotated[str | None, Place.MODEL] = None
    chunk: Annotated[int, Field(ge=0)] | None = None


class PipelineSection(Section):
    """Any diffusers pipeline in the place of our generator."""

    model: Annotated[str, Field(min_length=1), Place.MODEL]
    revision: str = ""
    controlnet: Model = ""
    controlnet_revision: str = ""
    prompt: str = "a satellite image seen from above: {{ composition }}"
    negative: str = ""
    steps: Positive = 25
    guidance: Annotated[float, Field(ge=0)] = 7.5
    control: Annotated[float, Field(ge=0)] = 1.0
    size: Crop | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    @field_validator("prompt", "negative")
    @classmethod
    def _prompt(cls, value: str) -> str:
        try:
            unknown = prompts.variables(value) - {n for v in prompts.VARIABLES.values() for n in v}
        except ArasError as error:
            raise ValueError(str(error)) from error
        if unknown:
            known = ", ".join(name for names in prompts.VARIABLES.values() for name in names)
            raise ValueError(f"uses {{{{ {sorted(unknown)[0]} }}}}; variables are {known}")
        return value


class AutoencoderSection(Section):
    profile: Literal["cpu", "gpu"] | None = None
    steps: Positive | None = None
    batch: Positive | None = None
    crop: Crop | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    precision: Precision | None = None
    evaluate_every: Annotated[int, Field(ge=0)] | None = None
    evaluation_tiles: Positive | None = None
    patience: Annotated[int, Field(ge=0)] | None = None
    accumulate: Positive | None = None
    fused: bool | None = None


class GeneratorSection(Section):
    profile: Literal["cpu", "gpu"] = "cpu"
    kind: Literal["pixel", "latent"] | None = None
    condition: Literal["layout", "none"] | None = None
    autoencoder: Annotated[str | None, Place.MODEL] = None
    rows: Annotated[int, Field(ge=0)] = 24
    run: Name = "a"
    mask: Literal["layout", "segmenter"] = "layout"
    balance: str | dict[str, float] = "natural"
    max_repeats: Positive = 8
    variants: Annotated[int, Field(ge=0, le=32)] = 0
    nearest: bool = False
    steps: Positive | None = None
    batch: Positive | None = None
    crop: Crop | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    widths: Widths | None = None
    layers: Positive | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    layout_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    prediction: Literal["velocity", "noise"] | None = None
    min_snr: Annotated[float, Field(ge=0)] | None = None
    precision: Precision | None = None
    evaluate_every: Annotated[int, Field(ge=0)] | None = None
    evaluation_tiles: Annotated[int, Field(ge=2)] | None = None
    evaluation_steps: Positive | None = None
    watch: Literal["frechet", "loss"] | None = None
    patience: Annotated[int, Field(ge=0)] | None = None
    accumulate: Positive | None = None
    checkpointing: bool | None = None
    channels_last: bool | None = None
    compile: bool | Annotated[str, Field(min_length=1)] | None = None
    fused: bool | None = None
    guidance: Annotated[float, Field(gt=0)] = 1.0
    sampler: Literal["ddim", "dpm-solver"] | None = None
    sampling_steps: Positive | None = None
    sampling_batch: Positive | None = None
    pipeline: PipelineSection | None = None

    @property
    def target(self) -> Target:
        return Target.parse(self.balance)

    @field_validator("balance")
    @classmethod
    def _target(cls, value: str | dict[str, float]) -> str | dict[str, float]:
        return _known_target(value)

    @field_validator("max_repeats")
    @classmethod
    def _repeats(cls, value: int) -> int:
        if value > MOST_REPEATS:
            raise ValueError(
                f"at most {MOST_REPEATS}, because a layout has so many turns and flips to tell "
                "repeats apart; set variants for more layouts"
            )
        return value


class SubsetSection(Section):
    rows: Positive
    balance: str = "natural"

    @field_validator("balance")
    @classmethod
    def _target(cls, value: str) -> str:
        return _known_target(value)


class SourceSection(Section):
    """Data of others that the release is made from."""

    name: Annotated[str, Field(min_length=1)]
    license: str = ""
    notice: str = ""
    doi: Annotated[str, Field(pattern=DOI)] = ""
    url: Annotated[str, Field(pattern=URL)] = ""


class ReleaseSection(Section):
    shard_megabytes: Annotated[float, Field(gt=0)] = 512
    repo: Annotated[str, Field(pattern=REPO)] = ""
    description: str = ""
    sources: list[SourceSection] | None = None


class MemorizationSection(Section):
    copy_ratio: Annotated[float, Field(ge=0)] = 0.3
    copy_bits: Annotated[int, Field(ge=-1, le=64)] = 4
    drop_copies: bool = True


class BenchSection(Section):
    embeddings: Model = ""
    splits: list[Literal["train", "validation", "test"]] = ["validation", "test"]


class DuplicatesSection(Section):
    bits: Annotated[int, Field(ge=0, le=16)] = 6
    rms: Annotated[float, Field(ge=0, le=64)] = 4.0


class QualitySection(Section):
    """Thresholds by column, min_… and max_…; the defaults flag nothing."""

    min_sharpness: Annotated[float, Field(ge=0)] = 0.0
    min_contrast: Fraction = 0.0
    max_cloudiness: Fraction = 1.0
    max_blankness: Fraction = 1.0
    min_mask_agreement: Fraction = 0.0
    min_realism: Annotated[float, Field(ge=0)] = 0.0
    kinds: list[Literal["real", "synthetic"]] = ["real", "synthetic"]
    drop_flagged: bool = True


class ScoresSection(Section):
    """What captions and images are scored with: models are ORG/NAME on the Hub or a path, the
    lexicon is a path; empty for none, and for the built-in lexicon."""

    lexicon: Annotated[str, Place.FILE] = ""
    clip: Model = ""
    clip_revision: str = ""
    tokenizer: Model = ""
    tokenizer_revision: str = ""
    features: Annotated[str, Field(min_length=1), Place.MODEL] = "segmenter"
    features_revision: str = ""
    batch: Positive = 32


class ControlsSection(Section):
    rows: Annotated[int, Field(ge=0)] = 1_000


class Recipe(Section):
    dataset: DatasetSection = DatasetSection()
    engine: EngineSection = EngineSection()
    imports: ImportSection = Field(default=ImportSection(), alias="import")
    tiles: TilesSection = TilesSection()
    split: SplitSection = SplitSection()
    segmenter: SegmenterSection = SegmenterSection()
    autoencoder: AutoencoderSection = AutoencoderSection()
    generator: GeneratorSection = GeneratorSection()
    retriever: RetrieverSection = RetrieverSection()
    duplicates: DuplicatesSection = DuplicatesSection()
    memorization: MemorizationSection = MemorizationSection()
    bench: BenchSection = BenchSection()
    quality: QualitySection = QualitySection()
    captions: dict[Name, CaptionSection] = {}
    scores: ScoresSection = ScoresSection()
    controls: ControlsSection = ControlsSection()
    subsets: dict[Name, SubsetSection] = {
        "mini": SubsetSection(rows=1_000),
        "10k": SubsetSection(rows=10_000),
        "10k-balanced": SubsetSection(rows=10_000, balance="uniform"),
    }
    release: ReleaseSection = ReleaseSection()

    @model_validator(mode="after")
    def _agree(self) -> "Recipe":
        drawn = "rows" in self.generator.model_fields_set and self.generator.rows
        if self.imports.sources and drawn:
            raise ValueError("rows of [generator] must be 0 or left out beside [import]")
        for name in ("segmenter", "autoencoder", "generator"):
            crop = getattr(self, name).crop
            if crop and crop > self.tiles.size:
                raise ValueError(
                    f"{name}.crop = {crop} is larger than tiles.size = {self.tiles.size}"
                )
        plain = {"balance": "natural", "variants": 0, "guidance": 1.0}
        odd = [key for key, value in plain.items() if getattr(self.generator, key) != value]
        if self.generator.condition == "none" and odd:
            raise ValueError(
                f"generator.{odd[0]} = {getattr(self.generator, odd[0])!r} is about layouts, and "
                'condition = "none" draws without them'
            )
        pipeline = self.generator.pipeline
        ours = {"sampler", "sampling_steps", "guidance"} & self.generator.model_fields_set
        if pipeline and ours:
            raise ValueError(
                f"generator.{sorted(ours)[0]} belongs to our own generator: a pipeline has its own "
                "sampler, and its steps and guidance stand in [generator.pipeline]"
            )
        if pipeline and (pipeline.size or 0) % self.tiles.size:
            raise ValueError(
                f"generator.pipeline.size = {pipeline.size} is not a whole multiple of "
                f"tiles.size = {self.tiles.size}, to which its tiles are shrunk"
            )
        return self


def load(directory: Path) -> Recipe:
    """Read ``directory``/dataset.toml.

    Raises ArasError in one clear line: no such file, not TOML (with line and column), unknown
    key (with the nearest known one), wrong type or value.
    """
    path = directory / FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArasError(
            f"{path}: no such recipe; `aras init {directory}` writes one, or name its directory "
            "with `aras -C DIR …`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ArasError(f"{path}: not TOML: {error}") from error
    try:
        return Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [f"{path}: {_explain(problem)}" for problem in error.errors()]
        raise ArasError("\n".join(dict.fromkeys(lines))) from None


def _explain(error: Any) -> str:
    """One pydantic error as a line that names the key and the way out."""
    place = [str(part) for part in error["loc"] if part != "[key]"]
    backend = place.pop(2) if place[:1] == ["captions"] and len(place) > 2 else ""
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        if backend and (other := caption_keys.hint(backend, place[-1])):
            return f'{key} does not go with backend = "{backend}": {other}'
        known = _known_keys(place[:-1], backend)
        near = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key}; {hint}"
    message: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = SHAPES.get(error["ctx"]["pattern"], message)
    if not place:
        return message
    if error["type"] == "model_type":
        message = f"expected a table, [{key}] with its keys below it"
    shown = repr(error["input"])
    shown = shown if len(shown) < 60 else f"{shown[:57]}…"
    return f"{key} = {shown}: {message[0].lower()}{message[1:]}"


def _known_keys(place: list[str], backend: str) -> list[str]:
    model: Any = caption_keys.BACKENDS[backend].section if backend else Recipe
    for part in place[2 if backend else 0 :]:
        field = model.model_fields.get("imports" if part == "import" else part)
        model = _plain(field.annotation) if field else model  # or the name of one of many tables
    return [field.alias or name for name, field in model.model_fields.items()]


def _plain(annotation: Any) -> Any:
    """The section in an optional one, in a list or in a table of them."""
    for argument in get_args(annotation):
        inner = argument if hasattr(argument, "model_fields") else _plain(argument)
        if hasattr(inner, "model_fields"):
            return inner
    return annotation


def files(directory: Path, patterns: list[str], key: str) -> tuple[Path, ...]:
    """Files that match the patterns (relative to ``directory`` or absolute), sorted.

    Raises ArasError naming the key when a pattern matches nothing.
    """
    paths: set[Path] = set()
    for pattern in patterns:
        base = Path(pattern)
        root, relative = (
            (Path(base.anchor), base.relative_to(base.anchor))
            if (base.is_absolute())
            else (directory, base)
        )
        try:
            matches = sorted(root.glob(str(relative)))
        except (ValueError, IndexError):  # "", "/" and "**x" are no patterns
            matches = []
        if not matches:
            raise ArasError(
                f"{directory / FILE}: {key}: no file matches {pattern!r}; put the files there, "
                "write where they are, or let `aras fetch inputs` bring them"
            )
        paths.update(path.resolve() for path in matches)
    return tuple(sorted(paths))


def write(directory: Path, *, demo: bool = False, imports: dict[str, Any] | None = None) -> Path:
    """Write a commented dataset.toml; returns its path.

    ``demo`` makes the demo's small one; ``imports`` one for rows that are brought in, with these
    values in [import].

    Raises ArasError when there is one already.
    """
    path = directory / FILE
    if path.exists():
        raise ArasError(f"{path}: already exists; not changed: edit it, or name another DIR")
    text = (
        environment()
        .get_template("dataset.toml.j2" if imports is None else "import.toml.j2")
        .render(
            name=re.sub(r"[^a-z0-9._-]+", "-", directory.resolve().name.lower()).strip("-._")
            or "demo",
            date=datetime.date.today().isoformat(),
            demo=demo,
            imports=imports,
            remap=DEFAULT_REMAP,
            worldcover=WORLDCOVER,
        )
    )
    write_text(path, text)
    return path
