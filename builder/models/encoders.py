"""Pretrained encoders: images and texts to vectors, and what identifies the model behind them.

Importing this imports no torch: a benchmark of vectors from files needs none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.land.pictures import Pixels
from builder.models.weights import Weights, first_line, identity_of, is_openclip, load, unreadable

Array = npt.NDArray[Any]
Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[Any]], Vectors]
"""Images (h, w, 3) uint8, or texts → (n, d)."""

INCEPTION = "inception-2015-12-05.pt"
"""File name of the Inception network that FID is defined with, as a TorchScript module (the weights
of Szegedy et al. 2015 that Heusel et al. 2017 used, in the form that StyleGAN2-ADA publishes)."""
INCEPTION_DIGEST = "sha256:f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Digest of that file, by which k-diffusion and others check their download of it."""


class EncoderFacts(TypedDict, total=False):
    """What a result says of an encoder: where it comes from, what pins it, and its sizes."""

    architecture: str
    max_tokens: int
    image_size: int
    source: str
    sha256: str | None
    revision: str | None


@dataclass(frozen=True)
class Encoder:
    """Two functions to vectors (n, d), and what identifies this model.

    ``images`` takes (h, w, 3) uint8 arrays, ``texts`` strings. ``identity`` is None where the
    content cannot be known; such vectors are never cached.
    """

    name: str
    images: Callable[[Sequence[Pixels]], Array]
    texts: Callable[[Sequence[str]], Array]
    identity: str | None
    facts: EncoderFacts


@dataclass(frozen=True)
class Clip:
    """A dual encoder; ``room`` is the most tokens of a text that it reads."""

    images: Encode
    texts: Encode
    room: int


def transformers_model(name: str, device: str = "cpu") -> Encoder:
    """A CLIP or SigLIP by folder or by name on the Hugging Face Hub.

    Raises ArasError for a missing model and for a model without image and text features.
    """
    import torch

    from builder.models import clip

    dual = clip.pretrained(name)
    dual.model.to(device).eval()

    @torch.inference_mode()
    def images(arrays: Sequence[Pixels]) -> Array:
        ready = dual.processor(images=list(arrays), return_tensors="pt")["pixel_values"]
        return np.asarray(dual.image_vectors(ready.to(device)).cpu().numpy())

    @torch.inference_mode()
    def texts(strings: Sequence[str]) -> Array:
        ids = {key: values.to(device) for key, values in dual.ids(strings).items()}
        return np.asarray(dual.text_vectors(ids).cpu().numpy())

    known = identity_of(name, getattr(dual.model.config, "_commit_hash", None))
    pin: EncoderFacts
    if Path(name).is_dir():
        pin = {"source": "folder", "sha256": known}
    elif is_openclip(name):
        pin = {"source": "openclip", "sha256": known}
    else:
        pin = {"source": "hub", "revision": getattr(dual.model.config, "_commit_hash", None)}
    facts: EncoderFacts = {
        "architecture": type(dual.model).__name__,
        "max_tokens": dual.tokens,
        "image_size": dual.size,
        **pin,
    }
    return Encoder(name, images, texts, known, facts)


def steady_clip(weights: Weights) -> Clip:
    """A CLIP or SigLIP that is on this machine; a vector depends on its own image or text alone.

    Raises ArasError when it is not there or has no image and text features.
    """
    from builder.models.training import device

    encoder = transformers_model(str(weights.locate()), str(device()))
    return Clip(
        _steady(lambda images: _unit(encoder.images(images))),
        _steady(lambda texts: _unit(encoder.texts(texts))),
        encoder.facts["max_tokens"],
    )


def tokenizer(weights: Weights) -> tuple[Callable[[str], int], int]:
    """A function that counts a text's tokens, special ones included, and the most that fit.

    Raises ArasError when there is no tokenizer.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    [words] = load(weights.locate(), AutoTokenizer)
    logging.set_verbosity_error()  # a text that does not fit is what we count
    return lambda text: len(words(text, truncation=False)["input_ids"]), words.model_max_length


def vision(weights: Weights) -> Encode:
    """Features of images by any vision model: of transformers (DINOv2, CLIP, SigLIP …) or a
    TorchScript module such as `INCEPTION`.

    A dual encoder gives its image features, any other model what it pools, or else the mean of
    its last hidden state. Raises ArasError when it is not there or gives no vectors.
    """
    import torch

    from builder.models.training import device

    here = device()
    if weights.scripted:
        try:
            network = torch.jit.load(  # type: ignore[no-untyped-call]
                str(weights.locate()), map_location=here
            ).eval()
        except unreadable() as error:
            raise ArasError(
                f"{weights.path}: not a TorchScript module ({first_line(error)})"
            ) from error

        def scripted(images: Sequence[Pixels]) -> Vectors:
            pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(here)
            # The published module takes this keyword, and gives class scores without it.
            named = {"return_features": True} if weights.name == INCEPTION else {}
            return _vectors(network(pixels, **named), weights.name)

        return _steady(scripted)
    return _steady(_transformers_vision(weights, here))


def _transformers_vision(weights: Weights, here: Any) -> Encode:
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # without torchvision each processor says that it uses Pillow
    network, processor = load(weights.locate(), AutoModel, AutoImageProcessor)
    network = network.to(here).eval()

    def encode(images: Sequence[Pixels]) -> Vectors:
        ready = processor(images=list(images), return_tensors="pt")["pixel_values"].to(here)
        if hasattr(network, "get_image_features"):
            output = network.get_image_features(pixel_values=ready)
            return _vectors(getattr(output, "pooler_output", output), weights.name)
        output = network(pixel_values=ready)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            last = output.last_hidden_state  # (n, tokens, d) or (n, d, h, w)
            pooled = last.mean(dim=1) if last.ndim == 3 else last.flatten(2).mean(dim=2)
        return _vectors(pooled.flatten(1), weights.name)

    return encode


def _steady(encode: Encode) -> Encode:
    """On the CPU singly on one thread, so that batches and engines give the same bytes."""
    import torch

    from builder.models.training import device, single_thread

    def one_by_one(items: Sequence[Any]) -> Vectors:
        with torch.inference_mode():
            if device().type != "cpu":
                return encode(items)
            with single_thread():
                return np.concatenate([encode([item]) for item in items])

    return one_by_one


def _unit(vectors: Any) -> Vectors:
    values = np.asarray(vectors, dtype=np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, 1e-12), dtype=np.float32)


def _vectors(features: Any, name: str) -> Vectors:
    values = np.asarray(features.float().cpu().numpy(), dtype=np.float32)
    if values.ndim != 2:
        raise ArasError(f"{name}: gives {values.shape} for images; expected vectors (n, d)")
    return values
