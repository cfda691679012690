"""Folders of PNG with metadata.jsonl, as `load_dataset("imagefolder")` and labelling tools read."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from builder.core.manifest import read_manifest
from builder.release.exports import Options, Written
from builder.release.exports.tiles import text_stream, tiles, write_picture

TEXT = "text"


def write(release: Path, folder: Path, options: Options) -> Written:
    """Write SPLIT/ID.png, SPLIT/ID.mask.png and a line for each in SPLIT/metadata.jsonl.

    The column ``mask_file_name`` makes masks a second column of pictures. Raises ArasError as
    `tiles` and `text_stream`.
    """
    stream = text_stream(release, options, TEXT)
    rows: Counter[str] = Counter()
    lists: dict[str, TextIO] = {}
    with ExitStack() as stack:
        for tile in tiles(release, read_manifest(release)):
            image, mask = f"{tile.id}.png", f"{tile.id}.mask.png"
            write_picture(folder / tile.split / image, tile.image)
            write_picture(folder / tile.split / mask, tile.mask)
            if tile.split not in lists:
                path = folder / tile.split / "metadata.jsonl"
                lists[tile.split] = stack.enter_context(path.open("w", encoding="utf-8"))
            text = {TEXT: tile.captions.get(stream)} if stream else {}
            record = {"file_name": image, "mask_file_name": mask, **text, **tile.as_json()}
            lists[tile.split].write(json.dumps(record, ensure_ascii=False) + "\n")
            rows[tile.split] += 1
    return Written(dict(rows), {TEXT: stream})
