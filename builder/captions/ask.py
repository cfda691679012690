"""What every backend with a model has in common: its keys, its prompt, and what it is asked."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from builder.captions.base import Estimate, Running
from builder.captions.template import STYLES
from builder.core.errors import ArasError
from builder.core.fields import Fraction, Place, Positive, Section
from builder.land import prompts
from builder.land.prompts import Request
from builder.models.weights import Weights

Decoding = Literal["greedy", "sample", "model"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


BEST = "best"
"""As ``fallback``: the best attempt, in place of a style of the template."""


@dataclass(frozen=True)
class Ask:
    """All that decides a model's texts; the fields enter the stage's key.

    ``decoding`` is greedy, sample (by ``temperature``, ``top_p``, ``top_k``; 0 is no top-k), or
    model: what the model's own generation_config.json (or the server) does. A text that is
    flawed, or below ``min_discrimination`` or ``min_grounding``, is written again, ``attempts``
    times in all; then the template's ``fallback`` style replaces the text, or with `BEST` the
    attempt of the highest discrimination is taken; or the row fails.
    """

    model: str
    prompt: str
    sees: tuple[str, ...]
    revision: str = Weights.revision
    system: str = ""
    decoding: Decoding = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 100
    dtype: Dtype = "auto"
    attempts: int = 1
    min_grounding: float = 0.0
    min_discrimination: float = 0.0
    fallback: str = ""
    extra: str = "{}"
    """More keys of a server's request body, as canonical JSON."""

    @property
    def instructions(self) -> str:
        """System message and prompt as templates, for the digest that every caption carries."""
        return f"{self.system}\n\n{self.prompt}" if self.system else self.prompt

    @property
    def is_judged(self) -> bool:
        """Whether texts are scored while they are written."""
        return bool(self.min_grounding or self.min_discrimination or self.fallback == BEST)

    @property
    def needs(self) -> tuple[str, ...]:
        judged = self.is_judged or bool(self.fallback)
        needed = {
            "image": "image" in self.sees,
            "mask": "layout" in self.sees or judged,
            "pixels": "composition" in self.sees or judged,
        }
        return tuple(name for name, is_needed in needed.items() if is_needed)

    def identity(self) -> dict[str, object]:
        # The stage has the revision among its models, resolved, so that pinning it changes nothing.
        asked = dataclasses.asdict(dataclasses.replace(self, revision=""))
        if not self.min_discrimination:  # a stream without it keeps the key that it had
            del asked["min_discrimination"]
        return {"ask": asked}

    def published(self) -> dict[str, JsonValue]:
        return {"prompt": self.prompt}


class ModelSection(Section):
    """What the streams of all model backends have in common."""

    preset: str | None = None
    model: Annotated[str, Field(min_length=1), Place.MODEL]
    revision: str = Ask.revision
    sees: Annotated[list[Literal[prompts.SEES]], Field(min_length=1)]  # type: ignore[valid-type]
    system: str = Ask.system
    prompt: str | None = None
    prompt_file: Annotated[str | None, Place.FILE] = None
    decoding: Decoding = Ask.decoding
    temperature: Annotated[float, Field(gt=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Positive | None = None
    max_new_tokens: Positive = Ask.max_new_tokens
    attempts: Annotated[int, Field(ge=1, le=10)] = Ask.attempts
    min_grounding: Fraction = Ask.min_grounding
    min_discrimination: Fraction = Ask.min_discrimination
    fallback: Literal[(*STYLES, BEST)] | None = None  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """Keys of the preset under those that are given; a given prompt or decoding is whole."""
        if not isinstance(given, dict) or "preset" not in given:
            return given
        if given["preset"] not in prompts.PRESETS:
            raise ValueError(f"unknown preset; expected one of {', '.join(prompts.PRESETS)}")
        preset = dict(prompts.PRESETS[given["preset"]])
        if "prompt_file" in given:
            preset.pop("prompt")
        if given.get("decoding", "sample") != "sample":
            preset = {k: v for k, v in preset.items() if k not in ("temperature", "top_p")}
            preset["attempts"] = preset.get("attempts", 1) if given["decoding"] == "model" else 1
        return preset | given

    @field_validator("sees")
    @classmethod
    def _in_order(cls, value: list[str]) -> list[str]:
        return [view for view in prompts.SEES if view in value]

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSection":
        if (self.prompt is None) == (self.prompt_file is None):
            raise ValueError("expected either prompt (text) or prompt_file (its path)")
        given = [k for k in ("temperature", "top_p", "top_k") if getattr(self, k) is not None]
        if given and self.decoding != "sample":
            raise ValueError(f'{given[0]} needs decoding = "sample"')
        if self.attempts > 1 and self.decoding == "greedy":
            raise ValueError(
                'attempts needs decoding = "sample": greedy decoding writes the same text again'
            )
        return self


def weights_of(ask: Ask, running: Running) -> Weights:
    """Where the model of a stream lies, and what pins it."""
    return Weights(ask.model, ask.revision, running.path, running.cache)


def ask_of(place: str, section: ModelSection, directory: Path, **more: Any) -> Ask:
    """What the keys of ``section`` ask of a model; ``more`` are fields of `Ask` beside them.

    Raises ArasError that begins with ``place`` for a prompt that cannot be read (its path is
    relative to ``directory``) or does not fit what the stream sees.
    """
    prompt = _prompt(place, section, directory)
    try:
        prompts.check(prompt, section.sees)
    except ArasError as error:
        key = "prompt_file" if section.prompt_file else "prompt"
        raise ArasError(f"{place} {key}: {error}") from error
    keys = (
        *("system", "decoding", "temperature", "top_p", "top_k", "max_new_tokens"),
        *("attempts", "min_grounding", "min_discrimination", "fallback"),
    )
    given = {key: value for key in keys if (value := getattr(section, key)) is not None}
    given |= {"model": section.model, "revision": section.revision, **more}
    return Ask(prompt=prompt, sees=tuple(section.sees), **given)


def _prompt(place: str, section: ModelSection, directory: Path) -> str:
    if section.prompt_file is None:
        return section.prompt or ""
    path = directory / section.prompt_file
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{place} prompt_file: {path} cannot be read ({error})") from error


CHARACTERS_PER_TOKEN = 4.0
"""Of English prose, roughly, in the vocabularies of current models."""

OVERHEAD = 12
"""Tokens of a chat template around a question, roughly."""


def estimate(ask: Ask, running: Running, requests: int, sample: Sequence[Request]) -> Estimate:
    """Tokens and cost of so many requests, by the prompts of a sample of them.

    Prompt tokens are an estimate (characters / 4, and the recipe's image_tokens); new tokens are
    at most max_new_tokens each.
    """
    texts = [prompts.render(ask.prompt, ask.sees, request) for request in sample]
    characters = sum(map(len, texts)) / max(1, len(texts)) + len(ask.system)
    each = characters / CHARACTERS_PER_TOKEN + OVERHEAD + running.image_tokens
    prompt_tokens, new_tokens = round(requests * each), requests * ask.max_new_tokens
    cost = None
    if running.price:
        cost = (prompt_tokens * running.price[0] + new_tokens * running.price[1]) / 1e6
    return Estimate(requests, prompt_tokens, new_tokens, ask.attempts, cost)
