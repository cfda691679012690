"""Dual encoders: a compact CLIP from its configuration, or a given one, and what feeds it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from builder.errors import ArasError
from builder.files import digest_of, hash_file
from builder.models import training
from builder.seeds import seed

NAME = "retriever"
Pixels = npt.NDArray[np.uint8]

_PAD, _BOS, _EOS = 0, 1, 3  # transformers takes an end token of 2 for a fault of old files
_SPECIAL = ["<pad>", "<s>", "<unk>", "</s>"]
_HOTTEST = math.log(100)  # the largest inverse temperature of Radford et al. (2021), as its log
_CONTENT = ("*.json", "*.txt", "*.safetensors", "*.bin", "*.model")


@dataclass(frozen=True)
class Settings:
    """What a training depends on; the profiles are ready-made ones."""

    stream: str = "full"
    steps: int = 600
    batch: int = 64
    size: int = 64
    patch: int = 16
    width: int = 128
    layers: int = 4
    text_layers: int = 2
    projection: int = 128
    tokens: int = 64
    vocabulary: int = 2_000
    learning_rate: float = 1e-3
    seed: int = 0
    weights: str = ""
    """A CLIP or SigLIP to go on from, by folder or name; sizes and vocabulary are then its own."""
    chunk: int = 0
    """Pairs encoded at once, so that a batch need not fit in memory; 0: the whole batch."""


PROFILES = {
    "cpu": Settings(),
    "gpu": Settings(
        steps=20_000,
        batch=1_024,
        size=128,
        width=512,
        layers=12,
        text_layers=6,
        projection=512,
        tokens=77,
        vocabulary=16_000,
        learning_rate=5e-4,
    ),
}


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
        one = torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(value, device=device)[:, None, None]
            for value in (self.processor.image_mean, self.processor.image_std)
        )
        return (one - mean) / std

    def ids(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask, (n, length) each, cut at ``tokens``."""
        # SigLIP was trained on texts padded to its full length, CLIP on masked ones.
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
            ids = {name: one.to(training.device()) for name, one in self.ids([text]).items()}
            return _first(self.text_vectors(ids))

    def save(self, folder: Path) -> None:
        """Write a folder that transformers, and so `aras bench retrieval --model`, loads."""
        for part in (self.model, self.tokenizer, self.processor):
            part.save_pretrained(folder)


def start(settings: Settings, texts: Sequence[str]) -> Dual:
    """The model before its first step: of given weights, or drawn from the seed alone.

    In the second case the vocabulary is learnt from ``texts``. Raises ArasError for weights that
    cannot be had or are no dual encoder.
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
    """A CLIP or SigLIP by folder or by name on the Hugging Face Hub.

    Raises ArasError when there is no such model, or it has no image and text features.
    """
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Without torchvision each processor warns that it falls back to Pillow, which is what we want.
    logging.set_verbosity_error()
    try:
        model: Any = AutoModel.from_pretrained(name)
        processor: Any = AutoImageProcessor.from_pretrained(name)
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise ArasError(
            f"model {name}: transformers cannot load it ({first}); give a folder made by "
            "save_pretrained, a name on the Hub, or package:function"
        ) from error
    if not hasattr(model, "get_image_features"):
        kind = type(model).__name__
        raise ArasError(f"model {name}: a {kind} has no image and text features; give a CLIP")
    text, vision = (getattr(model.config, f"{one}_config", model.config) for one in _TOWERS)
    room = int(text.max_position_embeddings)
    return Dual(model, tokenizer, processor, int(vision.image_size), room)


def told(settings: Settings) -> dict[str, Any]:
    """Settings as a key or report holds them: given weights by name and content, not by path."""
    known = asdict(settings)
    if settings.weights:
        folder = Path(settings.weights)
        name = folder.resolve().name if folder.is_dir() else settings.weights
        known["weights"] = {"name": name, "content": identity(settings.weights)}
    return known


def identity(name: str, model: Any = None) -> str | None:
    """What tells the weights ``name`` from all others: a digest of the folder's content, or the
    revision on the Hub that ``model`` came from; None where it cannot be known.

    Raises ArasError for a name that transformers has no configuration of.
    """
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for kind in _CONTENT for path in folder.glob(kind))
        return digest_of({path.name: hash_file(path, "sha256")["sha256"] for path in files})
    revision = getattr(_config(name) if model is None else model.config, "_commit_hash", None)
    return f"{name}@{revision}" if revision else None


def _config(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ArasError(f"model {name}: transformers cannot load it ({first})") from error


_TOWERS = ("text", "vision")


def tokenizer_of(texts: Sequence[str], settings: Settings) -> Any:
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


def processor_of(settings: Settings) -> Any:
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


def build(settings: Settings, vocabulary: int) -> nn.Module:
    """A CLIP from its configuration, weights drawn from the seed alone."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    one = {
        "hidden_size": settings.width,
        "intermediate_size": 4 * settings.width,
        "num_attention_heads": max(1, settings.width // 32),
        "projection_dim": settings.projection,
    }
    config = CLIPConfig(
        text_config={
            **one,
            "num_hidden_layers": settings.text_layers,
            "vocab_size": vocabulary,
            "max_position_embeddings": settings.tokens,
            "pad_token_id": _PAD,
            "bos_token_id": _BOS,
            "eos_token_id": _EOS,
        },
        vision_config={
            **one,
            "num_hidden_layers": settings.layers,
            "image_size": settings.size,
            "patch_size": settings.patch,
        },
        projection_dim=settings.projection,
    )
    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    model: nn.Module = CLIPModel(config)
    return model


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit vectors (B, d) whose duplicates are no negatives.

    ``groups`` (B, g) holds numbers that mark what is the same (caption, tile): two pairs that
    share any of them are left out of each other's denominator.
    """
    logits = scale * images @ texts.T
    same = (groups[:, None] == groups[None]).any(-1)
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    return (
        nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)
    ) / 2


def _first(vectors: Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(vectors[0].cpu().numpy())


def _unit(found: Any) -> Tensor:
    return nn.functional.normalize(getattr(found, "pooler_output", found).float(), dim=-1)
