"""Retrieval data of others as a gallery: any number of captions an image, and distractors.

Captions come from any file that `land.caption_tables` reads (Karpathy's or COCO's JSON, a table, a
`datasets` folder, WebDataset shards), pictures from a folder or from the same file. Images without
a caption are distractors: text→image finds them in its way, and they ask nothing.
"""

import io
import itertools
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.core import budgets
from builder.core.errors import ArasError, blame_memory
from builder.core.files import digest_of, sha256_file
from builder.core.manifest import CaptionFile
from builder.land.caption_tables import ImageCaptions, ImageReader
from builder.land.pictures import Pixels
from builder.release.configs import CAPTION_ID
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.ranks import Ints
from builder.retrieval.result import Checks, ReleaseFacts, RuleCount
from builder.scores.near_duplicates import near_duplicates
from builder.scores.redundancy import Redundancy

STREAM = "captions"
FIRST = "first"
"""The first caption of each image, which the others search where there are no pictures."""
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")


@dataclass(frozen=True)
class OthersGallery(Gallery):
    """N images, those with captions first: ``captions`` (N lists), and where their pictures are."""

    captions: Sequence[Sequence[str]] = ()
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Name of the near-duplicate cluster of each text."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Picture of each id; empty where they are in ``release``, the data file."""
    text: tuple[str, ...] = ()
    """The caption columns that were named."""
    read: CaptionFile | None = None
    """How the file was read."""

    def texts(self, streams: Sequence[str]) -> Texts:
        """Every caption, image by image: ids (image/number # stream), texts and owners."""
        ids, texts, owner = [], [], []
        for row, id_ in enumerate(self.ids):
            for number, text in enumerate(self.captions[row], 1):
                ids.append(CAPTION_ID.format(f"{id_}/{number}", STREAM))
                texts.append(text)
                owner.append(row)
        return Texts(ids, texts, np.array(owner, dtype=np.int64))

    def take(self, rows: Ints) -> "OthersGallery":
        ids, captions = [self.ids[i] for i in rows], [self.captions[i] for i in rows]
        streams = {name: [texts[i] for i in rows] for name, texts in self.streams.items()}
        return replace(self, ids=ids, captions=captions, streams=streams)

    def near_of(self, asked: Texts, mine: Ints) -> list[str] | None:
        """Cluster of each text, wherever it is; None where no two captions are alike."""
        names = [self.clusters.get(asked.texts[i], asked.ids[i]) for i in mine]
        return names if self.clusters else None

    def distractors(self, keep: Ints) -> Ints:
        return np.setdiff1d(np.arange(len(self)), keep)

    @property
    def pictures_key(self) -> list[Any]:
        stats = [(id_, self.files[id_].stat()) for id_ in self.ids if id_ in self.files]
        changed = [[id_, stat.st_size, stat.st_mtime_ns] for id_, stat in stats]
        return [self.facts.content_sha256, self.ids, changed]

    def pictures(self, batch: int) -> Iterator[tuple[Ints, list[Pixels]]]:
        """Batches of positions and RGB pictures. Raises ArasError for one that is missing."""
        place = {id_: row for row, id_ in enumerate(self.ids)}
        rows: list[int] = []
        arrays: list[Pixels] = []
        for id_, data in self._encoded():
            if (row := place.pop(id_, None)) is None:
                continue
            rows.append(row)
            arrays.append(_decoded(data, id_))
            if len(rows) == batch:
                yield np.array(rows), arrays
                rows, arrays = [], []
        if place:
            more = f" (and {len(place) - 1:,} more)" if len(place) > 1 else ""
            raise ArasError(
                f"{self.release}: no picture of {next(iter(place))}{more}; --images DIR says where "
                "they are"
            )
        if rows:
            yield np.array(rows), arrays

    def _encoded(self) -> Iterator[tuple[str, bytes]]:
        if self.files:
            yield from ((id_, self.files[id_].read_bytes()) for id_ in self.ids)
            return
        for path in _shards(self.release):
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile() and Path(member.name).suffix.lower() in PICTURES:
                        file = archive.extractfile(member)
                        yield _key(member.name), file.read() if file else b""
        if not _shards(self.release):
            for each in ImageReader(self.release, self.text).rows():
                if each.picture is not None:
                    yield each.image, each.picture


def load(
    data: Path,
    images: Path | None,
    split: str,
    *,
    text: Sequence[str] = (),
    text_only: bool = False,
) -> OthersGallery:
    """Captions of ``split`` of ``data`` (of all rows, where it names no splits), and pictures.

    ``text`` names the caption columns, where they are not to be found by what they hold.
    ``text_only``: the first caption of each image is the gallery, the others search it; images with
    one caption are distractors. Raises ArasError for a split that is not there, for fewer than two
    images with captions, and for pictures of ``images`` that are missing.
    """
    reader = ImageReader(data, text)
    rows = _of_split(data, list(reader.rows()), split)
    merged: dict[str, list[str]] = {}
    for row in rows:
        merged.setdefault(row.image, []).extend(row.texts)
    per_image = [len(texts) for texts in merged.values()]
    examples = dict.fromkeys(text for texts in merged.values() for text in texts)
    read = CaptionFile.of(
        data,
        reader.columns.texts if reader.columns else (),
        (len(per_image), min(per_image, default=0), max(per_image, default=0), sum(per_image)),
        tuple(itertools.islice(examples, 3)),
        reader.notes,
    )
    first = {id_: texts[0] for id_, texts in merged.items() if texts}
    if text_only:
        merged = {id_: merged[id_][1:] for id_ in first}
    ordered = sorted(merged, key=lambda id_: not merged[id_])  # those that ask nothing come last
    asking = sum(bool(texts) for texts in merged.values())
    if asking < 2:
        what = "images with a second caption" if text_only else "images with captions"
        raise ArasError(f"{data}: has {asking} {what} in split {split}; at least 2 are needed")
    captions = [merged[id_] for id_ in ordered]
    every = [text for texts in captions for text in texts]
    numbers = near_duplicates(every).tolist()
    files = {} if images is None or text_only else _files(images, ordered)
    return OthersGallery(
        release=data,
        facts=_facts(data, split, ordered),
        split=split,
        ids=ordered,
        pixels=None,
        blocks=None,
        streams={
            STREAM: [texts[0] if texts else None for texts in captions],
            **({FIRST: [first[id_] for id_ in ordered]} if text_only else {}),
        },
        captions=captions,
        clusters=_repeated(every, numbers),
        files=files,
        text=tuple(text),
        read=read,
    )


def notes(rows: OthersGallery) -> list[str]:
    """What the captions are like: numbers, distractors, redundancy."""
    every = [text for texts in rows.captions for text in texts]
    counted = Redundancy()
    counted.add(pa.array(every))
    alike = counted.summary()
    asking = sum(bool(texts) for texts in rows.captions)
    lines = [
        *(rows.read.lines() if rows.read else ()),
        f"{len(every):,} captions of {asking:,} images, {len(rows) - asking:,} distractors",
        "redundancy of the captions, 1 − distinct/all: "
        + ", ".join(
            f"{100 * value.redundancy:.2f} % {name.replace('_', ' ')}"
            for name, value in alike.items()
            if value.redundancy is not None
        ),
    ]
    if rows.facts.checks.distance_checked is False:
        lines.append("places are unknown: whether test images lie near train images is not checked")
    return lines


def _of_split(data: Path, rows: list[ImageCaptions], split: str) -> list[ImageCaptions]:
    known = list(dict.fromkeys(row.split for row in rows if row.split is not None))
    if not known:
        return rows
    if split not in known:
        raise ArasError(f"{data}: no rows in split {split!r}; its splits are {', '.join(known)}")
    return [row for row in rows if row.split == split]


def _facts(data: Path, split: str, ids: Sequence[str]) -> ReleaseFacts:
    parts = sorted(path for path in data.rglob("*") if path.is_file()) if data.is_dir() else [data]
    nothing = RuleCount(rows=0, rule="keep")
    digest = digest_of([sha256_file(path) for path in parts])
    return ReleaseFacts(
        name=data.name,
        version=digest[:8],  # data of others have no version but their content
        content_sha256=digest,
        split=split,
        rows=len(ids),
        ids_sha256=digest_of(list(ids)),
        checks=Checks(min_km=0, distance_checked=False, synthetic=nothing, near=nothing),
    )


def _repeated(texts: Sequence[str], numbers: Sequence[int]) -> dict[str, str]:
    """Text → name of its cluster, of clusters of two texts and more."""
    members: dict[int, set[str]] = {}
    for text, number in zip(texts, numbers, strict=True):
        if number >= 0:
            members.setdefault(number, set()).add(text)
    return {
        text: f"cluster {number}"
        for number, alike in members.items()
        if len(alike) > 1
        for text in alike
    }


def _files(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """The picture of each id below ``folder``: by its path, name, stem or COCO's twelve digits."""
    known: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES:
            names = {path.relative_to(folder).as_posix(), path.name, path.stem}
            for name in names:
                known.setdefault(name, []).append(path)
    files = {}
    for id_ in ids:
        spellings = list(dict.fromkeys((id_, id_.rsplit("/", 1)[-1], id_.zfill(12))))
        hit = next((known[name] for name in spellings if name in known), None)
        if hit is None:
            raise ArasError(
                f"{folder}: holds no picture of {id_}; looked for {' and '.join(names)}"
            )
        if len(hit) > 1:
            raise ArasError(
                f"{folder}: {hit[0]} and {hit[1]} may both be {id_}; name its folder too"
            )
        files[id_] = hit[0]
    return files


def _shards(data: Path) -> list[Path]:
    if data.is_dir():
        return sorted(data.glob("*.tar"))
    return [data] if data.suffix == ".tar" else []


def _key(name: str) -> str:
    """The key of a member of a WebDataset shard, as the reader of its texts has it."""
    folder, _, file = name.rpartition("/")
    stem = file.partition(".")[0]
    return f"{folder}/{stem}" if folder else stem


def _decoded(data: bytes, id_: str) -> Pixels:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > budgets.PICTURE_PIXELS:
                raise ArasError(
                    f"{id_}: {picture.width} × {picture.height} pixels; at most "
                    f"{budgets.PICTURE_PIXELS:,} are decoded"
                )
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        blame_memory(error)
        raise ArasError(f"{id_}: its picture cannot be decoded ({error})") from error
