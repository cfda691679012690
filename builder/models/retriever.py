"""The retriever: a dual encoder trained on real train tiles and one caption stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn

from builder.errors import ArasError
from builder.files import digest_of, remove
from builder.models import training
from builder.models.clip import Dual, start, told
from builder.models.compact_clip import NAME, PROFILES, Pixels, Settings, shrink
from builder.models.history import History
from builder.pictures import decode_png, image_bytes
from builder.schema import SPLITS, STREAM_PREFIX
from builder.seeds import generator, seed
from builder.stage import shards
from builder.store import Store

__all__ = ["NAME", "PROFILES", "Settings"]

WEIGHTS = "model.safetensors"
VERSION = 2


@dataclass(frozen=True)
class Pairs:
    """Tiles and their captions: ids, pixels (n, size, size, 3) uint8, texts; one row a pair."""

    ids: Sequence[str]
    pixels: Pixels
    texts: Sequence[str]


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
    dual: Dual,
    pool: npt.NDArray[np.int64] | None = None,
) -> tuple[list[float], training.Job]:
    """Train ``dual`` in place on ``pairs``; returns the loss of every step and the job.

    Batches are drawn from the rows ``pool`` (all rows once unless given); a row that stands in it
    twice is drawn twice as often. On a GPU products are made in bfloat16, the loss in float32.
    """
    rows = np.arange(len(pairs.texts)) if pool is None else pool
    if len(rows) < 2:
        raise ArasError(f"{NAME}: {len(rows)} pairs to train on; at least 2 are needed")
    device = training.device()
    asked = dual.ids(pairs.texts)
    columns = (np.unique(np.array(one), return_inverse=True)[1] for one in (pairs.texts, pairs.ids))
    group = torch.from_numpy(np.stack(list(columns), axis=1))
    job = training.Job(folder, key, settings.steps, settings.learning_rate)

    def loss_at(step: int, part: int) -> Tensor:
        rng = generator(settings.seed, NAME, step)
        drawn = rows[rng.choice(len(rows), settings.batch, replace=len(rows) < settings.batch)]

        def encode(part: slice) -> tuple[Tensor, Tensor]:
            some = drawn[part]
            torch.manual_seed(seed(settings.seed, NAME, "dropout", step, part.start))
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                images = dual.image_vectors(dual.pixels(pairs.pixels[some]))
                texts = dual.text_vectors({n: one[some].to(device) for n, one in asked.items()})
            return images, texts

        def loss_of(images: Tensor, texts: Tensor) -> Tensor:
            return contrastive(images, texts, dual.scale, group[drawn].to(device))

        return in_chunks(encode, loss_of, len(drawn), settings.chunk or len(drawn))

    return training.fit(job, dual.model, loss_at, label=f"train {NAME}").losses, job


def in_chunks(
    encode: Callable[[slice], tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    chunk: int,
) -> Tensor:
    """The loss of a batch of ``rows`` pairs, encoded ``chunk`` at a time with equal gradients.

    Gradient caching (Gao et al. 2021): all vectors are made without a graph, the loss gives the
    gradient of each vector, and each chunk is encoded again to carry its part to the weights.
    What does not pass through the vectors (the temperature) gets its gradient when the caller
    calls backward on the result. ``encode`` must give the same vectors both times.
    """
    parts = [slice(i, min(i + chunk, rows)) for i in range(0, rows, chunk)]
    if len(parts) == 1:
        return loss_of(*encode(parts[0]))
    with torch.no_grad():
        made = [torch.cat(one) for one in zip(*map(encode, parts), strict=True)]
    leaves = [one.requires_grad_() for one in made]
    loss = loss_of(*leaves)
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
    for part in parts:
        torch.autograd.backward(encode(part), [one[part] for one in gradients])
    return loss


@torch.inference_mode()
def embed(
    dual: Dual, pixels: Pixels, texts: Sequence[str], batch: int = 64
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Unit vectors of pixels (N, size, size, 3) and of texts (M): (N, d) and (M, d) float32."""
    dual.model.eval()
    device = training.device()
    asked = dual.ids(texts)
    made: list[list[npt.NDArray[np.float32]]] = [[], []]
    for i in range(0, len(pixels), batch):
        made[0].append(dual.image_vectors(dual.pixels(pixels[i : i + batch])).cpu().numpy())
    for i in range(0, len(texts), batch):
        part = {name: one[i : i + batch].to(device) for name, one in asked.items()}
        made[1].append(dual.text_vectors(part).cpu().numpy())
    return np.concatenate(made[0]), np.concatenate(made[1])


def is_fresh(store: Store, folder: Path, settings: Settings) -> bool:
    """True when the model in ``folder`` was made from these settings, tiles and captions."""
    found = training.record(folder)
    return bool(found and found["key"] == _key(store, settings))


def train(store: Store, folder: Path, settings: Settings) -> dict[str, Any]:
    """Train on the real train tiles unless the model is there already; returns its record."""
    if is_fresh(store, folder, settings):
        return {**training.require(folder, NAME), "made": False}
    key = _key(store, settings)
    texts = load_texts(store, settings.stream)
    dual = start(settings, list(texts.values()))
    pairs = load_pairs(store, texts, dual.size)
    losses, job = train_pairs(folder, key, pairs, settings, dual)
    remove(folder / "record.json")
    dual.save(folder)
    facts = {"settings": told(settings), "pairs": len(pairs.texts)}
    return {**training.finish(job, WEIGHTS, History(losses), facts), "made": True}


def load_texts(store: Store, stream: str) -> dict[str, str]:
    """Caption of every real train tile that has one, by id."""
    caption = STREAM_PREFIX + stream
    found: dict[str, str] = {}
    for _, table in store.scan(shards(store, ("real",)), ("id", "split", caption)):
        columns = (table.column(n).to_pylist() for n in ("id", "split", caption))
        for one, split, entry in zip(*columns, strict=True):
            if split == SPLITS.index("train") and entry and entry["text"]:
                found[one] = entry["text"]
    if len(found) < 2:
        raise ArasError(
            f"{len(found)} real train tiles have a caption in stream {stream!r}; at least "
            "2 are needed: change [split], or run `aras caption` again"
        )
    return found


def load_pairs(store: Store, texts: dict[str, str], size: int) -> Pairs:
    """The tiles of ``texts`` (id → caption), shrunk to the model's size."""
    ids: list[str] = []
    pixels: list[Pixels] = []
    for _, table in store.scan(shards(store, ("real",)), ("id", "image")):
        part = table.filter(pa.array([one in texts for one in table["id"].to_pylist()], pa.bool_()))
        names = part.column("id").to_pylist()
        ids += names
        pixels += [
            shrink(decode_png(image, name), size)
            for name, image in zip(names, image_bytes(part.column("image")), strict=True)
        ]
    return Pairs(ids, np.stack(pixels), [texts[one] for one in ids])


def _key(store: Store, settings: Settings) -> str:
    needs = ("id", "image", "split", STREAM_PREFIX + settings.stream)
    found = {shard: store.find(shard, needs) for shard in shards(store, ("real",))}
    data = digest_of({s: [d for _, d in where.values()] for s, where in found.items()})
    return training.key_of(NAME, VERSION, told(settings), data)
