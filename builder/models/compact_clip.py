"""A compact CLIP from its configuration: settings, weights from a seed, tokenizer, processor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from builder.core.seeds import seed
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
