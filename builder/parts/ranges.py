"""Fetching many small pieces of files in few ranges: neighbours are read together."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from builder.parts.sources import Source

WASTE = 0.1
"""Bytes between pieces that are read for nothing, at most, as a share of the pieces."""
LONGEST = 8 << 20
"""Bytes of a range of several pieces, at most."""


class Piece(NamedTuple):
    """Bytes ``start`` to ``end`` of a file."""

    file: str
    start: int
    end: int


class Range(NamedTuple):
    """A range to read, and the positions of the pieces in it."""

    file: str
    start: int
    end: int
    pieces: tuple[int, ...]


def coalesce(pieces: Sequence[Piece]) -> list[Range]:
    """Ranges that hold all ``pieces``: the smallest gaps between neighbours are read over, as long
    as all of them together are at most `WASTE` of the pieces."""
    order = sorted(range(len(pieces)), key=lambda i: pieces[i])
    gaps = [
        max(0, pieces[b].start - pieces[a].end) if pieces[a].file == pieces[b].file else None
        for a, b in itertools.pairwise(order)
    ]
    left = WASTE * sum(piece.end - piece.start for piece in pieces)
    joined = set()
    for gap, i in sorted((gap, i) for i, gap in enumerate(gaps) if gap is not None):
        if gap > left:
            break
        left -= gap
        joined.add(i)
    ranges: list[Range] = []
    for i, number in enumerate(order):
        piece = pieces[number]
        last = ranges[-1] if ranges else None
        if last and i - 1 in joined and piece.end - last.start <= LONGEST:
            end = max(last.end, piece.end)
            ranges[-1] = last._replace(end=end, pieces=(*last.pieces, number))
        else:
            ranges.append(Range(*piece, (number,)))
    return ranges


def fetch(source: Source, sizes: dict[str, int], pieces: Sequence[Piece]) -> list[bytes]:
    """The bytes of each piece. ``sizes`` are those of the files. Raises as `Source.read`."""
    held: list[bytes] = [b""] * len(pieces)
    ranges = coalesce(pieces)

    def read(part: Range) -> bytes:
        return source.read(part.file, part.start, part.end, sizes[part.file])

    with ThreadPoolExecutor(source.jobs, "range") as threads:
        for part, data in zip(ranges, threads.map(read, ranges), strict=True):
            for number in part.pieces:
                piece = pieces[number]
                held[number] = data[piece.start - part.start : piece.end - part.start]
    return held
