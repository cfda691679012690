"""Quality of a tile by its pixels alone: sharpness, contrast, colour, cloudiness, blankness."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from builder.core.errors import ArasError
from builder.core.fields import Fraction, NotNegative, Section
from builder.core.store import Store
from builder.land.pictures import decode_mask, decode_png, image_bytes
from builder.models.neighbours import perceptual_hash
from builder.quality.duplicates import pixel_digest, thumbnail
from builder.quality.statistics import pixel_statistics
from builder.steps.stage import Maker, Output, Stage, each

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""

CLOUD_VALUE, CLOUD_SATURATION = 200, 0.15
"""A cloud-like pixel: its largest sample is at least this bright (of 255) and its HSV saturation
at most this."""

BLANK_SIDE, BLANK_RANGE = 8, 3
"""A blank block: this many pixels a side, and no channel spans more levels (of 255) than this."""

NO_LIMIT = {"min": 0.0, "max": 1.0}
"""Thresholds that no measure is beyond."""

MEASURES = ("sharpness", "contrast", "colour_saturation", "cloudiness", "blankness")


def measure_pixels(image: npt.NDArray[np.uint8]) -> dict[str, float]:
    """The `MEASURES` of an image, (H, W, 3) uint8 with sides of at least `BLANK_SIDE` pixels.

    - ``sharpness``: variance of the luminance's 4-neighbour Laplacian over the inner pixels, in
      squared levels of 255 (Pech-Pacheco et al. 2000). Low for blur and for flat land cover alike.
    - ``contrast``: standard deviation of the luminance over 255 (RMS contrast, Peli 1990), 0…0.5.
    - ``colour_saturation``: mean HSV saturation, (max − min) / max of each pixel, 0 for black.
    - ``cloudiness``: share of bright grey pixels (`CLOUD_VALUE`, `CLOUD_SATURATION`): clouds, and
      snow, salt and pale roofs too. A screening value, not a cloud mask.
    - ``blankness``: share of whole 8×8 blocks without texture (`BLANK_RANGE`): missing data, what a
      generator left empty, and calm water.
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < BLANK_SIDE:
        raise ArasError(
            f"expected an image (H, W, 3) of at least {BLANK_SIDE} pixels a side, not {image.shape}"
        )
    # Planes, because numpy is slow along an axis of three.
    red, green, blue = np.ascontiguousarray(image.transpose(2, 0, 1))
    weights = np.array(LUMINANCE, dtype=np.float32)
    grey = weights[0] * red + weights[1] * green + weights[2] * blue
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    saturation = (most - least) / np.maximum(most, 1).astype(np.float32)
    cloudy = (most >= CLOUD_VALUE) & (saturation <= CLOUD_SATURATION)
    blank = np.logical_and.reduce([_span(plane) <= BLANK_RANGE for plane in (red, green, blue)])
    return {
        "sharpness": float(laplacian.var(dtype=np.float64)),
        "contrast": float(grey.std(dtype=np.float64) / 255),
        "colour_saturation": float(saturation.mean(dtype=np.float64)),
        "cloudiness": float(cloudy.mean()),
        "blankness": float(blank.mean()),
    }


def _span(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Largest less smallest sample of each whole block of a plane."""
    rows, columns = (side // BLANK_SIDE for side in plane.shape)
    bands = plane[: rows * BLANK_SIDE, : columns * BLANK_SIDE].reshape(rows, BLANK_SIDE, -1)
    most, least = (
        reduce(bands, axis=1).reshape(rows, columns, BLANK_SIDE) for reduce in (np.max, np.min)
    )
    return np.asarray(most.max(axis=2) - least.min(axis=2))


class QualitySection(Section):
    """Thresholds by column, min_… and max_…: a number, false for none, and None for one that the
    real tiles set for synthetic tiles (`limits.limits`)."""

    min_sharpness: NotNegative | None = None
    min_contrast: Fraction | None = None
    max_cloudiness: Fraction | None = None
    max_blankness: Fraction | None = None
    min_mask_agreement: Fraction | None = None
    min_realism: Fraction | None = None
    kinds: list[Literal["real", "synthetic"]] = Field(default=["real", "synthetic"])
    drop_flagged: bool = True

    @field_validator("*", mode="before")
    @classmethod
    def _off(cls, value: Any, info: ValidationInfo) -> Any:
        """``false`` as the bound that no value is beyond."""
        bound = str(info.field_name).partition("_")[0]
        if bound not in NO_LIMIT or not isinstance(value, bool):
            return value
        if value:
            raise ValueError("expected a number, or false for no threshold")
        return NO_LIMIT[bound]


_TYPES = {
    "statistics": pa.list_(pa.float32()),
    "pixel_sha256": pa.string(),
    "phash": pa.uint64(),
    "thumbnail": pa.binary(),
}


@dataclass(frozen=True)
class Quality(Stage):
    """`pixels.MEASURES`, and as working columns ``statistics`` (`statistics.FEATURES`),
    ``pixel_sha256``, ``phash`` and ``thumbnail``.

    A row whose mask cannot be decoded, or has another size, fails here, before layouts and
    trainings read it. One stage per kind, because the split, which synthetic tiles wait for,
    looks for duplicates among the real tiles.
    """

    kind: str = "real"

    needs = ("id", "image", "mask")
    adds = (*MEASURES, "statistics", "pixel_sha256", "phash", "thumbnail")

    @property
    def name(self) -> str:
        return f"quality-{self.kind}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    def open(self, store: Store, survey: Any) -> Maker:
        return _make


def _make(table: pa.Table) -> Output:
    images, masks = (image_bytes(table.column(name)) for name in ("image", "mask"))

    def look(i: int, name: str) -> dict[str, Any]:
        image = decode_png(images[i] or b"", name)
        mask = decode_mask(masks[i] or b"", name)
        if image.shape[:2] != mask.shape:
            raise ArasError(
                f"{name}: its image has {image.shape[:2]} pixels, its mask {mask.shape}"
            )
        return {
            **measure_pixels(image),
            "statistics": pixel_statistics(image),
            "pixel_sha256": pixel_digest(image),
            "phash": perceptual_hash(image),
            "thumbnail": thumbnail(image),
        }

    ids = table.column("id").to_pylist()
    looks, failed = each(ids, look)
    rows = [looks.get(i) for i in range(len(ids))]
    arrays = {
        name: pa.array([row and row[name] for row in rows], _TYPES.get(name, pa.float32()))
        for name in Quality.adds
    }
    return Output(pa.table(arrays), failed=failed)
