"""Source stage: real tiles from Sentinel-2 RGBNIR composites and WorldCover maps."""

import contextlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationInfo,
    field_validator,
)

from builder.core.errors import ArasError
from builder.core.fields import File, Files, Fraction, Place, Section, Share
from builder.core.files import content_hashes, digest_of, remembered
from builder.core.store import Store
from builder.land import classes, safe, times
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
    product_name,
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
_FORMAT = 2
"""Of what is remembered of a raster; one of another is inspected again."""
REASONS = ("black", "partly_black", "no_map", "nodata", "water")
"""Why a candidate patch is dropped, in the order of the rules."""
DIFFERS = "pixels_of_differing_maps"
"""Pixels of kept tiles to which several maps give different classes."""


Codes = dict[
    Annotated[int, Strict(False), Field(ge=-(2**31), lt=2**31)],
    Literal[(*classes.CLASSES, DROPPED)],  # type: ignore[valid-type]
]
"""Code of a map → class, or DROPPED."""


class BandFiles(Section):
    """Patterns of the files of each colour."""

    red: File
    green: File
    blue: File


class TilesSection(Section):
    maps: Annotated[Files, Field(min_length=1)] = Field(default=["inputs/**/*_Map.tif"])
    composites: Annotated[
        Annotated[list[str], Field(min_length=1), Tag("[list]")]
        | Annotated[BandFiles, Tag("[table]")],
        Discriminator(
            lambda value: "[table]" if isinstance(value, (dict, BandFiles)) else "[list]"
        ),
        Place.FILE,
    ] = Field(default=["inputs/**/*_S2RGBNIR.tif"])
    offset: Annotated[float, Strict(False), Field(ge=-10_000, le=10_000)] | None = None
    acquired: Annotated[
        str, AfterValidator(lambda text: str(times.parse(text)) if text else "")
    ] = ""
    size: Literal[64, 128, 256, 512] = 256
    reflectance: Annotated[tuple[float, float], Strict(False)] = (0.0, 0.275)
    max_water: Fraction = 0.9
    max_black: Share = 0.0
    resample: Literal["refuse", "nearest", "bilinear"] = "refuse"
    legend: Annotated[
        Annotated[Literal[tuple(PUBLIC_MAPS)], Tag("[name]")]  # type: ignore[valid-type]
        | Annotated[Codes, Field(min_length=1), Tag("[table]")],
        Discriminator(lambda value: "[table]" if isinstance(value, dict) else "[name]"),
    ] = WORLDCOVER_LEGEND
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
    """Patch rows ``first`` … ``first + rows`` of a cell: the composites there, first choice first,
    and the maps that may cover them."""

    composites: tuple[Raster, ...]
    maps: tuple[Raster, ...]
    first: int
    rows: int


@dataclass(frozen=True)
class TilesReport:
    """Composites that no map covers: their patches count as ``no_map``; pairs of maps that hold
    the same pixels, and how many pixels of the tiles they give different classes."""

    composites_without_map: Sequence[str]
    overlapping_maps: Sequence[tuple[str, str]] = ()
    pixels_of_differing_maps: int = 0
    pixels: int = 0
    """Of all tiles."""

    def lines(self) -> list[str]:
        names = ", ".join(self.composites_without_map)
        lines = [f"no map covers {names}: their patches count as no map"] if names else []
        if self.pixels_of_differing_maps:
            pairs = "; ".join(f"{a} and {b}" for a, b in self.overlapping_maps)
            share = self.pixels_of_differing_maps / max(self.pixels, 1)
            lines.append(
                f"maps overlap and disagree on {self.pixels_of_differing_maps:,} pixels of the "
                f"tiles ({share:.2%}), where the later one by name was taken ({pairs}): keep "
                "either, if one is not the edge of the other's zone"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        if not self.pixels_of_differing_maps:
            values = {"composites_without_map": self.composites_without_map}
        return values if any(values.values()) else {}


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
    scenes: tuple[tuple[Path, Path, Path], ...] = setting(())
    """Composites in a file each of red, green and blue."""
    offset: float | None = None
    """Digital numbers to add to samples of files that say nothing of it themselves."""
    acquired: str = ""
    """When composites were taken that say nothing of it themselves."""

    adds = (
        *("id", "image", "mask", *COMPOSITION),
        *("crs", "transform", "longitude", "latitude", "source", "saturated"),
    )

    def config(self) -> dict[str, object]:
        values = super().config()
        for name, silent in (("offset", None), ("acquired", "")):
            if values[name] == silent:  # so that recipes without it keep their keys
                del values[name]
        return values

    def codes(self) -> Legend:
        """What every code of the maps becomes."""
        title = PUBLIC_MAPS[self.legend].title if self.legend else ""
        unnamed = {0: DROPPED} if self.legend == WORLDCOVER_LEGEND else {}
        return Legend(title, tuple(sorted({**unnamed, **dict(self.remap)}.items())))

    @property
    def _suffix(self) -> str:
        """What else than ``resample`` decides which files are refused, in short."""
        if self.legend == WORLDCOVER_LEGEND and self.offset is None:
            return ""
        return f"-{digest_of([self.remap, self.offset])[:12]}"

    def units(self, store: Store) -> list[Unit]:
        """One shard per cell and `SHARD` patch rows, named after both.

        Raises ArasError listing every product that contradicts its own name, and when no map
        covers any composite.
        """
        composites, maps = self.products(store)
        files = [
            path for raster in (*composites, *maps) for path in (*raster.files, *raster.beside)
        ]
        hashes = content_hashes(files, store.root / ".inputs.json")
        units = []
        of_cell: dict[str, list[Raster]] = {}
        for composite in composites:
            of_cell.setdefault(composite.cell, []).append(composite)
        for cell, unordered in of_cell.items():
            there = sorted(unordered, key=str)
            covers = {raster for composite in there for raster in covering(composite, maps)}
            near = tuple(raster for raster in maps if raster in covers)
            paths = [p for raster in (*there, *near) for p in (*raster.files, *raster.beside)]
            inputs = digest_of([hashes[str(path)] for path in paths])
            per_cell = PER_DEGREE // self.size
            for first in range(0, per_cell, SHARD):
                payload = Payload(tuple(there), near, first, min(SHARD, per_cell - first))
                units.append(Unit(f"real-{cell}-{first:02d}", payload, inputs))
        return sorted(units, key=lambda unit: unit.shard)

    def products(self, store: Store) -> tuple[list[Raster], list[Raster]]:
        """The inputs, checked: (composites, maps). A file is opened again only when it, or a file
        beside it with its name, changed."""
        problems: list[str] = []
        resample, legend = self.resample != "refuse", self.codes()

        def checked(paths: Sequence[Path], what: str) -> list[Raster]:
            def inspected(path: Path) -> list[Any] | None:
                from builder.land import products  # GDAL: slow to load

                files = (path, *others.get(path, ()))
                try:
                    if product_name(path):
                        raster = products.inspect(path, what, resample=resample)
                    else:
                        raster = products.placed(files, what, resample=resample, offset=self.offset)
                    if what == MAP:
                        products.check_no_data(products.described(files, what)[0], legend)
                except ArasError as error:
                    problems.append(str(error))
                    return None
                _, *place, beside, _, _, acquired, _ = astuple(raster)
                return [*place, [str(file) for file in beside], acquired]

            cache = store.root / f".rasters-{self.resample}{self._suffix}.json"
            stamps = _stamps([*paths, *itertools.chain(*others.values())])
            for path in paths:
                for other in others.get(path, ()):
                    stamps[str(path)] = [*stamps[str(path)], *stamps.pop(str(other))]
            stamped = {str(path): [_FORMAT, *stamps[str(path)]] for path in paths}
            return [
                self._completed(
                    replace(
                        Raster(Path(path), *place),
                        beside=tuple(map(Path, beside)),
                        bands=others.get(Path(path), ()),
                        acquired=acquired,
                    )
                )
                for path, (*place, beside, acquired) in remembered(
                    stamped, cache, inspected
                ).items()
            ]

        others = {red: (green, blue) for red, green, blue in self.scenes}
        scenes = checked([*self.composites, *others], COMPOSITE)
        composites = [part for raster in scenes for part in divided(raster)]
        maps = [
            part
            for raster in checked(self.maps, MAP)
            for part in divided(raster, {composite.cell for composite in composites})
        ]
        cells = Counter(raster.cell for raster in composites if product_name(raster.path))
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

    def _completed(self, raster: Raster) -> Raster:
        """A composite with the time that it was taken (by its tags, its name and what lies beside
        it, else by the recipe), and with the map of its clouds that lies beside it."""
        if raster.what == MAP:
            return raster
        acquired, file = raster.acquired, None
        if not acquired:
            acquired, file = times.of_files(raster.files, str(raster))
        clouds = safe.classification_of(raster.path)
        beside = (*raster.beside, *(path for path in (file, clouds) if path))
        return replace(
            raster, acquired=acquired or self.acquired, classification=clouds, beside=beside
        )

    def understood(self, store: Store) -> dict[str, list[str]]:
        from builder.land.products import described

        lines: dict[str, list[str]] = {}
        cells: dict[str, list[str]] = {}
        for raster in itertools.chain(*self.products(store)):
            path = str(raster.path)
            if path not in lines:
                for description in described(raster.files, raster.what, self.offset):
                    lines[str(description.path)] = description.lines()
                if raster.what == COMPOSITE:
                    taken = times.of_source(times.stated(str(raster), raster.acquired))
                    unknown = "not known; set acquired in [tiles]"
                    lines[path].append(f"taken: {taken.words() if taken else unknown}")
                if raster.classification:
                    kinds = ", ".join(safe.DROPPED.values())
                    lines[path].append(f"no data by {raster.classification.name}: {kinds}")
                lines[path] += [self.codes().line()] * (raster.what == MAP)
            if not product_name(raster.path):
                cells.setdefault(path, []).append(raster.cell)
        for path, names in cells.items():
            lines[path].append(f"not named like a product: read in {', '.join(names)}")
        shared = Counter(raster.cell for raster in self.products(store)[0])
        if any(n > 1 for n in shared.values()):
            several = ", ".join(cell for cell, n in shared.items() if n > 1)
            lines[path].append(
                f"{several}: a tile is taken from the first file by name that holds all of it"
            )
        return lines

    def report(self, store: Store) -> TilesReport:
        composites, maps = self.products(store)
        covered = {str(composite) for composite in composites if covering(composite, maps)}
        names = dict.fromkeys(str(composite) for composite in composites)
        footers = [store.footer(self.name, shard) for shard in store.shards(self.name)]
        pairs = {(str(a), str(b)) for a, b in overlapping(maps, warped=True)}
        return TilesReport(
            [name for name in names if name not in covered],
            sorted(pairs),
            sum(footer.counts.get(DIFFERS, 0) for footer in footers if footer),
            sum(footer.rows for footer in footers if footer) * self.size**2,
        )

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


_BAND = re.compile(r"(?<![A-Za-z0-9])(B0?[234]|red|green|blue)(?![A-Za-z0-9])", re.IGNORECASE)
_NUMBERED = re.compile(r"(?<![A-Za-z0-9])B0?([234])(?![A-Za-z0-9])", re.IGNORECASE)


def grouped(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, Path, Path]]]:
    """Files with all bands, and scenes of (red, green, blue) files whose names have B04, B03 and
    B02 in one place and are equal elsewhere. A folder is a Sentinel-2 product: its 10 m bands.

    Raises ArasError naming a scene that lacks a band, and as `safe.bands_of`.
    """
    folders = [path for path in paths if path.is_dir()]
    files = [path for path in paths if path not in folders]
    paths = [*files, *(band for folder in folders for band in safe.bands_of(folder))]
    colours: dict[str, list[Path]] = {"4": [], "3": [], "2": []}
    stacks: list[Path] = []
    for path in paths:
        numbers = _NUMBERED.findall(path.name)
        (colours[numbers[0]] if len(numbers) == 1 else stacks).append(path)
    return stacks, matched(*colours.values())


def matched(
    red: Sequence[Path], green: Sequence[Path], blue: Sequence[Path]
) -> list[tuple[Path, Path, Path]]:
    """Scenes of files of each colour whose paths differ in the name of the band alone; a file of
    each is a scene, whatever their names.

    Raises ArasError naming the files that lack another band, or that cannot be told apart.
    """
    if len(red) == len(green) == len(blue) == 1:
        return [(red[0], green[0], blue[0])]
    scenes: dict[str, dict[str, Path]] = {}
    for colour, paths in (("red", red), ("green", green), ("blue", blue)):
        for path in paths:
            bands = scenes.setdefault(_BAND.sub("*", str(path)), {})
            if bands.setdefault(colour, path) != path:
                raise ArasError(f"{bands[colour]} and {path}: both are {colour} of a scene")
    for bands in scenes.values():
        if missing := [colour for colour in ("red", "green", "blue") if colour not in bands]:
            raise ArasError(
                f"{next(iter(bands.values()))}: no file of {' and '.join(missing)} goes with it; "
                "expected three files of a scene whose paths differ in B04, B03, B02 (or red, "
                "green, blue) alone: fetch what is missing, or narrow composites in [tiles]"
            )
    return [(bands["red"], bands["green"], bands["blue"]) for bands in scenes.values()]


def covering(composite: Raster, maps: Sequence[Raster]) -> tuple[Raster, ...]:
    """The maps that share pixels with a composite."""
    place = (composite.column, composite.row, composite.width, composite.height)
    return tuple(raster for raster in maps if min(overlap(raster, *place)[2:]) > 0)


def overlapping(maps: Sequence[Raster], *, warped: bool = False) -> Iterator[tuple[Raster, Raster]]:
    """Pairs of maps that hold the same pixels; only maps of the same cell can. Resampled maps may
    share their empty edges: they are compared pixel by pixel as tiles are cut, and are among the
    pairs only with ``warped``."""
    of_cell: dict[str, list[Raster]] = {}
    for raster in (raster for raster in maps if warped or not raster.warp):
        yield from ((other, raster) for other in covering(raster, of_cell.get(raster.cell, [])))
        of_cell.setdefault(raster.cell, []).append(raster)


def cut(stage: Tiles, payload: Payload, legend: Legend) -> Output:
    """The tiles of a shard, and how many candidates each of `REASONS` dropped."""
    from builder.land import products

    origin = cell_origin(payload.composites[0].cell)
    counts: Counter[str] = Counter({"candidates": 0, "kept": 0, **dict.fromkeys(REASONS, 0)})
    tiles: list[Tile] = []
    with contextlib.ExitStack() as stack:
        resampling = "bilinear" if stage.resample == "refuse" else stage.resample
        images = [
            stack.enter_context(products.opened(raster, resampling, stage.offset))
            for raster in payload.composites
        ]
        maps = [stack.enter_context(products.opened(raster)) for raster in payload.maps]
        for first in range(payload.first, payload.first + payload.rows, STRIP):
            last = min(first + STRIP, payload.first + payload.rows)
            waiting: dict[tuple[int, int], str] = {}
            done: set[tuple[int, int]] = set()
            for image in images:
                for patch in _strip(
                    stage, image, maps, (first, last), legend, counts, waiting, done
                ):
                    tiles.append(tile_at(stage, image.raster, origin, image.bands, *patch))
            counts.update(waiting.values())
            counts["candidates"] += len(waiting) + len(done)
    counts["kept"] = len(tiles)
    return Output(_table(tiles), dict(counts))


def _strip(
    stage: Tiles,
    image: "Product",
    maps: "Sequence[Product]",
    patch_rows: tuple[int, int],
    legend: Legend,
    counts: Counter[str],
    waiting: dict[tuple[int, int], str],
    done: set[tuple[int, int]],
) -> Iterator[tuple[int, int, npt.NDArray[Any], Pixels]]:
    """Apply the rules to a strip; yields (row, column, stored values (3, s, s), mask) of each tile
    kept.

    ``done`` are the patches that an image has, ``waiting`` those that none has whole so far, with
    the reason; both are brought up to date.
    """
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
    for patch in itertools.product(lines, empty):
        if patch not in done:
            waiting.setdefault(patch, "black")
    columns = [column for column in columns if column not in empty]
    if not columns or all(patch in done for patch in itertools.product(lines, columns)):
        return
    x, width = left + columns[0] * size, len(columns) * size
    values, valid = image.read(x, y, width, height)
    grid = (len(lines), size, len(columns), size)
    dark = (~valid).view(np.uint8).reshape(grid)
    black = dark.sum(axis=1, dtype=np.uint16).sum(axis=2, dtype=np.uint32) / size**2
    whole = (black < 1) & (black <= stage.max_black)
    for line, column in np.argwhere(~whole):
        patch = lines[line], columns[column]
        if patch not in done and black[line, column] < 1:
            waiting[patch] = "partly_black"
        elif patch not in done:
            waiting.setdefault(patch, "black")
    bright = [
        (line, column)
        for line, column in np.argwhere(whole).tolist()
        if (lines[line], columns[column]) not in done
    ]
    if not bright:
        return
    low = min(column for _, column in bright)
    high = max(column for _, column in bright) + 1
    window = (x + low * size, y, (high - low) * size, height)
    differs = np.zeros((height, window[2]), dtype=bool) if len(maps) > 1 else None
    ids = products.mosaic(maps, legend, *window, differs)
    for line, column in bright:
        done.add((lines[line], columns[column]))
        waiting.pop((lines[line], columns[column]), None)
        mask = ids[line * size :, (column - low) * size :][:size, :size]
        reason = _reject(mask, stage.max_water)
        if reason:
            counts[reason] += 1
            continue
        if differs is not None:
            there = differs[line * size :, (column - low) * size :][:size, :size]
            counts[DIFFERS] += int(there.sum())
        stored = values[:, line * size :, column * size :][:, :size, :size]
        yield lines[line], columns[column], stored, mask


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
        source=times.stated(str(composite), composite.acquired),
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
