"""The generator: a diffusion UNet conditioned on the land-cover layout, after DDPM (Ho 2020)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.errors import ArasError
from builder.files import remove
from builder.landcover import CLASSES
from builder.models import data, training
from builder.seeds import generator, seed
from builder.store import Store

NAME = "generator"
WEIGHTS = "diffusion_pytorch_model.safetensors"
VERSION = 1
TRAINING_STEPS = 1000
"""Noise levels of the training schedule."""


@dataclass(frozen=True)
class Settings:
    """What a training depends on; the profiles are ready-made ones."""

    steps: int = 250
    batch: int = 16
    crop: int = 64
    learning_rate: float = 1e-3
    widths: tuple[int, ...] = (16, 32, 64, 64)
    layers: int = 1
    ema: float = 0.98
    seed: int = 0


PROFILES = {
    "cpu": Settings(),
    "gpu": Settings(
        steps=200_000,
        batch=64,
        crop=256,
        learning_rate=1e-4,
        widths=(128, 256, 384, 512),
        layers=2,
        ema=0.9999,
    ),
}


@dataclass(frozen=True)
class Sampling:
    """How tiles are drawn from a trained generator."""

    sampler: str = "dpm-solver"
    steps: int = 15


def build(settings: Settings, classes: int = len(CLASSES)) -> nn.Module:
    """A UNet over noisy RGB and the one-hot layout: (n, 3 + classes, H, W) → (n, 3, H, W).

    Convolutions only, but for one attention at the coarsest level, so that it runs at sizes
    other than the one it was trained at.
    """
    from diffusers import UNet2DModel

    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    model: nn.Module = UNet2DModel(
        in_channels=3 + classes,
        out_channels=3,
        block_out_channels=settings.widths,
        layers_per_block=settings.layers,
        down_block_types=("DownBlock2D",) * len(settings.widths),
        up_block_types=("UpBlock2D",) * len(settings.widths),
        norm_num_groups=min(16, settings.widths[0] // 2),
        attention_head_dim=min(32, settings.widths[-1]),
    )
    return model


def scheduler(sampler: str) -> Any:
    """A diffusers scheduler on our noise schedule: cosine, v-prediction (Salimans & Ho 2022)."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    common = {
        "num_train_timesteps": TRAINING_STEPS,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
    }
    if sampler == "ddim":
        return DDIMScheduler(**common, clip_sample=True)
    if sampler == "dpm-solver":
        return DPMSolverMultistepScheduler(**common)
    return DDPMScheduler(**common)


def one_hot(
    masks: npt.NDArray[np.uint8], device: torch.device, classes: int = len(CLASSES)
) -> Tensor:
    """(n, H, W) ids → (n, classes, H, W) float32."""
    ids = torch.from_numpy(masks.astype(np.int64)).to(device)
    return nn.functional.one_hot(ids, classes).permute(0, 3, 1, 2).float()


def _key(store: Store, settings: Settings) -> str:
    return training.key_of(NAME, VERSION, asdict(settings), data.digest(store, "train"))


def is_fresh(store: Store, folder: Path, settings: Settings) -> bool:
    """True when the model in ``folder`` was made from these settings and these tiles."""
    found = training.record(folder)
    return bool(found and found["key"] == _key(store, settings))


def train(store: Store, folder: Path, settings: Settings) -> dict[str, Any]:
    """Train on crops of real train tiles unless the model is there already; returns its record."""
    if is_fresh(store, folder, settings):
        return {**training.require(folder, NAME), "made": False}
    key = _key(store, settings)
    return {**train_tiles(folder, key, data.load(store, "train"), settings), "made": True}


def train_tiles(
    folder: Path,
    key: str,
    tiles: data.Tiles,
    settings: Settings,
    classes: Sequence[str] = CLASSES,
) -> dict[str, Any]:
    """Train on crops of ``tiles``, whose masks hold ids of ``classes``; returns the record.

    The saved weights are the exponential moving average.
    """
    from diffusers.training_utils import EMAModel

    halvings = 2 ** (len(settings.widths) - 1)
    if settings.crop % halvings:
        raise ArasError(f"[generator] crop = {settings.crop}: a multiple of {halvings} is wanted")
    device = training.device()
    model = build(settings, len(classes)).to(device)
    noise_schedule = scheduler("ddpm")
    ema = EMAModel(model.parameters(), decay=settings.ema, use_ema_warmup=True, power=0.75)
    job = training.Job(folder, key, settings.steps, settings.learning_rate)

    def loss_at(step: int) -> Tensor:
        rng = generator(settings.seed, NAME, step)
        images, masks = tiles.crops(rng, settings.batch, settings.crop)
        clean = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        clean = clean.to(device).float() / 127.5 - 1
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        times = torch.from_numpy(rng.integers(0, TRAINING_STEPS, len(clean))).to(device)
        noisy = noise_schedule.add_noise(clean, noise, times)
        target = noise_schedule.get_velocity(clean, noise, times)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = model(
                torch.cat([noisy, one_hot(masks, device, len(classes))], dim=1), times
            ).sample
        return nn.functional.mse_loss(out.float(), target)

    losses = training.fit(
        job,
        model,
        loss_at,
        after_step=lambda: ema.step(model.parameters()),
        extra=ema,
        label=f"train {NAME}",
    )
    ema.copy_to(model.parameters())
    remove(folder / "record.json")
    model.save_pretrained(folder)  # type: ignore[operator]
    facts = {"settings": asdict(settings), "data": tiles.digest, "classes": list(classes)}
    return training.finish(job, WEIGHTS, losses, facts)


def load(folder: Path, classes: Sequence[str] = CLASSES) -> nn.Module:
    """The trained generator. Raises ArasError when missing, damaged or of another class list."""
    from diffusers import UNet2DModel

    training.verify_weights(folder, WEIGHTS, NAME)
    found = training.require(folder, NAME)
    if found["classes"] != list(classes):
        raise ArasError(f"{folder}: was trained for classes {found['classes']}")
    model: nn.Module = UNet2DModel.from_pretrained(folder)
    return model.to(training.device()).eval()


@torch.inference_mode()
def sample(
    model: nn.Module, layouts: npt.NDArray[np.uint8], seeds: Sequence[int], how: Sampling
) -> npt.NDArray[np.uint8]:
    """Draw one tile per layout: (n, H, W) ids and n seeds → (n, H, W, 3) uint8.

    The noise of a tile depends on its own seed only. On the CPU tiles are drawn one at a time on
    one thread, so the bytes are the same at any batch size and in any engine; on a GPU kernels
    may differ by batch size within the tolerance that docs/results.md states.
    """
    device = training.device()
    if device.type == "cpu":
        with training.single_thread():
            drawn = [_draw(model, layouts[i : i + 1], [one], how) for i, one in enumerate(seeds)]
        return np.concatenate(drawn)
    return _draw(model, layouts, seeds, how)


def _draw(
    model: nn.Module, layouts: npt.NDArray[np.uint8], seeds: Sequence[int], how: Sampling
) -> npt.NDArray[np.uint8]:
    device = training.device()
    plan = scheduler(how.sampler)
    plan.set_timesteps(how.steps, device=device)
    shape = (3, *layouts.shape[1:])
    noise = [np.random.default_rng(one).standard_normal(shape, dtype=np.float32) for one in seeds]
    image = torch.from_numpy(np.stack(noise)).to(device)
    classes = model.config.in_channels - shape[0]  # type: ignore[union-attr, operator]
    layout = one_hot(layouts, device, classes)  # type: ignore[arg-type]
    for time in plan.timesteps:
        scaled = plan.scale_model_input(image, time)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = model(torch.cat([scaled, layout], dim=1), time).sample
        image = plan.step(out.float(), time, image).prev_sample
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
