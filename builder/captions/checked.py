"""A backend whose flawed or ungrounded texts are written again, or replaced by the template's."""

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.captions.base import Answer, Backend
from builder.core.seeds import seed
from builder.land.prompts import Request

Scorer = Callable[[Sequence[Request], Sequence[str]], Sequence[float | None]]
"""(requests, their texts) → grounding in [0, 1] of each, None for a text that claims nothing."""


@dataclass(frozen=True)
class Checked:
    """``backend`` asked at most ``attempts`` times per row, each attempt with a seed of its own.

    A text passes when it is no flaw and its ``score`` is at least ``threshold`` (always, without
    a scorer). A row none of whose texts passed gets the ``fallback``'s caption, which names its
    own model and prompt, or an error. Errors of the machinery (a server that is down) are not
    tried here, and nothing stands in for them: the next run asks for those rows again.
    """

    backend: Backend
    attempts: int = 1
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
            found = self._judged(asked, self.backend.caption(asked)) if asked else []
            for i, request, answer in zip(todo, asked, found, strict=True):
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

    def _judged(self, asked: Sequence[Request], found: Sequence[Answer]) -> list[Answer]:
        """Answers whose grounding is below the threshold turned into flawed ones."""
        out = list(found)
        texts = {i: one.text for i, one in enumerate(found) if one.text is not None}
        if self.score is None or not texts:
            return out
        scores = self.score([asked[i] for i in texts], list(texts.values()))
        for (i, text), grounding in zip(texts.items(), scores, strict=True):
            if grounding is None or grounding < self.threshold:
                said = "claims nothing" if grounding is None else f"has grounding {grounding:.2f}"
                why = f"ungrounded: {text[:80]!r} {said}, less than {self.threshold}"
                counted = {**found[i].counts, "ungrounded": 1}
                out[i] = Answer(None, why, flawed=True, counts=counted)
        return out

    def _stand_in(self, requests: Sequence[Request]) -> list[Answer] | None:
        if self.fallback is None:
            return None
        return [
            replace(one, by=self.fallback, seed=request.seed)
            for request, one in zip(requests, self.fallback.caption(requests), strict=True)
        ]


def grounding(
    requests: Sequence[Request], texts: Sequence[str], lexicon: Path | None = None
) -> list[float | None]:
    """Grounding of each text in the composition and layout of its tile, by builder.scores with
    the file ``lexicon`` laid over the built-in one."""
    scores = importlib.import_module("builder.scores.grounding")
    words = importlib.import_module("builder.scores.lexicon").load(lexicon)
    shares = [
        [0.0] * 7 if one.pixels is None else one.pixels / max(1, one.pixels.sum())
        for one in requests
    ]
    masks = [one.mask for one in requests]
    table = scores.score_captions(list(texts), shares, masks, lexicon=words)
    found: list[float | None] = table.column("grounding").to_pylist()
    return found


def lexicon_version(path: Path | None = None) -> str:
    """What the grounding score depends on beside its code, for the key of a stage that uses it."""
    return str(importlib.import_module("builder.scores.lexicon").load(path).sha256)


def _again(request: Request, attempt: int) -> Request:
    """The request with the seed of its n-th attempt; the first keeps the row's own."""
    return replace(request, seed=seed(request.seed, "attempt", attempt)) if attempt else request
