"""A backend whose flawed or ungrounded texts are written again, or replaced by the template's."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from builder.captions.ask import Ask
from builder.captions.base import Answer, Backend, Running
from builder.captions.template import Template
from builder.core.seeds import seed
from builder.land.prompts import Request

Scorer = Callable[[Sequence[Request], Sequence[str]], Sequence[float | None]]
"""(requests, their texts) → grounding in [0, 1] of each, None for a text that claims nothing."""


@dataclass(frozen=True)
class Checked:
    """``backend`` asked at most ``attempts`` times per row, each attempt with a seed of its own.

    A text passes when it has no flaw and its ``score`` is at least ``threshold`` (always, without
    a scorer). A row none of whose texts passed gets the ``fallback``'s caption, which names its
    own model and prompt, or an error. Errors of the machinery (a server that is down) are not
    tried here, and nothing replaces them: the next run asks for those rows again.
    """

    backend: Backend
    attempts: int = Ask.attempts
    threshold: float = 0.0
    score: Scorer | None = None
    fallback: Backend | None = None

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
        answers: dict[int, Answer] = {}
        counts: list[Counter[str]] = [Counter() for _ in requests]
        todo = list(range(len(requests)))
        for attempt in range(self.attempts):
            asked = [_again(requests[i], attempt) for i in todo]
            judged = self._judged(asked, self.backend.caption(asked)) if asked else []
            for i, request, answer in zip(todo, asked, judged, strict=True):
                counts[i].update({"attempts": 1, **answer.counts})
                answers[i] = replace(answer, seed=request.seed)
            todo = [i for i in todo if answers[i].flawed]
        stands_in = self._stand_in([requests[i] for i in todo])
        for i, answer in zip(todo, stands_in or [answers[i] for i in todo], strict=True):
            if stands_in:
                counts[i].update({"fallbacks": 1})
            elif self.attempts > 1:
                answer = replace(
                    answer, error=f"{answer.error} (attempt {self.attempts}, the last)"
                )
            answers[i] = answer
        return [replace(answers[i], counts=dict(counts[i])) for i in range(len(requests))]

    def _judged(self, asked: Sequence[Request], answers: Sequence[Answer]) -> list[Answer]:
        """The answers; those whose grounding is below the threshold become flawed."""
        judged = list(answers)
        texts = {i: answer.text for i, answer in enumerate(answers) if answer.text is not None}
        if self.score is None or not texts:
            return judged
        scores = self.score([asked[i] for i in texts], list(texts.values()))
        for (i, text), grounding in zip(texts.items(), scores, strict=True):
            if grounding is None or grounding < self.threshold:
                said = "claims nothing" if grounding is None else f"has grounding {grounding:.2f}"
                why = f"ungrounded: {text[:80]!r} {said}, less than {self.threshold}"
                counts = {**answers[i].counts, "ungrounded": 1}
                judged[i] = Answer(None, why, flawed=True, counts=counts)
        return judged

    def _stand_in(self, requests: Sequence[Request]) -> list[Answer] | None:
        if self.fallback is None:
            return None
        return [
            replace(answer, by=self.fallback, seed=request.seed)
            for request, answer in zip(requests, self.fallback.caption(requests), strict=True)
        ]


def checked(backend: Backend, ask: Ask, running: Running) -> Backend:
    """``backend`` with the attempts, the threshold and the fallback that the stream asks for."""
    if ask.attempts == 1 and not ask.min_grounding and not ask.fallback:
        return backend
    return Checked(
        backend,
        attempts=1 if running.answers else ask.attempts,  # a file says the same every time
        threshold=ask.min_grounding,
        score=partial(grounding, lexicon=running.lexicon) if ask.min_grounding else None,
        fallback=Template(ask.fallback) if ask.fallback else None,
    )


def grounding(
    requests: Sequence[Request], texts: Sequence[str], lexicon: Path | None = None
) -> list[float | None]:
    """Grounding of each text in the composition and layout of its tile, with the file ``lexicon``
    laid over the built-in lexicon."""
    from builder.scores import lexicon as lexicons
    from builder.scores.caption_scores import score_captions

    shares = [
        [0.0] * 7 if request.pixels is None else request.pixels / max(1, request.pixels.sum())
        for request in requests
    ]
    masks = [request.mask for request in requests]
    table = score_captions(list(texts), shares, masks, lexicon=lexicons.load(lexicon))
    scores: list[float | None] = table.column("grounding").to_pylist()
    return scores


def _again(request: Request, attempt: int) -> Request:
    """The request with the seed of its n-th attempt; the first keeps the row's own."""
    return replace(request, seed=seed(request.seed, "attempt", attempt)) if attempt else request
