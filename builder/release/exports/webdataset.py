"""Tar shards as WebDataset and OpenCLIP read them: KEY.png, KEY.mask.png, KEY.txt, KEY.json."""

import io
import json
import tarfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from builder.core.manifest import read_manifest
from builder.release.exports import Options, Written
from builder.release.exports.tiles import Tile, text_stream, tiles

SHARD_BYTES = 512e6
"""A shard that has reached this size is closed."""
TEXT = "txt"


def write(release: Path, folder: Path, options: Options) -> Written:
    """Write KIND/SPLIT-00000.tar …; a row whose caption failed has no KEY.txt.

    Raises ArasError as `tiles` and `text_stream`.
    """
    stream = text_stream(release, options, TEXT)
    rows: Counter[str] = Counter()
    with ExitStack() as opened:
        shards = _Shards(folder, opened)
        for tile in tiles(release, read_manifest(release)):
            shards.add(tile, stream)
            rows[f"{tile.kind}/{tile.split}"] += 1
    return Written(dict(rows), {TEXT: stream})


@dataclass
class _Shards:
    """The shard that is open; each part counts its own."""

    folder: Path
    opened: ExitStack
    part: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    archive: tarfile.TarFile | None = None

    def add(self, tile: Tile, stream: str | None) -> None:
        part = f"{tile.kind}/{tile.split}"
        if self.archive is None or part != self.part or self.archive.offset >= SHARD_BYTES:
            self.opened.close()
            path = self.folder / f"{part}-{self.counts[part]:05d}.tar"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.archive = self.opened.enter_context(
                tarfile.TarFile(path, "w", format=tarfile.GNU_FORMAT)
            )
            self.part = part
            self.counts[part] += 1
        files = {
            "png": tile.image,
            "mask.png": tile.mask,
            "json": json.dumps(tile.as_json(), ensure_ascii=False).encode(),
        }
        if text := tile.captions.get(stream or ""):
            files[TEXT] = text.encode()
        for extension, data in sorted(files.items()):
            self._write(f"{key_of(tile.id)}.{extension}", data)

    def _write(self, name: str, data: bytes) -> None:
        assert self.archive is not None
        entry = tarfile.TarInfo(name)  # time, owner and mode are fixed: equal rows, equal bytes
        entry.size = len(data)
        self.archive.addfile(entry, io.BytesIO(data))


def key_of(row_id: str) -> str:
    """The id as a key: readers end a key at the first dot of a name."""
    return row_id.replace(".", "%2E")
