"""One self-contained HTML page from the figures of a report: readable on a phone, no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.landcover import CLASSES, PALETTE
from builder.pictures import decode_png, encode_png
from builder.report import plots
from builder.report.measure import images_of, shown_ids
from builder.templates import environment

WORDS = {
    "mask_agreement": "Share of pixels on which the segmenter agrees with the mask.",
    "realism": "1 and more is inside the manifold of real train tiles.",
    "nearest_real_ratio": "Distance to the nearest train tile over the usual one; 0 is a copy.",
    "sharpness": "Variance of the Laplacian.",
    "contrast": "Standard deviation of the luminance.",
    "colour_saturation": "Mean HSV saturation.",
    "cloudiness": "Share of bright grey pixels.",
    "blankness": "Share of 8×8 blocks without texture.",
    "saturated": "Share of samples beyond the reflectance range.",
}
"""What is said below the plot of each image measure."""


def render(release: Path, told: Mapping[str, Any]) -> str:
    """The page as text."""
    pictures = {
        name: {"image": plots.uri(image), "mask": plots.uri(_coloured(mask))}
        for name, (image, mask) in images_of(release, shown_ids(dict(told))).items()
    }
    streams = told["streams"]
    drawn = {"classes": plots.class_shares(told["pixels"])}
    if streams:
        drawn["scores"] = plots.scores(streams)
        drawn["grounding_by_class"] = plots.grounding_by_class(streams)
    template = environment().get_template("report.html.j2")
    return template.render(
        told=told,
        pictures=pictures,
        classes=CLASSES,
        palette=PALETTE.tolist(),
        words=WORDS,
        plots=drawn,
        measures={name: plots.measure(one) for name, one in told["images"].items()},
    )


def _coloured(mask: bytes) -> bytes:
    return encode_png(PALETTE[decode_png(mask)])
