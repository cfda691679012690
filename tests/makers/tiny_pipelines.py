"""Maker of tiny random diffusers pipelines with real components, saved to disk."""

import string
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

WORDS = ["a satellite image seen from above: mostly grassland, a little water, tree cover"]
UNET: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
}


def tiny_tokenizer() -> Any:
    """A byte-level BPE with CLIP's start and end tokens, padded to 77 tokens."""
    bpe = Tokenizer(models.BPE(unk_token="<|end|>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=200,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=list(string.printable[:94]),
        show_progress=False,
    )
    bpe.train_from_iterator(WORDS, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<|start|> $A <|end|>", special_tokens=[("<|start|>", 0), ("<|end|>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|start|>",
        eos_token="<|end|>",
        unk_token="<|end|>",
        pad_token="<|end|>",
        model_max_length=77,
    )


def _components(seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **UNET
    )
    codec = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    return {
        "vae": codec,
        "text_encoder": transformers.CLIPTextModel(text),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _controlnet(seed: int) -> Any:
    """With zero convolutions made random: an untrained ControlNet would change nothing."""
    torch.manual_seed(seed)
    net = diffusers.ControlNetModel(conditioning_embedding_out_channels=(4, 8), **UNET)
    for name, value in net.named_parameters():
        if "controlnet" in name:
            torch.nn.init.normal_(value, std=0.5)
    return net


def tiny_controlled(folder: Path, seed: int = 0) -> Path:
    """A Stable Diffusion pipeline with its ControlNet, in one folder."""
    pipe = diffusers.StableDiffusionControlNetPipeline(
        controlnet=_controlnet(seed), **_components(seed)
    )
    pipe.save_pretrained(folder)
    return folder


def tiny_prompted(folder: Path, seed: int = 0) -> Path:
    """A Stable Diffusion pipeline that takes a prompt alone."""
    diffusers.StableDiffusionPipeline(**_components(seed)).save_pretrained(folder)
    return folder


def tiny_controlnet(folder: Path, seed: int = 0) -> Path:
    """A ControlNet alone, in a folder of its own."""
    _controlnet(seed).save_pretrained(folder)
    return folder


def tiny_unconditional(folder: Path, seed: int = 0, side: int = 64, channels: int = 3) -> Path:
    """A DDIM pipeline that draws from noise alone."""
    torch.manual_seed(seed)
    unet = diffusers.UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    pipe = diffusers.DDIMPipeline(unet=unet, scheduler=diffusers.DDIMScheduler())
    pipe.save_pretrained(folder)
    return folder


def tiny_start_image(folder: Path, seed: int = 0) -> Path:
    """A pipeline that wants a picture to start from."""
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**_components(seed))
    pipe.save_pretrained(folder)
    return folder
