"""The interface of a caption backend: what it is asked, what it answers, what is no caption."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from builder.land.prompts import Request
from builder.scores.error_texts import no_caption, without_thinking


@dataclass(frozen=True)
class Answer:
    """A caption, or the error that stands for it; never both, never an error as a caption.

    ``flawed`` tells an error of the text (empty, cut, ungrounded: another attempt may cure it)
    from one of the machinery. ``by`` is who wrote it if not the backend that was asked,
    ``revision`` what a server calls its model, ``seed`` that of the attempt that counted, and
    ``counts`` what the summary adds up (tokens, attempts).
    """

    text: str | None
    error: str | None = None
    flawed: bool = False
    by: "Backend | None" = None
    revision: str | None = None
    seed: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class Backend(Protocol):
    """Loaded once per worker; ``prompt`` is everything that the model is told, for its digest."""

    @property
    def model(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    def caption(self, requests: Sequence[Request]) -> list[Answer]: ...


MAX_WORDS = 400
"""More words than any caption has: beyond it a model is rambling."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffd]")
"""Control characters, halves of surrogate pairs and what stands for undecodable bytes."""


def tidy(text: str) -> str:
    """A model's text as one line, without its thinking: runs of white space become one space."""
    return " ".join(without_thinking(text).split())


def flaw(text: str) -> str | None:
    """Why ``text`` may not stand as a caption, in words; None when it may.

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
    return None
