"""Pixel statistics of a tile: colour, spectrum, sparseness of its detail, and marks of codecs.

What is usual of them in real tiles is known without a network (`realism`), and whatever changes a
picture (noise, blur, a codec, a colour cast, blocks) changes some of them.
"""

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError

BANDS = (2, 4, 8, 16)
"""Periods in pixels of the bands of detail, finest first."""
SMALLEST = 2 * BANDS[-1]
"""Shortest side of a tile in pixels."""
PERIOD = 8
"""Side in pixels of the blocks of a JPEG."""
ROUNDING = 1 / 12
"""Variance of rounding to whole levels: what is below it is not seen."""

PLANES = ("luminance", "red_green", "blue_green")
COLOUR = ("red", "green", "blue")
FEATURES = (
    *COLOUR,
    *(f"{plane}_variance" for plane in PLANES),
    *(
        name
        for band in BANDS
        for name in (*(f"{plane}_{band}" for plane in PLANES), f"diagonal_{band}", f"sparse_{band}")
    ),
    "blocks_across",
    "blocks_down",
    "red_green_relation",
    "green_blue_relation",
)
"""Names of the statistics, in their order. ``red``, ``green`` and ``blue`` are means in levels of
255; ``…_variance`` and ``…_2`` to ``…_16`` natural logarithms of a variance in squared levels, of
a whole plane and of its detail of that period; the others have no unit."""

Floats = npt.NDArray[np.float32]


def pixel_statistics(image: npt.NDArray[np.uint8]) -> Floats:
    """The `FEATURES` of an (H, W, 3) uint8 image with sides of at least `SMALLEST`, (30,) float32.

    Detail is that of a Haar pyramid of the luminance and of two colour differences. ``diagonal`` is
    its diagonal part against the rest; ``sparse`` compares its mean size with its root mean square:
    noise is less sparse than land, whose detail is edges. ``blocks`` is how far the columns or rows
    of one phase of a period of `PERIOD` stand out; ``relation`` the correlation of the steps
    between neighbours in two channels. Raises ArasError for another shape.
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST:
        raise ArasError(
            f"expected an image (H, W, 3) of at least {SMALLEST} pixels a side, not {image.shape}"
        )
    channels = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    red, green, blue = channels
    planes = np.stack([(red + green + blue) / 3, red - green, blue - green])
    values = [float(channel.mean(dtype=np.float64)) for channel in channels]
    values += [float(np.log(plane.var(dtype=np.float64) + ROUNDING)) for plane in planes]
    values += _pyramid(planes)
    values += [_blocks(planes[0], axis) for axis in (1, 0)]
    steps = np.diff(channels, axis=2)
    values += [_relation(steps[i], steps[i + 1]) for i in (0, 1)]
    return np.array(values, dtype=np.float32)


def _pyramid(planes: Floats) -> list[float]:
    values: list[float] = []
    for _ in BANDS:
        height, width = (side // 2 * 2 for side in planes.shape[1:])
        corners = [planes[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
        a, b, c, d = corners
        across, down, diagonal = (a + c - b - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
        energies = [np.square(part).mean(axis=(1, 2)) for part in (across, down, diagonal)]
        rest = (energies[0] + energies[1]) / 2 + ROUNDING
        values += np.log(rest).tolist()
        values.append(float(np.log((energies[2][0] + ROUNDING) / rest[0])))
        size = np.abs(across[0]).mean() + np.abs(down[0]).mean()
        root = np.sqrt(energies[0][0]) + np.sqrt(energies[1][0])
        values.append(float(np.log((size + 0.1) / (root + 0.1))))
        planes = np.asarray((a + b + c + d) / 4, np.float32)
    return values


def _blocks(plane: Floats, axis: int) -> float:
    """Logarithm of the mean step of the phase that stands out over that of all."""
    steps = np.abs(np.diff(plane, axis=axis)).mean(axis=1 - axis)
    phases = np.array([steps[phase::PERIOD].mean() for phase in range(PERIOD)])
    return float(np.log((phases.max() + 0.5) / (phases.mean() + 0.5)))


def _relation(a: Floats, b: Floats) -> float:
    """Correlation, 1 where there is nothing but rounding."""
    return float(((a * b).mean() + 0.2) / (np.sqrt((a * a).mean() * (b * b).mean()) + 0.2))
