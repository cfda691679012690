import functools
import re
from pathlib import Path

import pytest

from builder.captions.ask import Ask
from builder.captions.base import Answer, Running
from builder.captions.local_model import Local
from builder.core.errors import ArasError, WorkFailed
from tests.makers.caption_requests import requests
from tests.makers.tiny_models import tiny_model

KINDS = ("text", "qwen3_vl", "gemma3")
PROMPT = "Land cover: {{ percentages }}. Describe it."
ROWS = 9
LIMIT = 10


@functools.cache
def model(base: Path, kind: str) -> Path:
    return tiny_model(base / f"tiny-{kind}", kind)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> object:
    return functools.partial(model, tmp_path_factory.getbasetemp())


def captions(
    folder: Path, kind: str, *, batch: int = 4, rows: int = ROWS, **ask: object
) -> list[Answer]:
    sees = ("composition",) if kind == "text" else ("image", "composition")
    asked = Ask("tiny", PROMPT, sees, **{"max_new_tokens": 40, **ask})
    return Local(asked, Running(path=folder, batch=batch)).caption(requests(rows))


SAMPLE = {"decoding": "sample", "temperature": 0.9, "top_p": 0.9}


@pytest.mark.parametrize("decoding", [{}, SAMPLE], ids=["greedy", "sample"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gets_the_same_text_alone_and_in_any_batch(
    tiny: functools.partial, kind: str, decoding: dict[str, object]
) -> None:
    alone = captions(tiny(kind), kind, batch=1, **decoding)
    assert captions(tiny(kind), kind, batch=4, **decoding) == alone
    assert captions(tiny(kind), kind, batch=ROWS, **decoding) == alone
    assert captions(tiny(kind), kind, batch=4, rows=5, **decoding) == alone[:5]
    assert (
        len({answer.text for answer in alone if answer.text}) > 2
    )  # the comparison is of real texts


def test_batches_are_padded_before_the_end_and_sorted_by_length(tiny: functools.partial) -> None:
    backend = Local(
        Ask("tiny", PROMPT, ("composition",), max_new_tokens=4),
        Running(path=tiny("text"), batch=4),
    )
    seen = []
    generate = backend.network.generate

    def record(**batch: object) -> object:
        seen.append(batch["attention_mask"])
        return generate(**batch)

    backend.network.generate = record
    backend.caption(requests(ROWS))
    widths = [mask.shape[1] for mask in seen]
    assert [len(mask) for mask in seen] == [4, 4, 1]
    assert widths == sorted(widths, reverse=True)
    assert all((mask[:, -1] == 1).all() for mask in seen)
    assert any((mask == 0).any() for mask in seen)


def test_a_batch_does_not_wait_for_its_longest_texts(tiny: functools.partial) -> None:
    backend = Local(
        Ask("tiny", PROMPT, ("composition",), max_new_tokens=40),
        Running(path=tiny("text"), batch=32),
    )
    sizes = []
    generate = backend.network.generate

    def record(**batch: object) -> object:
        out = generate(**batch)
        sizes.append((len(out), out.shape[1] - batch["input_ids"].shape[1]))
        return out

    backend.network.generate = record
    answers = backend.caption(requests(32))
    written = [answer.counts["new_tokens"] for answer in answers]
    rows, steps = zip(*sizes, strict=True)
    assert (rows[0], len(rows) > 1) == (32, True)
    assert rows[1] <= 4  # an eighth
    assert steps[0] < max(written) == max(steps)
    assert sum(n > steps[0] for n in written) == rows[1]


def test_another_seed_samples_another_text(tiny: functools.partial) -> None:
    backend = Local(
        Ask("tiny", PROMPT, ("composition",), max_new_tokens=40, **SAMPLE),
        Running(path=tiny("text")),
    )
    row = requests(1)[0]
    texts = {
        answer.text or answer.error
        for answer in backend.caption([type(row)(row.id, seed, row.pixels) for seed in range(6)])
    }
    assert len(texts) > 3


@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3"])
def test_the_image_is_seen(tiny: functools.partial, kind: str) -> None:
    ask = Ask("tiny", "Describe it.", ("image",), max_new_tokens=40)
    answers = Local(ask, Running(path=tiny(kind))).caption(requests(6))
    assert len({answer.text or answer.error for answer in answers}) > 2


@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3"])
def test_a_vision_language_model_may_be_asked_without_an_image(
    tiny: functools.partial, kind: str
) -> None:
    ask = Ask("tiny", PROMPT, ("composition",), max_new_tokens=40)
    assert any(answer.text for answer in Local(ask, Running(path=tiny(kind))).caption(requests(6)))


def test_a_cut_text_is_an_error_and_its_tokens_are_counted(tiny: functools.partial) -> None:
    whole = captions(tiny("text"), "text")
    cut = captions(tiny("text"), "text", max_new_tokens=LIMIT)
    for long, short in zip(whole, cut, strict=True):
        if long.counts["new_tokens"] > LIMIT:
            assert short.text is None
            assert short.flawed
            assert f"cut at max_new_tokens = {LIMIT}" in (short.error or "")
            assert short.counts == {**long.counts, "new_tokens": LIMIT}
        else:
            assert short == long
    assert {answer.text is None for answer in cut} == {True, False}


def test_an_image_that_is_damaged_fails_its_row_alone(tiny: functools.partial) -> None:
    rows = requests(3)
    bad = type(rows[0])(rows[1].id, 1, rows[1].pixels, image=b"no picture")
    ask = Ask("tiny", PROMPT, ("image", "composition"), max_new_tokens=40)
    backend = Local(ask, Running(path=tiny("gemma3")))
    answers = backend.caption([rows[0], bad, rows[2]])
    whole = backend.caption(rows)
    assert "cannot identify image" in (answers[1].error or "")
    assert not answers[1].flawed
    assert [answers[0], answers[2]] == [whole[0], whole[2]]


def test_running_out_of_memory_says_which_settings_to_lower(tiny: functools.partial) -> None:
    backend = Local(Ask("tiny", PROMPT, ("composition",)), Running(path=tiny("text"), batch=3))

    def exhausted(**batch: object) -> None:  # no machine has little enough memory for this model
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    backend.network.generate = exhausted
    with pytest.raises(WorkFailed, match=r"batch = 3: lower batch or max_new_tokens"):
        backend.caption(requests(2))


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", template=False)
    with pytest.raises(ArasError, match=r"tiny has no chat template.*chat_template\.jinja"):
        Local(Ask("tiny", PROMPT, ("composition",)), Running(path=base))


def test_a_text_model_is_not_shown_images(tiny: functools.partial) -> None:
    with pytest.raises(ArasError, match="a llama model cannot see images; drop image from sees"):
        Local(Ask("tiny", PROMPT, ("image", "composition")), Running(path=tiny("text")))


def test_the_system_prompt_reaches_the_model_and_the_digest(tiny: functools.partial) -> None:
    plain = captions(tiny("text"), "text")
    assert captions(tiny("text"), "text", system="Answer like a poet.") != plain
    ask = Ask("tiny", PROMPT, ("composition",), system="Answer like a poet.")
    assert re.fullmatch(r"Answer like a poet\.\n\nLand cover.*", ask.instructions)
