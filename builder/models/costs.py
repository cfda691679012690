"""What drawing by the GPU profile takes, by counted operations; read without torch.

`scripts/rehearse_gpu.py` counts them on torch's meta device, and a test holds the figures here.
"""

from dataclasses import dataclass

from builder.models.settings import GENERATOR, GeneratorSettings

SIDE = 256
"""Pixels per side of the tiles that were counted."""
NETWORK, DECODER = 0.01511, 0.1562
"""TFLOP of a tile once through the network, and through the decoder."""
PEAKS = {"A100": 312.0, "H100": 989.0, "H200": 989.0}
"""TFLOP/s of dense matrix products in bfloat16, by NVIDIA's data sheets."""
UTILISATIONS = (0.2, 0.4)
"""Shares of the peak that are assumed; none was measured."""


@dataclass(frozen=True)
class Forecast:
    """Operations of a tile, and what ``rows`` of them take on a GPU."""

    tflop: float
    rows: int

    def hours(self, device: str, utilisation: float) -> float:
        return self.rows * self.tflop / PEAKS[device] / utilisation / 3600

    def __str__(self) -> str:
        low, high = UTILISATIONS
        times = ", ".join(
            f"{self.hours(device, high):.2g} to {self.hours(device, low):.2g} h on one {device}"
            for device in PEAKS
        )
        return (
            f"{self.tflop:.2g} TFLOP a tile (counted): {times}, at {high:.0%} to {low:.0%} of its "
            "peak (assumed)"
        )


def forecast(
    settings: GeneratorSettings, rows: int, side: int, steps: int, guidance: float
) -> Forecast | None:
    """Of tiles of ``side`` pixels in so many solver ``steps``; None where the network is not the
    GPU profile's."""
    profile = GENERATOR["gpu"]
    known = ("kind", "widths", "layers", "autoencoder")
    if any(getattr(settings, name) != getattr(profile, name) for name in known):
        return None
    passes = steps * (1 if guidance == 1 else 2)
    return Forecast((passes * NETWORK + DECODER) * (side / SIDE) ** 2, rows)
