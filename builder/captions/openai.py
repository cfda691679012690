"""Backend ``openai``: `server` asks any OpenAI-compatible server, `batch` is its offline files."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from builder.captions.ask import Ask, ModelSection, ask_of, estimate
from builder.captions.base import Backend, BackendSpec, Running
from builder.core.fields import Count, NotNegative, Section


class Prices(Section):
    input: NotNegative
    output: NotNegative


class OpenAISection(ModelSection):
    backend: Literal["openai"]
    # Where a server runs is private to the maintainer: kept out of releases.
    base_url: Annotated[str, Field(pattern=r"^https?://")] = Field(exclude=True)
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, exclude=True
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Running.concurrency
    timeout: Annotated[float, Field(gt=0, le=3600)] = Running.timeout
    retries: Annotated[int, Field(ge=0, le=20)] = Running.retries
    image_tokens: Count = Running.image_tokens
    price: Prices | None = None
    extra: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it


def configure(place: str, section: OpenAISection, directory: Path) -> tuple[Ask, Running]:
    """See `BackendSpec`. Raises ArasError as `ask_of` does."""
    extra = json.dumps(section.extra, sort_keys=True, separators=(",", ":"))
    running = Running(
        base_url=section.base_url.rstrip("/"),
        api_key_env=section.api_key_env or "",
        concurrency=section.concurrency,
        timeout=section.timeout,
        retries=section.retries,
        image_tokens=section.image_tokens if "image" in section.sees else 0,
        price=(section.price.input, section.price.output) if section.price else None,
    )
    return ask_of(place, section, directory, extra=extra), running


def _open(ask: Ask, running: Running) -> Backend:
    if running.answers:
        from builder.captions.batch import Results

        return Results(ask, running.answers)
    from builder.captions.server import Server

    return Server(ask, running)


SPEC = BackendSpec(
    section=OpenAISection,
    configure=configure,
    open=_open,
    pin=lambda ask, _: ask.revision,
    estimate=estimate,
    batches=True,
)
