"""Read a release, or an export of one, with a GIS or training library, and print what was read.

    PYTHONPATH=ENVIRONMENT python -S read_gis.py READER PATH [MORE]

Runs in an environment of its own, so it needs that environment's libraries alone. Prints a line of
JSON per file read.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path


def metadata_files(release):
    return sorted(str(path) for path in Path(release).glob("metadata/*.parquet"))


def geopandas_reader(release):
    import geopandas

    for path in metadata_files(release):
        frame = geopandas.read_parquet(path)
        known = frame[frame.geometry.notna()]
        line = {
            "file": Path(path).name,
            "rows": len(frame),
            "ids": known["id"].tolist(),
            "crs": frame.crs.to_string(),
            "valid": bool(known.geometry.is_valid.all()),
            "bounds": known.geometry.bounds.values.tolist(),
            "start": [str(time) for time in known["start_datetime"]],
        }
        if len(known):
            west, south, east, north = known.geometry.iloc[0].buffer(-1e-6).bounds
            near = geopandas.read_parquet(path, bbox=(west, south, east, north))
            line["at the first"] = near["id"].tolist()
        yield line


def gdal_reader(release):
    """GDAL reads Parquet through DuckDB where it is built without Arrow, as in pyogrio's wheels."""
    import _duckdb
    import pyogrio

    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libduckdb.so"
        shutil.copy(_duckdb.__file__, library)
        for path in metadata_files(release):
            frame = pyogrio.read_dataframe(
                f"ADBC:{path}", ADBC_DRIVER=str(library), columns=["id", "start_datetime"]
            )
            known = frame[frame.geometry.notna()]
            yield {
                "file": Path(path).name,
                "rows": len(frame),
                "ids": known["id"].tolist(),
                "crs": frame.crs.to_string(),
                "bounds": known.geometry.bounds.values.tolist(),
            }


def duckdb_reader(release):
    import duckdb
    from duckdb_extensions import import_extension

    import_extension("spatial")
    connection = duckdb.connect()
    connection.execute("LOAD spatial")
    for path in metadata_files(release):
        rows = connection.execute(
            "SELECT id, ST_XMin(geometry), ST_YMin(geometry), ST_XMax(geometry), "
            "ST_YMax(geometry), year(start_datetime) FROM read_parquet(?) "
            "WHERE geometry IS NOT NULL",
            [path],
        ).fetchall()
        yield {
            "file": Path(path).name,
            "rows": connection.execute("SELECT count(*) FROM read_parquet(?)", [path]).fetchone()[
                0
            ],
            "ids": [row[0] for row in rows],
            "bounds": [list(row[1:5]) for row in rows],
            "years": sorted({row[5] for row in rows}),
        }


def stac_reader(release, schemas):
    """Items of stac-geoparquet as JSON, each and the collection valid by stac-valid.

    The schemas of STAC are those that pystac brings, that of the projection extension is beside
    this program: nothing is fetched.
    """
    import pyarrow.parquet as pq
    import pystac
    from stac_geoparquet.arrow import stac_table_to_items
    from stac_validator.validate import StacValidate

    core = Path(pystac.__file__).parent / "validation" / "jsonschemas"
    maps = {"https://stac-extensions.github.io/projection/v2.0.0/schema.json": schemas}
    for path in (core / "stac-spec" / "v1.1.0").iterdir():
        for kind in ("item", "collection", "catalog"):
            base = f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema"
            maps[f"{base}/{path.name}"] = str(path)
    for path in (core / "geojson").iterdir():
        maps[f"https://geojson.org/schema/{path.name}"] = str(path)

    def problems(value):
        validator = StacValidate(schema_map=dict(maps))
        valid = validator.validate_dict(value)
        return [] if valid else [json.dumps(message)[:600] for message in validator.message]

    folder = Path(release) / "stac"
    collection = json.loads((folder / "collection.json").read_text())
    read = pystac.Collection.from_dict(collection)
    yield {
        "collection": read.id,
        "problems": problems(collection),
        "bbox": read.extent.spatial.bboxes[0],
    }
    for item in stac_table_to_items(pq.read_table(folder / "items.parquet")):
        read = pystac.Item.from_dict(item)
        yield {
            "item": read.id,
            "problems": problems(item),
            "bbox": read.bbox,
            "assets": {
                name: {"href": asset.href, **asset.extra_fields}
                for name, asset in read.assets.items()
            },
            "properties": item["properties"],
        }


def webdataset_reader(folder):
    import webdataset

    for path in sorted(Path(folder).rglob("*.tar")):
        samples = webdataset.WebDataset(str(path), shardshuffle=False)
        decoded = samples.decode("rgb8").to_tuple("__key__", "png", "txt", "json")
        for key, image, text, record in decoded:
            yield {
                "key": key,
                "shape": list(image.shape),
                "text": text,
                "id": record["id"],
            }


def coco_reader(folder):
    from pycocotools.coco import COCO

    for path in sorted(Path(folder).glob("annotations/*.json")):
        sys.stdout, out = sys.stderr, sys.stdout  # it prints as it reads
        coco = COCO(str(path))
        sys.stdout = out
        for image in coco.loadImgs(coco.getImgIds()):
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
            yield {"row": image["row"], "captions": [entry["caption"] for entry in annotations]}


READERS = {
    "geopandas": geopandas_reader,
    "gdal": gdal_reader,
    "duckdb": duckdb_reader,
    "stac": stac_reader,
    "webdataset": webdataset_reader,
    "coco": coco_reader,
}


def main(reader, *arguments):
    for line in READERS[reader](*arguments):
        print(json.dumps(line, default=str), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is printed; old libraries abort a process whose threads still end
