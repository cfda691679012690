"""The caption stage: one entry per row with its provenance; only failed rows are tried again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from builder.captions import stage as caption
from builder.captions.base import Answer, Running
from builder.captions.stage import Caption, cell_of
from builder.captions.template import Style, Template
from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.seeds import seed
from builder.core.store import Store
from builder.land.classes import count_pixels
from builder.land.pictures import composition_columns, encode_png, image_column
from builder.land.prompts import Request
from builder.scores.stage import Score
from builder.steps.plan import plan, run
from tests.makers.products import land

SHARD = "real-X-00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six tiles in one shard."""
    masks = [land((64, 64), seed=i, grain=8) for i in range(6)]
    table = pa.table(
        {
            "id": pa.array([f"real/{i}" for i in range(6)]),
            "mask": image_column(
                [encode_png(mask) for mask in masks], [f"{i}.png" for i in range(6)]
            ),
            **composition_columns(np.stack([count_pixels(mask) for mask in masks])),
        }
    )
    written = Store(tmp_path / "work")
    written.write("tiles", SHARD, table, key="k")
    return written


def entries(store: Store, stream: str = "full") -> list[dict]:
    column = f"caption_{stream}"
    return store.read(SHARD, (column,)).column(column).to_pylist()


def test_a_caption_carries_who_wrote_it_from_what(store: Store) -> None:
    summary = run(Caption(seed=5), store, Engine("serial"))
    assert summary.counts == {"captions": 6, "failed": 0}
    for i, cell in enumerate(entries(store)):
        assert cell["text"]
        assert cell["error"] is None
        assert (cell["model"], cell["revision"]) == (
            Template("full").model,
            Template("full").revision,
        )
        assert cell["prompt_sha256"] == hashlib.sha256(Template("full").prompt.encode()).hexdigest()
        assert cell["seed"] == str(seed(5, f"real/{i}", "caption-full"))


def test_streams_are_stages_of_their_own(store: Store) -> None:
    for style in ("full", "absence"):
        run(Caption(stream=style, ask=Style(style)), store, Engine("serial"))
    assert store.stages() == ["caption-absence", "caption-full", "tiles"]
    assert [e["text"] for e in entries(store)] != [e["text"] for e in entries(store, "absence")]


def test_the_run_seed_varies_the_words(store: Store) -> None:
    run(Caption(seed=1), store, Engine("serial"))
    first = [cell["text"] for cell in entries(store)]
    run(Caption(seed=2), store, Engine("serial"))
    assert first != [cell["text"] for cell in entries(store)]


def test_an_unknown_style_is_named_with_the_known_ones(store: Store) -> None:
    summary = run(Caption(ask=Style("poem")), store, Engine("serial"))
    assert "style = 'poem': known styles are dominant, composition" in summary.failed[SHARD]
    with pytest.raises(ArasError, match=r"\[captions.mine\]"):
        caption.load_backend("mine", "template", Style("poem"), Running())


class Moody(Template):
    """A backend that fails on some rows; ``bad`` may shrink between runs."""

    bad: frozenset[str] = frozenset({"real/1", "real/4"})
    asked: list[str] = []  # noqa: RUF012 - shared on purpose, the test reads it

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        self.asked.extend(request.id for request in requests)
        good = super().caption(requests)
        pairs = zip(requests, good, strict=True)
        return [Answer(None, "out of words") if r.id in self.bad else a for r, a in pairs]


def test_only_failed_rows_are_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption, "load_backend", lambda *_: Moody("full"))
    monkeypatch.setattr(Moody, "asked", [])
    first = run(Caption(), store, Engine("serial"))
    assert first.counts == {"captions": 4, "failed": 2}
    assert first.row_errors == 2
    before = entries(store)
    assert [cell["error"] for cell in before if cell["text"] is None] == ["out of words"] * 2
    Moody.asked.clear()
    monkeypatch.setattr(Moody, "bad", frozenset({"real/4"}))
    second = run(Caption(), store, Engine("serial"))
    assert Moody.asked == ["real/1", "real/4"]
    assert second.counts == {"captions": 5, "failed": 1}
    after = entries(store)
    assert [i for i in range(6) if before[i] != after[i]] == [1]
    monkeypatch.setattr(Moody, "bad", frozenset())
    run(Caption(), store, Engine("serial"))
    assert run(Caption(), store, Engine("serial")).shards_made == 0


def test_a_row_without_mask_and_composition_fails_alone_and_is_scored_as_missing(
    store: Store,
) -> None:
    table = store.read(SHARD, ("id", "mask", "pixels"))
    gone = pa.array([i == 2 for i in range(6)])
    for i, name in ((1, "mask"), (2, "pixels")):
        holes = pc.if_else(gone, None, table.column(name).combine_chunks())
        table = table.set_column(i, name, holes)
    store.write("tiles", SHARD, table, key="holes")
    stage = Caption()
    summary = run(stage, store, Engine("serial"))
    assert (summary.failed, summary.counts) == ({}, {"captions": 5, "failed": 1})
    assert entries(store)[2]["text"] is None
    assert entries(store)[2]["error"] == (
        "real/2: has no mask and no pixels, which this stream needs"
    )
    assert list(stage.outstanding(store, plan(stage, store))) == []
    run(Score(), store, Engine("serial"))
    scores = store.read(SHARD, ("score_full",)).column(0).to_pylist()
    assert scores[2]["grounding"] is None
    assert all(cell["grounding"] > 0.5 for i, cell in enumerate(scores) if i != 2)


def test_a_composition_of_no_pixels_is_none(store: Store) -> None:
    table = store.read(SHARD, ("id", "mask", "pixels"))
    empty = composition_columns(np.zeros((6, 7), dtype=np.int64))["pixels"]
    store.write("tiles", SHARD, table.set_column(2, "pixels", empty), key="empty")
    assert run(Caption(), store, Engine("serial")).counts == {"captions": 0, "failed": 6}
    assert entries(store)[0]["error"] == "real/0: has no pixels, which this stream needs"


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_an_empty_text_is_an_error_not_a_caption(text: str | None) -> None:
    cell = cell_of(Template("full"), 1, Answer(text))
    assert cell["text"] is None
    assert cell["error"] == "the backend gave an empty text"


def test_an_error_is_never_kept_as_a_text() -> None:
    cell = cell_of(Template("full"), 1, Answer("half a sen", "cut off"))
    assert (cell["text"], cell["error"]) == (None, "cut off")
