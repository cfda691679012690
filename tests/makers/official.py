"""Writes the official ARAS400k layout, folders or zips, from tiles of our own making.

A `Layout` is a dict of files and a list of caption lines: a test spoils exactly what it is about,
then writes it.
"""

import csv
import io
import json
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from builder.land.classes import CLASSES, PALETTE, count_pixels, percent
from builder.land.pictures import Pixels, decode_png, encode_png
from builder.official.import_ import ImportSection
from builder.official.names import HEADER, STREAMS
from builder.pipeline.demo import land_cover, reflectance
from tests.makers.products import shown

SIDE = 4
"""Tiles along each side of the made-up scene that all layouts are cut from."""
CELL = "N36E032"
SPARE_RGB = (1, 2, 3)
"""A colour that the palette does not have."""


@cache
def scene(size: int = 256) -> tuple[tuple[bytes, Pixels], ...]:
    """(image PNG, (size, size) ids) of `SIDE`² neighbouring tiles; no place on Earth."""
    rng = np.random.default_rng(0)
    ids = land_cover(rng, (SIDE * size, SIDE * size))
    image = shown(reflectance(rng, ids)[:3]).transpose(1, 2, 0)
    cuts = [
        np.s_[row * size : (row + 1) * size, column * size : (column + 1) * size]
        for row in range(SIDE)
        for column in range(SIDE)
    ]
    return tuple(
        (encode_png(np.ascontiguousarray(image[cut])), np.ascontiguousarray(ids[cut]))
        for cut in cuts
    )


def rgb_mask(ids: Pixels) -> bytes:
    """Class ids as the official RGB mask."""
    return encode_png(PALETTE[ids])


@dataclass
class Layout:
    """``files``: path below the top folder → bytes; ``lines``: captions.csv without its header."""

    files: dict[str, bytes] = field(default_factory=dict)
    lines: list[list[str]] = field(default_factory=list)
    header: tuple[str, ...] = HEADER
    end: str = "\n"
    bom: bool = False
    table: bytes | None = None
    """Bytes of captions.csv in place of header and lines."""

    @property
    def captions(self) -> bytes:
        if self.table is not None:
            return self.table
        out = io.StringIO()
        csv.writer(out, lineterminator=self.end).writerows([self.header, *self.lines])
        return (b"\xef\xbb\xbf" if self.bom else b"") + out.getvalue().encode()

    def line(self, name: str) -> list[str]:
        """The caption line of ``name``, to be spoilt."""
        return next(line for line in self.lines if line[0] == f"{name}.png")

    def spoil_mask(self, path: str, pixels: int = 5) -> None:
        """Give some pixels of a mask a colour that the palette does not have."""
        mask = decode_png(self.files[path]).copy()
        mask.reshape(-1, 3)[:pixels] = SPARE_RGB
        self.files[path] = encode_png(mask)

    def resize(self, path: str, size: int) -> None:
        """Crop a picture to ``size`` pixels."""
        self.files[path] = encode_png(np.ascontiguousarray(decode_png(self.files[path])[:size]))

    def rename(self, split: str, name: str, new: str) -> None:
        """Give a tile another name, in its pictures and in captions.csv."""
        for folder in ("images", "masks"):
            self.files[f"{split}/{folder}/{new}.png"] = self.files.pop(
                f"{split}/{folder}/{name}.png"
            )
        self.line(name)[0] = f"{new}.png"

    def truncate(self, path: str) -> None:
        self.files[path] = self.files[path][: len(self.files[path]) // 2]

    def write_folder(self, to: Path, *, captions: bool = True) -> Path:
        """All files below ``to``, and captions.csv beside the split folders."""
        for path, data in self.files.items():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(data)
        if captions:
            to.mkdir(parents=True, exist_ok=True)
            (to / "captions.csv").write_bytes(self.captions)
        return to

    def write_zips(
        self,
        to: Path,
        *,
        top: str = "ARAS400k/",
        captions: str = "beside",
        packing: int = zipfile.ZIP_DEFLATED,
    ) -> list[Path]:
        """One zip per split. ``captions``: beside them, inside each of them, or none."""
        to.mkdir(parents=True, exist_ok=True)
        written = []
        for split in dict.fromkeys(path.split("/")[0] for path in self.files):
            written.append(to / f"{split}.zip")
            with zipfile.ZipFile(written[-1], "w", packing) as archive:
                archive.mkdir(f"{top}{split}") if hasattr(archive, "mkdir") else None
                for path, data in self.files.items():
                    if path.startswith(f"{split}/"):
                        archive.writestr(top + path, data)
                if captions == "inside":
                    archive.writestr(f"{top}captions.csv", self.captions)
        if captions == "beside":
            (to / "captions.csv").write_bytes(self.captions)
        return written


def texts(name: str) -> list[str]:
    """Five captions, with commas, quotes and letters beyond ASCII, as real ones have them."""
    return [f'Tile {name}, seen by "{stream}": çay ve tarla.' for stream in STREAMS]


def official(
    *,
    train: int = 3,
    val: int = 1,
    test: int = 2,
    synth: int = 3,
    generated: int = 0,
    size: int = 256,
) -> Layout:
    """A sound layout with so many tiles per split; ``generated`` of them in train/generated."""
    layout = Layout()
    tiles = scene(size)
    number = 0
    for split, rows in (("train", train), ("val", val), ("test", test), ("synth", synth)):
        for i in range(rows):
            image, ids = tiles[number % len(tiles)]
            name = (
                f"{i:04d}"
                if split == "synth"
                else f"{CELL}_{number // 20:03d}_{number % 20 * 2:03d}"
            )
            layout.files[f"{split}/images/{name}.png"] = image
            layout.files[f"{split}/masks/{name}.png"] = rgb_mask(ids)
            if split == "train" and i < generated:
                layout.files[f"train/generated/{name}.png"] = tiles[-1 - i][0]
            layout.lines.append([f"{name}.png", split, *exact(ids), *texts(name)])
            number += 1
    return layout


def exact(ids: Pixels) -> list[str]:
    """The whole percentages of a mask."""
    return [str(value) for value in percent(count_pixels(ids))]


def percentages(layout: Layout, split: str) -> bytes:
    """class_percentages/{split}.csv of a layout."""
    rows = [[line[0], *line[2 : 2 + len(CLASSES)]] for line in layout.lines if line[1] == split]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("filename", *CLASSES), *rows])
    return out.getvalue().encode()


def release(layout: Layout, folder: Path, *, added: str = "", **section: object) -> Path:
    """Import ``layout`` into a dataset at ``folder`` and package it; returns the release.

    ``section`` are further values of [import], ``added`` further sections of the recipe.
    """
    from builder.core.engine import Engine
    from builder.pipeline import recipe
    from builder.pipeline.project import Project
    from builder.pipeline.run import run_steps
    from builder.release.package import package

    layout.write_folder(folder / "official")
    path = recipe.write(folder, imports=ImportSection(sources=["official"]))
    values = "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
    text = path.read_text(encoding="utf-8")
    for key in section:
        text = "".join(
            line for line in text.splitlines(keepends=True) if not line.startswith(f"{key} ")
        )
    path.write_text(text.replace("[import]\n", f"[import]\n{values}") + added, encoding="utf-8")
    project = Project(folder)
    run_steps(project, project.steps(), Engine("serial"))
    return package(project.inputs()).release
