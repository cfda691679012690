"""Source stage: real tiles from Sentinel-2 RGBNIR composites and WorldCover maps."""

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, Strict, ValidationInfo, field_validator

from builder.core.errors import ArasError
from builder.core.fields import Files, Fraction, Section, Share
from builder.core.files import content_hashes, digest_of, remembered
from builder.core.store import Store
from builder.land import classes
from builder.land.grid import (
    COMPOSITE,
    CRS_NAME,
    MAP,
    PER_DEGREE,
    Raster,
    cell_origin,
    divided,
    lonlat,
    overlap,
)
from builder.land.legends import DROPPED, PUBLIC_MAPS, WORLDCOVER_LEGEND, Legend, public
from builder.land.pictures import COMPOSITION, Pixels, composition_columns, encode_png, image_column
from builder.steps.stage import Maker, Output, Stage, Unit, setting

if TYPE_CHECKING:
    from builder.land.products import Product
    from builder.land.rasters import Band

SHARD = 12
"""Patch rows of one shard: at most 12 × 46 tiles."""
STRIP = 2
"""Patch rows read at once: whole rows of the products' 512-pixel blocks."""
REASONS = ("black", "partly_black", "no_map", "nodata", "water")
"""Why a candidate patch is dropped, in the order of the rules."""


Codes = dict[
    Annotated[int, Strict(False), Field(ge=-(2**31), lt=2**31)],
    Literal[(*classes.CLASSES, DROPPED)],  # type: ignore[valid-type]
]
"""Code of a map → class, or DROPPED."""


class TilesSection(Section):
    maps: Annotated[Files, Field(min_length=1)] = Field(default=["inputs/*_Map.tif"])
    composites: Annotated[Files, Field(min_length=1)] = Field(default=["inputs/*_S2RGBNIR.tif"])
    size: Literal[64, 128, 256, 512] = 256
    reflectance: Annotated[tuple[float, float], Strict(False)] = (0.0, 0.275)
    max_water: Fraction = 0.9
    max_black: Share = 0.0
    resample: Literal["refuse", "nearest", "bilinear"] = "refuse"
    legend: Literal[tuple(PUBLIC_MAPS)] | Codes = WORLDCOVER_LEGEND  # type: ignore[valid-type]
    remap: Annotated[Codes, Field(validate_default=True)] = classes.DEFAULT_REMAP

    @field_validator("reflectance")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 6.5535:
            raise ValueError("expected two reflectances, 0 ≤ low < high ≤ 6.5535")
        return value

    @field_validator("remap")
    @classmethod
    def _codes(cls, value: dict[int, str], info: ValidationInfo) -> dict[int, str]:
        """Every code that the maps may hold, but for WorldCover's 0."""
        legend = info.data.get("legend", WORLDCOVER_LEGEND)
        if isinstance(legend, dict):
            if value != classes.DEFAULT_REMAP:
                raise ValueError("goes with a legend by name; write the codes into legend itself")
            return dict(legend)
        if legend != WORLDCOVER_LEGEND:
            given = {} if value == classes.DEFAULT_REMAP else value
            return dict(public(legend, given).classes)
        if bad := [code for code in value if not 1 <= code <= 250]:
            raise ValueError(f"map codes are 1…250, not {bad[0]}")
        return {**classes.DEFAULT_REMAP, **value}

    @property
    def legend_name(self) -> str:
        """A key of PUBLIC_MAPS; empty for a legend of the recipe's own."""
        return self.legend if isinstance(self.legend, str) else ""


@dataclass(frozen=True)
class Payload:
    """Patch rows ``first`` … ``first + rows`` of a composite, and the maps that may cover it."""

    composite: Raster
    maps: tuple[Raster, ...]
    first: int
    rows: int


@dataclass(frozen=True)
class TilesReport:
    """Composites that no map covers: their patches count as ``no_map``."""

    composites_without_map: Sequence[str]

    def lines(self) -> list[str]:
        names = ", ".join(self.composites_without_map)
        return [f"no map covers {names}: their patches count as no map"] if names else []

    def as_json(self) -> dict[str, Any]:
        return asdict(self) if self.composites_without_map else {}


@dataclass(frozen=True, kw_only=True)
class Tiles(Stage):
    """Cut ``size``×``size`` patches on the regular grid of each 1° cell.

    Candidates are all patches that lie wholly inside a composite, counted from the cell's
    upper-left corner. Every patch is either kept or counted under a reason of `REASONS`.
    """

    maps: tuple[Path, ...] = setting()
    composites: tuple[Path, ...] = setting()
    size: int
    reflectance: tuple[float, float]
    max_water: float
    max_black: float
    remap: tuple[tuple[int, str], ...]
    resample: str
    legend: str = setting(WORLDCOVER_LEGEND)
    """Name of the legend that ``remap`` completes, for messages; empty for one of the recipe."""

    adds = (
        *("id", "image", "mask", *COMPOSITION),
        *("crs", "transform", "longitude", "latitude", "source", "saturated"),
    )

    def codes(self) -> Legend:
        """What every code of the maps becomes."""
        title = PUBLIC_MAPS[self.legend].title if self.legend else ""
        unnamed = {0: DROPPED} if self.legend == WORLDCOVER_LEGEND else {}
        return Legend(title, tuple(sorted({**unnamed, **dict(self.remap)}.items())))

    @property
    def _suffix(self) -> str:
        """What else than ``resample`` decides which files are refused, in short."""
        return "" if self.legend == WORLDCOVER_LEGEND else f"-{digest_of(self.remap)[:12]}"

    def units(self, store: Store) -> list[Unit]:
        """One shard per cell and `SHARD` patch rows, named after both.

        Raises ArasError listing every product that contradicts its own name, and when no map
        covers any composite.
        """
        composites, maps = self.products(store)
        files = [path for raster in (*composites, *maps) for path in (raster.path, *raster.beside)]
        hashes = content_hashes(files, store.root / ".inputs.json")
        units = []
        for composite in composites:
            near = covering(composite, maps)
            paths = [p for raster in (composite, *near) for p in (raster.path, *raster.beside)]
            inputs = digest_of([hashes[str(path)] for path in paths])
            per_cell = PER_DEGREE // self.size
            for first in range(0, per_cell, SHARD):
                payload = Payload(composite, near, first, min(SHARD, per_cell - first))
                units.append(Unit(f"real-{composite.cell}-{first:02d}", payload, inputs))
        return sorted(units, key=lambda unit: unit.shard)

    def products(self, store: Store) -> tuple[list[Raster], list[Raster]]:
        """The inputs, checked: (composites, maps). A file is opened again only when it, or a file
        beside it with its name, changed."""
        problems: list[str] = []
        resample, legend = self.resample != "refuse", self.codes()

        def checked(paths: Sequence[Path], what: str) -> list[Raster]:
            def inspected(path: Path) -> list[Any] | None:
                from builder.land import products  # GDAL: slow to load

                try:
                    if what == COMPOSITE or products.is_named(path):
                        raster = products.inspect(path, what, resample=resample)
                    else:
                        raster = products.placed(
                            products.described(path, what), what, resample=resample
                        )
                    if what == MAP:
                        products.check_no_data(products.described(path, what), legend)
                except ArasError as error:
                    problems.append(str(error))
                    return None
                _, *place, beside, _ = astuple(raster)
                return [*place, [str(file) for file in beside]]

            cache = store.root / f".rasters-{self.resample}{self._suffix}.json"
            known = remembered(_stamps(paths), cache, inspected)
            return [
                replace(Raster(Path(path), *place), beside=tuple(map(Path, beside)))
                for path, (*place, beside) in known.items()
            ]

        composites = checked(self.composites, COMPOSITE)
        maps = [
            part
            for raster in checked(self.maps, MAP)
            for part in divided(raster, {composite.cell for composite in composites})
        ]
        cells = Counter(composite.cell for composite in composites)
        if twice := [cell for cell, n in cells.items() if n > 1]:
            problems.append(
                f"several composites of one cell: {', '.join(twice)}; keep a single file of each"
            )
        problems += [f"{a} and {b} overlap: keep either" for a, b in overlapping(maps)]
        if problems:
            raise ArasError("\n".join(problems))
        if composites and not any(covering(composite, maps) for composite in composites):
            raise ArasError(
                f"none of the {len(maps)} maps covers any of the {len(composites)} composites: "
                "check maps and composites in [tiles]"
            )
        return composites, maps

    def understood(self, store: Store) -> dict[str, list[str]]:
        from builder.land.products import described, is_named

        lines: dict[str, list[str]] = {}
        cells: dict[str, list[str]] = {}
        for raster in itertools.chain(*self.products(store)):
            path = str(raster.path)
            if path not in lines:
                lines[path] = described(raster.path, raster.what).lines()
                lines[path] += [self.codes().line()] * (raster.what == MAP)
            if not is_named(raster.path):
                cells.setdefault(path, []).append(raster.cell)
        for path, names in cells.items():
            lines[path].append(f"not named like a product: read in {', '.join(names)}")
        return lines

    def report(self, store: Store) -> TilesReport:
        composites, maps = self.products(store)
        alone = [str(composite) for composite in composites if not covering(composite, maps)]
        return TilesReport(alone)

    def open(self, store: Store, survey: Any) -> Maker:
        legend = self.codes()
        return lambda payload: cut(self, payload, legend)


def _stamps(paths: Sequence[Path]) -> dict[str, list[Any]]:
    """Name, size and time of each file and of those beside it with its name but for suffixes: a
    world file or a mask changes what a raster is."""
    alike: dict[tuple[Path, str], list[Any]] = {}
    for folder in {path.parent for path in paths if path.parent.is_dir()}:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            stat = entry.stat()
            stamp = [entry.name, stat.st_size, stat.st_mtime_ns]
            alike.setdefault((folder, entry.name.split(".")[0]), []).append(stamp)
    return {str(path): alike.get((path.parent, path.name.split(".")[0]), []) for path in paths}


def covering(composite: Raster, maps: Sequence[Raster]) -> tuple[Raster, ...]:
    """The maps that share pixels with a composite."""
    place = (composite.column, composite.row, composite.width, composite.height)
    return tuple(raster for raster in maps if min(overlap(raster, *place)[2:]) > 0)


def overlapping(maps: Sequence[Raster]) -> Iterator[tuple[Raster, Raster]]:
    """Pairs of maps that hold the same pixels; only maps of the same cell can. Resampled maps may
    share their empty edges."""
    of_cell: dict[str, list[Raster]] = {}
    for raster in (raster for raster in maps if not raster.warp):
        yield from ((other, raster) for other in covering(raster, of_cell.get(raster.cell, [])))
        of_cell.setdefault(raster.cell, []).append(raster)


def cut(stage: Tiles, payload: Payload, legend: Legend) -> Output:
    """The tiles of a shard, and how many candidates each of `REASONS` dropped."""
    from builder.land import products

    composite = payload.composite
    origin = cell_origin(composite.cell)
    counts: Counter[str] = Counter({"candidates": 0, "kept": 0, **dict.fromkeys(REASONS, 0)})
    tiles: list[Tile] = []
    with contextlib.ExitStack() as stack:
        resampling = "bilinear" if stage.resample == "refuse" else stage.resample
        image = stack.enter_context(products.opened(composite, resampling))
        maps = [stack.enter_context(products.opened(raster)) for raster in payload.maps]
        for first in range(payload.first, payload.first + payload.rows, STRIP):
            last = min(first + STRIP, payload.first + payload.rows)
            for patch in _strip(stage, image, maps, (first, last), legend, counts):
                tiles.append(tile_at(stage, composite, origin, image.description.bands, *patch))
    counts["kept"] = len(tiles)
    return Output(_table(tiles), dict(counts))


def _strip(
    stage: Tiles,
    image: "Product",
    maps: "Sequence[Product]",
    patch_rows: tuple[int, int],
    legend: Legend,
    counts: Counter[str],
) -> Iterator[tuple[int, int, npt.NDArray[Any], Pixels]]:
    """Apply the rules to a strip; yields (row, column, stored values (3, s, s), mask) of each tile
    kept."""
    from builder.land import products

    size, composite = stage.size, image.raster
    left, top = cell_origin(composite.cell)
    # Patches wholly inside the file: all of the cell for an uncropped composite.
    columns = _inside(left, composite.column, composite.width, size, (0, PER_DEGREE // size))
    lines = _inside(top, composite.row, composite.height, size, patch_rows)
    if not columns or not lines:
        return
    y, height = top + lines[0] * size, len(lines) * size
    first, last = image.filled(y, height)
    # Patches in blocks that the file leaves out are black, and need not be read.
    empty = [column for column in columns if not first - size < left + column * size < last]
    counts["candidates"] += len(empty) * len(lines)
    counts["black"] += len(empty) * len(lines)
    columns = [column for column in columns if column not in empty]
    if not columns:
        return
    x, width = left + columns[0] * size, len(columns) * size
    values, valid = image.read(x, y, width, height)
    grid = (len(lines), size, len(columns), size)
    dark = (~valid).view(np.uint8).reshape(grid)
    black = dark.sum(axis=1, dtype=np.uint16).sum(axis=2, dtype=np.uint32) / size**2
    counts["candidates"] += black.size
    counts["black"] += int((black == 1).sum())
    counts["partly_black"] += int(((black < 1) & (black > stage.max_black)).sum())
    bright = np.argwhere((black < 1) & (black <= stage.max_black))
    if not len(bright):
        return
    low, high = bright[:, 1].min(), bright[:, 1].max() + 1
    ids = products.mosaic(maps, legend, x + low * size, y, (high - low) * size, height)
    for line, column in bright:
        mask = ids[line * size :, (column - low) * size :][:size, :size]
        reason = _reject(mask, stage.max_water)
        if reason:
            counts[reason] += 1
            continue
        patch = values[:, line * size :, column * size :][:, :size, :size]
        yield lines[line], columns[column], patch, mask


def _inside(origin: int, start: int, length: int, size: int, patches: tuple[int, int]) -> list[int]:
    """Patch numbers whose pixels all lie in [start, start + length)."""
    return [
        number
        for number in range(*patches)
        if start <= origin + number * size and origin + (number + 1) * size <= start + length
    ]


def _reject(mask: Pixels, max_water: float) -> str:
    """The reason to drop a tile with this mask; empty to keep it."""
    from builder.land import products

    if (mask == products.OUTSIDE).any():
        return "no_map"
    if (mask == classes.NODATA).any():
        return "nodata"
    return "water" if (mask == classes.WATER).mean() > max_water else ""


class Tile(NamedTuple):
    """A row, but for what all rows have."""

    id: str
    image: bytes
    mask: bytes
    pixels: npt.NDArray[np.int64]
    transform: Sequence[float]
    longitude: float
    latitude: float
    source: str
    saturated: float


def tile_at(
    stage: Tiles,
    composite: Raster,
    origin: tuple[int, int],
    bands: "Sequence[Band]",
    line: int,
    column: int,
    values: npt.NDArray[Any],
    mask: Pixels,
) -> Tile:
    """The tile in patch row ``line`` and ``column`` of a composite's cell."""
    from builder.land.rasters import rendered

    size = stage.size
    image, saturated = rendered(values, bands, *stage.reflectance)
    x, y = origin[0] + column * size, origin[1] + line * size
    west, north = lonlat(x, y)
    longitude, latitude = lonlat(x + size / 2, y + size / 2)
    return Tile(
        id=f"real/{composite.cell}_{line:03d}_{column:03d}",
        image=encode_png(np.ascontiguousarray(image.transpose(1, 2, 0))),
        mask=encode_png(np.ascontiguousarray(mask)),
        pixels=classes.count_pixels(mask),
        transform=[1 / PER_DEGREE, 0.0, west, 0.0, -1 / PER_DEGREE, north],
        longitude=longitude,
        latitude=latitude,
        source=composite.path.name,
        saturated=float(saturated.mean()),
    )


def _table(tiles: Sequence[Tile]) -> pa.Table:
    names = [tile.id.split("/")[-1] + ".png" for tile in tiles]
    pixels = np.array([tile.pixels for tile in tiles], dtype=np.int64).reshape(-1, 7)
    return pa.table(
        {
            "id": pa.array([tile.id for tile in tiles], pa.string()),
            "image": image_column([tile.image for tile in tiles], names),
            "mask": image_column([tile.mask for tile in tiles], names),
            **composition_columns(pixels),
            "crs": pa.array([CRS_NAME] * len(tiles), pa.string()),
            "transform": pa.array([tile.transform for tile in tiles], pa.list_(pa.float64(), 6)),
            "source": pa.array([tile.source for tile in tiles], pa.string()),
            "longitude": pa.array([tile.longitude for tile in tiles], pa.float64()),
            "latitude": pa.array([tile.latitude for tile in tiles], pa.float64()),
            "saturated": pa.array([tile.saturated for tile in tiles], pa.float64()),
        }
    )
