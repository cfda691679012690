"""One training step and one drawing of a model at full size, on torch's meta device.

No tensor has values there, so a laptop runs what a GPU will run. A tensor that stays on the CPU by
mistake is refused; values that are read back on the way, for each of which a GPU would wait, are
counted, as are operations and the bytes of all tensors. What torch computes in bfloat16 on a GPU is
bfloat16 here (`Precision`).
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from builder.models import autoencoder, clip, drawing, generator, retriever, segmenter, training
from builder.models.checkpoint import Average
from builder.models.codec import Codec, LatentCodec, PixelCodec
from builder.models.objective import Batch, Objective
from builder.models.settings import (
    AutoencoderSettings,
    GeneratorSettings,
    ModelSettings,
    RetrieverSettings,
    SegmenterSettings,
)
from builder.models.team import ALONE

META = torch.device("meta")


@dataclass(frozen=True)
class Rehearsal:
    """Of a step, or of drawing a batch: operations of matrix products and convolutions, weights,
    bytes of what stays (weights, gradients, moments, averages) and of what a step keeps for its
    gradients."""

    flops: float
    parameters: int
    state_bytes: int
    activation_bytes: int = 0
    read_back: int = 0
    """Values that the CPU waits for; those that `training.fit` reads after each step (loss and
    norm) not counted."""


class Precision(TorchFunctionMode):
    """torch.autocast's rules for bfloat16, on a device for which torch has none."""

    F = nn.functional
    PRODUCTS = (torch.matmul, torch.bmm, torch.baddbmm, Tensor.matmul, Tensor.__matmul__)
    LOW = frozenset((F.conv2d, F.linear, F.scaled_dot_product_attention, *PRODUCTS))
    FULL = frozenset((F.group_norm, F.layer_norm, F.softmax, F.cross_entropy, torch.softmax))

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        dtypes = {torch.bfloat16: torch.float32}
        if function in self.LOW:
            dtypes = {torch.float32: torch.bfloat16}
        if function in self.LOW | self.FULL:

            def cast(value: Any) -> Any:
                fits = isinstance(value, Tensor) and value.dtype in dtypes
                return value.to(dtypes[value.dtype]) if fits else value

            args = tuple(map(cast, args))
            kwargs = {name: cast(value) for name, value in (kwargs or {}).items()}
        return function(*args, **(kwargs or {}))


class OnDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises for an operation on the device that takes a tensor of the CPU, but for a scalar and
    for copying it there. A value that is read back is counted, and is true or 1."""

    COPIES = ("aten::_to_copy", "aten::copy_")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read_back = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        flat = torch.utils._pytree.tree_leaves((args, kwargs))
        tensors = [value for value in flat if isinstance(value, Tensor)]
        if function is torch.ops.aten._local_scalar_dense.default and tensors[0].is_meta:
            self.read_back += 1
            return tensors[0].dtype == torch.bool or 1
        devices = {value.device.type for value in tensors if value.dim()}
        if len(devices) > 1 and function.name().split(".")[0] not in self.COPIES:
            raise RuntimeError(f"{function.name()}: tensors of {sorted(devices)} meet")
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def on_meta() -> Iterator[OnDevice]:
    """Models and tensors are made on the meta device inside, and computed in bfloat16."""
    device, autocast = training.device, training.autocast
    training.device = lambda: META

    def low(precision: str = "auto") -> Any:
        return contextlib.nullcontext() if precision == "float32" else Precision()

    training.autocast = low  # type: ignore[assignment]
    try:
        with OnDevice() as watch:
            yield watch
    finally:
        training.device, training.autocast = device, autocast


def training_step(settings: ModelSettings, coder: AutoencoderSettings | None = None) -> Rehearsal:
    """A step of the training by ``settings``, on latents of an autoencoder by ``coder``."""
    with on_meta() as watch:
        model, loss_at, average = _job(settings, coder)
        parts = getattr(settings, "accumulate", 1)
        fused = bool(getattr(settings, "fused", False))
        job = training.Job(Path(), "", 1, settings.learning_rate, accumulate=parts, fused=fused)
        optimizer = training.optimizer_of(job, model)
        kept = _Kept(model)
        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
                training.gradients(job, model, optimizer, loss_at, ALONE, 0)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if average is not None:
                average.update_parameters(model)
        states = [v for s in optimizer.state.values() for v in s.values() if v.dim()]
        held = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
        held += [*states, *(average.module.parameters() if average else ())]
        total = float(counter.get_total_flops())
    size = sum(map(_bytes, held))
    return Rehearsal(total, _count(model), size, kept.bytes // parts, watch.read_back)


def drawing_batch(
    settings: GeneratorSettings,
    coder: AutoencoderSettings | None,
    how: drawing.Sampling,
    tiles: int,
    side: int,
) -> Rehearsal:
    """Drawing ``tiles`` of ``side`` pixels at once, up to their pixels on the device."""
    with on_meta() as watch, torch.no_grad():
        codec = _codec(settings, coder)
        unet = generator.build(settings, codec).to(META).eval()
        networks = (unet, *codec.networks)
        drawing.speed_up(networks, False, settings.channels_last)
        process = generator.process_of(unet)
        artist = drawing.Generator(unet, codec, process, settings.layout_dropout, "auto")
        layouts = np.zeros((tiles, side, side), np.uint8)
        with FlopCounterMode(display=False) as counter:
            drawing.draw(artist, layouts, range(tiles), how)
        held = [p for network in networks for p in network.parameters()]
        size, total = sum(map(_bytes, held)), float(counter.get_total_flops())
    return Rehearsal(total, _count(unet), size, read_back=watch.read_back)


Loss = Callable[[int, int], Tensor]


def _job(
    settings: ModelSettings, coder: AutoencoderSettings | None
) -> tuple[nn.Module, Loss, Average | None]:
    """The network of a training, its loss of a step and part, and its average."""
    if isinstance(settings, GeneratorSettings):
        return _generator(settings, coder)
    if isinstance(settings, RetrieverSettings):
        return *_retriever(settings), None
    images = np.zeros((settings.batch, settings.crop, settings.crop, 3), np.uint8)
    if isinstance(settings, SegmenterSettings):
        model = segmenter.build(settings).to(META).train()
        return model, lambda step, part: segmenter.loss_of(model, images, images[..., 0]), None
    model = autoencoder.build(settings).to(META).train()
    loss = autoencoder.Loss(model, settings.kl)
    size = settings.batch // settings.accumulate
    side = settings.crop // 2 ** (len(settings.widths) - 1)
    noise = torch.empty((size, settings.channels, side, side), device=META)

    def loss_at(step: int, part: int) -> Tensor:
        with training.autocast(settings.precision):
            answer: Tensor = loss(PixelCodec().encode(images[:size]), noise)
        return answer

    return model, loss_at, None


def _as_before() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What is around a checkpointed part when it is computed, and when it is computed again."""
    return contextlib.nullcontext(), training.autocast()


def _generator(
    settings: GeneratorSettings, coder: AutoencoderSettings | None
) -> tuple[nn.Module, Loss, Average]:
    codec = _codec(settings, coder)
    model = generator.build(settings, codec).to(META).train()
    drawing.speed_up((model, *codec.networks), False, settings.channels_last)
    if settings.checkpointing:  # torch restores autocast when it computes again, and not Precision
        again = partial(checkpoint, use_reentrant=False, context_fn=_as_before)
        model.enable_gradient_checkpointing(again)
    process = generator.process_of(model, settings.min_snr)
    objective = Objective(codec.encode, process, settings.precision, len(model.config.classes))
    side, size = settings.crop // codec.cell, settings.batch
    images = np.zeros((size, settings.crop, settings.crop, 3), np.uint8)
    noise = torch.empty((size, codec.channels, side, side), device=META)
    levels = torch.empty(size, dtype=torch.long, device=META)
    dropped = torch.empty(size, dtype=torch.bool, device=META)
    batch = Batch(images, images[..., 0], noise, levels, dropped)

    def loss_at(step: int, part: int) -> Tensor:
        return objective(model, batch.part(part, settings.accumulate))

    return model, loss_at, Average(model, settings.ema)


def _codec(settings: GeneratorSettings, coder: AutoencoderSettings | None) -> Codec:
    if settings.kind != "latent" or coder is None:
        return PixelCodec()
    frozen: Any = autoencoder.build(coder)
    return LatentCodec(frozen.to(META).eval().requires_grad_(False), settings.precision)


def _retriever(settings: RetrieverSettings) -> tuple[nn.Module, Loss]:
    model = clip.build(settings, settings.vocabulary).to(META).train()
    processor = SimpleNamespace(image_mean=[0.4] * 3, image_std=[0.2] * 3)
    dual = clip.Dual(model, None, processor, settings.size, settings.tokens)
    images = np.zeros((settings.batch, settings.size, settings.size, 3), np.uint8)
    ids = {
        name: torch.empty((settings.batch, settings.tokens), dtype=torch.long, device=META)
        for name in ("input_ids", "attention_mask")
    }
    groups = torch.empty((settings.batch, 2), dtype=torch.long, device=META)

    def loss_at(step: int, part: int) -> Tensor:
        with training.autocast():
            vectors = dual.image_vectors(dual.pixels(images)), dual.text_vectors(ids)
        return retriever.contrastive(*vectors, dual.scale, groups)

    return model, loss_at


class _Kept:
    """Counts the bytes of tensors that are kept for gradients, once each, weights aside."""

    def __init__(self, model: nn.Module) -> None:
        self.seen = {weight.untyped_storage()._cdata for weight in model.parameters()}
        self.bytes = 0
        self.held: list[Any] = []  # so that no storage is freed and its id used again

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.held.append(storage)
            self.bytes += storage.nbytes()
        return tensor


def _count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
