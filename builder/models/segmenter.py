"""The segmenter: SegFormer trained on real train tiles, judged on real test tiles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.core.files import remove, write_json
from builder.core.manifest import SegmentationScores
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.models import data, training
from builder.models.checkpoint import History
from builder.models.freshness import is_fresh, training_key
from builder.models.record import FILE, Record, Trained, require, verify
from builder.models.settings import SegmenterSettings, as_json

NAME = "segmenter"
WEIGHTS = "model.safetensors"
SHARED = False
"""Processes that are launched together do not share its training: one trains, others wait."""


def build(settings: SegmenterSettings) -> nn.Module:
    """A SegFormer from its configuration: (n, 3, H, W) → logits (n, 7, H/4, W/4)."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = SegformerConfig(
        num_labels=len(CLASSES),
        hidden_sizes=list(settings.widths),
        depths=list(settings.depths),
        decoder_hidden_size=settings.decoder,
        num_attention_heads=[max(1, width // 32) for width in settings.widths],
        id2label=dict(enumerate(CLASSES)),
        label2id={name: i for i, name in enumerate(CLASSES)},
    )
    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    model: nn.Module = SegformerForSemanticSegmentation(config)
    return model


def normalise(images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """(n, H, W, 3) uint8 → (n, 3, H, W) float32, roughly zero mean and unit spread."""
    tensor = torch.tensor(images, device=device)
    return (tensor.permute(0, 3, 1, 2).float() / 255 - 0.4) / 0.2


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(n, 7, h, w) logits → (n, 7, H, W), bilinear."""
    return nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def train_tiles(
    folder: Path, key: str, tiles: data.Tiles, settings: SegmenterSettings
) -> tuple[nn.Module, History, training.Job]:
    """Train on crops of ``tiles``; the same seed gives the same initial weights on any tiles.

    Returns the model, what its training saw and the job.
    """
    device = training.device()
    model = build(settings).to(device)
    job = training.Job(folder, key, settings.steps, settings.learning_rate)

    def loss_at(step: int, part: int) -> Tensor:
        rng = generator(settings.seed, NAME, step)
        torch.manual_seed(seed(settings.seed, NAME, "dropout", step))
        return loss_of(model, *tiles.crops(rng, settings.batch, settings.crop))

    history = training.fit(job, model, loss_at, label=f"train {NAME}")
    return model, history, job


def loss_of(
    model: nn.Module, images: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]
) -> Tensor:
    """Cross-entropy of crops (n, H, W, 3) with masks (n, H, W), a scalar."""
    device = training.device()
    target = torch.from_numpy(masks.astype(np.int64)).to(device)
    with training.autocast():
        out = model(pixel_values=normalise(images, device)).logits
    full = upsample(out.float(), masks.shape[1:])
    return nn.functional.cross_entropy(full, target)


def train(store: Store, folder: Path, settings: SegmenterSettings) -> Trained:
    """Train unless the model is there already; returns its record with the test report."""
    if is_fresh(store, folder, settings):
        return Trained(require(folder, NAME), fresh=False)
    key = training_key(store, folder, settings)
    tiles, held_out = data.load(store, "train"), data.load(store, "test")
    model, history, job = train_tiles(folder, key, tiles, settings)
    remove(folder / FILE)
    model.save_pretrained(folder)  # type: ignore[operator]
    report = evaluate(model, held_out)
    write_json(folder / "test.json", report.as_json())
    about = Record(settings=as_json(settings), data=tiles.digest, test=report)
    return Trained(training.finish(job, WEIGHTS, history, about), fresh=True)


def load(folder: Path) -> nn.Module:
    """The trained segmenter, ready to predict. Raises ArasError when missing, damaged or of
    another class list."""
    from transformers import SegformerForSemanticSegmentation
    from transformers.utils import logging

    logging.disable_progress_bar()
    verify(folder, WEIGHTS, NAME)
    model: nn.Module = SegformerForSemanticSegmentation.from_pretrained(folder)
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]  # type: ignore
    if tuple(names) != CLASSES:
        raise ArasError(f"{folder}: was trained for classes {names}, not {list(CLASSES)}")
    return model.to(training.device()).eval()


@torch.inference_mode()
def look(
    model: nn.Module, images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """(n, H, W, 3) uint8 → class ids (n, H, W) uint8 and features (n, d) float32.

    Features are the mean of the encoder's last hidden state. On the CPU a tile at a time on one
    thread: the same answer at any batch size, in any engine.
    """
    device = training.device()
    if device.type != "cpu":
        return _look(model, images, device)
    with training.single_thread():
        parts = [_look(model, images[i : i + 1], device) for i in range(len(images))]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([f for _, f in parts])


def _look(
    model: nn.Module, images: npt.NDArray[np.uint8], device: torch.device
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    out = model(pixel_values=normalise(images, device), output_hidden_states=True)
    ids = upsample(out.logits, images.shape[1:3]).argmax(1).to(torch.uint8)
    features = out.hidden_states[-1].mean(dim=(2, 3)).float()
    return np.asarray(ids.cpu().numpy()), np.asarray(features.cpu().numpy())


def evaluate(model: nn.Module, tiles: data.Tiles) -> SegmentationScores:
    """Scores over all pixels of ``tiles`` pooled together."""
    model.eval()
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    for start in range(0, len(tiles), 16):
        block = tiles.pixels[start : start + 16]
        predicted, _ = look(model, block[..., :3])
        pairs = block[..., 3].astype(np.int64) * len(CLASSES) + predicted
        confusion += np.bincount(pairs.ravel(), minlength=confusion.size).reshape(confusion.shape)
    return scores(confusion, len(tiles))


def scores(confusion: npt.NDArray[np.int64], tiles: int = 0) -> SegmentationScores:
    """The scores of a confusion matrix (rows: truth, columns: prediction) over ``tiles``."""
    hit = np.diag(confusion).astype(float)
    truth, predicted = confusion.sum(1).astype(float), confusion.sum(0).astype(float)
    union = truth + predicted - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, f1 = hit / union, 2 * hit / (truth + predicted)
    there = truth > 0

    def named(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
        return {
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(CLASSES, values, strict=True)
        }

    return SegmentationScores(
        tiles=tiles,
        accuracy=round(float(hit.sum() / max(1.0, truth.sum())), 4),
        macro_f1=round(float(f1[there].mean()), 4) if there.any() else None,
        mean_iou=round(float(iou[there].mean()), 4) if there.any() else None,
        f1=named(f1),
        iou=named(iou),
        confusion=tuple(map(tuple, confusion.tolist())),
    )
