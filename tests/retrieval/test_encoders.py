"""Vectors from a tiny CLIP, from a function and from files, on a tiny release."""

import os
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from builder.core.errors import ArasError
from builder.core.files import read_json, write_json
from builder.land.pictures import decode_png
from builder.models.encoders import Encoder, transformers_model
from builder.retrieval.gallery import load, pictures
from builder.retrieval.vector_files import load as load_vectors
from builder.retrieval.vector_files import load_owner
from builder.retrieval.vectors import encode, from_files, from_release, function_model
from tests.makers.bench_release import bench_release
from tests.makers.tiny_clip import tiny_clip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load(bench_release(tmp_path_factory.mktemp("release"), train=6, synthetic=0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory, rows):
    return tiny_clip(tmp_path_factory.mktemp("clip"), rows.texts(["numbers", "words"]).texts)


def test_clip_features_are_those_of_transformers_one_at_a_time(rows, clip):
    texts = rows.texts(["words"]).texts
    answer = encode(transformers_model(str(clip)), rows, texts, batch=4)
    images, captions = answer.images, answer.texts
    model = CLIPModel.from_pretrained(clip).eval()
    processor = CLIPImageProcessorPil.from_pretrained(clip)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(clip)
    with torch.no_grad():
        for where, data in pictures(rows.release, rows.ids, "test", 1):
            ready = processor(images=[decode_png(data[0])], return_tensors="pt")
            features = model.get_image_features(**ready).pooler_output[0].numpy()
            np.testing.assert_allclose(
                images[where[0]], features / np.linalg.norm(features), atol=1e-5
            )
        for place in (0, 9):
            ready = tokenizer(texts[place], return_tensors="pt")
            ready.pop("token_type_ids", None)
            features = model.get_text_features(**ready).pooler_output[0].numpy()
            np.testing.assert_allclose(
                captions[place], features / np.linalg.norm(features), atol=1e-5
            )
    assert answer.notes == []


def test_vectors_are_cached_by_content(rows, clip, tmp_path):
    texts = rows.texts(["words"]).texts
    model = transformers_model(str(clip))
    first = encode(model, rows, texts, tmp_path)

    def never(_):
        raise AssertionError("asked again")

    silent = Encoder(model.name, never, never, model.identity, {})
    again = encode(silent, rows, texts, tmp_path)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.texts, again.texts)
    with pytest.raises(AssertionError, match="asked again"):
        encode(silent, rows, [*texts[:-1], "another"], tmp_path)
    other = Encoder(model.name, never, never, "other weights", {})
    with pytest.raises(AssertionError, match="asked again"):
        encode(other, rows, texts, tmp_path)


def test_a_model_that_is_not_there_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ArasError, match="nothing: no such model folder"):
        transformers_model(str(tmp_path / "nothing"))


def test_damaged_weights_are_one_clear_error(clip, tmp_path):
    shutil.copytree(clip, tmp_path / "damaged")
    os.truncate(tmp_path / "damaged/model.safetensors", 1000)
    with pytest.raises(ArasError, match=r"damaged: transformers cannot load it .*header"):
        transformers_model(str(tmp_path / "damaged"))


def test_a_name_is_refused_at_once_where_the_hub_is_silent(monkeypatch, capfd):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ArasError, match="hf download nobody/nothing"):
        transformers_model("nobody/nothing")
    assert "Retry" not in capfd.readouterr().err


def test_a_function_of_ones_own(rows, tmp_path, monkeypatch):
    (tmp_path / "colours.py").write_text(
        "import numpy as np\n"
        "def make():\n"
        "    images = lambda arrays: np.array([a.mean((0, 1)) for a in arrays])\n"
        "    texts = lambda strings: np.array([[len(s), 1.0, 2.0] for s in strings])\n"
        "    return images, texts\n"
        "def broken():\n"
        "    return make()[0], lambda strings: np.ones((1, 3))\n"
        "def raising():\n"
        "    return make()[0], lambda strings: {}['no such key']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    answer = encode(function_model("colours:make"), rows, ["a", "bb"])
    assert answer.images.shape == (10, 3)
    np.testing.assert_allclose(answer.texts[1], np.array([2, 1, 2]) / 3, rtol=1e-6)
    with pytest.raises(ArasError, match=r"2 texts gave float64 of shape \(1, 3\)"):
        encode(function_model("colours:broken"), rows, ["a", "bb"])
    with pytest.raises(
        ArasError, match=r"--model colours:raising: KeyError: .*colours\.py, line 9"
    ):
        encode(function_model("colours:raising"), rows, ["a", "bb"])
    with pytest.raises(ArasError, match="package:function"):
        function_model("colours:absent")


def parquet(path, ids, vectors):
    pq.write_table(pa.table({"id": ids, "vector": list(vectors)}), path)
    return path


def test_files_are_matched_by_id_and_checked(rows, tmp_path):
    rng = np.random.default_rng(0)
    asked = rows.texts(["words"])
    every = rows.texts(["words", "numbers"])
    x, y = rng.standard_normal((10, 4)), rng.standard_normal((20, 4))
    order = rng.permutation(10)
    images = parquet(tmp_path / "x.parquet", [rows.ids[i] for i in order], x[order])
    texts = parquet(tmp_path / "y.parquet", every.ids, y)
    answer = from_files(images, texts, rows, asked)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(answer.images, unit, rtol=1e-5)
    assert answer.texts.shape == (10, 4)
    assert len(answer.notes) == 2
    assert len(answer.facts["vectors"]["images"].sha256) == 64

    fewer = parquet(tmp_path / "fewer.parquet", rows.ids[1:], x[1:])
    with pytest.raises(ArasError, match=f"has no vector of these images: {rows.ids[0]}"):
        from_files(fewer, texts, rows, asked)
    more = parquet(tmp_path / "more.parquet", [*every.ids, "who#words"], [*y, y[0]])
    with pytest.raises(ArasError, match="has ids that are not texts of the split: who#words"):
        from_files(images, more, rows, asked)
    np.save(tmp_path / "short.npy", x[:9])
    np.save(tmp_path / "texts.npy", y[:10])
    with pytest.raises(ArasError, match="has 9 rows, the release has 10 images"):
        from_files(tmp_path / "short.npy", tmp_path / "texts.npy", rows, asked)


def test_files_matched_by_id_and_by_order_do_not_mix(rows, tmp_path):
    rng = np.random.default_rng(0)
    asked = rows.texts(["words"])
    np.save(tmp_path / "x.npy", rng.standard_normal((10, 4)))
    texts = parquet(tmp_path / "y.parquet", asked.ids[::-1], rng.standard_normal((10, 4)))
    with pytest.raises(ArasError, match=r"both as Parquet .* or both as \.npy"):
        from_files(tmp_path / "x.npy", texts, rows, asked)


def test_embeddings_of_a_release_may_lie_in_several_files(tmp_path):
    release = bench_release(tmp_path, train=6, synthetic=0)
    rows = load(release)
    asked = rows.texts(["words"])
    rng = np.random.default_rng(0)
    ids = [*rows.ids, *asked.ids]
    owners = [None] * 10 + [rows.ids[i] for i in asked.owner]
    vectors = rng.standard_normal((20, 4))
    names = [f"embeddings/test-0000{n}-of-00002.parquet" for n in range(2)]
    (release / "embeddings").mkdir()
    for name, part in zip(names, (slice(0, 13), slice(13, 20)), strict=True):
        columns = {"id": ids[part], "owner": pa.array(owners[part], pa.string())}
        pq.write_table(pa.table({**columns, "vector": list(vectors[part])}), release / name)
    manifest = read_json(release / "manifest.json")
    manifest["configs"]["embeddings"] = {"test": {"rows": 20, "files": names}}
    write_json(release / "manifest.json", {**manifest, "facts": {"embeddings": {"model": "tiny"}}})
    answer = from_release(load(release), asked)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(answer.images, unit[:10], rtol=1e-5)
    np.testing.assert_allclose(answer.texts, unit[10:], rtol=1e-5)
    assert [file.file for file in answer.facts["files"]] == [Path(name).name for name in names]
    paths = [release / name for name in names]
    pictures, captions = load_vectors(paths, "images"), load_vectors(paths, "texts")
    assert load_owner(paths, pictures, captions).tolist() == asked.owner.tolist()
