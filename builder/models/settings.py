"""What the training of each model depends on, its profiles, and the recipe's keys over them.

Nothing here imports torch: planning reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import pydantic
from pydantic import Field, JsonValue, Strict, field_validator

from builder.core.errors import ArasError
from builder.core.fields import (
    Count,
    Crop,
    Model,
    Name,
    NotNegative,
    Place,
    Positive,
    Rate,
    Section,
    Share,
)
from builder.core.seeds import SEED
from builder.land import prompts
from builder.models.weights import Weights, absent
from builder.steps.stage import setting

Widths = Annotated[
    tuple[Annotated[int, Field(gt=0, multiple_of=16)], ...], Strict(False), Field(min_length=2)
]
Precision = Literal["auto", "float32", "bf16"]
Profile = Literal["cpu", "gpu"]

TEXTURE_STEPS = 4
"""Solver steps from a texture to a tile."""


@dataclass(frozen=True)
class SegmenterSettings:
    steps: Positive = 200
    batch: Positive = 8
    crop: Crop = 128
    learning_rate: Rate = 2e-3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1, 1)
    decoder: int = 64
    seed: int = SEED


SEGMENTER = {
    "cpu": SegmenterSettings(),
    "gpu": SegmenterSettings(
        steps=40_000,
        batch=64,
        crop=256,
        learning_rate=6e-4,
        widths=(64, 128, 320, 512),
        depths=(3, 4, 6, 3),
        decoder=768,
    ),
}


@dataclass(frozen=True)
class AutoencoderSettings:
    steps: Positive = 200
    batch: Positive = 8
    crop: Crop = 64
    learning_rate: Rate = 2e-3
    widths: tuple[int, ...] = (16, 32, 32)
    layers: int = 1
    channels: int = 4
    kl: float = 1e-6
    precision: Precision = "auto"
    evaluate_every: Count = 50
    evaluation_tiles: Positive = 16
    patience: Count = setting(5)
    seed: int = SEED
    accumulate: Positive = setting(1)
    fused: bool = setting(False)


AUTOENCODER = {
    "cpu": AutoencoderSettings(),
    "gpu": AutoencoderSettings(
        steps=100_000,
        batch=32,
        crop=256,
        learning_rate=1e-4,
        widths=(64, 128, 256, 256),
        layers=2,
        evaluate_every=5_000,
        evaluation_tiles=256,
        patience=5,
        fused=True,
    ),
}


@dataclass(frozen=True)
class GeneratorSettings:
    """Fields declared by `setting` change speed, memory and rounding only, and a training that was
    interrupted goes on when they change; so does it with another ``patience``, which decides only
    when a training ends. ``compile`` is true, or the name of a backend of torch.compile.
    """

    kind: Literal["pixel", "latent", "texture", "quilt"] = "pixel"
    condition: Literal["layout", "none"] = "layout"
    steps: Positive = 800
    batch: Positive = 4
    crop: Crop = 64
    learning_rate: Rate = 1e-3
    widths: Widths = (16, 32, 64, 64)
    layers: Positive = 1
    layout_dropout: Share = 0.1
    objective: Literal["flow", "edm", "ddpm"] = "flow"
    prediction: Literal["velocity", "noise"] = "velocity"
    min_snr: NotNegative = 5.0
    ema: Share = 0.995
    precision: Precision = "auto"
    autoencoder: Model = ""
    evaluate_every: Count = 200
    evaluation_tiles: Annotated[int, Field(ge=4)] = 64
    evaluation_steps: Positive = 4
    watch: Literal["frechet", "loss"] = "frechet"
    patience: Count = setting(5)
    seed: int = SEED
    accumulate: Positive = setting(1)
    checkpointing: bool = setting(False)
    channels_last: bool = setting(False)
    compile: bool | Annotated[str, Field(min_length=1)] = setting(False)
    fused: bool = setting(False)

    @property
    def is_fitted(self) -> bool:
        """Whether tiles are drawn without a network, by pieces of train tiles that are collected at
        once."""
        return self.kind in ("texture", "quilt")

    @property
    def is_judged(self) -> bool:
        """Whether the segmenter judges a training on its way."""
        return bool(self.evaluate_every) and self.watch == "frechet"

    @property
    def has_yardsticks(self) -> bool:
        """Whether it is compared with textures and quilts after its training."""
        return not self.is_fitted and self.is_judged and self.condition == "layout"

    @property
    def starts_from_textures(self) -> bool:
        """Whether a diffusion model begins a tile with its texture, and not with noise alone."""
        flow = self.objective == "flow" and self.condition == "layout"
        return flow and not self.is_fitted

    def solver_steps(self, drawing: "Drawing") -> int:
        """Steps in which a tile is drawn where the recipe does not say: few from a texture."""
        return TEXTURE_STEPS if self.starts_from_textures else drawing.steps


GENERATOR = {
    "cpu": GeneratorSettings(),
    "gpu": GeneratorSettings(
        kind="latent",
        objective="edm",
        steps=200_000,
        batch=64,
        crop=256,
        learning_rate=1e-4,
        widths=(128, 256, 384, 512),
        layers=2,
        ema=0.9999,
        evaluate_every=5_000,
        evaluation_tiles=512,
        evaluation_steps=25,
        patience=8,
        channels_last=True,
        compile=True,
        fused=True,
    ),
}


@dataclass(frozen=True)
class RetrieverSettings:
    stream: Name = "full"
    steps: Positive = 600
    batch: Positive = 64
    size: Positive = 64
    patch: int = 16
    width: int = 128
    layers: int = 4
    text_layers: int = 2
    projection: int = 128
    tokens: int = 64
    vocabulary: int = 2_000
    learning_rate: Rate = 1e-3
    seed: int = SEED
    weights: Model = ""
    """A CLIP or SigLIP to go on from, by folder or name; sizes and vocabulary are then its own."""
    chunk: Count = 0
    """Pairs encoded at once, so that a batch need not fit in memory; 0: the whole batch."""


RETRIEVER = {
    "cpu": RetrieverSettings(),
    "gpu": RetrieverSettings(
        steps=20_000,
        batch=1_024,
        size=128,
        width=512,
        layers=12,
        text_layers=6,
        projection=512,
        tokens=77,
        vocabulary=16_000,
        learning_rate=5e-4,
    ),
}

ModelSettings = SegmenterSettings | AutoencoderSettings | GeneratorSettings | RetrieverSettings

PROFILES: Mapping[str, Mapping[str, ModelSettings]] = {
    "segmenter": SEGMENTER,
    "autoencoder": AUTOENCODER,
    "generator": GENERATOR,
    "retriever": RETRIEVER,
}
"""Model → profile → settings."""

Settings = TypeVar("Settings", bound=ModelSettings)
Keys = TypeVar("Keys", bound=Section)


def own(profile: Settings, section: Section, **given: JsonValue) -> Settings:
    """A model's profile with those values of its ``section``, and of ``given``, in place that it
    has a field for."""
    values = {**section.model_dump(exclude_none=True), **given}
    known = {part.name for part in fields(profile)}
    return replace(profile, **{name: value for name, value in values.items() if name in known})


def as_json(settings: ModelSettings) -> dict[str, JsonValue]:
    """The settings as a record holds them."""
    values = asdict(settings).items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def read_settings(kind: type[Settings], values: Mapping[str, JsonValue]) -> Settings:
    """The settings in a record; keys that only another version of aras has are left out."""
    known = {part.name for part in fields(kind)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in known
    }
    return kind(**kept)


def overrides(settings: type, keys: str) -> Callable[[type[Keys]], type[Keys]]:
    """Add to a section those of ``keys`` that it does not declare: they are fields of ``settings``
    with their bounds, and None stands for the profile's. ``keys`` are all keys of the section in
    the order in which messages and manifests name them.
    """
    names = keys.split()
    hints = get_type_hints(settings, include_extras=True)

    def completed(section: type[Keys]) -> type[Keys]:
        places: dict[str, Any] = dict.fromkeys(names, (Any, None))
        added: dict[str, Any] = {
            name: (_optional(hints[name]), None)
            for name in names
            if name not in section.model_fields
        }
        # A field keeps the place of its first declaration among the bases.
        order: type[Any] = pydantic.create_model("Order", __base__=Section, **places)
        return pydantic.create_model(
            section.__name__,
            __base__=(section, order),
            __module__=section.__module__,
            __doc__=section.__doc__,
            **added,
        )

    return completed


def _optional(hint: Any) -> Any:
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Place)]
    return Annotated[(hint | None, *marks)] if marks else hint | None


@overrides(SegmenterSettings, "profile steps batch crop learning_rate")
class SegmenterSection(Section):
    profile: Profile = "cpu"


@overrides(
    AutoencoderSettings,
    "profile steps batch crop learning_rate precision evaluate_every evaluation_tiles patience "
    "accumulate fused",
)
class AutoencoderSection(Section):
    profile: Profile | None = None
    """None for the generator's."""


@overrides(RetrieverSettings, "profile stream steps batch size learning_rate weights chunk")
class RetrieverSection(Section):
    profile: Profile = "cpu"
    stream: Name = RetrieverSettings.stream


@dataclass(frozen=True)
class Drawing:
    """How a profile draws where the recipe does not say: solver, its steps, guidance,
    tiles at once, and rows per shard."""

    steps: int
    batch: int
    shard_rows: int
    sampler: str = "dpm-solver"
    guidance: float = 1.0


DRAWING = {
    "cpu": Drawing(steps=15, batch=8, shard_rows=8),
    "gpu": Drawing(steps=25, batch=64, shard_rows=256),
}


class PipelineSection(Section):
    """[generator.pipeline]: any diffusers pipeline in the place of our generator.

    ``model`` and ``controlnet`` are ORG/NAME on the Hub or local folders; ``prompt`` and
    ``negative`` are Jinja over `builder.land.prompts`' percentages, composition and layout.
    ``size`` is the side in pixels that is drawn and then shrunk to the tile's, None for the tile's.
    """

    model: Annotated[str, Field(min_length=1), Place.MODEL]
    revision: str = Weights.revision
    controlnet: Model = ""
    controlnet_revision: str = Weights.revision
    prompt: str = "a satellite image seen from above: {{ composition }}"
    negative: str = ""
    steps: Positive = 25
    guidance: NotNegative = 7.5
    control: NotNegative = 1.0
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

    def identity(self) -> dict[str, object]:
        """What enters the key of the stage that draws; commits are in the digest of the weights."""
        return self.model_dump(mode="json") | {
            "revision": "",
            "controlnet_revision": "",
            "size": self.size or 0,
        }

    def locate(self, directory: Path, cache: Path) -> tuple["PipelineSection", "Sources"]:
        """The section with its models by name alone, and where they lie; paths start at
        ``directory``.

        ``cache`` remembers digests. Raises ArasError for a folder that is not there and for the
        revision of a local model.
        """

        def weights(key: str, name: str, revision: str) -> Weights:
            place = "[generator.pipeline]"
            model = Weights.of_recipe(place, name, revision, directory, cache)
            if model.path and not model.path.is_dir():
                raise ArasError(f"{place} {key}: {absent(model.path)}")
            return model

        model, controlnet = weights("model", self.model, self.revision), None
        if self.controlnet:
            controlnet = weights("controlnet", self.controlnet, self.controlnet_revision)
        names = {"model": model.name, "controlnet": controlnet.name if controlnet else ""}
        return self.model_copy(update=names), Sources(model, controlnet)


@dataclass(frozen=True)
class Sources:
    """The models that a pipeline is put together from."""

    model: Weights
    controlnet: Weights | None = None
