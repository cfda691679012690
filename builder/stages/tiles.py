"""Source stage: real tiles from Sentinel-2 RGBNIR composites and WorldCover maps."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import landcover
from builder.errors import ArasError
from builder.files import content_hashes, digest_of
from builder.grid import PER_DEGREE, Raster, overlap
from builder.pictures import COMPOSITION
from builder.stage import Maker, Stage, Unit, setting
from builder.store import Store

SHARD = 12
"""Patch rows of one shard: at most 12 × 46 tiles."""


@dataclass(frozen=True)
class Payload:
    """Patch rows ``first`` … ``first + rows`` of a composite, and the maps that may cover it."""

    composite: Raster
    maps: tuple[Raster, ...]
    first: int
    rows: int


@dataclass(frozen=True)
class Tiles(Stage):
    """Cut ``size``×``size`` patches on the regular grid of each 1° cell.

    Candidates are all patches that lie wholly inside a composite, counted from the cell's
    upper-left corner. Every one is either kept or counted under one of `cutting.REASONS`.
    """

    maps: tuple[Path, ...] = setting(())
    composites: tuple[Path, ...] = setting(())
    size: int = 256
    reflectance: tuple[float, float] = (0.0, 0.275)
    max_water: float = 0.9
    max_black: float = 0.0
    remap: tuple[tuple[int, str], ...] = tuple(landcover.DEFAULT_REMAP.items())
    resample: str = "refuse"

    adds = (
        *("id", "image", "mask", *COMPOSITION),
        *("crs", "transform", "longitude", "latitude", "source", "saturated"),
    )

    def units(self, store: Store) -> list[Unit]:
        """One shard per cell and `SHARD` patch rows, named after both.

        Raises ArasError listing every product that is not what it claims to be, and when no
        map covers any composite.
        """
        composites, maps = self.products()
        hashes = content_hashes([*self.composites, *self.maps], store.root / ".inputs.json")
        units = []
        for composite in composites:
            near = covering(composite, maps)
            inputs = digest_of([hashes[str(one.path)] for one in (composite, *near)])
            per_cell = PER_DEGREE // self.size
            for first in range(0, per_cell, SHARD):
                payload = Payload(composite, near, first, min(SHARD, per_cell - first))
                units.append(Unit(f"real-{composite.cell}-{first:02d}", payload, inputs))
        return sorted(units, key=lambda unit: unit.shard)

    def products(self) -> tuple[list[Raster], list[Raster]]:
        """The inputs, checked: (composites, maps)."""
        from builder.geo import inspect  # GDAL: slow to load, and most commands read no product

        problems: list[str] = []
        resample = self.resample != "refuse"

        def checked(paths: Sequence[Path], what: str, bands: int, dtype: str) -> list[Raster]:
            found = []
            for path in paths:
                try:
                    found.append(inspect(path, what, bands=bands, dtype=dtype, resample=resample))
                except ArasError as error:
                    problems.append(str(error))
            return found

        composites = checked(self.composites, "S2RGBNIR", 3, "uint16")
        maps = checked(self.maps, "Map", 1, "uint8")
        twice = [cell for cell, n in Counter(one.cell for one in composites).items() if n > 1]
        if twice:
            problems.append(f"several composites of one cell: {', '.join(twice)}; keep one of each")
        problems += [f"{a} and {b} overlap: keep one of them" for a, b in overlapping(maps)]
        if problems:
            raise ArasError("\n".join(problems))
        if composites and not any(covering(one, maps) for one in composites):
            raise ArasError(
                f"none of the {len(maps)} maps covers any of the {len(composites)} composites: "
                "check maps and composites in [tiles]"
            )
        return composites, maps

    def report(self, store: Store) -> dict[str, Any]:
        """Composites that no map covers: their patches count as ``no_map``."""
        composites, maps = self.products()
        alone = [str(one) for one in composites if not covering(one, maps)]
        return {"composites_without_map": alone} if alone else {}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.stages.cutting import cut

        table = landcover.remap_table(dict(self.remap))
        return lambda payload: cut(self, payload, table)


def covering(composite: Raster, maps: Sequence[Raster]) -> tuple[Raster, ...]:
    """The maps that share pixels with a composite."""
    place = (composite.column, composite.row, composite.width, composite.height)
    return tuple(one for one in maps if min(overlap(one, *place)[2:]) > 0)


def overlapping(maps: Sequence[Raster]) -> Iterator[tuple[Raster, Raster]]:
    """Pairs of maps that claim the same pixels; only maps named after one cell can. Resampled
    ones may share their empty edges."""
    of_cell: dict[str, list[Raster]] = {}
    for one in (one for one in maps if not one.warp):
        yield from ((other, one) for other in covering(one, of_cell.get(one.cell, [])))
        of_cell.setdefault(one.cell, []).append(one)
