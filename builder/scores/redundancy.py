"""Redundancy: the share of captions that repeat another, word for word or after normalising."""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

VARIANTS = ("raw", "lowercase_single_space", "words_only", "words_without_numbers")
"""What is compared: the raw string; lower case with runs of white space as one space; also without
punctuation; also with every number as 0. Each is applied on top of the last."""


def normalise(texts: pa.Array) -> dict[str, pa.Array]:
    """The four `VARIANTS` of a string array; null stays null."""
    spaced = pc.utf8_trim_whitespace(
        pc.replace_substring_regex(pc.utf8_lower(texts), r"[\s\x00]+", " ")
    )
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, r"[^\pL\pN]+", " "))
    numbers = pc.replace_substring_regex(words, r"\pN+( \pN+)*", "0")
    return dict(zip(VARIANTS, (texts, spaced, words, numbers), strict=True))


@dataclass(frozen=True)
class Repetition:
    """``redundancy`` is 1 − unique/n; None without captions."""

    n: int
    unique: int
    redundancy: float | None


class Redundancy:
    """Counts of distinct captions, fed batch by batch: 8 bytes a caption and variant.

    Only the given ``variants`` are counted. Strings are compared by a 64-bit
    BLAKE2b digest; at two million captions the chance that any two different captions are taken for
    equal is 1e-7.
    """

    def __init__(self, variants: Iterable[str] = VARIANTS) -> None:
        self._digests: dict[str, list[npt.NDArray[np.uint64]]] = {name: [] for name in variants}

    def add(self, texts: pa.Array) -> None:
        """Count a batch (string array; nulls are left out)."""
        held = texts.drop_null()
        every = {"raw": held} if list(self._digests) == ["raw"] else normalise(held)
        for name, digests in self._digests.items():
            digests.append(_digests(every[name]))

    def summary(self) -> dict[str, Repetition]:
        """The repetition in each variant."""
        return summarise([self])


def summarise(parts: Iterable[Redundancy]) -> dict[str, Repetition]:
    """The summary of several counts together, as of all streams."""
    counts = [part._digests for part in parts]
    summary: dict[str, Repetition] = {}
    for name in counts[0] if counts else VARIANTS:
        chunks = [chunk for digests in counts for chunk in digests[name]]
        every = np.concatenate([np.zeros(0, np.uint64), *chunks])
        unique = len(np.unique(every))
        redundancy = 1 - unique / len(every) if len(every) else None
        summary[name] = Repetition(len(every), unique, redundancy)
    return summary


def _digests(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """64-bit digests of the UTF-8 bytes of a string array without nulls, read in place."""
    large = texts.cast(pa.large_string())
    _, offsets, data = large.buffers()
    bounds = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1].tolist()
    view, blake = memoryview(data or b""), hashlib.blake2b
    digests = [blake(view[i:j], digest_size=8).digest() for i, j in itertools.pairwise(bounds)]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)
