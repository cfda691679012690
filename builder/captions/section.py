"""The recipe's [captions.NAME]: the keys of each backend, and what a stage makes of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from builder.captions.template import STYLES
from builder.core.errors import ArasError
from builder.core.fields import Place, local_path
from builder.land import prompts
from builder.models.weights import Weights


@dataclass(frozen=True)
class Ask:
    """All that decides a model's texts; the fields enter the stage's key.

    ``decoding`` is greedy, sample (by ``temperature``, ``top_p``, ``top_k``; 0 is no top-k), or
    model: what the model's own generation_config.json (or the server) does. A text that is
    flawed, or less grounded than ``min_grounding``, is written again, ``attempts`` times in all;
    then the template's ``fallback`` style stands in, or the row fails.
    """

    model: str
    prompt: str
    sees: tuple[str, ...]
    revision: str = ""
    system: str = ""
    decoding: str = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 100
    dtype: str = "auto"
    attempts: int = 1
    min_grounding: float = 0.0
    fallback: str = ""
    extra: str = "{}"
    """More keys of a server's request body, as canonical JSON."""

    @property
    def told(self) -> str:
        """The prompt's templates, for the digest that every caption carries."""
        return f"{self.system}\n\n{self.prompt}" if self.system else self.prompt


@dataclass(frozen=True)
class Running:
    """What changes the speed, the cost or the place of the work, but not its result."""

    path: Path | None = None
    """Folder or GGUF file of a local model; None for one of the Hub's cache."""
    cache: Path | None = None
    """Where the digests of a local model's files are remembered."""
    batch: int = 16
    attention: str = "sdpa"
    base_url: str = ""
    api_key_env: str = ""
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    image_tokens: int = 258
    price: tuple[float, float] | None = None
    """Of a million tokens, input and output, in any currency."""
    lexicon: Path | None = None
    """Laid over the built-in lexicon that a text's grounding is judged with."""
    answers: tuple[Path, ...] = ()
    """Result files of an offline batch, read instead of asking the server."""


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


class TemplateSection(_Section):
    backend: Literal["template"] = "template"
    style: Literal[tuple(STYLES)] = "full"  # type: ignore[valid-type]


class ModelSection(_Section):
    """What the streams of all model backends have in common."""

    preset: str | None = None
    model: Annotated[str, Field(min_length=1), Place.MODEL]
    revision: str = ""
    sees: Annotated[list[Literal[prompts.SEES]], Field(min_length=1)]  # type: ignore[valid-type]
    system: str = ""
    prompt: str | None = None
    prompt_file: Annotated[str | None, Place.FILE] = None
    decoding: Literal["greedy", "sample", "model"] = "greedy"
    temperature: Annotated[float, Field(gt=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Count | None = None
    max_new_tokens: Count = 100
    attempts: Annotated[int, Field(ge=1, le=10)] = 1
    min_grounding: Share = 0.0
    fallback: Literal[tuple(STYLES)] | None = None  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """Keys of the preset under those that are given; a given prompt or decoding is whole."""
        if not isinstance(given, dict) or "preset" not in given:
            return given
        if given["preset"] not in prompts.PRESETS:
            raise ValueError(f"no such preset; presets are {', '.join(prompts.PRESETS)}")
        preset = dict(prompts.PRESETS[given["preset"]])
        if "prompt_file" in given:
            preset.pop("prompt")
        if given.get("decoding", "sample") != "sample":
            preset = {k: v for k, v in preset.items() if k not in ("temperature", "top_p")}
            preset["attempts"] = preset.get("attempts", 1) if given["decoding"] == "model" else 1
        return preset | given

    @field_validator("sees")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        return [one for one in prompts.SEES if one in value]

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSection":
        if (self.prompt is None) == (self.prompt_file is None):
            raise ValueError("one of prompt (text) and prompt_file (its path) is wanted")
        given = [k for k in ("temperature", "top_p", "top_k") if getattr(self, k) is not None]
        if given and self.decoding != "sample":
            raise ValueError(f'{given[0]} needs decoding = "sample"')
        if self.attempts > 1 and self.decoding == "greedy":
            raise ValueError(
                'attempts needs decoding = "sample": greedy decoding writes the same text again'
            )
        return self


class TransformersSection(ModelSection):
    backend: Literal["transformers"] = "transformers"
    batch: Count = 16
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"


class Prices(_Section):
    input: Price
    output: Price


class OpenAISection(ModelSection):
    backend: Literal["openai"]
    # Where a server runs is nobody's business but the maintainer's: kept out of releases.
    base_url: Annotated[str, Field(pattern=r"^https?://")] = Field(exclude=True)
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, exclude=True
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    image_tokens: Annotated[int, Field(ge=0)] = 258
    price: Prices | None = None
    extra: dict[str, Any] = {}


SECTIONS: dict[str, type[_Section]] = {
    "template": TemplateSection,
    "transformers": TransformersSection,
    "openai": OpenAISection,
}


def backend_of(given: Any) -> str:
    """The backend that a section is for: as it says, or transformers for a preset."""
    if isinstance(given, dict):
        return str(given.get("backend", "transformers" if "preset" in given else "template"))
    return str(given.backend)


CaptionSection = Annotated[
    Annotated[TemplateSection, Tag("template")]
    | Annotated[TransformersSection, Tag("transformers")]
    | Annotated[OpenAISection, Tag("openai")],
    Discriminator(
        backend_of,
        custom_error_type="unknown_backend",
        custom_error_message=f"known backends are {', '.join(SECTIONS)}",
    ),
]


def hint(backend: str, key: str) -> str | None:
    """What to say of a key that ``backend`` does not have but another one does; or None."""
    others = [
        f'backend = "{name}"'
        for name, section in SECTIONS.items()
        if name != backend and key in section.model_fields
    ]
    return f"it goes with {' or '.join(others)}" if others else None


def weights_of(ask: Ask, running: Running) -> Weights:
    """The model that a stream asks, found and pinned as every model is."""
    return Weights(ask.model, ask.revision, running.path, running.cache)


def ask_of(
    stream: str, section: TransformersSection | OpenAISection, directory: Path
) -> tuple[Ask, Running]:
    """What the stage of a model's stream is configured with.

    Paths are relative to ``directory``. Raises ArasError naming the key: a prompt that cannot be
    read or does not fit what the stream sees, a revision for a local model, a GGUF model that is
    to see images.
    """
    place = f"[captions.{stream}]"
    prompt = _prompt(place, section, directory)
    try:
        prompts.check(prompt, section.sees)
    except ArasError as error:
        key = "prompt_file" if section.prompt_file else "prompt"
        raise ArasError(f"{place} {key}: {error}") from error
    path = None
    if isinstance(section, TransformersSection):
        path = local_path(section.model, directory)
        if path and section.revision:
            raise ArasError(
                f"{place} revision: {section.model} is a local model, known by its content; a "
                "revision belongs to a model of the Hub (ORG/NAME)"
            )
        if path and path.suffix == ".gguf" and "image" in section.sees:
            raise ArasError(f"{place} sees: a GGUF model ({section.model}) sees no image")
    return Ask(
        model=path.name.removesuffix(".gguf") if path else section.model,
        revision=section.revision,
        prompt=prompt,
        sees=tuple(section.sees),
        **dict(_given(section)),
        **(
            _server_ask(section) if isinstance(section, OpenAISection) else {"dtype": section.dtype}
        ),
    ), _running(section, path)


def _given(section: ModelSection) -> Iterator[tuple[str, Any]]:
    for key in ("system", "decoding", "max_new_tokens", "attempts", "min_grounding"):
        yield key, getattr(section, key)
    for key in ("temperature", "top_p", "top_k", "fallback"):
        if getattr(section, key) is not None:
            yield key, getattr(section, key)


def _server_ask(section: OpenAISection) -> dict[str, Any]:
    return {"extra": json.dumps(section.extra, sort_keys=True, separators=(",", ":"))}


def _running(section: TransformersSection | OpenAISection, path: Path | None) -> Running:
    if isinstance(section, TransformersSection):
        return Running(path=path, batch=section.batch, attention=section.attention)
    return Running(
        base_url=section.base_url.rstrip("/"),
        api_key_env=section.api_key_env or "",
        concurrency=section.concurrency,
        timeout=section.timeout,
        retries=section.retries,
        image_tokens=section.image_tokens if "image" in section.sees else 0,
        price=(section.price.input, section.price.output) if section.price else None,
    )


def _prompt(place: str, section: ModelSection, directory: Path) -> str:
    if section.prompt_file is None:
        return section.prompt or ""
    path = directory / section.prompt_file
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{place} prompt_file: {path} cannot be read ({error})") from error
