"""Pretrained encoders against transformers itself, on tiny random models saved to disk."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, CLIPModel

from builder.core.errors import ArasError
from builder.models import encoders
from builder.models.encoders import INCEPTION
from builder.models.weights import Weights
from tests.makers.tiny_clip import tiny_clip

IMAGES = list(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8))


def of(path: Path) -> Weights:
    return Weights(str(path), path=path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"), ["trees and water", "a field"])


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    BitImageProcessorPil(size=size, do_center_crop=False).save_pretrained(folder)
    return folder


def test_a_clips_vectors_have_length_one_and_are_transformers_own(clip: Path) -> None:
    encoder = encoders.steady_clip(of(clip))
    network = CLIPModel.from_pretrained(clip).eval()
    ready = CLIPImageProcessorPil.from_pretrained(clip)(images=IMAGES, return_tensors="pt")
    with torch.no_grad():
        wanted = network.get_image_features(**ready).pooler_output.numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.images(IMAGES), wanted, atol=1e-5)
    assert np.linalg.norm(encoder.texts(["a field", ""]), axis=1) == pytest.approx(1, abs=1e-5)
    assert encoder.room == 32


def test_a_vision_model_gives_what_it_pools(dino: Path) -> None:
    network = transformers.Dinov2Model.from_pretrained(dino).eval()
    ready = BitImageProcessorPil.from_pretrained(dino)(images=IMAGES, return_tensors="pt")
    with torch.no_grad():
        wanted = network(**ready).pooler_output.numpy()
    np.testing.assert_allclose(encoders.vision(of(dino))(IMAGES), wanted, atol=1e-5)


def test_a_dual_encoder_gives_its_image_features(clip: Path) -> None:
    features = encoders.vision(of(clip))(IMAGES)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, encoders.steady_clip(of(clip)).images(IMAGES), atol=1e-5)


def test_on_the_cpu_the_batch_changes_no_bit(dino: Path, clip: Path) -> None:
    for encode in (encoders.vision(of(dino)), encoders.steady_clip(of(clip)).images):
        apart = np.concatenate([encode(IMAGES[:1]), encode(IMAGES[1:])])
        np.testing.assert_array_equal(encode(IMAGES), apart)


class Shrink(torch.nn.Module):
    """In the shape of the published Inception module: uint8 in, features by keyword."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = x.to(torch.float32).mean(dim=[2, 3])
        return means if return_features else means.sum(dim=1, keepdim=True)


def test_inception_is_asked_for_its_features_and_other_modules_are_taken_as_they_are(
    tmp_path: Path,
) -> None:
    for name, width in ((INCEPTION, 3), ("other.pt", 1)):
        torch.jit.script(Shrink()).save(str(tmp_path / name))
        features = encoders.vision(of(tmp_path / name))(IMAGES)
        assert features.shape == (5, width)
        if width == 3:
            np.testing.assert_allclose(features, np.mean(IMAGES, axis=(1, 2)), rtol=1e-5)


def test_the_digest_is_that_of_the_content(clip: Path, tmp_path: Path) -> None:
    again = tiny_clip(tmp_path / "again", ["trees and water", "a field"])
    other = tiny_clip(tmp_path / "other", ["trees and water", "a field"], seed=1)
    assert of(again).digest() == of(clip).digest() != of(other).digest()
    assert of(clip).name == clip.name


def test_the_digest_of_a_file_is_remembered_and_looked_up_again_when_it_changes(
    tmp_path: Path,
) -> None:
    path = tmp_path / INCEPTION
    path.write_bytes(b"one")
    kept = Weights(INCEPTION, path=path, cache=tmp_path / "cache.json")
    assert kept.digest() == f"sha256:{hashlib.sha256(b'one').hexdigest()}" == kept.digest()
    path.write_bytes(b"other")
    assert kept.digest() == of(path).digest() == f"sha256:{hashlib.sha256(b'other').hexdigest()}"


def test_tokens_are_counted_whole(clip: Path) -> None:
    count, _ = encoders.tokenizer(of(clip))
    assert count("a field") == count("") + 2
    assert count("a field " * 500) == count("") + 1000


def test_what_is_not_there_is_said_with_the_way_out(tmp_path: Path, dino: Path) -> None:
    with pytest.raises(ArasError, match="hf download org/none"):
        Weights("org/none").digest()
    with pytest.raises(ArasError, match="no such model folder or file of weights"):
        encoders.vision(of(tmp_path / INCEPTION))
    with pytest.raises(ArasError, match=r"no config\.json"):
        encoders.vision(of(tmp_path))
    with pytest.raises(ArasError, match=r"no image and text features|cannot load"):
        encoders.steady_clip(of(dino))
    with pytest.raises(ArasError, match=r"dino\d*: transformers cannot load it"):
        encoders.tokenizer(of(dino))
    shutil.copytree(dino, tmp_path / "damaged")
    os.truncate(tmp_path / "damaged/model.safetensors", 1000)
    with pytest.raises(ArasError, match=r"transformers cannot load it .*header"):
        encoders.vision(of(tmp_path / "damaged"))
    (tmp_path / "damaged.pt").write_bytes(b"no module")
    with pytest.raises(ArasError, match="not a TorchScript module"):
        encoders.vision(of(tmp_path / "damaged.pt"))
