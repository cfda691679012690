"""Small files that cost gigabytes to who reads them without looking at what they claim."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from builder.core.arrow import leaves, options


def repeat_a_text(path: Path, column: str, chars: int) -> None:
    """Give a Parquet file a text of so many characters in each caption, kept once by dictionary."""
    table = pq.ParquetFile(path).read()
    captions = table.column("captions").combine_chunks()
    if isinstance(captions, pa.ChunkedArray):
        captions = captions.chunk(0)
    cells = captions.flatten()
    long = pa.DictionaryArray.from_arrays(
        pa.array([0] * len(cells), pa.int32()), pa.array(["x" * chars])
    )
    members = {field.name: cells.field(field.name) for field in cells.type}
    bomb = pa.StructArray.from_arrays(list({**members, column: long}.values()), names=list(members))
    held = pa.ListArray.from_arrays(captions.offsets, bomb)
    place = table.schema.get_field_index("captions")
    table = table.set_column(place, "captions", held)
    kept = {**options(table.schema), "store_schema": False}
    kept["use_dictionary"] = [leaf for field in table.schema for leaf in leaves(field)]
    pq.write_table(table, path, dictionary_pagesize_limit=1 << 30, **kept)
