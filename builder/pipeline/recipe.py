"""dataset.toml → validated settings; every error names the file, the key and the way out."""

import datetime
import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import pydantic
from pydantic import AfterValidator, Field, field_validator, model_validator

from builder.captions import section as caption_keys
from builder.captions.section import CaptionSection
from builder.core.bucket import StoreSection
from builder.core.document import environment
from builder.core.engine import EngineSection
from builder.core.errors import ArasError
from builder.core.fields import (
    DATE,
    DOI,
    REPO,
    SHAPES,
    URL,
    VERSION,
    Author,
    AuthorField,
    Line,
    Name,
    Rate,
    Section,
    checked_line,
)
from builder.core.files import write_text
from builder.core.licences import checked_id, checked_terms
from builder.core.seeds import SEED
from builder.land.classes import DEFAULT_REMAP, WORLDCOVER
from builder.models.settings import AutoencoderSection, RetrieverSection, SegmenterSection
from builder.official.import_ import ImportSection
from builder.quality.duplicates import DuplicatesSection
from builder.quality.embed import BenchSection
from builder.quality.memorize import MemorizationSection
from builder.quality.pixels import QualitySection
from builder.scores.controls import ControlsSection
from builder.scores.stage import ScoresSection
from builder.synthesis.section import GeneratorSection
from builder.tiles.cut import TilesSection
from builder.tiles.split import SplitSection
from builder.tiles.subsets import SubsetSection

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "dataset.toml"


class DatasetSection(Section):
    name: Name = "my-land-cover"
    title: Line = "Land-cover tiles with masks and captions"
    version: Annotated[str, Field(pattern=VERSION)] = "0.1.0"
    date: Annotated[str, Field(pattern=DATE)] = "2026-01-01"
    seed: int = SEED
    authors: Annotated[list[AuthorField], Field(min_length=1)] = Field(
        default=[Author(name="The dataset's maintainers")]
    )
    license: Annotated[Line, AfterValidator(checked_id)] = "CC-BY-4.0"

    @field_validator("authors")
    @classmethod
    def _lines(cls, value: list[Author]) -> list[Author]:
        for author in value:
            checked_line(author.name + author.affiliation)
        return value

    @field_validator("date", mode="before")
    @classmethod
    def _date(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime.date) else value

    @field_validator("date")
    @classmethod
    def _day(cls, value: str) -> str:
        datetime.date.fromisoformat(value)  # ValueError: no such day
        return value


class SourceSection(Section):
    """Data of others that the release is made from."""

    name: Annotated[str, Field(min_length=1)]
    license: Annotated[str, AfterValidator(checked_terms)] = ""
    notice: str = ""
    doi: Annotated[str, Field(pattern=DOI)] = ""
    url: Annotated[str, Field(pattern=URL)] = ""


class ReleaseSection(Section):
    shard_megabytes: Rate = 512
    repo: Annotated[str, Field(pattern=REPO)] = ""
    description: str = ""
    sources: list[SourceSection] | None = None


class Recipe(Section):
    dataset: DatasetSection = DatasetSection()
    engine: EngineSection = EngineSection()
    store: StoreSection = StoreSection()
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
    captions: dict[Name, CaptionSection] = Field(default={})
    scores: ScoresSection = ScoresSection()
    controls: ControlsSection = ControlsSection()
    subsets: dict[Name, SubsetSection] = Field(
        default={
            "mini": SubsetSection(rows=1_000),
            "10k": SubsetSection(rows=10_000),
            "10k-balanced": SubsetSection(rows=10_000, balance="uniform"),
        }
    )
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
        default = GeneratorSection()
        about_layouts = ("balance", "variants", "guidance")
        odd = [k for k in about_layouts if getattr(self.generator, k) != getattr(default, k)]
        if self.generator.training.condition == "none" and odd:
            raise ValueError(
                f"generator.{odd[0]} = {getattr(self.generator, odd[0])!r} is about layouts, and "
                'condition = "none" draws without them'
            )
        pipeline = self.generator.pipeline
        ours = {"sampler", "sampling_steps", "guidance"} & self.generator.model_fields_set
        kind = self.generator.training.kind
        if self.generator.training.is_fitted:
            if self.generator.training.condition == "none":
                raise ValueError(
                    f'generator.condition = "none": kind = "{kind}" draws on layouts; leave it '
                    'out, or set kind = "pixel"'
                )
            if ours:
                raise ValueError(
                    f"generator.{min(ours)} belongs to a diffusion model, and kind = "
                    f'"{kind}" draws without one: leave it out'
                )
        self.generator.refuse_other_objective()
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
    except RecursionError:
        raise ArasError(f"{path}: is nested too deeply to be a recipe") from None
    try:
        return Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [f"{path}: {_explain(problem)}" for problem in error.errors()]
        raise ArasError("\n".join(dict.fromkeys(lines))) from None


def _explain(error: Any) -> str:
    """One pydantic error as a line that names the key and the way out."""
    place = [str(part) for part in error["loc"] if not str(part).startswith("[")]
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
                "write where they are, or let `aras fetch inputs --bbox W S E N` bring them"
            )
        paths.update(path.resolve() for path in matches)
    return tuple(sorted(paths))


@dataclass(frozen=True)
class Start:
    """A recipe that `aras init --from NAME` writes."""

    says: str
    """What the rows are, and so what the inputs are."""
    fetch: str
    """The command that brings the inputs, into the dataset's folder."""
    size: int = 256
    block: float = 0.25


STARTS = {
    "composites": Start(
        "256-pixel tiles of WorldCover's yearly composites", "fetch inputs --bbox 28 36 29 37"
    ),
    "scene": Start(
        "256-pixel tiles of Sentinel-2 L2A scenes",
        "fetch inputs --bbox 28 36 29 37 --scenes earth-search --time 2021-06-01/2021-08-31",
        block=0.128,
    ),
    "eurosat-like": Start(
        "64-pixel tiles of composites, as small as those of EuroSAT",
        "fetch inputs --bbox 28 36 29 37",
        size=64,
        block=0.064,
    ),
    "official": Start("the published rows of ARAS400k, imported", "fetch official"),
}
"""What `aras init --from` offers; the first is what it writes unless it is given."""


def write(
    directory: Path,
    *,
    demo: bool = False,
    imports: ImportSection | None = None,
    start: str = "composites",
) -> Path:
    """Write a commented dataset.toml; returns its path.

    With ``demo`` it is the demo's small recipe, with ``imports`` a recipe for imported rows,
    otherwise that of ``start``.

    Raises ArasError when there is a recipe already.
    """
    path = directory / FILE
    if path.exists():
        raise ArasError(f"{path}: already exists; not changed: edit it, or name another DIR")
    if start == "official":
        imports = ImportSection(sources=["official"])
    text = (
        environment()
        .get_template("dataset.toml.j2" if imports is None else "import.toml.j2")
        .render(
            name=re.sub(r"[^a-z0-9._-]+", "-", directory.resolve().name.lower()).strip("-._")
            or "demo",
            date=datetime.date.today().isoformat(),
            demo=demo,
            kind=start,
            size=STARTS[start].size,
            block=0.064 if demo else STARTS[start].block,
            imports=imports,
            remap=DEFAULT_REMAP,
            worldcover=WORLDCOVER,
        )
    )
    write_text(path, text)
    return path
