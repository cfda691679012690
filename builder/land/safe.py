"""Sentinel-2 Level-2A products in ESA's own format: folders NAME.SAFE with bands in JPEG 2000."""

import re
from pathlib import Path

from builder.core.errors import ArasError

BANDS = "IMG_DATA/R10m/*_B0[234]_10m.*"
"""Bands of a granule that tiles are cut from."""
DROPPED = {
    0: "no data",
    1: "saturated or defective",
    3: "cloud shadows",
    8: "clouds of medium probability",
    9: "clouds of high probability",
    10: "thin cirrus",
}
"""Codes of the scene classification (SCL) whose pixels are not used."""

_BASELINE = re.compile(r"<PROCESSING_BASELINE>\s*(\d\d\.\d\d)\s*<")
_SEARCHED = 1 << 20
"""Bytes of a metadata file in which the baseline is looked for."""


def bands_of(folder: Path) -> list[Path]:
    """The 10 m bands B04, B03 and B02 of all granules of a product.

    Raises ArasError for a folder that is not a Level-2A product, or that lacks its 10 m bands.
    """
    granules = [*folder.glob("GRANULE/*"), folder, folder.parent.parent]
    if folder.name != "R10m":
        granules.pop()
    bands = sorted(band for granule in granules for band in granule.glob(BANDS))
    if bands:
        return bands
    if any(folder.glob("MTD_MSIL1C.xml")) or any(folder.glob("GRANULE/*/IMG_DATA/*_B04.*")):
        raise ArasError(
            f"{folder}: is a Level-1C product (top of atmosphere); fetch the Level-2A product of "
            "the scene"
        )
    if folder.suffix.upper() == ".SAFE" or (folder / "GRANULE").is_dir():
        raise ArasError(
            f"{folder}: holds no GRANULE/*/{BANDS}; fetch the product again, with its 10 m bands"
        )
    raise ArasError(
        f"{folder}: is a folder, and not a Sentinel-2 product (NAME.SAFE); name the files in it"
    )


def classification_of(band: Path) -> Path | None:
    """The scene classification of the granule of a 10 m band; None where there is none."""
    if band.parent.name != "R10m":
        return None
    return next(iter(sorted(band.parent.parent.glob("R20m/*_SCL_20m.*"))), None)


def baseline_of(band: Path) -> tuple[str, Path] | None:
    """The processing baseline in the metadata of the product that a band lies in, and its file."""
    for parent in list(band.parents)[:5]:
        metadata = parent / "MTD_MSIL2A.xml"
        if metadata.is_file():
            with metadata.open("rb") as file:
                match = _BASELINE.search(file.read(_SEARCHED).decode("utf-8", "replace"))
            return (match[1], metadata) if match else None
    return None
