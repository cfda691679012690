"""A caption backend in one file: it repeats its prompt as the caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from builder.captions import section
from builder.captions.ask import Ask, ModelSection, ask_of, estimate
from builder.captions.base import Answer, BackendSpec, Running
from builder.land import prompts
from builder.land.prompts import Request


class EchoSection(ModelSection):
    backend: Literal["echo"]


@dataclass(frozen=True)
class Echo:
    ask: Ask
    revision: str = "1"

    @property
    def model(self) -> str:
        return self.ask.model

    @property
    def prompt(self) -> str:
        return self.ask.instructions

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        ask = self.ask
        return [Answer(prompts.render(ask.prompt, ask.sees, request)) for request in requests]


SPEC = BackendSpec(
    section=EchoSection,
    configure=lambda place, section, directory: (ask_of(place, section, directory), Running()),
    open=lambda ask, running: Echo(ask),
    pin=lambda ask, running: ask.revision,
    light=True,
    estimate=estimate,
)


def register() -> None:
    """What a line in `BACKENDS` does."""
    section.BACKENDS["echo"] = SPEC
    section.CaptionSection = section.union_of(section.BACKENDS)
