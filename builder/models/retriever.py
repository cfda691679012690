"""The retriever: a compact CLIP trained from scratch on real train tiles and one caption stream."""

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
from builder.files import digest_of, remove
from builder.models import training
from builder.models.segmenter import normalise
from builder.pictures import decode_png, image_bytes
from builder.schema import SPLITS, STREAM_PREFIX
from builder.seeds import generator, seed
from builder.stage import shards
from builder.store import Store

NAME = "retriever"
WEIGHTS = "model.safetensors"
VERSION = 1

Pixels = npt.NDArray[np.uint8]

_PAD, _BOS, _EOS = 0, 1, 3  # transformers takes an end token of 2 for a fault of old files
_SPECIAL = ["<pad>", "<s>", "<unk>", "</s>"]
_HOTTEST = math.log(100)  # the largest inverse temperature of Radford et al. (2021), as its log


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
class Pairs:
    """Tiles and their captions: ids, pixels (n, size, size, 3) uint8, texts; one row a pair."""

    ids: Sequence[str]
    pixels: Pixels
    texts: Sequence[str]


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


def train_pairs(
    folder: Path,
    key: str,
    pairs: Pairs,
    settings: Settings,
    tokenizer: Any,
    pool: npt.NDArray[np.int64] | None = None,
) -> tuple[nn.Module, list[float], training.Job]:
    """Train on ``pairs``; batches are drawn from the rows ``pool`` (all rows once unless given).

    A row that stands in the pool twice is drawn twice as often. The same seed gives the same
    initial weights whatever the pairs are. Returns the model, the loss of every step and the job.
    """
    rows = np.arange(len(pairs.texts)) if pool is None else pool
    if len(rows) < 2:
        raise ArasError(f"{NAME}: {len(rows)} pairs to train on; at least 2 are needed")
    device = training.device()
    model = build(settings, len(tokenizer)).to(device)
    asked = _tokens(tokenizer, pairs.texts, settings)
    group = torch.from_numpy(
        np.stack(
            [
                np.unique(np.array(column), return_inverse=True)[1]
                for column in (pairs.texts, pairs.ids)
            ],
            axis=1,
        )
    )
    job = training.Job(folder, key, settings.steps, settings.learning_rate)

    def loss_at(step: int) -> Tensor:
        rng = generator(settings.seed, NAME, step)
        torch.manual_seed(seed(settings.seed, NAME, "dropout", step))
        drawn = rows[rng.choice(len(rows), settings.batch, replace=len(rows) < settings.batch)]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = model(
                pixel_values=normalise(pairs.pixels[drawn], device),
                **{name: one[drawn].to(device) for name, one in asked.items()},
            )
        scale = model.logit_scale.clamp(max=_HOTTEST).exp()  # type: ignore[union-attr, operator]
        images, texts = out.image_embeds.float(), out.text_embeds.float()
        return contrastive(images, texts, scale, group[drawn].to(device))

    return model, training.fit(job, model, loss_at, label=f"train {NAME}"), job


def save(folder: Path, model: Any, tokenizer: Any, settings: Settings) -> None:
    """Write a folder that transformers, and so `aras bench retrieval --model`, loads."""
    remove(folder / "record.json")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor_of(settings).save_pretrained(folder)


@torch.inference_mode()
def embed(
    model: Any, tokenizer: Any, pixels: Pixels, texts: Sequence[str], settings: Settings
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Unit vectors of pixels (N, size, size, 3) and of texts (M): (N, d) and (M, d) float32."""
    device = training.device()
    model.eval()
    asked = _tokens(tokenizer, texts, settings)
    made: list[list[npt.NDArray[np.float32]]] = [[], []]
    for start in range(0, len(pixels), 64):
        ready = normalise(pixels[start : start + 64], device)
        made[0].append(_unit(model.get_image_features(pixel_values=ready)))
    for start in range(0, len(texts), 64):
        part = {name: one[start : start + 64].to(device) for name, one in asked.items()}
        made[1].append(_unit(model.get_text_features(**part)))
    return np.concatenate(made[0]), np.concatenate(made[1])


def _unit(found: Any) -> npt.NDArray[np.float32]:
    vectors = nn.functional.normalize(getattr(found, "pooler_output", found).float(), dim=-1)
    return np.asarray(vectors.cpu().numpy())


def _tokens(tokenizer: Any, texts: Sequence[str], settings: Settings) -> dict[str, Tensor]:
    ready = tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=settings.tokens,
        return_tensors="pt",
    )
    return {name: ready[name] for name in ("input_ids", "attention_mask")}


def is_fresh(store: Store, folder: Path, settings: Settings) -> bool:
    """True when the model in ``folder`` was made from these settings, tiles and captions."""
    found = training.record(folder)
    return bool(found and found["key"] == _key(store, settings))


def train(store: Store, folder: Path, settings: Settings) -> dict[str, Any]:
    """Train on the real train tiles unless the model is there already; returns its record."""
    if is_fresh(store, folder, settings):
        return {**training.require(folder, NAME), "made": False}
    key = _key(store, settings)
    pairs = load_pairs(store, settings)
    tokenizer = tokenizer_of(pairs.texts, settings)
    model, losses, job = train_pairs(folder, key, pairs, settings, tokenizer)
    save(folder, model, tokenizer, settings)
    facts = {"settings": asdict(settings), "pairs": len(pairs.texts)}
    return {**training.finish(job, WEIGHTS, losses, facts), "made": True}


def load_pairs(store: Store, settings: Settings) -> Pairs:
    """Real train tiles of the store that have a caption, shrunk to the model's size."""
    ids: list[str] = []
    texts: list[str] = []
    pixels: list[Pixels] = []
    caption = STREAM_PREFIX + settings.stream
    for _, table in store.scan(shards(store, ("real",)), ("id", "image", "split", caption)):
        names = table.column("id").to_pylist()
        images = image_bytes(table.column("image"))
        told = table.column(caption).to_pylist()
        for i, split in enumerate(table.column("split").to_pylist()):
            if split == SPLITS.index("train") and told[i] and told[i]["text"]:
                ids.append(names[i])
                texts.append(told[i]["text"])
                pixels.append(shrink(decode_png(images[i], names[i]), settings.size))
    if len(ids) < 2:
        raise ArasError(
            f"{len(ids)} real train tiles have a caption in stream {settings.stream!r}; at least "
            "2 are needed: change [split], or run `aras caption` again"
        )
    return Pairs(ids, np.stack(pixels), texts)


def _key(store: Store, settings: Settings) -> str:
    needs = ("id", "image", "split", STREAM_PREFIX + settings.stream)
    found = {shard: store.find(shard, needs) for shard in shards(store, ("real",))}
    data = digest_of({s: [d for _, d in where.values()] for s, where in found.items()})
    return training.key_of(NAME, VERSION, asdict(settings), data)
