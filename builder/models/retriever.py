"""The retriever: a dual encoder trained on real train tiles and a caption stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.core.files import remove
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.columns import SPLITS, STREAM_PREFIX
from builder.land.pictures import decode_png, image_bytes
from builder.models import training
from builder.models.checkpoint import History
from builder.models.clip import NAME, Dual, Pixels, shrink, start
from builder.models.freshness import is_fresh, retriever_identity, training_key
from builder.models.record import FILE, Record, Trained, require
from builder.models.settings import RetrieverSettings
from builder.models.team import ALONE, Team
from builder.steps.stage import shards

__all__ = ["NAME", "SHARED", "train"]

WEIGHTS = "model.safetensors"
SHARED = True
"""Processes that are launched together train a retriever together."""


@dataclass(frozen=True)
class Pairs:
    """Tiles and their captions: ids, pixels (n, size, size, 3) uint8, texts; a row a pair."""

    ids: Sequence[str]
    pixels: Pixels
    texts: Sequence[str]


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit vectors (B, d) in which duplicates are not negatives.

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
    settings: RetrieverSettings,
    dual: Dual,
    pool: npt.NDArray[np.int64] | None = None,
    team: Team = ALONE,
) -> tuple[list[float], training.Job]:
    """Train ``dual`` in place on ``pairs``; returns the loss of every step and the job.

    Batches are drawn from the rows ``pool`` (all rows once unless given); a row that it holds
    twice is drawn twice as often. On a GPU products are computed in bfloat16, the loss in float32.
    The members of a ``team`` encode equal parts of each batch and see the vectors of all, so that
    gradients are those of one process. Raises ArasError for a batch that they cannot share.
    """
    rows = np.arange(len(pairs.texts)) if pool is None else pool
    if len(rows) < 2:
        raise ArasError(f"{NAME}: {len(rows)} pairs to train on; at least 2 are needed")
    if settings.batch % team.world or (team.world > 1 and settings.chunk):
        raise ArasError(
            f"[retriever] batch = {settings.batch}, chunk = {settings.chunk}: {team.world} "
            f"processes need a batch that is a multiple of {team.world}, and chunk = 0"
        )
    device = training.device()
    towers: Any = dual.model if team.world == 1 else team.share(_Towers(dual))
    asked = dual.ids(pairs.texts)
    labels = [np.unique(marks, return_inverse=True)[1] for marks in (pairs.texts, pairs.ids)]
    group = torch.from_numpy(np.stack(labels, axis=1))
    job = training.Job(folder, key, settings.steps, settings.learning_rate)

    def loss_at(step: int, part: int) -> Tensor:
        rng = generator(settings.seed, NAME, step)
        drawn = rows[rng.choice(len(rows), settings.batch, replace=len(rows) < settings.batch)]

        def ready(index: npt.NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
            ids = {n: values[index].to(device) for n, values in asked.items()}
            return dual.pixels(pairs.pixels[index]), ids

        def encode(rows: slice) -> tuple[Tensor, Tensor]:
            torch.manual_seed(seed(settings.seed, NAME, "dropout", step, rows.start))
            with training.autocast():
                pixels, ids = ready(drawn[rows])
                return dual.image_vectors(pixels), dual.text_vectors(ids)

        def loss_of(images: Tensor, texts: Tensor, scale: Tensor | None = None) -> Tensor:
            scale = dual.scale if scale is None else scale
            return contrastive(images, texts, scale, group[drawn].to(device))

        if team.world == 1:
            return in_chunks(encode, loss_of, len(drawn), settings.chunk or len(drawn))
        size = len(drawn) // team.world
        torch.manual_seed(seed(settings.seed, NAME, "dropout", step, part * size))
        with training.autocast():
            images, texts, scale = towers(*ready(drawn[part * size : (part + 1) * size]))
        return loss_of(team.all_rows(images), team.all_rows(texts), scale)

    return training.fit(job, towers, loss_at, team=team, label=f"train {NAME}").losses, job


class _Towers(nn.Module):
    """Both encoders and the temperature in one call, as gradients of a team are joined by call.

    Its state is that of the model inside, so that checkpoints fit any number of processes.
    """

    def __init__(self, dual: Dual) -> None:
        super().__init__()
        self.dual, self.model = dual, dual.model
        if hasattr(self.model, "logit_bias"):  # SigLIP's, which this loss does not use
            self.model.logit_bias.requires_grad_(False)

    def forward(self, pixels: Tensor, ids: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return self.dual.image_vectors(pixels), self.dual.text_vectors(ids), self.dual.scale

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        return self.model.state_dict(*arguments, **options)

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        return self.model.load_state_dict(*arguments, **options)


def in_chunks(
    encode: Callable[[slice], tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    chunk: int,
) -> Tensor:
    """The loss of a batch of ``rows`` pairs, encoded ``chunk`` at a time with equal gradients.

    Gradient caching (Gao et al. 2021): all vectors are computed without a graph, the loss gives the
    gradient of each vector, and each chunk is encoded again to carry its part to the weights.
    What does not pass through the vectors (the temperature) gets its gradient when the caller
    calls backward on the result. ``encode`` must give the same vectors both times.
    """
    parts = [slice(i, min(i + chunk, rows)) for i in range(0, rows, chunk)]
    if len(parts) == 1:
        return loss_of(*encode(parts[0]))
    with torch.no_grad():
        vectors = [torch.cat(side) for side in zip(*map(encode, parts), strict=True)]
    leaves = [side.requires_grad_() for side in vectors]
    loss = loss_of(*leaves)
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
    for part in parts:
        torch.autograd.backward(encode(part), [gradient[part] for gradient in gradients])
    return loss


@torch.inference_mode()
def embed(
    dual: Dual, pixels: Pixels, texts: Sequence[str], batch: int = 64
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Unit vectors of pixels (N, size, size, 3) and of texts (M): (N, d) and (M, d) float32."""
    dual.model.eval()
    device = training.device()
    asked = dual.ids(texts)
    vectors: list[list[npt.NDArray[np.float32]]] = [[], []]
    for i in range(0, len(pixels), batch):
        vectors[0].append(dual.image_vectors(dual.pixels(pixels[i : i + batch])).cpu().numpy())
    for i in range(0, len(texts), batch):
        part = {name: values[i : i + batch].to(device) for name, values in asked.items()}
        vectors[1].append(dual.text_vectors(part).cpu().numpy())
    return np.concatenate(vectors[0]), np.concatenate(vectors[1])


def train(store: Store, folder: Path, settings: RetrieverSettings) -> Trained:
    """Train on the real train tiles unless the model is there already; returns its record."""
    team = Team.join()
    if team.agree(is_fresh(store, folder, settings)):
        return Trained(require(folder, NAME), fresh=False)
    key = training_key(store, folder, settings)
    with team.leader_first():
        texts = load_texts(store, settings.stream)
        dual = start(settings, list(texts.values()))
    pairs = load_pairs(store, texts, dual.size)
    losses, job = train_pairs(folder, key, pairs, settings, dual, team=team)
    if team.leads:
        remove(folder / FILE)
        dual.save(folder)
        about = Record(
            settings=retriever_identity(settings), pairs=len(pairs.texts), processes=team.world
        )
        training.finish(job, WEIGHTS, History(losses), about)
    team.wait()
    return Trained(require(folder, NAME), fresh=True)


def load_texts(store: Store, stream: str) -> dict[str, str]:
    """The captions of real train tiles, by id. Raises ArasError for too few."""
    caption = STREAM_PREFIX + stream
    captions: dict[str, str] = {}
    for _, table in store.scan(shards(store, ("real",)), ("id", "split", caption), sound=True):
        columns = (table.column(n).to_pylist() for n in ("id", "split", caption))
        for row, split, entry in zip(*columns, strict=True):
            if split == SPLITS.index("train") and entry and entry["text"]:
                captions[row] = entry["text"]
    if len(captions) < 2:
        raise ArasError(
            f"{len(captions)} real train tiles have a caption in stream {stream!r}; at least "
            "2 are needed: change [split], or run `aras caption` again"
        )
    return captions


def load_pairs(store: Store, texts: dict[str, str], size: int) -> Pairs:
    """The tiles of ``texts`` (id → caption), shrunk to the model's size."""
    ids: list[str] = []
    pixels: list[Pixels] = []
    for _, table in store.scan(shards(store, ("real",)), ("id", "image")):
        part = table.filter(pa.array([row in texts for row in table["id"].to_pylist()], pa.bool_()))
        names = part.column("id").to_pylist()
        ids += names
        pixels += [
            shrink(decode_png(image, name), size)
            for name, image in zip(names, image_bytes(part.column("image")), strict=True)
        ]
    return Pairs(ids, np.stack(pixels), [texts[row] for row in ids])
