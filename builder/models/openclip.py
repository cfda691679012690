"""OpenCLIP weight files (.pt) as a CLIP of transformers: RemoteCLIP and GeoRSCLIP by name."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from builder.core.errors import ArasError
from builder.models import weights

TOKENIZER = "openai/clip-vit-base-patch32"
"""The tokenizer of all CLIPs of OpenAI's and OpenCLIP's first kind."""
_HEAD = 64  # width of an attention head in every such model


def parts(spec: str) -> tuple[Any, Any, Any]:
    """Model, image processor and tokenizer of ``spec``, as transformers has them.

    Pictures are resized to the model's size (bicubic, as CLIP was trained), texts are OpenAI's
    byte pairs. Raises ArasError for weights, or a tokenizer, that are not to be had.
    """
    from transformers import AutoTokenizer, CLIPImageProcessorPil

    path, activation = weights.openclip_file(spec)
    model = converted(weights_of(path), activation, str(path))
    size = model.config.vision_config.image_size
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    return model, processor, weights.load(TOKENIZER, AutoTokenizer)[0]


def weights_of(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, of weights alone (nothing in it is run). Raises ArasError."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise ArasError(f"{path}: not a file of OpenCLIP weights ({first})") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def converted(state: dict[str, Tensor], activation: str, name: str) -> Any:
    """A CLIPModel of transformers with the weights ``state`` of OpenCLIP (a ViT and its texts').

    Its sizes are read from the shapes. Raises ArasError naming what is missing or left over.
    """
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        config = CLIPConfig(**_sizes(state, activation))
    except KeyError as error:
        raise ArasError(
            f"{name}: has no {error.args[0]}; expected OpenCLIP weights of a ViT such as ViT-B-32"
        ) from error
    model = CLIPModel(config)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        renamed.update(_renamed(key, value.float()))
    problems = model.load_state_dict(renamed, strict=False)
    if problems.missing_keys or problems.unexpected_keys:
        wrong = [*problems.missing_keys, *problems.unexpected_keys][:3]
        raise ArasError(f"{name}: not the weights of an OpenCLIP ViT: {', '.join(wrong)}")
    return model.eval()


def _sizes(state: dict[str, Tensor], activation: str) -> dict[str, Any]:
    def tower(prefix: str, width: int) -> dict[str, Any]:
        block = f"{prefix}transformer.resblocks."
        layers = {key[len(block) :].split(".")[0] for key in state if key.startswith(block)}
        return {
            "hidden_size": width,
            "intermediate_size": len(state[f"{block}0.mlp.c_fc.weight"]),
            "num_hidden_layers": len(layers),
            "num_attention_heads": max(1, width // _HEAD),
            "hidden_act": activation,
        }

    width, _, _, patch = state["visual.conv1.weight"].shape
    side = math.isqrt(len(state["visual.positional_embedding"]) - 1)
    vocabulary, text_width = state["token_embedding.weight"].shape
    text = {
        "vocab_size": vocabulary,
        "max_position_embeddings": len(state["positional_embedding"]),
        # 2 makes transformers take the features at the highest token id, as OpenCLIP does.
        "eos_token_id": 2,
        "bos_token_id": vocabulary - 2,
    }
    return {
        "projection_dim": state["text_projection"].shape[1],
        "text_config": {**tower("", text_width), **text},
        "vision_config": {
            **tower("visual.", width),
            "patch_size": patch,
            "image_size": side * patch,
        },
    }


_NAMES = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TURNED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_INSIDE = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def _renamed(key: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor of OpenCLIP under the names of transformers; none for buffers."""
    if key in _NAMES:
        return {_NAMES[key]: value}
    if key in _TURNED:
        return {_TURNED[key]: value.T}
    match = _BLOCK.fullmatch(key)
    if not match:
        return {} if key == "attn_mask" else {key: value}
    side, number, inside = match.groups()
    layer = f"{'vision' if side else 'text'}_model.encoder.layers.{number}."
    if inside.startswith("attn.in_proj_"):
        kind = inside.removeprefix("attn.in_proj_")
        return {
            f"{layer}self_attn.{part_name}_proj.{kind}": part
            for part_name, part in zip("qkv", value.chunk(3), strict=True)
        }
    module, _, kind = inside.rpartition(".")
    return {f"{layer}{_INSIDE.get(module, module)}.{kind}": value}
