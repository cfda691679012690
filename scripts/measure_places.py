"""What it costs a release to say where and when its rows are: bytes and seconds.

Example: python scripts/measure_places.py demo/release/0.1.0 --repeat 20

Writes config metadata of RELEASE as it is and without the columns of places, its rows repeated as
asked, each time 0.3° further east and north, and prints the bytes of both, the CPU seconds that the
columns take to compute, and the bytes of stac/items.parquet beside those of the whole release.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import TEXT_ROW_GROUP, options
from builder.core.manifest import read_manifest
from builder.land.columns import GEO_COLUMNS, METADATA_NAMES, arrow_schema
from builder.release.geo import GeoFooter, geo_columns, with_footer, with_geo
from builder.release.stac import ITEMS


def size(table: pa.Table, folder: Path, names: list[str]) -> int:
    """Bytes of a file of config metadata with these columns."""
    places = GeoFooter()
    places.see(table)
    schema = with_footer(arrow_schema(names), places)
    path = folder / "metadata.parquet"
    with pq.ParquetWriter(path, schema, **options(schema)) as writer:
        writer.write_table(table.select(names).cast(schema), row_group_size=TEXT_ROW_GROUP)
    return path.stat().st_size


def moved(table: pa.Table, degrees: float) -> pa.Table:
    """The rows as they would be so many degrees further east and north."""
    places = [
        affine and [*affine[:2], affine[2] + degrees, *affine[3:5], affine[5] + degrees]
        for affine in table.column("transform").to_pylist()
    ]
    place = table.schema.get_field_index("transform")
    column = pa.array(places, table.schema.field(place).type)
    return with_geo(table.set_column(place, table.schema.field(place), column))


def measure(release: Path, repeat: int) -> dict[str, float]:
    manifest = read_manifest(release)
    paths = [
        release / name for part in manifest.configs["metadata"].values() for name in part.files
    ]
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in paths])
    table = table.replace_schema_metadata()
    table = pa.concat_tables([moved(table, 0.3 * i) for i in range(repeat)])
    start = time.process_time()
    geo_columns(table)
    seconds = time.process_time() - start
    without = [name for name in METADATA_NAMES if name not in GEO_COLUMNS]
    with tempfile.TemporaryDirectory() as folder:
        sizes = [size(table, Path(folder), names) for names in (list(METADATA_NAMES), without)]
    files = {file.path: file.bytes for file in manifest.files}
    return {
        "rows": table.num_rows,
        "metadata bytes": sizes[0],
        "metadata bytes without places": sizes[1],
        "bytes per row": round((sizes[0] - sizes[1]) / table.num_rows, 1),
        "microseconds per row": round(1e6 * seconds / table.num_rows, 2),
        "items bytes": files.get(ITEMS, 0),
        "release bytes": sum(files.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--repeat", type=int, default=1, help="Times the rows are repeated.")
    parser.add_argument("--json", action="store_true")
    options_ = parser.parse_args()
    measured = measure(options_.release, options_.repeat)
    if options_.json:
        print(json.dumps(measured))
    else:
        for name, value in measured.items():
            print(f"{name:<30} {value:>14,}")


if __name__ == "__main__":
    main()
