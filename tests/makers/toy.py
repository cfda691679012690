"""Cheap stages that behave, fail, die or hang on demand, and a command that runs them.

``python -m tests.makers.toy DIR COMMAND …`` is ``aras -C DIR COMMAND …`` with the real command
line, engines and store, and with `Source` in the place of the tiles stage.
"""

import contextlib
import json
import os
import select
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.core import files
from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.core.folder import Folder
from builder.core.seeds import generator
from builder.core.store import Store
from builder.land.columns import CAPTION
from builder.steps.stage import Maker, Output, Scan, Stage, Unit, setting

ROOT = Path(__file__).parents[2]
BELL = "bell"
"""Named pipe in a project's directory; a shard that hangs writes its name and a line end to it."""

Troubles = tuple[tuple[str, str], ...]
"""(shard, what it does): fail, die, hang, hang once, hang-writing."""


@dataclass(frozen=True)
class Source(Stage):
    """Makes ``shards`` shards of ``rows`` rows whose values depend on their ids and the seed."""

    shards: int = setting(4)
    rows: int = 8
    seed: int = 0
    troubles: Troubles = setting(())

    name = "tiles"
    kinds = ("real",)
    adds = ("id", "longitude", "latitude", "source")

    def units(self, store: Store) -> list[Unit]:
        return [Unit(f"real-{i:05d}", f"real-{i:05d}", digest_of(i)) for i in range(self.shards)]

    def open(self, store: Store, survey: Any) -> Maker:
        if disk := os.environ.get("TOY_DISK"):  # of a node that shares no file system
            store.files = Folder(Path(disk) / "work")
        return lambda shard: self._make(shard, store)

    def _make(self, shard: str, store: Store) -> Output:
        misbehave(dict(self.troubles).get(shard, ""), shard, store)
        ids = [f"{shard}/{i}" for i in range(self.rows)]
        rngs = [generator(self.seed, id_) for id_ in ids]
        columns = {
            "id": pa.array(ids),
            "longitude": pa.array([rng.random() for rng in rngs]),
            "latitude": pa.array([rng.random() for rng in rngs]),
            "source": pa.array([rng.bytes(500).hex() for rng in rngs]),
        }
        return Output(pa.table(columns), {"kept": self.rows})


@dataclass(frozen=True)
class Caption(Stage):
    """One text per row; rows of a shard that is named in ``mute`` fail, but for the first."""

    word: str = "place"
    mute: str = setting("")

    name = "caption-toy"
    needs = ("id", "source")
    adds = ("caption_toy",)

    def open(self, store: Store, survey: Any) -> Maker:
        return self._make

    def _make(self, table: pa.Table) -> Output:
        earlier = [None] * table.num_rows
        if "caption_toy" in table.column_names:
            earlier = table.column("caption_toy").to_pylist()
        cells = []
        ids, sources = table.column("id").to_pylist(), table.column("source").to_pylist()
        for i, (id_, source, before) in enumerate(zip(ids, sources, earlier, strict=True)):
            if before and before["text"]:
                cells.append(before)
                continue
            silent = bool(self.mute) and id_.startswith(self.mute) and i > 0
            text = None if silent else f"{self.word} {id_} {source[:8]}, by {self.mute or 'nobody'}"
            cells.append({"text": text, "error": "no answer" if silent else None})
        errors = sum(cell["error"] is not None for cell in cells)
        return Output(pa.table({"caption_toy": pa.array(cells, CAPTION)}), {}, errors)


@dataclass(frozen=True)
class Score(Stage):
    """Like a score of the captions: needs them, and nothing needs it."""

    scale: float = 1.0

    name = "segment"
    needs = ("id", "caption_toy")
    adds = ("mask_agreement",)
    gpus = 1

    def open(self, store: Store, survey: Any) -> Maker:
        return self._make

    def _make(self, table: pa.Table) -> Output:
        texts = [cell["text"] or "" for cell in table.column("caption_toy").to_pylist()]
        values = [len(text) * self.scale for text in texts]
        return Output(pa.table({"mask_agreement": pa.array(values, pa.float32())}))


@dataclass(frozen=True)
class Halves(Stage):
    """Like a split: rows north or south of the median latitude of all shards."""

    margin: float = 0.0

    name = "split"
    kinds = ("real",)
    needs = ("id", "latitude")
    surveys = ("latitude",)
    surveyed = ("real",)
    adds = ("split", "block")

    def survey(self, scan: Scan) -> float:
        values = [x for _, table in scan(("latitude",)) for x in table.column(0).to_pylist()]
        return sorted(values)[len(values) // 2] + self.margin

    def open(self, store: Store, survey: float) -> Maker:
        def make(table: pa.Table) -> Output:
            north = [latitude >= survey for latitude in table.column("latitude").to_pylist()]
            columns = {
                "split": pa.array([int(is_north) for is_north in north], pa.int64()),
                "block": pa.array(["north" if is_north else "south" for is_north in north]),
            }
            return Output(pa.table(columns))

        return make


def misbehave(how: str, shard: str, store: Store) -> None:
    if how == "fail":
        raise ArasError(f"{shard} was told to fail")
    if how == "die":
        os._exit(7)
    if how == "hang":
        hang(shard, store)
    if how == "hang once":
        hang_once(shard, store)
    if how == "hang-writing":
        # The moment between a file's bytes and its name, at which a kill hurts most: half of the
        # bytes are there, under the hidden name.
        def settle(temporary: Path, path: Path) -> None:
            os.truncate(temporary, temporary.stat().st_size // 2)
            hang(shard, store)

        files.settle = settle


def hang(shard: str, store: Store) -> None:
    with (store.root.parent / BELL).open("w") as bell:
        bell.write(f"{shard}\n")
    threading.Event().wait(120)  # whoever listens kills this process long before


def hang_once(name: str, store: Store) -> None:
    """Hang at the first call for ``name``, in whatever process; the bell hears of the process."""
    with contextlib.suppress(FileExistsError):
        (store.root.parent / f"hung-{name}").mkdir()
        hang(f"{os.getpid()}", store)


@contextlib.contextmanager
def listening(directory: Path) -> Iterator["Bell"]:
    """The other end of the pipe that hanging shards write to."""
    os.mkfifo(directory / BELL)
    handle = os.open(directory / BELL, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield Bell(handle)
    finally:
        os.close(handle)
        (directory / BELL).unlink()


@dataclass(frozen=True)
class Bell:
    handle: int

    def wait(self, times: int = 1) -> list[str]:
        """Names of the shards that hang, once so many of them do."""
        heard = b""
        while heard.count(b"\n") < times:
            ready, _, _ = select.select([self.handle], [], [], 60)
            assert ready, f"only {heard!r} hang after a minute"
            heard += os.read(self.handle, 1000)
        return heard.decode().split()


def write_project(directory: Path, **settings: Any) -> Path:
    """A project whose tiles stage is `Source` with these settings; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "dataset.toml").write_text("")
    (directory / "toy.json").write_text(json.dumps(settings))
    return directory


def write_rasters(folder: Path) -> None:
    """A map and a composite of one cell, without data."""
    from builder.land.products import cell_origin
    from builder.pipeline.demo import write_product

    folder.mkdir(parents=True)
    for name, degrees, bands, dtype in (("Map", 3, 1, np.uint8), ("S2RGBNIR", 1, 4, np.uint16)):
        origin = cell_origin("N36E033", degrees)
        nothing = np.zeros((bands, 256, 256), dtype=dtype)
        write_product(folder / f"N36E033_{name}.tif", origin, degrees, nothing, *origin)


def command(directory: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.makers.toy", str(directory), *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def main() -> None:
    from builder.cli import cli
    from builder.pipeline import project, refusals

    directory, *arguments = sys.argv[1:]
    values = json.loads((Path(directory) / "toy.json").read_text())
    values["troubles"] = tuple(map(tuple, values.get("troubles", ())))
    source = Source(**values)
    project.Project.tiles = lambda self: source  # type: ignore[method-assign, return-value]
    refusals.refuse_few_blocks = lambda _: None  # the toy has no rasters to count blocks of
    cli(["-C", directory, *arguments], prog_name="aras")


if __name__ == "__main__":
    main()
