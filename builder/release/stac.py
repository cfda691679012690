"""stac/: the real tiles as a SpatioTemporal Asset Catalog, items as stac-geoparquet.

An item's assets are its image and mask: the shard that holds them, at which byte each begins and
how long it is. STAC has no term for a piece of a file, so these numbers are fields of our own; one
range request fetches the PNG. A tile without a place or a time is no item, because STAC requires
both, and a release without such tiles has no folder stac/.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from builder.core.arrow import TEXT_ROW_GROUP, column_digest, options
from builder.core.licences import licence
from builder.core.manifest import Extent, Manifest
from builder.land.classes import CLASSES
from builder.land.columns import BBOX, INSTANT, PER_CLASS_PERCENT, SPLITS
from builder.land.pictures import per_class
from builder.release.croissant import keywords, release_address
from builder.release.geo import GeoFooter, with_footer
from builder.release.rows import opened

FOLDER = "stac"
COLLECTION = f"{FOLDER}/collection.json"
ITEMS = f"{FOLDER}/items.parquet"
VERSION = "1.1.0"
"""Of STAC."""
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
PARQUET = "application/vnd.apache.parquet"
GEOPARQUET_KEY = b"stac-geoparquet"
ROLES = {"image": "data", "mask": "labels"}
TITLES = {
    "image": "True-colour tile, RGB PNG inside the shard",
    "mask": "Land cover of the same pixels, PNG of class ids inside the shard",
}
COLUMNS = (
    *("id", "geometry", "bbox", "start_datetime", "end_datetime", "crs", "transform", "pixels"),
    *("split", "percent", "dominant", "shard"),
    *("image_offset", "image_size", "mask_offset", "mask_size"),
)
"""Columns of config metadata that an item is made from."""

_TEXTS = pa.list_(pa.string())
_ASSET = pa.struct(
    [
        ("href", pa.string()),
        ("type", pa.string()),
        ("title", pa.string()),
        ("roles", _TEXTS),
        ("aras:offset", pa.int64()),
        ("aras:size", pa.int64()),
        ("aras:media_type", pa.string()),
    ]
)
_LINK = pa.struct([("href", pa.string()), ("rel", pa.string()), ("type", pa.string())])
SCHEMA = pa.schema(
    [
        ("type", pa.string()),
        ("stac_version", pa.string()),
        ("stac_extensions", _TEXTS),
        ("id", pa.string()),
        ("geometry", pa.binary()),
        ("bbox", BBOX),
        ("links", pa.list_(_LINK)),
        ("assets", pa.struct([(name, _ASSET) for name in ROLES])),
        ("collection", pa.string()),
        ("datetime", INSTANT),
        ("start_datetime", INSTANT),
        ("end_datetime", INSTANT),
        ("proj:code", pa.string()),
        ("proj:transform", pa.list_(pa.float64())),
        ("proj:shape", pa.list_(pa.int64())),
        ("aras:split", pa.string()),
        ("aras:dominant", pa.string()),
        ("aras:percent", PER_CLASS_PERCENT),
    ]
)
"""stac-geoparquet 1.1: properties of an item are columns."""
_CODE = r"^[A-Z]+:\w+$"
"""A CRS that is an authority's code; others have none."""


def write_items(release: Path, manifest: Manifest) -> int:
    """Write stac/items.parquet from config metadata; the number of items, 0 without the file.

    Memory holds two row groups. Raises ArasError for a file of metadata that cannot be read.
    """
    places = GeoFooter()
    for table in items(release, manifest):
        places.see(table)
    if not places.kinds:
        return 0
    own = {GEOPARQUET_KEY: json.dumps({"version": "1.1.0"})}
    schema = with_footer(SCHEMA.with_metadata(own), places)
    path = release / ITEMS
    path.parent.mkdir(exist_ok=True)
    written = 0
    with pq.ParquetWriter(path, schema, **options(schema)) as writer:
        for table in items(release, manifest):
            writer.write_table(table.replace_schema_metadata(schema.metadata))
            written += table.num_rows
    return written


def items(release: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """Items of `TEXT_ROW_GROUP` rows of config metadata and more at a time, in their order; none
    where metadata does not say where rows and their pictures are."""
    waiting: list[pa.Table] = []
    for rows in _rows(release, manifest):
        waiting.append(rows)
        if sum(table.num_rows for table in waiting) >= TEXT_ROW_GROUP:
            yield _items(pa.concat_tables(waiting), collection_id(manifest))
            waiting = []
    if waiting:
        yield _items(pa.concat_tables(waiting), collection_id(manifest))


def _rows(release: Path, manifest: Manifest) -> Iterator[pa.Table]:
    """Rows of config metadata with a place and a time."""
    for part in manifest.configs.get("metadata", {}).values():
        for name in part.files:
            with opened(release / name) as file:
                if not set(COLUMNS) <= set(file.schema_arrow.names):
                    return
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(COLUMNS))
                    placed, dated = (
                        table.column(c).is_valid() for c in ("geometry", "end_datetime")
                    )
                    table = table.filter(pc.and_(placed, dated))
                    if table.num_rows:
                        yield table.replace_schema_metadata()


def _items(rows: pa.Table, collection: str) -> pa.Table:
    n = rows.num_rows
    side = np.sqrt(per_class(rows.column("pixels")).sum(axis=1)).astype(np.int64)
    start, end = rows.column("start_datetime"), rows.column("end_datetime")
    crs = rows.column("crs")
    coded = pc.fill_null(pc.match_substring_regex(crs, _CODE), False)
    link = {"href": "./collection.json", "rel": "collection", "type": "application/json"}
    values = {
        "type": pa.repeat("Feature", n),
        "stac_version": pa.repeat(VERSION, n),
        "stac_extensions": pa.array([[PROJECTION]] * n, _TEXTS),
        "id": rows.column("id"),
        "geometry": rows.column("geometry"),
        "bbox": rows.column("bbox"),
        "links": pa.array([[link]] * n, pa.list_(_LINK)),
        "assets": _assets(rows),
        "collection": pa.repeat(collection, n),
        "datetime": pc.if_else(pc.equal(start, end), start, pa.scalar(None, INSTANT)),
        "start_datetime": start,
        "end_datetime": end,
        "proj:code": pc.if_else(coded, crs, pa.scalar(None, pa.string())),
        "proj:transform": rows.column("transform"),
        "proj:shape": pa.array(np.stack([side, side], axis=1).tolist(), pa.list_(pa.int64())),
        "aras:split": pa.array([SPLITS[i] for i in rows.column("split").to_pylist()]),
        "aras:dominant": pa.array([CLASSES[i] for i in rows.column("dominant").to_pylist()]),
        "aras:percent": rows.column("percent"),
    }
    return pa.table([values[name] for name in SCHEMA.names], SCHEMA)


def _assets(rows: pa.Table) -> pa.StructArray:
    n = rows.num_rows
    href = pc.binary_join_element_wise("..", rows.column("shard"), "/").combine_chunks()
    assets = []
    for name, role in ROLES.items():
        place, size = (rows.column(f"{name}_{what}") for what in ("offset", "size"))
        values = [
            href,
            pa.repeat(PARQUET, n),
            pa.repeat(TITLES[name], n),
            pa.array([[role]] * n, _TEXTS),
            place.combine_chunks(),
            size.combine_chunks(),
            pa.repeat("image/png", n),
        ]
        assets.append(pa.StructArray.from_arrays(values, fields=list(_ASSET)))
    return pa.StructArray.from_arrays(assets, fields=list(SCHEMA.field("assets").type))


def collection_id(manifest: Manifest) -> str:
    """The name of the release, also in a record that holds one kind of its rows: its items are the
    same file there."""
    return manifest.name.removesuffix(f"-{manifest.part.kind}") if manifest.part else manifest.name


def differ(release: Path, manifest: Manifest) -> bool:
    """Whether stac/items.parquet, where there is one, holds other items than the rows of config
    metadata give."""
    path = release / ITEMS
    expected = items(release, manifest)
    if not path.is_file():
        return False
    with opened(path) as file:
        if file.schema_arrow.names != SCHEMA.names:
            return True
        groups = (file.read_row_group(i) for i in range(file.num_row_groups))
        for table in expected:
            there = next(groups, None)
            if there is None or any(
                column_digest(there.column(name)) != column_digest(table.column(name))
                for name in SCHEMA.names
            ):
                return True
        return next(groups, None) is not None


def collection(manifest: Manifest) -> dict[str, Any]:
    """The STAC collection of the items, from the manifest of a release that has items."""
    extent = manifest.facts.census.extent
    assert extent is not None
    links = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        {"rel": "license", "href": licence(manifest.license)["url"], "type": "text/html"},
        {"rel": "describedby", "href": "../README.md", "type": "text/markdown"},
    ]
    if manifest.doi:
        links.append({"rel": "cite-as", "href": f"https://doi.org/{manifest.doi}"})
    if address := release_address(manifest):
        links.append({"rel": "about", "href": address, "type": "text/html"})
    rows = manifest.facts.census.rows
    tiles = {split: rows[f"real/{split}"] for split in SPLITS if f"real/{split}" in rows}
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "stac_extensions": [],
        "id": collection_id(manifest),
        "title": manifest.title,
        "description": _description(manifest, tiles),
        "license": manifest.license,
        "keywords": keywords(manifest),
        "providers": _providers(manifest),
        "extent": extent_of(extent),
        "summaries": {
            "aras:split": list(tiles),
            "aras:dominant": list(CLASSES),
            **({"proj:code": list(extent.crs)} if extent.crs else {}),
        },
        "item_assets": {
            name: {"type": PARQUET, "title": TITLES[name], "roles": [role]}
            for name, role in ROLES.items()
        },
        "assets": {
            "items": {
                "href": "./items.parquet",
                "type": PARQUET,
                "title": "Items as stac-geoparquet",
                "roles": ["stac-items"],
            }
        },
        "links": links,
    }


def extent_of(extent: Extent) -> dict[str, Any]:
    """Extent of tiles with times as STAC has it."""
    interval = list(extent.interval or ())
    return {"spatial": {"bbox": [list(extent.bounds)]}, "temporal": {"interval": [interval]}}


def _description(manifest: Manifest, tiles: dict[str, int]) -> str:
    rows = ", ".join(f"{split} {n:,}" for split, n in tiles.items())
    return (
        f"Real tiles of {manifest.title}, version {manifest.version}: {rows}. An asset is a PNG "
        "inside a Parquet shard: aras:size bytes from byte aras:offset of href."
    )


def _providers(manifest: Manifest) -> list[dict[str, Any]]:
    own = [{"name": author.name, "roles": ["producer"]} for author in manifest.authors]
    sources = [
        {"name": source.name, "roles": ["licensor"], **({"url": source.url} if source.url else {})}
        for source in manifest.facts.sources
    ]
    return [*own, *sources]
