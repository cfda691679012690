"""Caption streams whose words give away which rows are synthetic, measured while a release is
packaged."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from builder.core.seeds import seed
from builder.land.columns import KINDS
from builder.scores.leakage import source_leak, source_sentence

MOST = 1_000
"""Rows of each kind that the words are learned from, by hash of the id."""


class _Row(NamedTuple):
    hash: int
    id: str
    texts: dict[str, str | None]
    """By stream."""


@dataclass
class SourceSample:
    """At most `MOST` rows of each kind, by hash of their ids: the same rows in any order."""

    rows: dict[str, list[_Row]] = field(default_factory=dict)

    def see(self, kind: str, table: pa.Table) -> None:
        """Take rows (columns id and captions) of a kind."""
        kept = self.rows.setdefault(kind, [])
        least = kept[-1].hash if len(kept) >= MOST else None
        ids = table.column("id").to_pylist()
        hashes = [seed("source leak", name) for name in ids]
        some = [i for i, value in enumerate(hashes) if least is None or value < least]
        captions = table.column("captions").take(pa.array(some, pa.int64())).to_pylist()
        for i, streams in zip(some, captions, strict=True):
            texts = {caption["stream"]: caption["text"] for caption in streams}
            kept.append(_Row(hashes[i], ids[i], texts))
        kept.sort(key=lambda row: row[:2])
        del kept[MOST:]

    def sentences(self) -> dict[str, str]:
        """Stream → what its words give away, of the streams that do."""
        if any(not self.rows.get(kind) for kind in KINDS):
            return {}
        said = {}
        for stream in dict.fromkeys(name for row in self.rows[KINDS[0]] for name in row.texts):
            pairs = [
                (text, kind == KINDS[1], row.id)
                for kind in KINDS
                for row in self.rows[kind]
                if (text := row.texts.get(stream))
            ]
            if pairs:
                texts, synthetic, ids = map(list, zip(*pairs, strict=True))
                sentence = source_sentence(stream, source_leak(texts, synthetic, groups=ids))
                if sentence:
                    said[stream] = sentence
        return said
