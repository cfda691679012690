"""Dual encoders, given or built from settings: their vectors, and what identifies their weights.

A compact CLIP takes its weights from a seed and its tokenizer from the training captions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.core.seeds import seed
from builder.models import openclip, training, weights
from builder.models.settings import RetrieverSettings

NAME = "retriever"
Pixels = npt.NDArray[np.uint8]

_PAD, _BOS, _EOS = 0, 1, 3  # transformers takes an end token of 2 for an error of old files
_SPECIAL = ["<pad>", "<s>", "<unk>", "</s>"]


def tokenizer_of(texts: Sequence[str], settings: RetrieverSettings) -> Any:
    """A byte-level BPE tokenizer (lower case) learnt from ``texts``; it can spell any other."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    bpe: Any = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", _BOS), ("</s>", _EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        unk_token="<unk>",
        eos_token="</s>",
        model_max_length=settings.tokens,
    )


def processor_of(settings: RetrieverSettings) -> Any:
    """The image processor that does to a tile what `shrink` and `normalise` do."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"height": settings.size, "width": settings.size},
        do_center_crop=False,
        resample=Image.Resampling.BILINEAR,
        image_mean=[0.4] * 3,
        image_std=[0.2] * 3,
    )


def shrink(image: Pixels, size: int) -> Pixels:
    """(H, W, 3) uint8 → (size, size, 3), bilinear with anti-aliasing."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def build(settings: RetrieverSettings, vocabulary: int) -> nn.Module:
    """A CLIP from its configuration, weights drawn from the seed alone."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    tower = {
        "hidden_size": settings.width,
        "intermediate_size": 4 * settings.width,
        "num_attention_heads": max(1, settings.width // 32),
        "projection_dim": settings.projection,
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": settings.text_layers,
            "vocab_size": vocabulary,
            "max_position_embeddings": settings.tokens,
            "pad_token_id": _PAD,
            "bos_token_id": _BOS,
            "eos_token_id": _EOS,
        },
        vision_config={
            **tower,
            "num_hidden_layers": settings.layers,
            "image_size": settings.size,
            "patch_size": settings.patch,
        },
        projection_dim=settings.projection,
    )
    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    model: nn.Module = CLIPModel(config)
    return model


_HOTTEST = math.log(100)  # the largest inverse temperature of Radford et al. (2021), as its log


@dataclass(frozen=True)
class Dual:
    """A model of images and texts with its tokenizer and image processor, as transformers has them.

    ``size`` is the side in pixels that it takes, ``tokens`` the longest text.
    """

    model: Any
    tokenizer: Any
    processor: Any
    size: int
    tokens: int

    @property
    def scale(self) -> Tensor:
        """The learnt inverse temperature, at most 100."""
        scale: Tensor = self.model.logit_scale.clamp(max=_HOTTEST).exp()
        return scale

    def pixels(self, images: Pixels) -> Tensor:
        """(n, size, size, 3) uint8 → (n, 3, size, size) float32 as the model was trained on."""
        device = next(self.model.parameters()).device
        scaled = torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(value, device=device)[:, None, None]
            for value in (self.processor.image_mean, self.processor.image_std)
        )
        return (scaled - mean) / std

    def ids(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask, (n, length) each, cut at ``tokens``."""
        # SigLIP was trained on texts padded to its full length, CLIP on masked texts.
        full = "siglip" in self.model.config.model_type
        ready = self.tokenizer(
            list(texts),
            padding="max_length" if full else True,
            truncation=True,
            max_length=self.tokens,
            return_tensors="pt",
        )
        return {n: ready[n] for n in ("input_ids", "attention_mask") if n in ready}

    def image_vectors(self, ready: Tensor) -> Tensor:
        """(n, 3, size, size) → unit vectors (n, d) float32."""
        return _unit(self.model.get_image_features(pixel_values=ready))

    def text_vectors(self, ids: dict[str, Tensor]) -> Tensor:
        """Token ids (n, length) → unit vectors (n, d) float32."""
        return _unit(self.model.get_text_features(**ids))

    def image(self, image: Pixels) -> npt.NDArray[np.float32]:
        """(H, W, 3) uint8 → unit vector (d,), through the model's own image processor."""
        with torch.inference_mode():
            ready = self.processor(images=[image], return_tensors="pt")["pixel_values"]
            return _first(self.image_vectors(ready.to(training.device())))

    def text(self, text: str) -> npt.NDArray[np.float32]:
        """Unit vector (d,) of a text."""
        with torch.inference_mode():
            ids = {name: values.to(training.device()) for name, values in self.ids([text]).items()}
            return _first(self.text_vectors(ids))

    def save(self, folder: Path) -> None:
        """Write a folder that transformers, and so `aras bench retrieval --model`, loads."""
        for part in (self.model, self.tokenizer, self.processor):
            part.save_pretrained(folder)


def start(settings: RetrieverSettings, texts: Sequence[str]) -> Dual:
    """The model before its first step: of given weights, or drawn from the seed alone.

    In the second case the vocabulary is learnt from ``texts``. Raises ArasError for weights that
    are not there or not a dual encoder.
    """
    if settings.weights:
        dual = pretrained(settings.weights)
    else:
        tokenizer = tokenizer_of(texts, settings)
        model = build(settings, len(tokenizer))
        dual = Dual(model, tokenizer, processor_of(settings), settings.size, settings.tokens)
    dual.model.to(training.device())
    return dual


def pretrained(name: str) -> Dual:
    """A CLIP or SigLIP by folder, by name on the Hugging Face Hub, or of OpenCLIP weights.

    Raises ArasError for a missing model and for a model without image and text features.
    """
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Without torchvision each processor warns that it falls back to Pillow, which is what we want.
    logging.set_verbosity_error()
    if weights.is_openclip(name):
        return _dual(*openclip.parts(name))
    model, processor, tokenizer = weights.load(name, AutoModel, AutoImageProcessor, AutoTokenizer)
    if not hasattr(model, "get_image_features"):
        kind = type(model).__name__
        raise ArasError(f"{name}: a {kind} has no image and text features; give a CLIP or SigLIP")
    return _dual(model, processor, tokenizer)


def _dual(model: Any, processor: Any, tokenizer: Any) -> Dual:
    text, vision = (getattr(model.config, f"{tower}_config", model.config) for tower in _TOWERS)
    room = int(text.max_position_embeddings)
    return Dual(model, tokenizer, processor, int(vision.image_size), room)


_TOWERS = ("text", "vision")


def _first(vectors: Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(vectors[0].cpu().numpy())


def _unit(features: Any) -> Tensor:
    return nn.functional.normalize(getattr(features, "pooler_output", features).float(), dim=-1)
