"""Control captions in the benchmark: a reader of words falls, a model without text is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.core.files import write_json
from builder.core.manifest import read_manifest
from builder.retrieval import benchmark, controls, gallery, report
from builder.retrieval.benchmark import Model
from builder.scores.controls import control_captions
from tests.makers.bench_release import bench_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with control captions of its test tiles."""
    folder = bench_release(tmp_path_factory.mktemp("controls"), train=4, synthetic=0, test=12)
    rows, parts = gallery.load(folder), []
    for stream, texts in rows.streams.items():
        table = control_captions(rows.ids, texts, rows.shares)
        parts.append(table.append_column("stream", pa.array([stream] * table.num_rows)))
    (folder / "controls").mkdir()
    pq.write_table(pa.concat_tables(parts), folder / "controls/test.parquet")
    manifest = read_manifest(folder).as_json()
    listed = {"rows": 1, "files": ["controls/test.parquet"]}
    manifest["configs"]["controls"] = {"test": listed}
    write_json(folder / "manifest.json", manifest)
    return folder


def test_a_model_that_reads_the_words_falls_on_wrong_words(release: Path) -> None:
    model = Model("tfidf", proxy="numbers")
    run = benchmark.run(gallery.load(release), model, with_controls=True)
    scored = run.result.streams["words"].controls
    assert list(scored) == ["shuffled", "wrong_class", "classes_masked", "empty"]  # no numbers
    for name in ("shuffled", "wrong_class", "empty"):
        assert scored[name].scores.mR < scored[name].own.mR
        assert scored[name].change_of_mR == scored[name].scores.mR - scored[name].own.mR
        low, high = scored[name].interval
        assert low < scored[name].change_of_mR < high
        assert (high < 0) == (scored[name].p < 0.05)
    assert scored["shuffled"].images == 12
    assert "shuffled: mR" in report.document(run.result).markdown()
    plain = benchmark.run(gallery.load(release), model)
    assert plain.result.streams["words"].controls is None
    assert plain.result.streams["words"].S == run.result.streams["words"].S


def test_figures_of_a_control_are_those_of_its_texts_and_images_alone(release: Path) -> None:
    rows = gallery.load(release)
    asked = rows.texts(["words"])
    n = len(asked.texts)
    texts = controls.ControlTexts("words", "shuffled", np.arange(4), ["a", "b", "c", "d"])
    vectors = np.vstack([np.eye(n), np.eye(n)[[1, 0, 2, 3]]]).astype(np.float32)
    images = np.eye(n, dtype=np.float32)
    scored = controls.figures([texts], asked, images, vectors, n, "cpu")["words"]["shuffled"]
    assert (scored.images, scored.own.t2i["R@1"], scored.scores.t2i["R@1"]) == (4, 100, 50)


def test_vectors_of_known_captions_cannot_answer_controls(release: Path) -> None:
    with pytest.raises(ArasError, match="reads no text"):
        benchmark.run(gallery.load(release), Model("composition"), with_controls=True)


def test_a_release_without_controls_is_named(tmp_path: Path) -> None:
    bare = bench_release(tmp_path, train=4, synthetic=0)
    with pytest.raises(ArasError, match=r"no control captions .* leave --controls out"):
        benchmark.run(gallery.load(bare), Model("random"), with_controls=True)
