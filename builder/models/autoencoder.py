"""The autoencoder of the latent generator: diffusers' AutoencoderKL on crops of train tiles.

Trained on the mean absolute error of the reconstruction and a small Kullback-Leibler term
(Rombach et al. 2022), without their perceptual and adversarial losses: those need networks
trained on other pictures. Expect fine texture to come out smoother for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.core.files import remove
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.models import data, training
from builder.models.codec import PixelCodec, load_autoencoder
from builder.models.freshness import is_fresh, training_key
from builder.models.record import FILE, Record, Trained, require, verify
from builder.models.settings import AutoencoderSettings, as_json
from builder.models.team import Team

NAME = "autoencoder"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARED = True
"""Processes that are launched together train an autoencoder together."""
LOWER = "raise accumulate in [autoencoder], or lower batch or crop there"


def build(settings: AutoencoderSettings) -> nn.Module:
    """An AutoencoderKL: (n, 3, H, W) → latents (n, channels, H/cell, W/cell), weights from the
    seed; cell is 2 to the power of the number of widths less 1."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    model: nn.Module = AutoencoderKL(
        block_out_channels=settings.widths,
        down_block_types=("DownEncoderBlock2D",) * len(settings.widths),
        up_block_types=("UpDecoderBlock2D",) * len(settings.widths),
        layers_per_block=settings.layers,
        latent_channels=settings.channels,
        norm_num_groups=min(32, settings.widths[0] // 2),
    )
    return model


class Loss(nn.Module):
    """Mean absolute error of the reconstruction and ``kl`` × divergence per latent value."""

    def __init__(self, model: nn.Module, kl: float) -> None:
        super().__init__()
        self.model, self.kl = model, kl

    def forward(self, clean: Tensor, noise: Tensor) -> Tensor:
        posterior = self.model.encode(clean).latent_dist  # type: ignore[operator]
        latents = posterior.mean + posterior.std * noise
        wrong: Tensor = (self.model.decode(latents).sample.float() - clean).abs().mean()  # type: ignore[operator]
        divergence = posterior.mean.square() + posterior.var - 1 - posterior.logvar
        loss: Tensor = wrong + self.kl * 0.5 * divergence.float().mean()
        return loss


def train(store: Store, folder: Path, settings: AutoencoderSettings) -> Trained:
    """Train unless the model is there already; returns its record."""
    team, device = Team.join(), training.device()
    if team.agree(is_fresh(store, folder, settings)):
        return Trained(require(folder, NAME), fresh=False)
    training.refuse_slow(NAME, settings.precision, compiled=False)
    parts = team.world * settings.accumulate
    cell = 2 ** (len(settings.widths) - 1)
    if settings.batch % parts or settings.crop % cell:
        raise ArasError(
            f"[autoencoder] batch = {settings.batch} and crop = {settings.crop} must be multiples "
            f"of {parts} and {cell}"
        )
    with team.leader_first():
        tiles, held_out = data.load(store, "train"), data.load(store, "validation")
    model = build(settings).to(device)
    shared = team.share(Loss(model, settings.kl))
    rng = generator(settings.seed, NAME, "validation")
    judged, _ = held_out.crops(rng, settings.evaluation_tiles, settings.crop)

    def loss_at(step: int, part: int) -> Tensor:
        rng = generator(settings.seed, NAME, step)
        images, _ = tiles.crops(rng, settings.batch, settings.crop)
        source = torch.Generator(device).manual_seed(seed(settings.seed, NAME, "noise", step))
        side = settings.crop // cell
        shape = (settings.batch, settings.channels, side, side)
        noise = torch.randn(shape, generator=source, device=device)
        size = settings.batch // parts
        span = slice(part * size, (part + 1) * size)
        with training.autocast(settings.precision):
            loss: Tensor = shared(PixelCodec().encode(images[span]), noise[span])
        return loss

    def judge(step: int) -> dict[str, float]:
        return {"loss": _reconstruction_error(model, judged)}

    job = training.Job(
        folder,
        training_key(store, folder, settings),
        settings.steps,
        settings.learning_rate,
        accumulate=settings.accumulate,
        fused=settings.fused,
        evaluate_every=settings.evaluate_every,
        patience=settings.patience,
    )
    history = training.fit(
        job, shared, loss_at, judge=judge, team=team, label=f"train {NAME}", lower=LOWER
    )
    if team.leads:
        error = _reconstruction_error(model, judged)
        _measure_latents(model, tiles, settings)
        remove(folder / FILE)
        model.save_pretrained(folder)  # type: ignore[operator]
        about = Record(
            settings=as_json(settings),
            data=tiles.digest,
            reconstruction_error=round(error * 127.5, 3),
            scaling_factor=model.config.scaling_factor,  # type: ignore[arg-type, union-attr]
        )
        training.finish(job, WEIGHTS, history, about)
    team.wait()
    return Trained(require(folder, NAME), fresh=True)


def load(folder: Path) -> Any:
    """The trained autoencoder, frozen. Raises ArasError when it is missing or damaged."""
    verify(folder, WEIGHTS, NAME)
    return load_autoencoder(folder)


@torch.inference_mode()
def _reconstruction_error(model: Any, images: Any) -> float:
    """Mean absolute error over crops, in units in which black to white is 2."""
    model.eval()
    total = 0.0
    for start in range(0, len(images), 8):
        clean = PixelCodec().encode(images[start : start + 8])
        again = model.decode(model.encode(clean).latent_dist.mode()).sample
        total += float((again - clean).abs().mean()) * len(clean)
    return total / len(images)


@torch.inference_mode()
def _measure_latents(model: Any, tiles: data.Tiles, settings: AutoencoderSettings) -> None:
    """Write shift and scale into the configuration that give latents zero mean, unit variance."""
    model.eval()
    images, _ = tiles.crops(generator(settings.seed, NAME, "latents"), 64, settings.crop)
    parts = [
        model.encode(PixelCodec().encode(images[i : i + 8])).latent_dist.mode().cpu().numpy()
        for i in range(0, len(images), 8)
    ]
    latents = np.concatenate(parts).astype(np.float64)
    model.register_to_config(
        scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean())
    )
