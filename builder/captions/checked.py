"""A backend whose flawed or unfit texts are written again, or replaced: by the best attempt, or the
template's."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from builder.captions.ask import BEST, Ask
from builder.captions.base import Answer, Backend, Running
from builder.captions.template import Template
from builder.core.seeds import seed
from builder.land.prompts import Request


class Fit(NamedTuple):
    """How a text fits its tile: scores in [0, 1], None where the text claims nothing."""

    discrimination: float | None
    grounding: float | None


Scorer = Callable[[Sequence[Request], Sequence[str]], Sequence[Fit]]
"""(requests, their texts) → the fit of each."""


@runtime_checkable
class Following(Protocol):
    """A backend that can ask for a row again while others are under way."""

    def follow(
        self, requests: Sequence[Request], after: Callable[[int, Answer], Request | None]
    ) -> list[Answer]:
        """One answer per request, the last; ``after`` is given each answer as it comes (number of
        the row, answer) and returns what to ask for next in its place, or None."""


@dataclass
class _Row:
    """A row while it is asked for: its request, what was spent, its last and its best text."""

    first: Request
    request: Request
    counts: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    last: Answer = Answer(None)
    best: Answer | None = None
    most: float = -1.0
    """Discrimination of the best text."""

    def take(self, answer: Answer, text: Answer | None, fit: Fit | None) -> None:
        """Account for an attempt: ``answer`` as it was judged, ``text`` before that."""
        self.attempts += 1
        self.counts.update({"attempts": 1, **answer.counts})
        self.last = replace(answer, seed=self.request.seed)
        value = (fit.discrimination if fit else None) or 0.0
        if text is not None and text.text is not None and value > self.most:
            self.best, self.most = replace(text, seed=self.request.seed), value

    def again(self, most: int) -> Request | None:
        """The next request, or None when the row is done."""
        if not self.last.flawed or self.attempts >= most:
            return None
        self.request = _again(self.first, self.attempts)
        return self.request


@dataclass(frozen=True)
class Checked:
    """``backend`` asked at most ``attempts`` times per row, each attempt with a seed of its own.

    A text passes when it has no flaw and its ``score`` reaches ``min_discrimination`` and
    ``min_grounding`` (always, without a scorer); the first that passes is taken. A row none of
    whose texts passed gets the text with the highest discrimination if ``keep_best``, else the
    ``fallback``'s caption, which names its own model and prompt, or an error. Errors of the
    machinery (a server that is down) are not tried here, and nothing replaces them: the next run
    asks for those rows again. A backend that is `Following` is asked again for a row as soon as its
    text is judged, so that it always has as many requests as it takes; others in rounds.
    """

    backend: Backend
    attempts: int = Ask.attempts
    min_discrimination: float = 0.0
    min_grounding: float = 0.0
    score: Scorer | None = None
    fallback: Backend | None = None
    keep_best: bool = False

    @property
    def model(self) -> str:
        return self.backend.model

    @property
    def revision(self) -> str:
        return self.backend.revision

    @property
    def prompt(self) -> str:
        return self.backend.prompt

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request; ``counts`` hold every attempt and what it cost."""
        rows = [_Row(request, request) for request in requests]

        def after(i: int, answer: Answer) -> Request | None:
            self._judge([rows[i]], [answer])
            return rows[i].again(self.attempts)

        if rows and isinstance(self.backend, Following):
            self.backend.follow(requests, after)
        else:
            todo = rows
            while todo:
                self._judge(todo, self.backend.caption([row.request for row in todo]))
                todo = [row for row in todo if row.again(self.attempts)]
        return self._settled(rows)

    def _judge(self, rows: Sequence[_Row], answers: Sequence[Answer]) -> None:
        """Give each row its answer; a text below a threshold becomes flawed."""
        texts = {i: answer.text for i, answer in enumerate(answers) if answer.text is not None}
        fits: dict[int, Fit] = {}
        if self.score is not None and texts:
            asked = [rows[i].request for i in texts]
            scores = self.score(asked, list(texts.values()))
            fits = dict(zip(texts, scores, strict=True))
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            judged = answer
            if i in fits and (why := self._below(fits[i])):
                judged = Answer(
                    None,
                    f"ungrounded: {texts[i][:80]!r} {why}",
                    flawed=True,
                    counts={**answer.counts, "ungrounded": 1},
                )
            row.take(judged, answer if i in texts else None, fits.get(i))

    def _below(self, fit: Fit) -> str:
        """Which threshold a text does not reach, in words; empty for none."""
        for name, value, least in (
            ("discrimination", fit.discrimination, self.min_discrimination),
            ("grounding", fit.grounding, self.min_grounding),
        ):
            if least and (value is None or value < least):
                said = "claims nothing" if value is None else f"has {name} {value:.2f}"
                return f"{said}, less than {least}"
        return ""

    def _settled(self, rows: Sequence[_Row]) -> list[Answer]:
        """The answer of each row, after the fallbacks."""
        failed = [row for row in rows if row.last.flawed]
        lost = [row for row in failed if not (self.keep_best and row.best)]
        for row in failed:
            if row.best and self.keep_best:
                row.counts["best_kept"] += 1
                row.last = row.best
        if self.fallback is not None and lost:
            for row, answer in zip(
                lost, self.fallback.caption([row.first for row in lost]), strict=True
            ):
                row.counts["fallbacks"] += 1
                row.last = replace(answer, by=self.fallback, seed=row.first.seed)
        elif self.attempts > 1:
            for row in lost:
                error = f"{row.last.error} (attempt {self.attempts}, the last)"
                row.last = replace(row.last, error=error)
        return [replace(row.last, counts=dict(row.counts)) for row in rows]


def checked(backend: Backend, ask: Ask, running: Running) -> Backend:
    """``backend`` with the attempts, the threshold and the fallback that the stream asks for."""
    if ask.attempts == 1 and not ask.is_judged and not ask.fallback:
        return backend
    return Checked(
        backend,
        attempts=1 if running.answers else ask.attempts,  # a file says the same every time
        min_discrimination=ask.min_discrimination,
        min_grounding=ask.min_grounding,
        score=partial(fits, lexicon=running.lexicon) if ask.is_judged else None,
        fallback=Template(ask.fallback) if ask.fallback not in ("", BEST) else None,
        keep_best=ask.fallback == BEST,
    )


def fits(
    requests: Sequence[Request], texts: Sequence[str], lexicon: Path | None = None
) -> list[Fit]:
    """How well each text fits the composition and layout of its tile, with the file ``lexicon``
    laid over the built-in lexicon. Discrimination is among the built-in reference tiles: new tiles
    of a dataset change no caption that is written."""
    from builder.scores import lexicon as lexicons
    from builder.scores.caption_scores import score_captions

    shares = [
        [0.0] * 7 if request.pixels is None else request.pixels / max(1, request.pixels.sum())
        for request in requests
    ]
    masks = [request.mask for request in requests]
    table = score_captions(list(texts), shares, masks, lexicon=lexicons.load(lexicon))
    columns = (table.column(name).to_pylist() for name in Fit._fields)
    return [Fit(*scores) for scores in zip(*columns, strict=True)]


def _again(request: Request, attempt: int) -> Request:
    """The request with the seed of its n-th attempt; the first keeps the row's own."""
    return replace(request, seed=seed(request.seed, "attempt", attempt)) if attempt else request
