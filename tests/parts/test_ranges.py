"""Pieces of files are fetched in few ranges, which read little for nothing."""

import itertools
import random

from builder.parts.ranges import LONGEST, WASTE, Piece, coalesce


def pieces_of(gaps: list[int], size: int = 1000, file: str = "a") -> list[Piece]:
    starts = itertools.accumulate([7, *(gap + size for gap in gaps)])
    return [Piece(file, start, start + size) for start in starts]


def test_neighbours_are_read_together_and_far_ones_apart() -> None:
    pieces = pieces_of([40, 40, 100_000, 40])
    assert [(part.start, part.end, part.pieces) for part in coalesce(pieces)] == [
        (7, 3087, (0, 1, 2)),
        (103087, 105127, (3, 4)),
    ]


def test_gaps_are_a_tenth_of_the_pieces_at_most_whatever_their_order() -> None:
    rng = random.Random(3)
    for _ in range(50):
        gaps = [rng.choice([0, 30, 200, 5000]) for _ in range(40)]
        pieces = [*pieces_of(gaps), *pieces_of(gaps, file="b")]
        rng.shuffle(pieces)
        ranges = coalesce(pieces)
        total = sum(piece.end - piece.start for piece in pieces)
        assert total <= sum(part.end - part.start for part in ranges) <= (1 + WASTE) * total
        assert sorted(n for part in ranges for n in part.pieces) == list(range(len(pieces)))
        for part in ranges:
            assert all(pieces[n].file == part.file for n in part.pieces)
            assert all(part.start <= pieces[n].start for n in part.pieces)
            assert all(pieces[n].end <= part.end for n in part.pieces)


def test_a_piece_asked_for_twice_is_read_once() -> None:
    assert coalesce([Piece("a", 5, 9), Piece("a", 5, 9)]) == [("a", 5, 9, (0, 1))]


def test_no_range_of_several_pieces_is_long() -> None:
    ranges = coalesce(pieces_of([0] * 30, size=LONGEST // 4))
    assert max(part.end - part.start for part in ranges) <= LONGEST
    assert coalesce([]) == []
