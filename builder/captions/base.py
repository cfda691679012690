"""What a caption backend is: how it is declared, what it is asked, and which texts are captions."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import JsonValue

from builder.core.fields import Section
from builder.land.answers import clean, unclear
from builder.land.error_texts import no_caption
from builder.land.prompts import Request


@dataclass(frozen=True)
class Answer:
    """A caption or an error, never both, and never an error in place of a caption.

    ``flawed`` marks an error of the text (empty, cut, ungrounded), which another attempt may
    cure, unlike an error of the machinery. ``by`` is who wrote the text if not the backend that was
    asked, ``revision`` the name that a server gives its model, ``seed`` that of the attempt that
    counted, and ``counts`` what the summary adds up (tokens, attempts).
    """

    text: str | None
    error: str | None = None
    flawed: bool = False
    by: "Backend | None" = None
    revision: str | None = None
    seed: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class Backend(Protocol):
    """Loaded once per worker; ``prompt`` is all of its instructions, for their digest."""

    @property
    def model(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    def caption(self, requests: Sequence[Request]) -> list[Answer]: ...


class Settings(Protocol):
    """All that decides the texts of a stream: a frozen dataclass of its backend."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the tile that the backend is shown: of image, mask and pixels."""

    def identity(self) -> dict[str, object]:
        """What enters the key of the stage, as JSON values."""

    def published(self) -> dict[str, JsonValue]:
        """What a release says of the stream beside the keys of the recipe."""


Attention = Literal["sdpa", "eager", "flash_attention_2"]
"""How a local model computes its attention."""


@dataclass(frozen=True)
class Running:
    """What changes the speed, the cost or the place of the work, but not its result."""

    path: Path | None = None
    """Folder or GGUF file of a local model; None for a model in the Hub's cache."""
    cache: Path | None = None
    """Where the digests of a local model's files are remembered."""
    batch: int = 16
    attention: Attention = "sdpa"
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


@dataclass(frozen=True)
class Estimate:
    """What a run will ask of a server. New tokens and cost are upper bounds for one attempt of
    every row; ``attempts`` says how many there may be. ``cost_at_most`` is None without a price."""

    requests: int
    prompt_tokens: int
    new_tokens_at_most: int
    attempts: int
    cost_at_most: float | None

    def __str__(self) -> str:
        text = (
            f"about {self.requests:,} requests, {self.prompt_tokens:,} prompt tokens, at most "
            f"{self.new_tokens_at_most:,} new tokens"
        )
        if self.attempts > 1:
            text += f" (up to {self.attempts} times that, for rows written again)"
        if self.cost_at_most is None:
            return f"{text}; for the cost too, set price = {{ input = …, output = … }}"
        return f"{text}; cost at most {self.cost_at_most:.3g} by the recipe's price"


@dataclass(frozen=True)
class BackendSpec:
    """A backend as the recipe, the stage and the commands know it before anything is loaded.

    Functions import what is heavy when they are called: planning never loads a model.
    ``configure(place, section, directory)`` gives the settings and the running of a stream, with
    paths relative to ``directory``, and raises ArasError that begins with ``place``;
    ``pin(settings, running)`` gives the revision or digest of the model, for the stage's key.
    """

    section: type[Section]
    """The keys of ``[captions.NAME]``, with a ``backend`` of its own."""
    configure: Callable[[str, Any, Path], tuple[Settings, Running]]
    open: Callable[[Any, Running], Backend]
    pin: Callable[[Any, Running], str] | None = None
    gpus: float = 0
    """GPUs that one worker takes where there are any."""
    light: bool = False
    """Whether a shard costs less than starting a process."""
    estimate: Callable[[Any, Running, int, Sequence[Request]], Estimate] | None = None
    """Settings, running, number of requests, some of them → what `aras caption --dry-run` says."""
    batches: bool = False
    """Whether `aras caption` writes and reads OpenAI batch files for it."""


MAX_WORDS = 400
"""More words than any caption has: beyond it a model is rambling."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffd]")
"""Control characters, halves of surrogate pairs and the mark of undecodable bytes."""


def answer_of(
    text: str, counts: Mapping[str, int], special: Collection[str] = (), revision: str | None = None
) -> Answer:
    """What a model wrote as an answer: its caption on one line, or a flawed text's error.

    ``special`` are tokens that its tokenizer calls special; what is cut is added to ``counts``.
    """
    cleaned = clean(text, special)
    counts = {**counts, **dict.fromkeys(cleaned.cut, 1)}
    caption = " ".join(cleaned.text.split())
    if cleaned.unclear:
        why: str | None = unclear(cleaned)
    else:
        why = flaw(caption)
    if why:
        return Answer(None, why, flawed=True, counts=counts)
    return Answer(caption, revision=revision, counts=counts)


def flaw(text: str) -> str | None:
    """Why ``text`` cannot be a caption, in words; None when it can.

    An error message or a refusal stored as a caption is a known defect of published sets.
    """
    if not text.strip():
        return "the backend gave an empty text"
    shown = repr(text[:60])
    if _CONTROL.search(text):
        return f"the text holds control or undecodable characters: {shown}"
    if (words := len(text.split())) > MAX_WORDS:
        return f"the text has {words:,} words; a caption has at most {MAX_WORDS}"
    if not re.search(r"[^\W\d_]{2}", text):
        return f"the text holds no word: {shown}"
    if what := no_caption(text):
        return f"the text is {what}: {shown}"
    cleaned = clean(text)
    if cleaned.cut or cleaned.unclear:
        return f"the text holds marks of a model's answer beside its caption: {shown}"
    return None
