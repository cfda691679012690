"""Rasters read as they describe themselves: named bands, reflectance, validity, orientation.

GDAL tells what a file says: band names, colours, scale, offset, no-data values, masks, alpha and
georeference, files beside it included. `describe` takes all of it into account or refuses the file
by name; `Reader` reads windows accordingly, always north up.
"""

import contextlib
import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from builder.core.errors import ArasError, blame_memory
from builder.land import times
from builder.land.safe import baseline_of

CACHE_MB = 64
"""GDAL's block cache: a strip of a composite. Its default grows to gigabytes that are never read
again, and filling those pages costs more than the reading."""
DN_PER_REFLECTANCE = 10_000
"""Stored value of reflectance 1 where a file says nothing else, as Sentinel-2 products have it."""
BRIGHTEST = 10.0
"""More than any reflectance: clouds, snow and glint stay below 2."""
COLOURS = ("red", "green", "blue")
JPEG_2000 = frozenset({"JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JPEG2000"})
"""GDAL's drivers of JPEG 2000; rasterio's wheels have the first."""
CLASS = ("class",)
"""The band of a map."""

_NAMES = {
    "red": re.compile(r"^(b0?4|red|r)(?![0-9a-z])(?![ _-]*edge)"),
    "green": re.compile(r"^(b0?3|green|g)(?![0-9a-z])"),
    "blue": re.compile(r"^(b0?2|blue|b)(?![0-9a-z])"),
    "class": re.compile(r"^(map|class|classes|classification|label|labels|land[ _-]?cover)\b"),
}
"""How files name the bands that are read, in lower case: Sentinel-2's numbers or plain words."""
_NO_NAME = re.compile(r"^((band|layer|channel|gray|undefined)[ _-]*)?\d*$")


class Band(NamedTuple):
    """A band that is read: its number in the file, from 1, and what its values mean.

    Reflectance is ``value * scale + offset``; a value equal to ``nodata`` is none.
    """

    name: str
    number: int
    scale: float
    offset: float
    nodata: float | None


class Offset(NamedTuple):
    """What is added to digital numbers of a file whose tags say nothing, and why."""

    dn: float
    why: str
    file: Path | None = None
    """The metadata beside a band that says it."""


PLAIN = Offset(0, "")
"""Of products that are digital numbers by definition."""
_BASELINE = re.compile(r"_N(\d{2})(\d{2})_")
"""The processing baseline in the name of a Sentinel-2 product."""


class Turn(NamedTuple):
    """How stored rows and columns become north-up ones: transposed first, then mirrored."""

    transpose: bool
    mirror_rows: bool
    mirror_columns: bool

    def __str__(self) -> str:
        return {
            (False, False, False): "north up",
            (False, True, False): "south up",
            (False, False, True): "mirrored",
            (False, True, True): "turned by 180°",
            (True, False, False): "transposed",
            (True, True, False): "turned by 90°",
            (True, False, True): "turned by 270°",
            (True, True, True): "transposed, mirrored",
        }[self]


@dataclass(frozen=True)
class Description:
    """What a raster says of itself.

    ``transform`` is that of the north-up picture, ``width`` × ``height`` pixels, in units of
    ``crs``; ``turn`` is None for a grid rotated by anything but quarter turns, which is resampled
    from ``stored``, the transform in the file. ``choice`` says how the bands were found. Pixels
    without data are marked by no-data values, by the band ``alpha`` (0: none) and by ``mask``:
    "mask", "masks" of each band or nothing. ``files`` are those beside it that GDAL reads with it.
    """

    path: Path
    dtype: str
    width: int
    height: int
    crs: Any
    stored: Affine
    transform: Affine
    turn: Turn | None
    bands: tuple[Band, ...]
    choice: str
    mask: str
    alpha: int
    why: str
    """Where the offset comes from, in words; empty for the file's own tags and for products."""
    files: tuple[Path, ...]
    acquired: str = ""
    """When it was taken, by its tags (`land.times`); empty where they say nothing."""
    loss: str = ""
    """How it was compressed with loss; empty where nothing was lost."""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """West, south, east, north in units of the CRS: the smallest box around the raster."""
        across, down = self.width, self.height
        if self.turn and self.turn.transpose:
            across, down = down, across
        points = [self.stored @ (x, y) for x in (0, across) for y in (0, down)]
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def says_no_data(self) -> bool:
        """Whether the file says anything on what is no data."""
        return bool(self.alpha or self.mask) or any(band.nodata is not None for band in self.bands)

    @property
    def is_map(self) -> bool:
        """Whether it is read for class codes: then any code may have a meaning, 0 too."""
        return self.bands[0].name == "class"

    def lines(self) -> list[str]:
        """In words: bands, meaning of their values, validity, grid, files beside it."""
        bands = ", ".join(f"{band.name} {band.number}" for band in self.bands)
        lines = [
            f"{self.width:,} × {self.height:,} {self.dtype}, {self.crs.to_string()}, "
            f"{self.turn or 'rotated'}; bands {bands} ({self.choice})"
        ]
        if self.bands[0].name in COLOURS:
            rules = dict.fromkeys(f"value × {b.scale:g}{_signed(b.offset)}" for b in self.bands)
            why = f" ({self.why})" if self.why else ""
            lines.append(f"reflectance = {'; '.join(rules)}{why}")
        lines.append(f"no data: {self._no_data()}")
        if self.loss:
            lines.append(f"compressed with loss: {self.loss}")
        if self.files:
            names = ", ".join(path.name for path in self.files)
            lines.append(f"read together with {names}")
        return lines

    def _no_data(self) -> str:
        values = {f"{b.name} {b.nodata:g}" for b in self.bands if b.nodata is not None}
        if len({str(band.nodata) for band in self.bands}) == 1 and values:
            values = {f"{self.bands[0].nodata:g}"}
        parts = [f"value {', '.join(sorted(values))}"] if values else []
        parts += [f"alpha band {self.alpha}"] * bool(self.alpha)
        parts += [self.mask] * bool(self.mask)
        if not parts and self.is_map:
            return "what the legend drops (the file names none)"
        return " and ".join(parts) or "0 in every band (the file names none)"


def _signed(offset: float) -> str:
    return "" if not offset else f" {'+' if offset > 0 else '−'} {abs(offset):g}"


def describe(
    path: Path, wanted: Sequence[str], offset: Offset | None = PLAIN, *, lossy: bool = False
) -> Description:
    """Read what ``path`` says of itself; ``wanted`` are COLOURS, one of them, or CLASS.

    ``offset`` counts where the file has whole numbers without scale and offset; with None, its
    processing baseline decides, in its tags or in its name or folder, and it must have one.
    ``lossy``: class codes may be compressed with loss.
    Raises ArasError naming what is wrong and the way out: not a readable GeoTIFF, no CRS, bands
    that contradict or are missing, samples or masks that are not understood.
    """
    try:
        with rasterio.open(path) as source:
            return _describe(path, source, wanted, offset, lossy)
    except RasterioIOError as error:
        blame_memory(error)
        if _is_jpeg_2000(path) and not _reads_jpeg_2000():
            raise ArasError(
                f"{path}: is JPEG 2000, which this GDAL does not read (it has no JP2OpenJPEG "
                "driver); install rasterio's wheel (pip install --force-reinstall rasterio), or "
                "write GeoTIFFs where GDAL reads it: gdal_translate B04.jp2 B04.tif"
            ) from error
        raise ArasError(
            f"{path}: not a readable GeoTIFF or JPEG 2000 ({error}); fetch the file again"
        ) from error


def _is_jpeg_2000(path: Path) -> bool:
    """Whether a file begins as JP2 or as a bare codestream does."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start == b"\0\0\0\x0cjP  \r\n\x87\n" or start.startswith(b"\xff\x4f\xff\x51")


def _reads_jpeg_2000() -> bool:
    with rasterio.Env() as environment:
        return not JPEG_2000.isdisjoint(environment.drivers())


def _loss_of(source: Any) -> str:
    """How the samples were compressed with loss, by what the file says; empty for no loss."""
    said: dict[str, str] = source.tags(ns="IMAGE_STRUCTURE")
    packing = said.get("COMPRESSION", "JPEG 2000" if source.driver in JPEG_2000 else "")
    error = said.get("MAX_Z_ERROR", "0")
    if "JPEG" in packing and packing != "JPEG 2000":
        return packing
    if packing.startswith("LERC") and error not in ("0", "0.0"):
        return f"{packing}, errors of up to {error}"
    reversible = said.get("COMPRESSION_REVERSIBILITY", "LOSSLESS")
    return "" if reversible.startswith("LOSSLESS") else packing


def _describe(
    path: Path, source: Any, wanted: Sequence[str], offset: Offset | None, lossy: bool
) -> Description:
    if source.driver != "GTiff" and source.driver not in JPEG_2000:
        raise ArasError(f"{path}: a {source.driver} file, expected a GeoTIFF or JPEG 2000")
    _check_georeference(path, source)
    alpha = next(
        (
            number
            for number, colour in zip(source.indexes, source.colorinterp, strict=True)
            if colour is ColorInterp.alpha and not source.descriptions[number - 1]
        ),
        0,
    )
    numbers, choice = _choose(path, source, wanted, alpha)
    silent = wanted != CLASS and all(
        (source.scales[number - 1], source.offsets[number - 1]) == (1, 0)
        and np.dtype(source.dtypes[number - 1]).kind in "iu"
        and source.dtypes[number - 1] != "uint8"
        for number in numbers
    )
    added = (offset or _offset_of(path, source)) if silent else PLAIN
    bands = tuple(
        _band(path, source, name, number, added.dn)
        for name, number in zip(wanted, numbers, strict=True)
    )
    loss = _loss_of(source)
    if loss and wanted == CLASS and not lossy:
        raise ArasError(
            f"{path}: its class codes are compressed with loss ({loss}), which makes other codes "
            "of them; fetch the map as it was published, without loss"
        )
    turn = _turn_of(source.transform)
    transform, (width, height) = source.transform, (source.width, source.height)
    if turn is not None:
        transform, (width, height) = _north_up(source, turn)
    return Description(
        path=path,
        dtype=source.dtypes[numbers[0] - 1],
        width=width,
        height=height,
        crs=source.crs,
        stored=source.transform,
        transform=transform,
        turn=turn,
        bands=bands,
        choice=choice,
        mask=_mask_of(source, numbers),
        alpha=alpha,
        why=added.why,
        acquired=times.of_tags({**source.tags(), **source.tags(ns="IMAGERY")}),
        files=tuple(
            sorted(
                {
                    *({added.file} if added.file else ()),
                    *(
                        Path(name)
                        for name in source.files
                        if Path(name).name != path.name and not name.endswith(".ovr")
                    ),
                }
            )
        ),
        loss=loss,
    )


def _check_georeference(path: Path, source: Any) -> None:
    if source.crs is None and source.gcps[0]:
        raise ArasError(
            f"{path}: is placed by ground control points only; warp it onto a grid first (gdalwarp)"
        )
    if source.crs is None:
        raise ArasError(f"{path}: has no CRS; expected a georeferenced GeoTIFF")


def _offset_of(path: Path, source: Any) -> Offset:
    """The offset of Sentinel-2 L2A samples, by the processing baseline that the file names."""
    baseline, where = source.tags().get("PROCESSING_BASELINE", ""), "in its tags"
    for name in (path.name, *(parent.name for parent in path.parents[:5])):
        if not baseline and (match := _BASELINE.search(f"_{name}_")):
            baseline = f"{match[1]}.{match[2]}"
            where = "in its name" if name == path.name else f"in the name of its folder {name}"
    file = None
    if not baseline and (said := baseline_of(path)):
        baseline, file = said
        where = f"in {file.name} of its product"
    if not re.fullmatch(r"\d{2}\.\d{2}", baseline):
        raise ArasError(
            f"{path}: says neither scale and offset nor its processing baseline; set offset in "
            "[tiles]: -1000 for Sentinel-2 L2A of baseline 04.00 (January 2022) or later as ESA "
            "gives it, 0 for earlier ones and where the provider has applied it"
        )
    dn = -1000 if baseline >= "04.00" else 0
    return Offset(dn, f"offset {dn}: processing baseline {baseline} {where}", file)


def _band(path: Path, source: Any, name: str, number: int, added: float) -> Band:
    """What the values of a band mean; refuses samples that are neither counts nor reflectance."""
    dtype = np.dtype(source.dtypes[number - 1])
    scale, offset = source.scales[number - 1], source.offsets[number - 1]
    nodata = source.nodatavals[number - 1]
    if name == "class":
        if dtype.kind not in "iu":
            raise ArasError(f"{path}: samples are {dtype}, expected whole numbers: class codes")
        if (scale, offset) != (1, 0):
            raise ArasError(
                f"{path}: its class codes have scale {scale:g} and offset {offset:g}; codes have "
                "neither: remove them (gdal_edit -unsetscale -unsetoffset)"
            )
        return Band(name, number, 1.0, 0.0, nodata)
    if dtype.kind not in "iuf":
        raise ArasError(f"{path}: samples are {dtype}, expected whole numbers or floats")
    if dtype == np.uint8 and (scale, offset) == (1, 0):
        raise ArasError(
            f"{path}: samples are uint8 without a scale: a rendered picture, expected reflectance "
            "(uint16, or any numbers with the scale that makes them reflectance)"
        )
    if not (math.isfinite(scale) and math.isfinite(offset) and scale > 0):
        raise ArasError(f"{path}: scale {scale:g} and offset {offset:g} of band {number} are none")
    if scale == 1 and dtype.kind != "f":  # digital numbers; an offset is then in their unit too
        scale, offset = 1 / DN_PER_REFLECTANCE, (offset + added) / DN_PER_REFLECTANCE
    return Band(name, number, scale, offset, nodata)


def _choose(
    path: Path, source: Any, wanted: Sequence[str], alpha: int
) -> tuple[tuple[int, ...], str]:
    """Numbers of the wanted bands and how they were found: by name, by colour, or by order."""
    named = {
        n: text.strip()
        for n, text in zip(source.indexes, source.descriptions, strict=True)
        if text and not _NO_NAME.match(text.strip().lower())
    }
    colours = dict(zip(source.indexes, source.colorinterp, strict=True))
    there = ", ".join(f"{number} {text}" for number, text in named.items())
    if wanted == CLASS:
        named_class = [n for n, text in named.items() if _NAMES["class"].match(text.lower())]
        others = [number for number in source.indexes if number != alpha]
        if len(named_class) == 1:
            return tuple(named_class), "by name"
        if len(others) == 1:
            return tuple(others), "its only band"
        raise ArasError(
            f"{path}: {len(others)} bands ({there or 'without names'}), expected one of class "
            "codes; name it “class” (gdal_edit or rasterio descriptions) or write it alone"
        )
    if len(wanted) == 1 and len(colours) - bool(alpha) == 1:
        (number,) = (number for number in source.indexes if number != alpha)
        if number in named and not _NAMES[wanted[0]].match(named[number].lower()):
            raise ArasError(f"{path}: names its band {there}, expected {wanted[0]}")
        return (number,), "its only band"
    by_name = {
        want: [n for n, text in named.items() if _NAMES[want].match(text.lower())]
        for want in wanted
    }
    by_colour = {
        want: [n for n in colours if colours[n] is getattr(ColorInterp, want)] for want in wanted
    }
    if named:
        if wrong := [want for want, numbers in by_name.items() if len(numbers) != 1]:
            raise ArasError(
                f"{path}: names its bands {there}; expected {wrong[0]} (B0"
                f"{ {'red': 4, 'green': 3, 'blue': 2}[wrong[0]] }) once among them: name the bands "
                "red, green and blue, or B04, B03 and B02"
            )
        numbers = tuple(by_name[want][0] for want in wanted)
        painted = tuple(by_colour[want][0] for want in wanted if len(by_colour[want]) == 1)
        if painted not in ((), (1, 2, 3), numbers):  # 1, 2, 3: what GDAL writes unasked
            raise ArasError(
                f"{path}: names its bands {there}, but its colours say red, green, blue are bands "
                f"{', '.join(map(str, painted))}; correct either"
            )
        return numbers, "by name"
    if all(len(numbers) == 1 for numbers in by_colour.values()):
        return tuple(numbers[0] for numbers in by_colour.values()), "by colour"
    if any(by_colour.values()):
        raise ArasError(f"{path}: only some of red, green and blue are marked among its bands")
    if source.count - bool(alpha) < len(wanted):
        raise ArasError(f"{path}: {source.count} bands, expected at least {len(wanted)}")
    return (1, 2, 3), "by order: the file names none"


def _mask_of(source: Any, numbers: Sequence[int]) -> str:
    """Kind of the mask beside an alpha band: of the whole file, of each band, or none."""
    flags = [source.mask_flag_enums[number - 1] for number in numbers]
    if any(not flag for flag in flags):
        return "masks"
    own = [MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags]
    return "mask" if any(own) else ""


def _turn_of(transform: Affine) -> Turn | None:
    """The turn that makes a grid north up; None where it is no flip or quarter turn."""
    across, down = abs(transform.a) + abs(transform.e), abs(transform.b) + abs(transform.d)
    if down <= 1e-9 * across:
        return Turn(False, transform.e > 0, transform.a < 0)
    if across <= 1e-9 * down:
        return Turn(True, transform.d > 0, transform.b < 0)
    return None


def _north_up(source: Any, turn: Turn) -> tuple[Affine, tuple[int, int]]:
    """Transform and (width, height) of the picture once it is turned."""
    t, wide, high = source.transform, source.width, source.height
    step_x, step_y = (t.b, t.d) if turn.transpose else (t.a, t.e)
    width, height = (high, wide) if turn.transpose else (wide, high)
    west = t.c + (step_x * width if turn.mirror_columns else 0)
    north = t.f + (step_y * height if turn.mirror_rows else 0)
    return Affine(abs(step_x), 0.0, west, 0.0, -abs(step_y), north), (width, height)


class Pixels(NamedTuple):
    """A window: stored values (bands, height, width) and whether each pixel holds data (height,
    width), which it does where every band that is read has a value there."""

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


class Grid(NamedTuple):
    """A grid to resample onto: EPSG code or name, transform, width and height in pixels."""

    crs: str
    transform: Affine
    width: int
    height: int


@contextlib.contextmanager
def opened(
    description: Description, grid: Grid | None = None, resampling: str = "nearest"
) -> "Iterator[Reader]":
    """Open a described raster; its pixel (0, 0) is the upper left of the north-up picture, or of
    ``grid`` when that is given."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(description.path) as source:
        if grid is None:
            yield Reader(description, source, warped=False)
            return
        options = _warp_options(description)
        with WarpedVRT(
            source,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=Resampling[resampling],
            **options,
        ) as warped:
            yield Reader(description, warped, warped=True)


def check_resampling(description: Description) -> None:
    """Raise ArasError where a raster says in several ways what holds no data: GDAL resamples by
    one of them alone."""
    values = {str(band.nodata) for band in description.bands}  # as text: NaN equals nothing
    ways = (values != {"None"}) + bool(description.alpha) + bool(description.mask)
    if len(values) > 1 or ways > 1 or description.mask == "masks":
        raise ArasError(
            f"{description.path}: holds no data by {description._no_data()}; resampling reads one "
            "no-data value or one mask: write it with either (gdal_translate)"
        )


def _warp_options(description: Description) -> dict[str, Any]:
    check_resampling(description)
    if description.mask or description.alpha:
        return {"add_alpha": True} if description.mask else {}
    nodata = description.bands[0].nodata
    if nodata is None and description.is_map:
        return {"add_alpha": True}
    empty = 0 if nodata is None else nodata
    return {"src_nodata": empty, "nodata": empty}


class Reader:
    """Windows of an open raster, north up."""

    def __init__(self, description: Description, source: Any, *, warped: bool) -> None:
        self._description, self._source, self._warped = description, source, warped
        self._numbers = [band.number for band in description.bands]
        self._nodata = [band.nodata for band in description.bands]
        self._masked = bool(description.mask or description.alpha)
        unnamed = not self._masked and self._nodata[0] is None
        # Resampling turns a mask into a last band, and marks so what lies outside a map.
        self._edged = warped and (bool(description.mask) or (unnamed and description.is_map))
        if warped and unnamed and not description.is_map:
            self._nodata = [0.0] * len(self._nodata)

    @property
    def description(self) -> Description:
        return self._description

    def read(self, column: int, row: int, width: int, height: int) -> Pixels:
        """Stored values and validity of a window, which must lie inside the raster.

        Raises ArasError naming the file when its data is damaged.
        """
        turn = None if self._warped else self._description.turn
        window = self._stored(turn, column, row, width, height)
        try:
            values = self._source.read(self._numbers, window=window)
            valid = self._valid(values, window)
        except RasterioError as error:
            blame_memory(error)
            raise ArasError(
                f"{self._description.path}: cannot be read around row {row} ({error}); the file is "
                "truncated or damaged: fetch it again"
            ) from error
        self._check_unit(values, valid)
        if turn is None or not any(turn):
            return Pixels(values, valid)
        return Pixels(_turned(values, turn), _turned(valid, turn))

    def _check_unit(self, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
        """Floats without a scale are reflectances; refuse those that cannot be."""
        if values.dtype.kind == "f" and {band.scale for band in self._description.bands} == {1}:
            highest = float(np.max(values, initial=0, where=valid))
            if highest > BRIGHTEST:
                raise ArasError(
                    f"{self._description.path}: floats up to {highest:g} without a scale, expected "
                    "reflectance from 0 to 1; write the scale that makes them so (gdal_edit -scale)"
                )

    def _stored(self, turn: Turn | None, column: int, row: int, width: int, height: int) -> Window:
        """Where a north-up window lies in the file."""
        if turn is None:
            return Window(column, row, width, height)
        if turn.mirror_columns:
            column = self._description.width - column - width
        if turn.mirror_rows:
            row = self._description.height - row - height
        if turn.transpose:
            column, row, width, height = row, column, height, width
        return Window(column, row, width, height)

    def _valid(self, values: npt.NDArray[Any], window: Window) -> npt.NDArray[np.bool_]:
        """Where every band has a value: not its no-data value, not NaN, not masked."""
        mask, alpha, numbers = self._description.mask, self._description.alpha, self._numbers
        valid: npt.NDArray[np.bool_]
        if self._nodata == [0] * len(numbers) and values.dtype.kind == "u":
            valid = np.minimum.reduce(values) > 0
        elif (
            set(self._nodata) == {None}
            and not self._masked
            and not self._description.is_map
            and values.dtype.kind in "iu"
        ):
            valid = np.bitwise_or.reduce(values) != 0
        else:
            valid = np.ones(values.shape[1:], dtype=bool)
            for band, nodata in zip(values, self._nodata, strict=True):
                if nodata is not None:
                    valid &= band != _as(nodata, values.dtype)
                if values.dtype.kind == "f":
                    valid &= np.isfinite(band)
        if alpha or self._edged:
            valid &= self._source.read(alpha or self._source.count, window=window) > 0
        if mask and not self._warped:
            of = numbers if mask == "masks" else numbers[:1]
            valid &= self._source.read_masks(of, window=window).all(axis=0)
        return valid

    def filled(self, row: int, height: int) -> tuple[int, int]:
        """Columns [first, last) between which some rows hold any data.

        A sparse GeoTIFF leaves out blocks of nothing but its no-data value; outside this range
        every sample is 0. The whole width where that is unknown: resampled, turned, no blocks,
        masked, or no data other than 0. Bands that are stored apart are checked in turn.
        """
        description, source = self._description, self._source
        turned = description.turn is None or any(description.turn)
        tiff = source.driver == "GTiff"
        if self._warped or turned or self._masked or not (tiff and set(self._nodata) <= {None, 0}):
            return 0, description.width
        high, wide = source.block_shapes[0]
        lines = range(row // high, (row + height - 1) // high + 1)
        bands = (1,) if source.interleaving is Interleaving.pixel else source.indexes
        there = [
            x
            for x in range(-(-description.width // wide))
            if any(
                source.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
                for y in lines
                for band in bands
            )
        ]
        if not there:
            return 0, 0
        return there[0] * wide, min(description.width, (there[-1] + 1) * wide)


def _turned(array: npt.NDArray[Any], turn: Turn) -> npt.NDArray[Any]:
    if turn.transpose:
        array = array.swapaxes(-1, -2)
    rows = slice(None, None, -1 if turn.mirror_rows else 1)
    columns = slice(None, None, -1 if turn.mirror_columns else 1)
    return np.ascontiguousarray(array[..., rows, columns])


def _as(value: float, dtype: np.dtype[Any]) -> Any:
    """A no-data value in a band's dtype; one that the dtype cannot hold equals no sample."""
    if dtype.kind == "f":
        return dtype.type(value)
    limits = np.iinfo(dtype)
    return int(value) if limits.min <= value <= limits.max and value == int(value) else value


def rendered(
    values: npt.NDArray[Any], bands: Sequence[Band], low: float, high: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Stored values (bands, …) → 8-bit, linear from reflectance ``low`` to ``high`` and saturating
    at both ends, and where they lie above ``high``. Both have the shape of ``values``."""
    shown = np.empty(values.shape, np.uint8)
    above = np.empty(values.shape, bool)
    for i, band in enumerate(bands):
        key = (band.scale, band.offset, low, high)
        if values.dtype in (np.uint16, np.int16, np.uint8, np.int8):
            table, over = _tables(values.dtype.str, *key)
            index = values[i].view(values.dtype.str.replace("i", "u"))
            shown[i], above[i] = table[index], over[index]
        else:
            numbers = np.nan_to_num(values[i].astype(np.float64))
            shown[i], above[i] = _rendered(numbers, *key)
    return shown, above


@functools.lru_cache(maxsize=16)
def _tables(
    dtype: str, scale: float, offset: float, low: float, high: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """`_rendered` of every value of a dtype, in the order of its bits."""
    unsigned = np.dtype(dtype.replace("i", "u"))
    every = np.arange(np.iinfo(unsigned).max + 1).astype(unsigned).view(dtype)
    return _rendered(every.astype(np.float64), scale, offset, low, high)


def _rendered(
    values: npt.NDArray[np.float64], scale: float, offset: float, low: float, high: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    # In digital numbers, to a thousandth: equal reflectances give equal bytes however written.
    unit = DN_PER_REFLECTANCE
    dn = np.rint((values * (scale * unit) + offset * unit) * 1000) / 1000
    bottom, top = low * unit, high * unit
    shown = np.clip(np.rint((dn - bottom) * 255 / (top - bottom)), 0, 255).astype(np.uint8)
    return shown, dn > top
