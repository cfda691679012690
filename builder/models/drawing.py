"""Drawing tiles from a trained diffusion model: the same seed and layout, the same tile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from builder.core.errors import ArasError
from builder.models import training
from builder.models.codec import Codec
from builder.models.objective import one_hot
from builder.models.processes import Process
from builder.models.quilt import Quilt
from builder.models.settings import DRAWING, Drawing
from builder.models.texture import Textures

if TYPE_CHECKING:
    from builder.models.unet import LayoutUNet

Pixels = npt.NDArray[np.uint8]

TOLERANCE = (16, 1.0)
"""Most and mean difference, in levels of 255, between a tile drawn alone and in a batch on a GPU.
A bound that is tested where a GPU is, and not measured yet: bfloat16 has 8 bits, and every solver
step goes on from the rounding of the last step."""


@dataclass(frozen=True)
class Sampling:
    """How tiles are drawn from a trained generator.

    ``guidance`` is the scale of classifier-free guidance (Ho & Salimans 2022): 1 draws from the
    model as it is, more follows the layout harder at twice the time.
    """

    sampler: str = Drawing.sampler
    steps: int = DRAWING["cpu"].steps
    guidance: float = Drawing.guidance


@dataclass(frozen=True)
class Generator:
    """A denoising network and what it runs on; ``drop`` is the share of layouts that it was
    trained without, ``precision`` what it runs in (see `training.autocast`), ``process`` how it
    takes noise away. Where it has ``textures`` it begins with them, and else with noise alone."""

    unet: "LayoutUNet"
    codec: Codec
    process: Process
    drop: float = 0.0
    precision: str = "auto"
    textures: Textures | None = None

    @property
    def classes(self) -> int:
        """How many classes a layout may have; 0 for a generator without layouts."""
        return len(self.unet.config.classes)

    @property
    def takes_layout(self) -> bool:
        return self.classes > 0


Drawer = Generator | Textures | Quilt
"""Whatever draws tiles on layouts."""


@torch.no_grad()  # CUDA graphs of compiled networks work with it, not with inference_mode
def sample(generator: Drawer, layouts: Pixels, seeds: Sequence[int], how: Sampling) -> Pixels:
    """Draw one tile per layout: (n, H, W) ids and n seeds → (n, H, W, 3) uint8.

    Of the layouts of an unconditional generator only the size counts. The noise of a tile
    depends on its own seed only. On the CPU tiles are drawn singly on one thread, so the
    bytes are the same at any batch size and in any engine; on a GPU, where kernels differ by
    batch size, within `TOLERANCE`. Raises ArasError for layouts of a wrong size or with ids
    outside 0…6, and for guidance of a generator that never saw a tile without its layout.
    """
    if not isinstance(generator, Generator):
        return generator.draw(layouts, seeds)
    _check(generator, layouts, how)
    lower = "lower sampling_batch in [generator], or batch where it happens in training"
    with training.enough_memory("generate", lower):
        if training.device().type != "cpu":
            return np.asarray(draw(generator, layouts, seeds, how).cpu().numpy())
        with training.single_thread():
            parts = [
                draw(generator, layouts[i : i + 1], [seed], how).numpy()
                for i, seed in enumerate(seeds)
            ]
    return np.concatenate(parts)


def draw(generator: Generator, layouts: Pixels, seeds: Sequence[int], how: Sampling) -> Tensor:
    """A batch of tiles (n, H, W, 3) uint8, left on the device."""
    device, codec = training.device(), generator.codec
    shape = (codec.channels, *(side // codec.cell for side in layouts.shape[1:]))
    start = None
    streams: list[Any] = list(seeds)
    if generator.textures is not None:
        start = codec.encode(generator.textures.draw(layouts, seeds), layouts)
        streams = [(seed, 1) for seed in seeds]  # the texture has used up the seed's own numbers
    noise = [np.random.default_rng(s).standard_normal(shape, dtype=np.float32) for s in streams]
    layout = one_hot(layouts, device, generator.classes) if generator.takes_layout else None
    guided = layout is not None and how.guidance != 1
    if layout is not None and guided:
        layout = torch.cat([layout, torch.zeros_like(layout)])

    def predict(tiles: Tensor, level: Tensor) -> Tensor:
        with training.autocast(generator.precision):
            shown = torch.cat([tiles] * 2) if guided else tiles
            out: Tensor = generator.unet(shown, level, layout).float()
        if guided:
            given, null = out.chunk(2)
            out = null + how.guidance * (given - null)
        return out

    whole = torch.from_numpy(np.stack(noise)).to(device)
    drawn = generator.process.draw(predict, whole, start, how.sampler, how.steps)
    return codec.pixels(drawn, layouts)


def _check(generator: Generator, layouts: Pixels, how: Sampling) -> None:
    multiple = generator.unet.multiple
    if layouts.ndim != 3 or any(not side or side % multiple for side in layouts.shape[1:]):
        size = "×".join(map(str, layouts.shape[:0:-1]))
        raise ArasError(
            f"layouts of {size} pixels: width and height must be multiples of {multiple}"
        )
    if (highest := int(layouts.max(initial=0))) >= generator.classes > 0:
        raise ArasError(f"a layout holds id {highest}; ids are 0…{generator.classes - 1}")
    if how.guidance != 1 and not (generator.takes_layout and generator.drop):
        raise ArasError(
            f"[generator] guidance = {how.guidance}: this generator never saw a tile without its "
            "layout in training; set guidance = 1, or layout_dropout above 0 and train again"
        )


def speed_up(
    networks: Iterable[nn.Module],
    compiled: bool | str,
    channels_last: bool,
    *,
    graphs: bool = False,
) -> None:
    """Change how ``networks`` are computed, in place; their weights keep names and values.

    ``compiled`` is true for torch.compile's own backend, or the name of another. ``graphs`` is for
    networks that are called at few sizes, without gradients: on a GPU the own backend then records
    CUDA graphs, one per size.
    """
    for network in networks:
        if channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            backend = "inductor" if compiled is True else str(compiled)
            recorded = graphs and compiled is True and training.device().type == "cuda"
            network.compile(
                backend=backend,
                mode="reduce-overhead" if recorded else None,
                dynamic=False if graphs else None,
            )
