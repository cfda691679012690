"""Which rows hold a word in a caption: the index behind the page's search."""

import re
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from builder.explore.files import packed, write_packed_json
from builder.scores.numerals import plain

WORD = re.compile(r"[^\W\d_]+|\d+")


class Words:
    """Rows by word; rows come in ascending order."""

    def __init__(self) -> None:
        self.rows: dict[str, array[int]] = {}

    def add(self, row: int, texts: Iterable[str]) -> None:
        """Take the captions of a row."""
        for word in {word for text in texts for word in WORD.findall(plain(text))}:
            if word not in self.rows:
                self.rows[word] = array("I")
            self.rows[word].append(row)

    def write(self, folder: Path) -> None:
        """``words.bin``: the words in order, where the rows of each begin in ``rows.bin``, and the
        width in bytes of the steps from row to row there."""
        names = sorted(self.rows)
        ends, widths, counts = [0], [], []
        with (folder / "rows.bin").open("wb") as file:
            for name in names:
                steps = np.diff(np.frombuffer(self.rows[name], np.uint32), prepend=np.uint32(0))
                widest = int(steps.max())
                kind = np.uint8 if widest < 1 << 8 else np.uint16 if widest < 1 << 16 else np.uint32
                data = packed(steps.astype(np.dtype(kind).newbyteorder("<")).tobytes())
                file.write(data)
                ends.append(ends[-1] + len(data))
                widths.append(np.dtype(kind).itemsize)
                counts.append(len(steps))
        known = {"words": names, "ends": ends, "widths": widths, "counts": counts}
        write_packed_json(folder / "words.bin", known)
