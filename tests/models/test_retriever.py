"""The compact dual encoder: its loss, its training and the folder it leaves."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import cross_entropy, normalize
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

from builder.cli import cli
from builder.core.errors import ArasError, WorkFailed
from builder.models import clip, retriever, training
from builder.models.clip import shrink
from builder.models.encoders import transformers_model
from builder.models.retriever import Pairs, contrastive
from builder.models.settings import RETRIEVER, RetrieverSettings
from tests.makers.tiny_clip import tiny_clip

TINY = RetrieverSettings(
    steps=30,
    batch=8,
    size=16,
    patch=8,
    width=32,
    layers=1,
    text_layers=1,
    projection=16,
    tokens=16,
    vocabulary=320,
    learning_rate=3e-3,
)
COLOURS = {"forest": (20, 110, 30), "water": (20, 40, 160), "sand": (220, 200, 130)}


def pairs(count: int = 24) -> Pairs:
    rng = np.random.default_rng(0)
    names = [list(COLOURS)[i % 3] for i in range(count)]
    noise = rng.integers(-15, 16, (count, 16, 16, 3))
    pixels = np.clip(np.array([COLOURS[n] for n in names])[:, None, None] + noise, 0, 255)
    return Pairs(
        [f"t{i}" for i in range(count)], pixels.astype(np.uint8), [f"A tile of {n}." for n in names]
    )


def trained(folder, data, settings=TINY, key="k"):
    dual = clip.start(settings, data.texts)
    losses, _ = retriever.train_pairs(folder, key, data, settings, dual)
    return dual, losses


def test_without_duplicates_the_loss_is_symmetric_infonce():
    torch.manual_seed(0)
    x, y = normalize(torch.randn(5, 4), dim=1), normalize(torch.randn(5, 4), dim=1)
    groups = torch.arange(5)[:, None].repeat(1, 2)
    logits = 7 * x @ y.T
    want = (cross_entropy(logits, torch.arange(5)) + cross_entropy(logits.T, torch.arange(5))) / 2
    torch.testing.assert_close(contrastive(x, y, torch.tensor(7.0), groups), want)


@pytest.mark.parametrize("column", [0, 1])
def test_equal_captions_and_equal_tiles_are_no_negatives(column):
    torch.manual_seed(0)
    x, y = normalize(torch.randn(3, 4), dim=1), normalize(torch.randn(3, 4), dim=1)
    groups = torch.arange(3)[:, None].repeat(1, 2)
    groups[1, column] = groups[0, column]
    near = 5 * x @ y.T
    rows = [near[0, [0, 2]], near[1, [1, 2]], near[2]]
    cols = [near[[0, 2], 0], near[[1, 2], 1], near[:, 2]]
    places = [0, 0, 2]
    terms = [
        cross_entropy(v[None], torch.tensor([p]))
        for side in (rows, cols)
        for v, p in zip(side, places, strict=True)
    ]
    torch.testing.assert_close(
        contrastive(x, y, torch.tensor(5.0), groups), torch.stack(terms).sum() / 6
    )


def test_a_batch_of_one_caption_has_nothing_to_learn_and_a_finite_loss():
    x = normalize(torch.randn(4, 3), dim=1)
    groups = torch.stack([torch.zeros(4), torch.arange(4)], dim=1)
    assert float(contrastive(x, x, torch.tensor(9.0), groups)) == 0


def test_it_learns_which_caption_fits(tmp_path):
    data = pairs()
    dual, losses = trained(tmp_path, data)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    images, texts = retriever.embed(dual, data.pixels[:3], data.texts[:3])
    assert (images @ texts.T).argmax(1).tolist() == [0, 1, 2]


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path, monkeypatch):
    settings = dataclasses.replace(TINY, steps=6)
    monkeypatch.setattr(training.Job, "__init__", _often(training.Job.__init__))
    whole, losses = trained(tmp_path / "whole", pairs(), settings)
    count = iter(range(100))

    def breaks(*arguments):
        if next(count) == 4:
            raise WorkFailed("power cut")
        return contrastive(*arguments)

    monkeypatch.setattr(retriever, "contrastive", breaks)
    with pytest.raises(WorkFailed, match="power cut"):
        trained(tmp_path / "cut", pairs(), settings)
    monkeypatch.setattr(retriever, "contrastive", contrastive)
    resumed, again = trained(tmp_path / "cut", pairs(), settings)
    assert again == losses
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def _often(init):
    def make(self, *arguments):
        init(self, *arguments, checkpoint_every=2)

    return make


def test_the_folder_is_a_clip_that_gives_the_same_vectors(tmp_path):
    settings = dataclasses.replace(TINY, steps=2)
    data = pairs(6)
    dual, _ = trained(tmp_path, data, settings)
    dual.save(tmp_path)
    big = [np.kron(tile, np.ones((2, 2, 1), np.uint8)) for tile in data.pixels]
    small = np.stack([shrink(tile, 16) for tile in big])
    images, texts = retriever.embed(dual, small, data.texts)
    encoder = transformers_model(str(tmp_path))
    for ours, theirs in ((images, encoder.images(big)), (texts, encoder.texts(data.texts))):
        unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
        np.testing.assert_allclose(ours, unit, atol=1e-5)


def test_only_rows_of_the_pool_are_drawn(tmp_path):
    """With only one row in the pool beside a second, no other tile's pixels matter."""
    settings = dataclasses.replace(TINY, steps=2)
    data = pairs(6)
    pool = np.array([0, 0, 1])
    a, b, c = (clip.start(settings, data.texts) for _ in range(3))
    retriever.train_pairs(tmp_path / "a", "k", data, settings, a, pool)
    data.pixels[2:] = 0
    retriever.train_pairs(tmp_path / "b", "k", data, settings, b, pool)
    for weight, other in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(weight, other)
    with pytest.raises(ArasError, match="at least 2"):
        retriever.train_pairs(tmp_path / "c", "k", data, settings, c, pool[:1])


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_a_batch_in_chunks_has_the_gradients_of_the_whole(chunk):
    data = pairs(8)
    group = torch.arange(8)[:, None].repeat(1, 2)
    results = {}
    for size in (8, chunk):
        dual = clip.start(TINY, data.texts)
        ids, pixels = dual.ids(data.texts), dual.pixels(data.pixels)

        def encode(part, dual=dual, ids=ids, pixels=pixels):
            some = {name: values[part] for name, values in ids.items()}
            return dual.image_vectors(pixels[part]), dual.text_vectors(some)

        def loss_of(images, texts, dual=dual):
            return contrastive(images, texts, dual.scale, group)

        loss = retriever.in_chunks(encode, loss_of, 8, size)
        loss.backward()
        named = dual.model.named_parameters()
        results[size] = float(loss.detach()), {n: p.grad for n, p in named if p.grad is not None}
    assert results[chunk][0] == pytest.approx(results[8][0], rel=1e-6)
    assert results[chunk][1].keys() == results[8][1].keys()
    assert "logit_scale" in results[8][1]
    for name, gradient in results[8][1].items():
        torch.testing.assert_close(results[chunk][1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_chunked_training_learns_the_same(tmp_path):
    settings = dataclasses.replace(TINY, steps=5)
    _, whole = trained(tmp_path / "a", pairs(), settings)
    _, cut = trained(tmp_path / "b", pairs(), dataclasses.replace(settings, chunk=3))
    np.testing.assert_allclose(cut, whole, rtol=1e-3)


def test_training_goes_on_from_given_weights(tmp_path):
    data = pairs()
    first, losses = trained(tmp_path / "a", data)
    first.save(tmp_path / "clip")
    settings = dataclasses.replace(TINY, weights=str(tmp_path / "clip"), steps=3, size=999)
    again = clip.start(settings, ["a vocabulary that is not learnt"])
    assert (again.size, again.tokens) == (16, 16)
    before = retriever.embed(first, data.pixels, data.texts)
    after = retriever.embed(again, data.pixels, data.texts)
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    _, more = trained(tmp_path / "b", data, settings)
    assert more[0] < 0.6 * losses[0]
    with pytest.raises(ArasError, match="none: no such model folder"):
        clip.start(dataclasses.replace(TINY, weights=str(tmp_path / "none")), [])


def test_products_in_bfloat16_learn_too_and_the_loss_is_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "autocast", functools.partial(training.autocast, "bf16"))
    kinds = set()

    def watched(images, texts, scale, groups):
        kinds.update((images.dtype, texts.dtype))
        return contrastive(images, texts, scale, groups)

    monkeypatch.setattr(retriever, "contrastive", watched)
    _, half = trained(tmp_path / "half", pairs())
    monkeypatch.undo()
    _, whole = trained(tmp_path / "whole", pairs())
    assert kinds == {torch.float32}
    assert half != whole
    assert np.mean(half[-5:]) < 0.6 * np.mean(half[:5])


def tiny_siglip(folder, texts):
    tiny_clip(folder, texts)  # for its tokenizer
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
           "num_attention_heads": 2}  # fmt: skip
    torch.manual_seed(0)
    text = {**tower, "vocab_size": 200, "max_position_embeddings": 24, "projection_size": 16,
            "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
    vision = {**tower, "image_size": 16, "patch_size": 8}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_a_siglip_is_read_as_it_was_trained_and_goes_on(tmp_path):
    data = pairs()
    folder = tiny_siglip(tmp_path / "siglip", data.texts)
    dual = clip.pretrained(str(folder))
    assert (dual.size, dual.tokens) == (16, 24)
    assert dual.ids(["A tile."])["input_ids"].shape == (1, 24)  # padded to its full length
    encoder = transformers_model(str(folder))
    model = SiglipModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model.get_text_features(**dual.ids(data.texts[:3])).pooler_output
    np.testing.assert_allclose(encoder.texts(data.texts[:3]), normalize(expected), atol=1e-5)
    assert encoder.images(list(data.pixels[:2])).shape == (2, 16)
    settings = dataclasses.replace(TINY, weights=str(folder))
    _, losses = trained(tmp_path / "run", data, settings)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_command_trains_once_and_the_benchmark_reads_it(project, tmp_path, monkeypatch):
    monkeypatch.setitem(RETRIEVER, "cpu", dataclasses.replace(TINY, steps=3))
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(project.directory, copy)
    for trained_now in (True, False):
        result = CliRunner().invoke(cli, ["-C", str(copy), "train", "retriever"])
        assert result.exit_code == 0, result.output
        assert ("already trained" in result.output) != trained_now
    result = CliRunner().invoke(
        cli,
        [
            "-C", str(copy), "bench", "retrieval", f"release/{project.recipe.dataset.version}",
            "--model", str(copy / "models/retriever"), "--stream", "full", "--min-km", "0.2",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "full" in result.stdout
    assert "strict" in result.stdout
    with (copy / "dataset.toml").open("a") as file:
        file.write('[retriever]\nstream = "poem"\n')
    result = CliRunner().invoke(cli, ["-C", str(copy), "train", "retriever"])
    assert result.exit_code == 2
    assert "not a caption stream; the streams are dominant" in result.output
