"""Read a release as a user of one library does, and print what was read, one digest a column.

    PYTHONPATH=ENVIRONMENT python -S read_release.py READER RELEASE

Runs in environments with old libraries, so it needs Python 3.10 and the reader's own library alone.
Prints a line of JSON per config and split: ``{"config": …, "split": …, "rows": …, "columns": {name:
sha256}}``, or ``"error"`` in place of rows and columns. `canonical` gives equal digests for equal
values whatever containers a library puts them in.
"""

import hashlib
import json
import math
import os
import sys
import tempfile
from datetime import timezone
from functools import partial
from pathlib import Path


def canonical(value):
    """A value in plain types: missing is None, a whole float an int, every sequence a list."""
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "sha256:" + hashlib.sha256(bytes(value)).hexdigest()
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    if isinstance(value, str):
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "isoformat"):
        return value.astimezone(timezone.utc).isoformat()
    if hasattr(value, "tolist"):
        return canonical(value.tolist())
    if isinstance(value, dict):
        members = {str(key): canonical(member) for key, member in value.items()}
        # polars before 1.0 knows no missing record, only one of missing members
        return None if all(member is None for member in members.values()) else members
    if isinstance(value, (list, tuple)) or hasattr(value, "to_list"):
        return [canonical(member) for member in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, int):
        return value
    raise TypeError(f"a value of type {type(value).__name__}")


def digest(values):
    """sha256 of one column's values in row order."""
    text = json.dumps([canonical(value) for value in values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(release):
    """(config, split) → Parquet files, from the folders of a release that hold configs."""
    files = {}
    for path in sorted(Path(release).glob("*/*-of-*.parquet")):
        files.setdefault((path.parent.name, path.name.split("-")[0]), []).append(str(path))
    return files


def by_file(read):
    """A reader of one file (path → {column: values}) as a reader of a release."""

    def each(release):
        for (config, split), paths in files_of(release).items():
            yield config, split, lambda paths=paths: join([read(path) for path in paths])

    return each


def join(tables):
    return {name: [v for table in tables for v in table[name]] for name in tables[0]}


def pyarrow_file(path):
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def pyarrow_dataset(path):
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(path).to_table()
    return {name: table.column(name).to_pylist() for name in table.column_names}


def pandas_file(path):
    import pandas

    frame = pandas.read_parquet(path)
    return {name: frame[name].tolist() for name in frame.columns}


def polars_file(path):
    import polars

    frame = polars.read_parquet(path)
    return {name: frame[name].to_list() for name in frame.columns}


def duckdb_file(path):
    import duckdb

    relation = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [path])
    names = [column[0] for column in relation.description]
    rows = relation.fetchall()
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def undecoded(dataset):
    """The dataset with pictures as their bytes."""
    from datasets import Image

    for name, feature in dataset.features.items():
        if isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def datasets_configs(release, streaming):
    """Config, split and a function that reads it, as a user names them to load_dataset."""
    import datasets

    datasets.disable_progress_bars()
    for config in datasets.get_dataset_config_names(release):
        for split in datasets.get_dataset_split_names(release, config):
            yield config, split, partial(datasets_split, release, config, split, streaming)


def datasets_split(release, config, split, streaming):
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        options = {"streaming": True} if streaming else {"cache_dir": cache}
        chosen = undecoded(datasets.load_dataset(release, config, split=split, **options))
        rows = list(chosen)
        return {name: [row[name] for row in rows] for name in chosen.features}


def datasets_file(path):
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=cache)
        chosen = undecoded(loaded)
        read = list(chosen)
        return {name: [row[name] for row in read] for name in chosen.features}


def decoded_configs(release):
    """Images and masks as arrays, from Pillow and from the formats numpy and torch."""
    for config in ("real", "synthetic"):
        for split in split_names(release, config):
            yield config, split, partial(decoded_split, release, config, split)


def split_names(release, config):
    import datasets

    return datasets.get_dataset_split_names(release, config)


def decoded_split(release, config, split):
    import datasets
    import numpy

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(release, config, split=split, cache_dir=cache)
        rows = rows.select_columns(["image", "mask"])
        columns = {}
        for name in ("image", "mask"):
            columns[name] = [array_digest(numpy.asarray(row[name])) for row in rows]
            columns[f"{name} mode"] = [row[name].mode for row in rows]
            arrays = rows.with_format("numpy")
            columns[f"{name} numpy"] = [array_digest(row[name]) for row in arrays]
        tensors = rows.with_format("torch")  # (1, H, W) in new versions, (H, W) in old ones
        columns["mask torch"] = [array_digest(row["mask"].squeeze().numpy()) for row in tensors]
        return columns


def array_digest(array):
    """Shape and sha256 of an array of bytes."""
    return f"{list(array.shape)} {hashlib.sha256(array.astype('uint8').tobytes()).hexdigest()}"


def croissant_configs(release):
    """Record sets by mlcroissant, split by split."""
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(Path(release) / "croissant.json"))
    records = {}
    for config, split in files_of(release):
        if config not in records:
            records[config] = [croissant_value(row) for row in dataset.records(config)]
        yield config, split, partial(croissant_split, records[config], split)


def croissant_split(rows, split):
    rows = [row for row in rows if row.get("split", split) == split]
    return {name: [row[name] for row in rows] for name in rows[0]}


def croissant_value(value, name=""):
    """A value of mlcroissant: its text is bytes, its members bear the names of all above them."""
    if isinstance(value, dict):
        short = {key.rpartition("/")[2]: member for key, member in value.items()}
        return {key: croissant_value(member, key) for key, member in short.items()}
    if isinstance(value, list):
        return [croissant_value(member) for member in value]
    if isinstance(value, bytes) and name != "geometry":
        return value.decode()
    if hasattr(value, "getbands"):
        import numpy

        return array_digest(numpy.asarray(value))
    return value


def webdataset_parts(folder):
    """Samples of an export as WebDataset reads them, undecoded."""
    import webdataset

    for path in sorted(Path(folder).glob("*/*.tar")):
        read = partial(samples_of, webdataset, str(path))
        yield path.parent.name, path.name.split("-")[0], read


def samples_of(webdataset, path):
    samples = list(webdataset.WebDataset(path, shardshuffle=False))
    names = ("png", "mask.png", "txt")
    columns = {name: [sample.get(name) for sample in samples] for name in names}
    facts = [json.loads(sample["json"]) for sample in samples]
    return {**columns, **{name: [row.get(name) for row in facts] for name in facts[0]}}


READERS = {
    "pyarrow": by_file(pyarrow_file),
    "pyarrow.dataset": by_file(pyarrow_dataset),
    "pandas": by_file(pandas_file),
    "polars": by_file(polars_file),
    "duckdb": by_file(duckdb_file),
    "datasets": lambda release: datasets_configs(release, streaming=False),
    "datasets streaming": lambda release: datasets_configs(release, streaming=True),
    "datasets one file": by_file(datasets_file),
    "datasets decoded": decoded_configs,
    "mlcroissant": croissant_configs,
    "webdataset": webdataset_parts,
}


def main(reader, release):
    for config, split, read in READERS[reader](release):
        line = {"config": config, "split": split}
        try:
            columns = read()
        except BaseException as error:  # noqa: BLE001 - polars panics with one of its own
            cause = error.__cause__ or error
            line["error"] = f"{type(cause).__name__}: {cause}"[:300]
        else:
            line["rows"] = len(next(iter(columns.values())))
            line["columns"] = {name: digest(values) for name, values in columns.items()}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is printed; old libraries abort a process whose threads still end
