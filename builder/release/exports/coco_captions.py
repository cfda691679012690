"""Captions as COCO has them: annotations/captions_SPLIT.json beside a folder of pictures."""

import io
import json
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from builder.core.errors import ArasError
from builder.core.files import scratch
from builder.core.licences import licence
from builder.core.manifest import Manifest, read_manifest
from builder.release.exports import Options, Written
from builder.release.exports.tiles import tiles, write_picture


def write(release: Path, folder: Path, options: Options) -> Written:
    """Write SPLIT/ID.png and annotations/captions_SPLIT.json with the captions of every stream.

    Raises ArasError as `tiles`, and for ``--stream``: all streams are annotations.
    """
    if options.streams:
        raise ArasError("coco-captions: holds the captions of every stream; leave --stream out")
    manifest = read_manifest(release)
    rows: Counter[str] = Counter()
    with scratch("aras-coco") as elsewhere, ExitStack() as stack:
        lists: dict[str, _Annotations] = {}
        for tile in tiles(release, manifest):
            if tile.split not in lists:
                lists[tile.split] = stack.enter_context(
                    _Annotations(folder, elsewhere, tile.split, manifest)
                )
            name = f"{tile.id}.png"
            write_picture(folder / tile.split / name, tile.image)
            with Image.open(io.BytesIO(tile.image)) as picture:
                width, height = picture.size
            image = {"file_name": name, "width": width, "height": height, "license": 1}
            lists[tile.split].add(image | {"kind": tile.kind, "row": tile.id}, tile.captions)
            rows[tile.split] += 1
    return Written(dict(rows))


@dataclass
class _Annotations:
    """captions_SPLIT.json as it grows: annotations wait in a file of their own until the end."""

    folder: Path
    elsewhere: Path
    split: str
    manifest: Manifest
    images: int = 0
    annotations: int = 0
    file: TextIO = field(init=False)
    waiting: TextIO = field(init=False)

    def __enter__(self) -> "_Annotations":
        path = self.folder / "annotations" / f"captions_{self.split}.json"
        path.parent.mkdir(exist_ok=True)
        self.file = path.open("w", encoding="utf-8", newline="\n")
        self.waiting = (self.elsewhere / self.split).open("w+", encoding="utf-8", newline="\n")
        terms = licence(self.manifest.license)
        info = {
            "description": f"{self.manifest.title}, split {self.split}",
            "version": self.manifest.version,
            "year": int(self.manifest.date[:4]) if self.manifest.date else None,
            "contributor": "; ".join(author.name for author in self.manifest.authors),
            "date_created": self.manifest.date,
        }
        licences = [{"id": 1, "name": terms["name"], "url": terms["url"]}]
        self.file.write(f'{{"info": {_json(info)},\n"licenses": {_json(licences)},\n"images": [')
        return self

    def add(self, image: dict[str, Any], captions: dict[str, str | None]) -> None:
        self.images += 1
        self.file.write(f"{',' if self.images > 1 else ''}\n{_json({'id': self.images, **image})}")
        for stream, text in captions.items():
            if text is not None:
                self.annotations += 1
                value = {"id": self.annotations, "image_id": self.images, "caption": text}
                comma = "," if self.annotations > 1 else ""
                self.waiting.write(f"{comma}\n{_json(value | {'stream': stream})}")

    def __exit__(self, *_: object) -> None:
        self.file.write('\n],\n"annotations": [')
        self.waiting.seek(0)
        shutil.copyfileobj(self.waiting, self.file)
        self.file.write("\n]}\n")
        self.waiting.close()
        self.file.close()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
