from collections.abc import Sequence
from dataclasses import dataclass, field

from builder.captions.base import Answer
from builder.captions.checked import Checked, Fit, fits
from builder.captions.stage import cell_of
from builder.captions.template import Template
from builder.land.prompts import Request
from tests.makers.caption_requests import requests


@dataclass
class Scripted:
    """A backend that says, row by row, what its script has for each attempt."""

    script: dict[str, list[Answer]]
    asked: list[list[Request]] = field(default_factory=list)
    model = "scripted"
    revision = "1"
    prompt = "say it"

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        self.asked.append(list(requests))
        return [self.script[request.id].pop(0) for request in requests]


def said(text: str) -> Answer:
    return Answer(text, counts={"new_tokens": 5})


EMPTY = Answer(None, "the backend gave an empty text", flawed=True, counts={"new_tokens": 1})
DOWN = Answer(None, "http://…: connection refused")
SCORES = {"poor": 0.2, "fair": 0.6, "good": 0.9, "mute": None}
GROUNDING = 0.5


def score(requests: Sequence[Request], texts: Sequence[str]) -> list[Fit]:
    assert len(requests) == len(texts)
    return [Fit(SCORES[text], GROUNDING) for text in texts]


def test_a_flawed_text_is_written_again_with_another_seed_and_every_attempt_counts() -> None:
    rows = requests(3)
    script = {
        rows[0].id: [said("good")],
        rows[1].id: [EMPTY, said("poor"), said("good")],
        rows[2].id: [said("mute"), EMPTY, said("fair")],
    }
    backend = Scripted(script)
    answers = Checked(backend, attempts=3, min_discrimination=0.7, score=score).caption(rows)
    assert [answer.text for answer in answers] == ["good", "good", None]
    assert [[request.id for request in part] for part in backend.asked] == [
        [row.id for row in rows],
        [rows[1].id, rows[2].id],
        [rows[1].id, rows[2].id],
    ]
    seeds = [request.seed for part in backend.asked for request in part if request.id == rows[1].id]
    assert len(set(seeds)) == 3
    assert seeds[0] == rows[1].seed
    assert [answer.seed for answer in answers[:2]] == [rows[0].seed, seeds[2]]
    assert answers[0].counts == {"attempts": 1, "new_tokens": 5}
    assert answers[1].counts == {"attempts": 3, "new_tokens": 11, "ungrounded": 1}
    assert answers[2].counts == {"attempts": 3, "new_tokens": 11, "ungrounded": 2}
    assert answers[2].error == (
        "ungrounded: 'fair' has discrimination 0.60, less than 0.7 (attempt 3, the last)"
    )


def test_seeds_of_attempts_depend_on_the_row_alone() -> None:
    rows = requests(3)

    def seed_of_second_attempt(asked: Sequence[Request]) -> int:
        backend = Scripted({row.id: [EMPTY, said("good")] for row in rows})
        answers = Checked(backend, attempts=2).caption(asked)
        return next(a.seed for r, a in zip(asked, answers, strict=True) if r.id == rows[2].id) or 0

    assert seed_of_second_attempt(rows) == seed_of_second_attempt(rows[2:])


def test_the_template_stands_in_under_its_own_name() -> None:
    row = requests(1)[0]
    checked = Checked(
        Scripted({row.id: [EMPTY, said("poor")]}),
        attempts=2,
        min_discrimination=0.7,
        score=score,
        fallback=Template("full"),
    )
    answer = checked.caption([row])[0]
    plain = Template("full").caption([row])[0]
    assert answer.text == plain.text
    assert answer.counts == {"attempts": 2, "new_tokens": 6, "ungrounded": 1, "fallbacks": 1}
    cell = cell_of(checked, row.seed, answer)
    assert (cell["model"], cell["error"]) == ("aras-template", None)
    assert cell == cell_of(Template("full"), row.seed, plain)


def test_nothing_stands_in_for_a_server_that_is_down() -> None:
    row = requests(1)[0]
    backend = Scripted({row.id: [DOWN]})
    answer = Checked(backend, attempts=3, fallback=Template("full")).caption([row])[0]
    assert (answer.text, answer.error) == (None, DOWN.error)
    assert len(backend.asked) == 1


def test_no_rows_ask_nothing() -> None:
    backend = Scripted({})
    assert Checked(backend, attempts=2, min_discrimination=0.5, score=score).caption([]) == []
    assert backend.asked == []


def test_either_threshold_is_kept_and_named() -> None:
    row = requests(1)[0]
    for thresholds, error in (
        ({"min_grounding": 0.7}, "ungrounded: 'good' has grounding 0.50, less than 0.7"),
        ({"min_grounding": 0.4}, None),
        ({"min_discrimination": 0.95}, "'good' has discrimination 0.90, less than 0.95"),
    ):
        checked = Checked(Scripted({row.id: [said("good")]}), score=score, **thresholds)
        answer = checked.caption([row])[0]
        assert error is None or error in (answer.error or "")
        assert (answer.text is None) == (error is not None)


def test_the_best_attempt_is_kept_with_its_own_seed_and_all_are_counted() -> None:
    rows = requests(2)
    script = {
        rows[0].id: [said("poor"), said("fair"), EMPTY],
        rows[1].id: [EMPTY, EMPTY, EMPTY],
    }
    backend = Scripted(script)
    checked = Checked(backend, attempts=3, min_discrimination=0.7, score=score, keep_best=True)
    best, lost = checked.caption(rows)
    assert (best.text, best.error) == ("fair", None)
    assert best.counts == {"attempts": 3, "new_tokens": 11, "ungrounded": 2, "best_kept": 1}
    seeds = [request.seed for part in backend.asked for request in part if request.id == rows[0].id]
    assert best.seed == seeds[1]
    assert lost.text is None
    assert "(attempt 3, the last)" in (lost.error or "")


def test_the_projects_own_score_tells_a_true_caption_from_an_invention() -> None:
    row = requests(1)[0]
    true = Template("full").caption([row])[0].text or ""
    scores = fits([row, row], [true, "A desert without any class, mostly clouds."])
    assert (scores[0].discrimination or 0) > 0.7 > (scores[1].discrimination or 0)
    assert (scores[0].grounding or 0) > 0.7 > (scores[1].grounding or 0)
