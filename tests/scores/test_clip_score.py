"""CLIP scores as columns: cosine, CLIPScore, tokens and truncation of every caption."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from builder.core.engine import Engine
from builder.core.store import Store
from builder.land.columns import CAPTION
from builder.land.pictures import encode_png, image_column
from builder.models import encoders
from builder.models.neighbours import matrix
from builder.models.weights import Weights
from builder.pipeline.project import Project
from builder.quality.embed import Encode
from builder.scores.stage import ClipScore
from builder.steps.plan import run
from builder.steps.stage import Stage
from tests.makers.tiny_clip import tiny_clip

TEXTS = ["trees", None, "a \0 field", "water " * 10_000, "trees and water"]
IMAGES = list(np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tiny_clip(tmp_path_factory.mktemp("clip"), ["trees and water", "a field"])
    return Weights("tiny", path=folder)


def store_of(folder: Path, texts: list[str | None] = TEXTS) -> Store:
    store = Store(folder / "work")
    ids = [f"real/{i}" for i in range(len(texts))]
    captions = [{"text": text, "error": None if text else "no answer"} for text in texts]
    columns = {
        "id": pa.array(ids, pa.string()),
        "image": image_column([encode_png(image) for image in IMAGES[: len(texts)]], ids),
        "caption_full": pa.array(captions, CAPTION),
    }
    store.write("tiles", "real-0", pa.table(columns), key="k")
    return store


def scores(store: Store, *stages: Stage) -> list[dict]:
    for stage in stages:
        assert not run(stage, store, Engine()).failed
    return store.read("real-0", ["clip_full"]).column(0).to_pylist()


def test_the_cosine_is_that_of_the_vectors_and_the_score_two_and_a_half_times_it(
    clip: Weights, tmp_path: Path
) -> None:
    store = store_of(tmp_path)
    cells = scores(store, Encode("clip", clip, 4), ClipScore("full", clip, None, 4))
    model = encoders.steady_clip(clip)
    np.testing.assert_array_equal(
        matrix(store.read("real-0", ["image_vector"]).column(0)), model.images(IMAGES)
    )
    for i, text in enumerate(TEXTS):
        if text is None:
            assert set(cells[i].values()) == {None}
            continue
        cosine = float(model.images([IMAGES[i]])[0] @ model.texts([text])[0])
        assert cells[i]["clip_cosine"] == pytest.approx(cosine, abs=1e-5)
        assert cells[i]["clip_score"] == pytest.approx(max(0, 2.5 * cosine), abs=1e-5)


def test_a_caption_longer_than_the_model_reads_is_counted_whole_and_marked(
    clip: Weights, tmp_path: Path
) -> None:
    cells = scores(store_of(tmp_path), Encode("clip", clip, 4), ClipScore("full", clip, None, 4))
    assert [cell["clip_truncated"] for cell in cells] == [False, None, False, True, False]
    assert cells[3]["clip_tokens"] >= 10_000


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_changes_nothing(clip: Weights, tmp_path: Path, batch: int) -> None:
    digests = []
    for i, size in enumerate((64, batch)):
        store = store_of(tmp_path / str(i))
        stages = Encode("clip", clip, batch=size), ClipScore("full", clip, None, size)
        digests.append([run(stage, store, Engine()).digest for stage in stages])
    assert digests[0] == digests[1]


def test_a_tokenizer_alone_counts_tokens_and_asks_no_model(clip: Weights, tmp_path: Path) -> None:
    cells = scores(store_of(tmp_path), ClipScore("full", None, clip, 4))
    assert [cell["clip_cosine"] for cell in cells] == [None] * 5
    assert cells[1]["clip_tokens"] is None
    assert cells[4]["clip_tokens"] > cells[0]["clip_tokens"] > 2


def test_another_model_makes_the_scores_anew_and_the_same_one_does_not(
    clip: Weights, tmp_path: Path
) -> None:
    store = store_of(tmp_path)
    stages = (Encode("clip", clip, 4), ClipScore("full", clip, None, 4))
    assert [run(stage, store, Engine()).shards_made for stage in stages] == [1, 1]
    assert [run(stage, store, Engine()).shards_made for stage in stages] == [0, 0]
    folder = tiny_clip(tmp_path / "other", ["trees and water", "a field"], seed=1)
    other = dataclasses.replace(clip, path=folder)
    stages = (Encode("clip", other, 4), ClipScore("full", other, None, 4))
    assert [run(stage, store, Engine()).shards_made for stage in stages] == [1, 1]


def test_shards_without_rows_go_through(clip: Weights, tmp_path: Path) -> None:
    assert (
        scores(store_of(tmp_path, []), Encode("clip", clip, 4), ClipScore("full", clip, None, 4))
        == []
    )


def test_the_recipe_names_the_models_and_asks_none_by_default(tmp_path: Path) -> None:
    recipe = tmp_path / "dataset.toml"
    recipe.write_text('[captions.full]\nstyle = "full"\n')
    assert [stage.name for stage in Project(tmp_path).scores()] == ["score-full", "repeat-full"]
    recipe.write_text('[captions.full]\nstyle = "full"\n[scores]\nclip = "./models/clip"\n')
    stages = Project(tmp_path).scores()
    names = ["encode-clip", "score-full", "repeat-full", "clip-full"]
    assert [stage.name for stage in stages] == names
    assert stages[-1].model.path == tmp_path / "models/clip"
