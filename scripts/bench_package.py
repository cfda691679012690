"""Time packaging against the usual ways: datasets' from_generator, webdataset, plain copying.

Example: python scripts/bench_package.py --rows 8000 --repeats 3

Makes one folder of picture files (about 127 kB of incompressible bytes each, as a PNG holds), mask
files of 4 kB and a file of five captions per row. Every way starts from those files and writes one
container, each run in a process of its own, its imports not timed, after the files were read once:

    concatenation    the bytes one after the other, in one file
    webdataset       ShardWriter, tar files of at most 512 MB
    from_generator   datasets.Dataset.from_generator(bytes of each row).to_parquet(…)
    and embed        from_generator(paths), then the bytes put in, as push_to_hub does; to_parquet
    SplitWriter      ours: all columns, row groups, page index, sha256 of every picture
    aras package     ours from the store: every column verified, both kinds of config written
    without an index the same; config metadata does not say where pictures and tiles are

The last one reads shards in place of files. webdataset is not among our requirements; without it
its line says so:
    pip install --no-deps --target WEBDATASET webdataset braceexpand
    PYTHONPATH=WEBDATASET python scripts/bench_package.py
MB are 10⁶ bytes of pictures, masks and captions; the best of the repeats counts, for seconds and
CPU seconds separately. Peak memory is that of the whole process, imports and all; `at a quarter`
is the same for a quarter of the rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import peak_mb

from builder.land.pictures import encode_png

STREAMS = ("dominant", "composition", "layout", "full", "absence")
LIMIT = 512e6
BATCH = 128
"""Rows of a shard of the store, as of a table that the writer is given."""


def make_files(folder: Path, rows: int) -> None:
    """Pictures, masks and captions.jsonl."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    with (folder / "captions.jsonl").open("w") as lines:
        for i in range(rows):
            (folder / f"images/{i:06d}.png").write_bytes(rng.bytes(int(rng.integers(11e4, 144e3))))
            ids = rng.integers(0, 7, [int(rng.integers(50, 135))] * 2, dtype=np.uint8)
            (folder / f"masks/{i:06d}.png").write_bytes(encode_png(ids))
            texts = {name: f"Caption {i} of {name}: {'words on land. ' * 6}" for name in STREAMS}
            lines.write(json.dumps(texts) + "\n")


def read_files(folder: Path, rows: int) -> Iterator[tuple[str, bytes, bytes, str]]:
    """(name, image, mask, captions as JSON) of each row."""
    with (folder / "captions.jsonl").open() as lines:
        for i, line in zip(range(rows), lines, strict=False):
            name = f"{i:06d}"
            image = (folder / f"images/{name}.png").read_bytes()
            yield name, image, (folder / f"masks/{name}.png").read_bytes(), line


def concatenation(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    def go() -> None:
        with (out / "all").open("wb") as file:
            for _, image, mask, captions in read_files(folder, rows):
                file.write(image)
                file.write(mask)
                file.write(captions.encode())

    return go


def webdataset(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    from webdataset import ShardWriter

    def go() -> None:
        with ShardWriter(f"{out}/train-%05d.tar", maxsize=LIMIT, maxcount=10**9, verbose=0) as sink:
            for name, image, mask, captions in read_files(folder, rows):
                sink.write(
                    {
                        "__key__": name,
                        "image.png": image,
                        "mask.png": mask,
                        "json": captions.encode(),
                    }
                )

    return go


def from_generator(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    def row() -> Iterator[dict[str, Any]]:
        for name, image, mask, captions in read_files(folder, rows):
            yield {
                "id": name,
                "image": {"bytes": image, "path": f"{name}.png"},
                "mask": {"bytes": mask, "path": f"{name}.png"},
                **json.loads(captions),
            }

    dataset = dataset_of(row, out)
    return lambda: dataset().to_parquet(str(out / "train.parquet"))


def embedded(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    def row() -> Iterator[dict[str, Any]]:
        with (folder / "captions.jsonl").open() as lines:
            for i, line in zip(range(rows), lines, strict=False):
                paths = {kind: str(folder / f"{kind}s/{i:06d}.png") for kind in ("image", "mask")}
                yield {"id": f"{i:06d}", **paths, **json.loads(line)}

    dataset = dataset_of(row, out)

    def go() -> None:
        from datasets.table import embed_table_storage

        data = dataset()
        data = data.with_format("arrow").map(
            embed_table_storage,
            batched=True,
            batch_size=1000,
            features=data.features,
            cache_file_name=str(out / "embedded.arrow"),
        )
        data.to_parquet(str(out / "train.parquet"))

    return go


def dataset_of(row: Callable[[], Iterator[dict[str, Any]]], out: Path) -> Callable[[], Any]:
    """Makes a Dataset of the rows that a generator gives."""
    import datasets

    datasets.disable_progress_bars()
    pictures = {"image": datasets.Image(), "mask": datasets.Image()}
    texts = {name: datasets.Value("string") for name in ("id", *STREAMS)}
    features = datasets.Features({**texts, **pictures})
    cache = str(out / "cache")
    return lambda: datasets.Dataset.from_generator(row, features=features, cache_dir=cache)


def split_writer(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    import builder.cli  # noqa: F401 - the allocator's settings that `aras` runs with
    from builder.land.columns import COLUMN_NAMES, arrow_schema
    from builder.release.writer import SplitWriter, prefetch, with_digests

    schema = arrow_schema(COLUMN_NAMES)
    next(tables(folder, 1))  # imports

    def go() -> None:
        writer = SplitWriter(out, "train", schema, LIMIT)
        for table in prefetch(map(with_digests, tables(folder, rows))):
            writer.add(table)
        writer.close()

    return go


def tables(folder: Path, rows: int) -> Iterator[Any]:
    """The rows as tables of `BATCH` rows with all columns of a release."""
    import pyarrow as pa

    from builder.land.columns import CAPTION, CAPTIONS, COLUMN_NAMES, arrow_schema, arrow_type
    from builder.land.pictures import composition_columns
    from builder.release.rows import gather

    schema = arrow_schema(COLUMN_NAMES)
    constants = {"model": "m", "revision": "r", "prompt_sha256": "0" * 64}
    constants |= {"seed": "1", "error": None}
    source = (folder / "captions.jsonl").read_text().splitlines()
    for start in range(0, rows, BATCH):
        lines = source[start : start + min(BATCH, rows - start)]
        names = [f"{i:06d}" for i in range(start, start + len(lines))]
        texts = [json.loads(line) for line in lines]
        cells = {}
        for stream in STREAMS:
            values = {name: [value] * len(names) for name, value in constants.items()}
            values["text"] = [row[stream] for row in texts]
            arrays = [pa.array(values[field.name], field.type) for field in CAPTION]
            cells[stream] = pa.StructArray.from_arrays(arrays, fields=list(CAPTION))
        columns = {name: pa.nulls(len(names), arrow_type(name)) for name in COLUMN_NAMES}
        columns |= composition_columns(np.tile(np.arange(1, 8), (len(names), 1)))
        columns["id"] = pa.array([f"real/{name}" for name in names])
        columns["kind"] = columns["split"] = pa.array([0] * len(names), pa.int64())
        for kind in ("image", "mask"):
            columns[kind] = pictures(folder / f"{kind}s", names)
        columns["captions"] = gather(pa.table(cells), "", STREAMS, CAPTIONS)
        yield pa.table([columns[name] for name in COLUMN_NAMES], schema)


def pictures(folder: Path, names: Sequence[str]) -> Any:
    """An Image column of PNG files, read straight into the memory of the column."""
    import pyarrow as pa

    from builder.land.columns import IMAGE

    names = [f"{name}.png" for name in names]
    files = [os.open(f"{folder}/{name}", os.O_RDONLY) for name in names]
    try:
        ends = np.cumsum([0, *(os.fstat(file).st_size for file in files)], dtype=np.int32)
        held = pa.allocate_buffer(int(ends[-1]))
        view = memoryview(held)
        for file, start, end in zip(files, ends, ends[1:], strict=False):
            os.readv(file, [view[start:end]])
    finally:
        for file in files:
            os.close(file)
    data = pa.Array.from_buffers(pa.binary(), len(names), [None, pa.py_buffer(ends), held])
    return pa.StructArray.from_arrays([data, pa.array(names)], fields=list(IMAGE))


def aras_package(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    import builder.cli  # noqa: F401 - as above
    from builder.land.columns import COLUMN_NAMES, arrow_schema
    from builder.pipeline.project import Project
    from builder.release.package import write_data

    project = Project(store_of(folder, rows))
    arrow_schema(COLUMN_NAMES)  # imports

    def go() -> None:
        write_data(project.inputs(), out)

    return go


def without_an_index(folder: Path, out: Path, rows: int) -> Callable[[], None]:
    """`aras package` with config metadata written beside the others, its derived columns null."""
    import pyarrow as pa

    from builder.land.columns import BLOBS, DERIVED, KINDS, arrow_schema, arrow_type, names_of
    from builder.release import package
    from builder.release.writer import DataWriter, SplitWriter, with_digests

    class AtOnce(DataWriter):
        def add(self, config: str, split: str, table: pa.Table) -> None:
            table = with_digests(table)
            self._plain(config, split).add(table)
            if config in KINDS:
                light = table.drop_columns(list(BLOBS))
                for name in DERIVED:
                    light = light.append_column(name, pa.nulls(light.num_rows, arrow_type(name)))
                self._plain("metadata", split).add(light.select(names_of("metadata")))

        def _plain(self, config: str, split: str) -> SplitWriter:
            if (config, split) not in self.writers:
                schema = arrow_schema(names_of(config))
                writer = SplitWriter(self.folder / config, split, schema, self.limit)
                self.writers[config, split] = writer
            return self.writers[config, split]

    package.DataWriter = AtOnce  # type: ignore[misc]
    return aras_package(folder, out, rows)


def store_of(folder: Path, rows: int) -> Path:
    """Where the same rows lie as shards."""
    return folder.parent / f"project-{rows}"


def make_store(folder: Path, rows: int) -> None:
    from builder.pipeline.stand_ins import make_project

    files = read_files(folder, rows)

    def draw(numbers: Any) -> Any:
        _, images, masks, _ = zip(*(next(files) for _ in numbers), strict=True)
        return images, masks, np.tile(np.arange(1, 8), (len(numbers), 1))

    make_project(
        store_of(folder, rows), rows, real=rows, shard_rows=BATCH, megabytes=LIMIT / 1e6, draw=draw
    )


WAYS: dict[str, Callable[[Path, Path, int], Callable[[], None]]] = {
    "concatenation": concatenation,
    "webdataset": webdataset,
    "from_generator": from_generator,
    "and embed": embedded,
    "SplitWriter": split_writer,
    "aras package": aras_package,
    "without an index": without_an_index,
}


def run_here(way: str, folder: Path, rows: int) -> dict[str, float]:
    """Run one way in this process; {"seconds", "cpu_seconds", "peak_mb"}."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        go = WAYS[way](folder, Path(out), rows)
        wall, cpu = time.perf_counter(), time.process_time()
        go()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_seconds": cpu, "peak_mb": peak_mb()}


def run_apart(way: str, folder: Path, rows: int) -> dict[str, float]:
    """Run one way in a process of its own."""
    command = [sys.executable, __file__, "--run", way, "--folder", str(folder), "--rows", str(rows)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{way} failed:\n{ended.stderr}")
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures


def importable(way: str) -> bool:
    import importlib.util

    return way != "webdataset" or importlib.util.find_spec("webdataset") is not None


def compare(folder: Path, rows: int, repeats: int) -> dict[str, dict[str, float]]:
    """Best of the repeats of each way, taking turns, so that a busy spell hits all alike."""
    quarter = min(rows, max(BATCH, rows // 4))
    for size in {rows, quarter}:
        make_store(folder, size)
    for _ in read_files(folder, rows):  # into the page cache
        pass
    ways = [way for way in WAYS if importable(way)]
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            runs[way].append(run_apart(way, folder, rows))
    best = {
        way: {key: min(run[key] for run in runs_of_way) for key in runs_of_way[0]}
        for way, runs_of_way in runs.items()
    }
    for way in ways:
        less = run_apart(way, folder, quarter) if quarter < rows else best[way]
        best[way]["peak_mb_at_a_quarter"] = less["peak_mb"]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(run_here(given.run, given.folder, given.rows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "files"
        make_files(folder, given.rows)
        mb = sum(path.stat().st_size for path in folder.rglob("*.*")) / 1e6
        best = compare(folder, given.rows, given.repeats)
    if given.json:
        print(json.dumps({"rows": given.rows, "mb": mb, "ways": best}))
        return
    print(f"{given.rows:,} rows, {mb:,.0f} MB, best of {given.repeats}")
    print(
        f"{'':<16}{'MB/s':>7}{'CPU s':>8}{'peak MB':>9}{'at a quarter':>14}"
        f"{'SplitWriter is':>16}{'in CPU':>9}"
    )
    ours = best["SplitWriter"]
    for way in WAYS:
        if way not in best:
            print(f"{way:<16}not measured: it is not installed (the script's text says how)")
            continue
        mine = best[way]
        print(
            f"{way:<16}{mb / mine['seconds']:>7.0f}{mine['cpu_seconds']:>8.2f}"
            f"{mine['peak_mb']:>9.0f}{mine['peak_mb_at_a_quarter']:>14.0f}"
            f"{mine['seconds'] / ours['seconds']:>15.2f}×"
            f"{mine['cpu_seconds'] / ours['cpu_seconds']:>8.2f}×"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
