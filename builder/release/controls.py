"""The config ``controls``: captions that show how much a model reads the words of the real ones."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.core.seeds import seed
from builder.land.classes import CLASSES
from builder.land.columns import CONTROLS, arrow_schema, names_of
from builder.land.pictures import per_class
from builder.scores import lexicon as lexicons
from builder.scores.controls import control_captions

CONFIG = "controls"
KIND, SPLIT = "real", "test"
"""Control captions are of real test tiles, on which models are compared."""


@dataclass
class Controls:
    """Picks at most ``rows`` real test tiles by hash of their ids as they pass: the same ones in
    any order, and a smaller number is part of a larger one. ``lexicon`` is laid over the built-in
    one, whose words of land cover are masked."""

    rows: int
    seed: int
    lexicon: Path | None = None
    kept: list[tuple[int, str, Any, dict[str, str | None]]] = field(default_factory=list)

    def see(self, kind: str, split: str, table: pa.Table) -> None:
        """Take the rows (columns id, pixels, captions) of one part of the release."""
        if (kind, split) != (KIND, SPLIT) or not self.rows:
            return
        light = table.select(["id", "captions"]).to_pylist()
        for row, pixels in zip(light, per_class(table.column("pixels")), strict=True):
            texts = {one["stream"]: one["text"] for one in row["captions"]}
            self.kept.append((seed(self.seed, "controls", row["id"]), row["id"], pixels, texts))
        if len(self.kept) > 2 * self.rows:
            self.kept = self._chosen()

    def table(self) -> pa.Table | None:
        """Rows of the config, ordered by stream, control and id; None where there are none.

        A control that cannot be made of a row (no caption; no tile of other classes) is left out.
        """
        chosen = sorted(self._chosen(), key=lambda one: one[1])
        ids = [one[1] for one in chosen]
        pixels = np.array([one[2] for one in chosen], dtype=np.float64).reshape(-1, len(CLASSES))
        shares = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
        words = lexicons.load(self.lexicon)
        parts = []
        for stream in chosen[0][3] if chosen else ():
            texts = [one[3].get(stream) for one in chosen]
            made = control_captions(ids, texts, shares, seed=self.seed, lexicon=words)
            made = made.append_column("stream", pa.array([stream] * made.num_rows))
            parts.append(made.select(names_of(CONFIG)).filter(made.column("text").is_valid()))
        return pa.concat_tables(parts).cast(arrow_schema(names_of(CONFIG))) if parts else None

    def _chosen(self) -> list[tuple[int, str, Any, dict[str, str | None]]]:
        return heapq.nsmallest(self.rows, self.kept, key=lambda one: one[:2])


def violations(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of rows that break an invariant of the config."""
    for row in table.to_pylist():
        text, control = row["text"], row["control"]
        if control not in CONTROLS:
            yield row["id"], f"control {control!r} is unknown"
        elif text is None or (control == "empty") != (text == ""):
            yield row["id"], "its text is missing, or not empty where it should be"
        elif control == "digits_masked" and re.search(r"\d", text):
            yield row["id"], "a digit stands in a text whose digits are masked"
