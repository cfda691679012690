"""Where and when a row is: footprint, bounds and when it was taken, from its own columns;
and the footer that makes config metadata GeoParquet 1.1."""

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.errors import ArasError
from builder.core.files import parse_json
from builder.land import times
from builder.land.columns import BBOX, GEO_COLUMNS, INSTANT
from builder.land.pictures import per_class

if TYPE_CHECKING:
    from rasterio.crs import CRS

Floats = npt.NDArray[np.float64]

DIGITS = 9
"""Decimals of a degree that a footprint keeps, a tenth of a millimetre: tiles side by side share
their corners to the last bit."""
GEO_KEY = "geo"
"""The key of GeoParquet in the footer of a file."""
SAME = 1e-7
"""Degrees, a centimetre, by which versions of PROJ may differ."""
_POLYGON = np.dtype(
    [("order", "u1"), ("type", "<u4"), ("rings", "<u4"), ("n", "<u4"), ("xy", "<f8", (5, 2))]
)
"""WKB (OGC 06-103r4) of a polygon of four corners, the first repeated: 93 bytes."""
_MANY = np.dtype([("order", "u1"), ("type", "<u4"), ("n", "<u4")])
POLYGON, MULTIPOLYGON = 3, 6

CRS84: dict[str, Any] = {
    "$schema": "https://proj.org/schemas/v0.7/projjson.schema.json",
    "type": "GeographicCRS",
    "name": "WGS 84 (CRS84)",
    "datum": {
        "type": "GeodeticReferenceFrame",
        "name": "World Geodetic System 1984",
        "ellipsoid": {
            "name": "WGS 84",
            "semi_major_axis": 6378137,
            "inverse_flattening": 298.257223563,
        },
    },
    "coordinate_system": {
        "subtype": "ellipsoidal",
        "axis": [
            {
                "name": "Geodetic longitude",
                "abbreviation": "Lon",
                "direction": "east",
                "unit": "degree",
            },
            {
                "name": "Geodetic latitude",
                "abbreviation": "Lat",
                "direction": "north",
                "unit": "degree",
            },
        ],
    },
    "id": {"authority": "OGC", "code": "CRS84"},
}
"""Longitude, latitude in degrees of WGS 84, as PROJJSON: written out, so that equal releases have
equal bytes with any version of PROJ."""


@functools.cache
def crs_of(name: str) -> "CRS":
    """The CRS of a row. Raises ArasError for a name that PROJ does not know."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_user_input(name)
    except (CRSError, ValueError) as error:
        raise ArasError(
            f"CRS {name!r} is unknown ({error}); expected one like EPSG:4326"
        ) from error


def geo_columns(table: pa.Table) -> dict[str, pa.Array]:
    """The columns `GEO_COLUMNS` of rows, from their crs, transform, pixels and source.

    A row without a place, and one whose footprint would hold a pole, has a null geometry; one whose
    source says no time (`land.times`) has null times. Raises ArasError for a CRS that is unknown.
    """
    start, end = taken(table.column("source"))
    corners = footprints(table)
    return dict(
        zip(GEO_COLUMNS, (_geometry(corners), _box_column(corners), start, end), strict=True)
    )


def with_geo(table: pa.Table) -> pa.Table:
    """The rows with `geo_columns`, in place of such columns that they have."""
    for name, column in geo_columns(table).items():
        there = table.schema.get_field_index(name)
        table = (
            table.append_column(name, column)
            if there < 0
            else table.set_column(there, name, column)
        )
    return table


def footprints(table: pa.Table) -> Floats:
    """Corners of tiles, (n, 4, 2) longitude and latitude, counterclockwise; NaN without a place.

    A tile is square, of as many pixels as ``pixels`` counts. Its four corners are transformed;
    between them the true edge of a tile of some kilometres bends by less than a metre. Longitudes
    are continuous within a tile: beyond 180 where it crosses the antimeridian.
    """
    corners = np.full((table.num_rows, 4, 2), np.nan)
    known = pc.and_(table.column("crs").is_valid(), table.column("transform").is_valid())
    chosen = np.flatnonzero(known.to_numpy())
    if not len(chosen):
        return corners
    some = table.select(["crs", "transform", "pixels"]).take(chosen)
    affine = np.array(some.column("transform").to_pylist(), dtype=np.float64)
    side = np.sqrt(per_class(some.column("pixels")).sum(axis=1))[:, None]
    column, line = side * [0, 0, 1, 1], side * [0, 1, 1, 0]
    a, b, c, d, e, f = (affine[:, [i]] for i in range(6))
    x, y = a * column + b * line + c, d * column + e * line + f
    names = np.array(some.column("crs").to_pylist())
    for name in np.unique(names):
        here = names == name
        corners[chosen[here]] = _lonlat(crs_of(str(name)), x[here], y[here])
    return corners


def _lonlat(crs: "CRS", x: Floats, y: Floats) -> Floats:
    """Corners (n, 4) in a CRS → (n, 4, 2) as `footprints` gives them."""
    from rasterio.warp import transform

    if crs.to_epsg() != 4326:
        degrees = crs_of("EPSG:4326")
        lon, lat = transform(crs, degrees, x.ravel().tolist(), y.ravel().tolist())
        x, y = (np.array(values).reshape(x.shape) for values in (lon, lat))
    with np.errstate(invalid="ignore"):  # PROJ gives infinity for what it cannot place
        wide = np.ptp(x, axis=1, keepdims=True) > 180
        x = np.where(wide & (x < 0), x + 360, x)
        turns = np.floor((x.min(axis=1, keepdims=True) + 180) / 360)  # 180 is west: -180
        corners = np.round(np.stack([x - 360 * turns, y], axis=-1), DIGITS)
        real = (np.ptp(corners[..., 0], axis=1) < 180) & (np.abs(y) <= 90).all(axis=1)
        corners[~(real & np.isfinite(corners).all(axis=(1, 2)))] = np.nan
    lon, lat = corners[..., 0], corners[..., 1]
    area = (lon * np.roll(lat, -1, axis=1) - np.roll(lon, -1, axis=1) * lat).sum(axis=1)
    return np.where((area < 0)[:, None, None], corners[:, ::-1], corners)


def _geometry(corners: Floats) -> pa.Array:
    """Corners → WKB, a polygon each; two parts where a tile crosses the antimeridian."""
    known = np.isfinite(corners[:, 0, 0])
    polygons = np.zeros(len(corners), _POLYGON)
    polygons["order"], polygons["type"], polygons["rings"], polygons["n"] = 1, POLYGON, 1, 5
    polygons["xy"][:, :4] = corners
    polygons["xy"][:, 4] = corners[:, 0]
    values = [
        polygon.tobytes() if is_known else None
        for polygon, is_known in zip(polygons, known, strict=True)
    ]
    for i in np.flatnonzero(known & (corners[..., 0].max(axis=1) > 180)):
        values[i] = _two_parts(corners[i])
    return pa.array(values, pa.binary())


def _two_parts(corners: Floats) -> bytes:
    """A tile across the antimeridian as the part west of it and the part east of it."""
    head = np.array((1, MULTIPOLYGON, 2), _MANY)
    parts = [head.tobytes()]
    for side in (-1, 1):
        ring = _clipped(corners, side)
        ring[:, 0] = np.round(ring[:, 0] - (360 if side > 0 else 0), DIGITS)
        ring = np.concatenate([ring, ring[:1]])
        parts.append(np.array((1, POLYGON, 1), _MANY).tobytes())
        parts.append(np.array(len(ring), "<u4").tobytes() + ring.astype("<f8").tobytes())
    return b"".join(parts)


def _clipped(ring: Floats, side: int) -> Floats:
    """The part of a convex ring (n, 2) with side · (x - 180) ≥ 0 (Sutherland and Hodgman 1974)."""
    kept: list[Floats] = []
    for here, there in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        a, b = side * (here[0] - 180), side * (there[0] - 180)
        if a >= 0:
            kept.append(here)
        if a * b < 0:
            kept.append(here + (there - here) * (a / (a - b)))
    return np.array(kept)


def bounds(corners: Floats) -> Floats:
    """Corners → (n, 4) xmin, ymin, xmax, ymax. A tile across the antimeridian has xmin -180 and
    xmax 180, so that a filter that knows nothing of it never misses the tile."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    across = high[:, 0] > 180
    low[across, 0], high[across, 0] = -180, 180
    return np.concatenate([low, high], axis=1)


def _box_column(corners: Floats) -> pa.StructArray:
    values = bounds(corners)
    missing = np.isnan(values[:, 0])
    fields = [pa.array(values[:, i], mask=missing) for i in range(4)]
    return pa.StructArray.from_arrays(fields, fields=list(BBOX), mask=pa.array(missing))


def taken(source: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """First and last second in which the pictures of these sources were taken, UTC; null where
    they do not say it."""
    codes = source.cast(pa.string()).combine_chunks().dictionary_encode()
    known = [times.of_source(text) for text in codes.dictionary.to_pylist()]
    columns = (
        pa.array([time and getattr(time, name) for time in known], INSTANT)
        for name in ("first", "last")
    )
    first, last = (column.take(codes.indices) for column in columns)
    return first, last


def rings(wkb: bytes) -> list[Floats]:
    """The outer rings, (k, 2) longitude and latitude, of a footprint as `geo_columns` writes it."""
    kind = int.from_bytes(wkb[1:5], "little")
    parts, start = (1, 0) if kind == POLYGON else (int.from_bytes(wkb[5:9], "little"), 9)
    out = []
    for _ in range(parts):
        points = int.from_bytes(wkb[start + 9 : start + 13], "little")
        out.append(np.frombuffer(wkb, "<f8", points * 2, start + 13).reshape(-1, 2))
        start += 13 + 16 * points
    return out


def has_footprints(schema: pa.Schema) -> bool:
    """Whether a table has the columns geometry and bbox."""
    return {"geometry", "bbox"} <= set(schema.names)


@dataclass
class GeoFooter:
    """What the footer of a file says of the footprints in it."""

    west: float = np.inf
    south: float = np.inf
    east: float = -np.inf
    north: float = -np.inf
    kinds: set[str] = field(default_factory=set)

    def see(self, table: pa.Table) -> None:
        """Take rows; those without the columns geometry and bbox have no footprints."""
        if not has_footprints(table.schema):
            return
        box = table.column("bbox").combine_chunks().drop_null()
        if len(box):
            low, right, high, top = (box.field(name).to_numpy() for name in BBOX_SIDES)
            self.west, self.south = min(self.west, low.min()), min(self.south, right.min())
            self.east, self.north = max(self.east, high.max()), max(self.north, top.max())
        for kind in pc.unique(pc.binary_slice(table.column("geometry"), 1, 5)).drop_null():
            is_polygon = int.from_bytes(kind.as_py(), "little") == POLYGON
            self.kinds.add("Polygon" if is_polygon else "MultiPolygon")

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north of all footprints; None where there are none."""
        known = (self.west, self.south, self.east, self.north)
        return tuple(map(float, known)) if self.kinds else None  # type: ignore[return-value]

    @classmethod
    def of(cls, footers: Iterable["GeoFooter"]) -> "GeoFooter":
        """All of several."""
        whole = cls()
        for footer in footers:
            whole.west, whole.south = min(whole.west, footer.west), min(whole.south, footer.south)
            whole.east, whole.north = max(whole.east, footer.east), max(whole.north, footer.north)
            whole.kinds |= footer.kinds
        return whole

    def text(self) -> str:
        """The value of the footer key ``geo`` (GeoParquet 1.1.0)."""
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self.kinds, reverse=True),
            "crs": CRS84,
            "edges": "planar",
            "orientation": "counterclockwise",
            "covering": {"bbox": {name: ["bbox", name] for name in BBOX_SIDES}},
        }
        if self.bounds:
            column["bbox"] = list(self.bounds)
        value = {
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {"geometry": column},
        }
        return json.dumps(value)

    def fits(self, text: str) -> bool:
        """Whether a footer says the same; bounds within `SAME`."""
        try:
            said, own = (
                parse_json(value.encode())["columns"]["geometry"] for value in (text, self.text())
            )
            boxes = said.pop("bbox", []), own.pop("bbox", [])
            near = all(abs(a - b) <= SAME for a, b in zip(*boxes, strict=True))
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return near and bool(said == own)


def with_footer(schema: pa.Schema, places: GeoFooter) -> pa.Schema:
    """The schema of a file with footprints, with the key ``geo``; any other as it is.

    In the schema of Arrow, not only beside it, so that pyarrow keeps it when it copies a table.
    """
    if not has_footprints(schema):
        return schema
    return schema.with_metadata({**(schema.metadata or {}), GEO_KEY: places.text()})


BBOX_SIDES = tuple(child.name for child in BBOX)


def misplaced(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of rows whose footprint, bounds or times do not follow from their place
    and source, or whose longitude and latitude are not its centre. Raises ArasError as
    `geo_columns`.
    """
    ids = table.column("id").to_pylist()
    corners = footprints(table)
    expected = geo_columns(table)
    for name in ("start_datetime", "end_datetime"):
        same = pc.equal(table.column(name), expected[name])
        # Where a name says more than a year, an older aras wrote no time.
        given, known = table.column(name).is_valid(), _of_a_year(table.column("source"))
        nulls = pc.or_(pc.equal(given, expected[name].is_valid()), pc.invert(pc.or_(given, known)))
        fits = pc.and_(nulls, pc.fill_null(same, True)).to_pylist()
        yield from ((ids[i], f"{name} is not that of its source") for i in _false(fits))
    given = table.column("geometry").to_pylist()
    boxes = table.column("bbox").to_pylist()
    wanted = zip(expected["geometry"].to_pylist(), expected["bbox"].to_pylist(), strict=True)
    for row_id, shape, box, (footprint, around) in zip(ids, given, boxes, wanted, strict=True):
        if not _same_shape(shape, footprint):
            yield row_id, "its geometry is not the footprint of its transform"
        if not _same_box(box, around):
            yield row_id, "its bbox is not that of its footprint"
    centre = np.stack([table.column(n).to_numpy() for n in ("longitude", "latitude")], axis=1)
    with np.errstate(invalid="ignore"):
        off = np.abs(corners.mean(axis=1) - centre)
        off[:, 0] = np.minimum(off[:, 0], np.abs(off[:, 0] - 360))
        limit = np.ptp(corners, axis=1) / 8
        wrong = (off > limit).any(axis=1)
    for i in np.flatnonzero(wrong):
        yield ids[i], "longitude and latitude are not the centre of its footprint"


def _of_a_year(source: pa.ChunkedArray) -> pa.Array:
    """Whether each row is of a yearly composite of WorldCover."""
    return pc.fill_null(
        pc.match_substring_regex(source.cast(pa.string()), times.YEAR.pattern), False
    )


def _false(values: list[bool]) -> Iterator[int]:
    return (i for i, value in enumerate(values) if not value)


def _same_shape(given: bytes | None, expected: bytes | None) -> bool:
    if given is None or expected is None or len(given) != len(expected):
        return given is expected
    pairs = zip(rings(given), rings(expected), strict=True)
    return all(a.shape == b.shape and np.allclose(a, b, rtol=0, atol=SAME) for a, b in pairs)


def _same_box(given: dict[str, float] | None, expected: dict[str, float] | None) -> bool:
    if given is None or expected is None:
        return given is expected
    pairs = ((given[name], expected[name]) for name in BBOX_SIDES)
    return all(a is not None and abs(a - b) <= SAME for a, b in pairs)
