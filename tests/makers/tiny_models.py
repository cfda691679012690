"""Maker of tiny random models with real architectures, tokenizers and processors, saved to disk.

Every ninth token ends an answer, so that random weights write texts of all lengths.
"""

import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = [
    "Cropland covers most of the tile, with grassland along the north and a little water.",
    "A satellite image tile has this land cover: 57% cropland, 21% built-up land, 12% bare ground.",
    "Forest lies in the south-east; open grassland is spread over the whole tile, mostly.",
    "Describe its dominant land use in one or two concise sentences and how it is laid out.",
]

TEMPLATE = """\
{% for message in messages %}<|start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE\
{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|end|>
{% endfor %}{% if add_generation_prompt %}<|start|>assistant
{% endif %}"""

IMAGE_TOKENS = {
    "text": "",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3": "<boi>",
}


def tiny_model(folder: Path, kind: str = "text", *, seed: int = 0, template: bool = True) -> Path:
    """Save a random model under ``folder``; ``kind`` is text (Llama), qwen3_vl or gemma3.

    Without ``template`` it is a base model: nothing says how to chat with it.
    """
    torch.manual_seed(seed)
    tokenizer = _tokenizer(kind, template)
    network, processor = {"text": _text, "qwen3_vl": _qwen3_vl, "gemma3": _gemma3}[kind](tokenizer)
    for value in network.parameters():
        # Larger than the usual start, so that texts differ from prompt to prompt.
        torch.nn.init.normal_(value, std=0.3) if value.ndim > 1 else None
    ends = [i for i in range(len(tokenizer)) if i % 9 == 0]
    network.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    network.save_pretrained(folder)
    (processor or tokenizer).save_pretrained(folder)
    return folder


def _tokenizer(kind: str, template: bool) -> Any:
    special = {
        "text": [],
        "qwen3_vl": ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"],
        "gemma3": ["<boi>", "<eoi>", "<image>"],
    }[kind]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|pad|>", "<|end|>", "<|start|>", *special],
        initial_alphabet=list(string.printable[:94]),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    named = {}
    if kind == "gemma3":
        named = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=named,
        additional_special_tokens=[] if named else special,
    )
    if template:
        tokenizer.chat_template = TEMPLATE.replace("IMAGE", IMAGE_TOKENS[kind])
    return tokenizer


_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def _text(tokenizer: Any) -> tuple[Any, Any]:
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **_SIZES)
    return transformers.LlamaForCausalLM(config), None


def _qwen3_vl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import Qwen2VLImageProcessor
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    from builder.captions.local_model import _image_only

    ids = tokenizer.convert_tokens_to_ids
    config = transformers.Qwen3VLConfig(
        text_config={
            **_SIZES,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    images = Qwen2VLImageProcessor(
        patch_size=16, merge_size=2, size={"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
    )
    processor = _image_only(Qwen3VLProcessor)(images, tokenizer, tokenizer.chat_template)
    return transformers.Qwen3VLForConditionalGeneration(config), processor


def _gemma3(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import Gemma3ImageProcessor, Gemma3Processor

    ids = tokenizer.convert_tokens_to_ids
    config = transformers.Gemma3Config(
        text_config={**_SIZES, "vocab_size": len(tokenizer), "sliding_window": 512},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
        },
        mm_tokens_per_image=16,
        tie_word_embeddings=False,
        boi_token_index=ids("<boi>"),
        eoi_token_index=ids("<eoi>"),
        image_token_index=ids("<image>"),
    )
    images = Gemma3ImageProcessor(size={"height": 64, "width": 64})
    processor = Gemma3Processor(
        images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=16
    )
    return transformers.Gemma3ForConditionalGeneration(config), processor
