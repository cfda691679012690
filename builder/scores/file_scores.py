"""Scoring a whole caption file: two passes, batch by batch, and one summary."""

import collections
import contextlib
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.land.caption_tables import Batch, Reader
from builder.land.score_columns import scores_of
from builder.scores import lexicon as lexicons
from builder.scores.caption_scores import SCORES, score_captions
from builder.scores.leakage import (
    NullGrounding,
    SourceLeak,
    StructuralLeakage,
    null_grounding,
    source_leak,
    structural_leakage,
)
from builder.scores.near_duplicates import NearDuplicates
from builder.scores.redundancy import Redundancy, summarise
from builder.scores.references import Reference, Tiles
from builder.scores.score_writer import check, writing

BATCH = 2_000
"""Rows of the file scored at a time."""

SAMPLE = 5_000
"""Rows, drawn by the seed, on which the leakage models and the nulls are computed."""

MEANS = tuple(scores_of("score", "file"))
"""Scores that the summary gives the mean of."""
RATES = {"percentage_rate": "percentages", "fraction_word_rate": "fraction_words",
         "digit_rate": "digits"}  # fmt: skip
"""Shares of captions in which a count is above 0, and the counts."""


class Job(NamedTuple):
    """Captions of a batch, interleaved, with the shares and the kind of the tile of each."""

    texts: list[str | None]
    shares: npt.NDArray[np.float64] | None
    kinds: list[bool | None]
    lexicon: Path | None
    references: dict[bool | None, Reference]


@dataclass(frozen=True)
class StreamSummary:
    """Captions of a stream, or of all: how many there are (``empty`` ones in lists included), how
    often they repeat each other, their mean scores, and what they leak as far as the file allows
    to measure it."""

    n: int
    missing: int
    empty: int
    unique: int
    redundancy: float | None
    normalised_redundancy: dict[str, float | None]
    near_duplicate_redundancy: float | None
    scored: int
    means: dict[str, float | None]
    null_grounding: NullGrounding | None = None
    structural_leakage: StructuralLeakage | None = None
    source_leak: SourceLeak | None = None


@dataclass(frozen=True)
class FileSummary:
    """``text_columns`` are those that hold the captions, ``notes`` what had to be guessed of the
    file, ``references`` the tiles that discrimination ranks among, ``examples`` the file's first
    captions. ``composition`` is the scale of the class columns (see `Reader`), None without them;
    ``cut`` counts by stream and kind the captions from around which marks of a model's answer were
    cut."""

    file: str
    rows: int
    composition: str | None
    lexicon: dict[str, str]
    text_columns: tuple[str, ...]
    images: int
    captions_per_image: dict[str, float]
    examples: list[str]
    notes: list[str]
    failed_captions: int
    cut: dict[str, dict[str, int]]
    repeated_header_lines: int
    sampled_rows: int
    references: tuple[str, ...]
    streams: dict[str, StreamSummary]

    def as_json(self) -> dict[str, Any]:
        """As `aras score captions --json` prints it; what a stream has no figure of is left out."""
        summary = dataclasses.asdict(self)
        for stream in summary["streams"].values():
            for name in ("null_grounding", "structural_leakage", "source_leak"):
                if stream[name] is None:
                    del stream[name]
        return summary


def score_file(
    path: Path,
    *,
    text: Sequence[str] = (),
    out: Path | None = None,
    lexicon: Path | None = None,
    workers: int = 1,
    seed: int = 0,
    advance: Callable[..., None] = lambda n=1: None,
) -> FileSummary:
    """Score every caption of ``path`` and return the summary.

    The first pass counts rows, redundancy and near-duplicates; the second scores and, with
    ``out``, writes one row per caption: its number in the file (rows × streams, from 0), the id
    and stream if there are any, the scores of `SCORES` and ``near_duplicate_of``, the number of
    the first caption of its cluster. ``advance(n)`` is called for n captions done, twice each.
    Memory grows with the tiles and, while near-duplicates are sought, by 4 bytes a word; what else
    the first pass keeps is in temporary files. Raises ArasError as `Reader` does.
    """
    loaded = lexicons.load(lexicon)
    if out is not None:
        check(out)
        if out.exists() and out.samefile(path):
            raise ArasError(f"{out}: is the input; write the scores to another file")
    reader = Reader(path, text)
    repeats: dict[str, Redundancy] = collections.defaultdict(Redundancy)
    near, tiles = NearDuplicates(), Tiles()
    texts_of: dict[str, int] = collections.Counter()
    empty: dict[str, int] = collections.Counter()
    rows = width = 0
    for batch in reader.batches(BATCH):
        if rows and len(batch.texts) != width:
            raise ArasError(
                f"{path}: rows from {rows} on hold more caption streams than the first rows; "
                "name the columns to score with --text"
            )
        width = len(batch.texts)
        for name, texts in batch.texts.items():
            repeats[name].add(pa.array(texts, pa.string()))
            texts_of[name] += sum(bool(text) for text in texts)
            empty[name] += sum(text == "" for text in texts)
        near.add(pa.array(_interleaved(batch), pa.string()))
        tiles.add(_tile_ids(batch), batch.synthetic, batch.shares)
        rows += len(batch.ids)
        advance(len(batch.ids) * width)
    if not sum(texts_of.values()):
        raise ArasError(f"{path}: every caption is blank or failed in {', '.join(reader.streams)}")
    first = near.clusters().reshape(rows, width)
    references = tiles.references()
    del near, tiles
    tallies = {name: _Tally() for name in reader.streams}
    sample = _Sample(rows, seed)
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(writing(out, _schema(reader))) if out else None
        for batch, scores in _scored(reader, lexicon, references, workers, stack):
            sample.add(batch)
            for place, tally in enumerate(tallies.values()):
                tally.add(scores.take(np.arange(place, len(scores), width)))
            if write:
                write(_out_table(reader, batch, scores, first))
            advance(len(batch.ids) * width)
    named = [*reader.streams, *(["all"] if width > 1 else [])]
    streams = {}
    for place, name in enumerate(named):
        members = [name] if name in tallies else reader.streams
        clusters = first[:, place] if name in tallies else first.ravel()
        summary = _stream(
            [repeats[member] for member in members],
            [tallies[member] for member in members],
            len(np.unique(clusters)),
            clusters.size - sum(texts_of[m] + empty[m] + reader.padded[m] for m in members),
            sum(empty[member] for member in members),
        )
        streams[name] = sample.leakage(name, loaded, seed, summary) if name in tallies else summary
    columns = reader.columns
    return FileSummary(
        file=str(path),
        rows=rows,
        composition=reader.scale if columns and columns.composition else None,
        lexicon={"version": loaded.version, "sha256": loaded.sha256},
        text_columns=columns.texts if columns else (),
        images=len(reader.per_image),
        captions_per_image={
            "min": min(reader.per_image.values()),
            "mean": sum(reader.per_image.values()) / len(reader.per_image),
            "max": max(reader.per_image.values()),
        },
        examples=reader.examples,
        notes=reader.notes,
        failed_captions=reader.failed,
        cut={
            stream: {what: n for (of, what), n in sorted(reader.cut.items()) if of == stream}
            for stream in dict.fromkeys(stream for stream, _ in reader.cut)
        },
        repeated_header_lines=reader.repeated_headers,
        sampled_rows=sample.size,
        references=tuple(sorted({reference.name for reference in references.values()})),
        streams=streams,
    )


class _Tally:
    """Sums and counts of the score columns of one stream."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = collections.defaultdict(float)
        self.counts: dict[str, int] = collections.Counter()

    def add(self, scores: pa.Table) -> None:
        for name in MEANS:
            column = scores[name].drop_null().to_numpy()
            self.sums[name] += float(column.sum(dtype=np.float64))
            self.counts[name] += len(column)
        for name, source in RATES.items():
            column = scores[source].drop_null().to_numpy()
            self.sums[name] += int((column > 0).sum())
            self.counts[name] += len(column)


def _tile_ids(batch: Batch) -> list[str | int]:
    """The tile of each row; a row without an id is a tile of its own."""
    return [batch.first + i if id_ is None else id_ for i, id_ in enumerate(batch.ids)]


class _Sample:
    """The rows drawn for what needs many captions at once."""

    def __init__(self, rows: int, seed: int) -> None:
        self.size = min(rows, SAMPLE)
        self.chosen = np.zeros(rows, dtype=bool)
        drawn = np.random.default_rng(seed).choice(rows, self.size, replace=False, shuffle=False)
        self.chosen[drawn] = True
        self.texts: dict[str, list[str | None]] = collections.defaultdict(list)
        self.shares: list[npt.NDArray[np.float64]] = []
        self.synthetic: list[bool | None] = []
        self.tiles: list[str | int] = []

    def add(self, batch: Batch) -> None:
        some = np.flatnonzero(self.chosen[batch.first : batch.first + len(batch.ids)])
        for name, texts in batch.texts.items():
            self.texts[name] += [texts[i] or None for i in some]
        if batch.shares is not None:
            self.shares.append(batch.shares[some])
        self.synthetic += [batch.synthetic[i] for i in some]
        tiles = _tile_ids(batch)
        self.tiles += [tiles[i] for i in some]

    def leakage(
        self, stream: str, lexicon: lexicons.Lexicon, seed: int, summary: StreamSummary
    ) -> StreamSummary:
        """``summary`` with the nulls, structural leakage and source leak of the stream, as far as
        the file allows."""
        texts = self.texts[stream]
        if self.shares:
            shares = np.concatenate(self.shares)
            kept = [i for i, text in enumerate(texts) if text and not np.isnan(shares[i]).any()]
            summary = replace(
                summary,
                null_grounding=null_grounding(texts, shares, seed=seed, lexicon=lexicon),
                structural_leakage=structural_leakage(
                    [texts[i] or "" for i in kept],
                    shares[kept],
                    groups=[self.tiles[i] for i in kept],
                    seed=seed,
                ),
            )
        kept = [i for i, text in enumerate(texts) if text and self.synthetic[i] is not None]
        source = [bool(self.synthetic[i]) for i in kept]
        if any(source) and not all(source):
            leak = source_leak(
                [texts[i] or "" for i in kept],
                source,
                groups=[self.tiles[i] for i in kept],
                seed=seed,
            )
            summary = replace(summary, source_leak=leak)
        return summary


def _scored(
    reader: Reader,
    lexicon: Path | None,
    references: dict[bool | None, Reference],
    workers: int,
    stack: contextlib.ExitStack,
) -> Iterator[tuple[Batch, pa.Table]]:
    """Batches and their scores in order; at most two batches a worker are in the air."""
    if workers < 2:
        for batch in reader.batches(BATCH):
            yield batch, _score(_job(batch, lexicon, references))
        return
    context = multiprocessing.get_context("spawn")
    pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context))
    waiting: collections.deque[tuple[Batch, Future[pa.Table]]] = collections.deque()
    for batch in reader.batches(BATCH):
        waiting.append((batch, pool.submit(_score, _job(batch, lexicon, references))))
        if len(waiting) >= 2 * workers:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def _job(batch: Batch, lexicon: Path | None, references: dict[bool | None, Reference]) -> Job:
    shares, width = None, len(batch.texts)
    if batch.shares is not None:
        shares = np.repeat(batch.shares, width, axis=0)
    kinds = [kind for kind in batch.synthetic for _ in range(width)]
    return Job(_interleaved(batch), shares, kinds, lexicon, references)


def _score(job: Job) -> pa.Table:
    """Scores of the captions of each kind of tile, in the order of the job."""
    loaded, tables, order = lexicons.load(job.lexicon), [], []
    for kind in dict.fromkeys(job.kinds):
        at = [i for i, own in enumerate(job.kinds) if own is kind]
        texts, shares = [job.texts[i] for i in at], None if job.shares is None else job.shares[at]
        reference = job.references.get(kind)
        tables.append(score_captions(texts, shares, lexicon=loaded, reference=reference))
        order += at
    return pa.concat_tables(tables).take(np.argsort(order))


def _interleaved(batch: Batch) -> list[str | None]:
    """The captions row by row, each row's streams in order."""
    return [text or None for row in zip(*batch.texts.values(), strict=True) for text in row]


def _schema(reader: Reader) -> pa.Schema:
    fields = [pa.field("caption", pa.int64())]
    if reader.columns and reader.columns.id:
        fields.append(pa.field(reader.columns.id, pa.string()))
    if len(reader.streams) > 1:
        fields.append(pa.field("stream", pa.string()))
    return pa.schema([*fields, *SCORES, pa.field("near_duplicate_of", pa.int64())])


def _out_table(
    reader: Reader, batch: Batch, scores: pa.Table, first: npt.NDArray[np.int64]
) -> pa.Table:
    n, width = len(batch.ids), first.shape[1]
    columns: list[Any] = [np.arange(n * width) + batch.first * width]
    if reader.columns and reader.columns.id:
        columns.append([id_ for id_ in batch.ids for _ in range(width)])
    if width > 1:
        columns.append(list(reader.streams) * n)
    cluster = pa.array(first[batch.first : batch.first + n].ravel())
    schema = _schema(reader)
    arrays = [pa.array(c, schema.field(i).type) for i, c in enumerate(columns)]
    return pa.Table.from_arrays([*arrays, *scores.columns, cluster], schema=schema)


def _stream(
    repeats: list[Redundancy], tallies: list[_Tally], clusters: int, missing: int, empty: int
) -> StreamSummary:
    redundancy = summarise(repeats)
    raw = redundancy.pop("raw")
    means: dict[str, float | None] = {}
    for name in (*MEANS, *RATES):
        count = sum(tally.counts[name] for tally in tallies)
        means[name] = sum(tally.sums[name] for tally in tallies) / count if count else None
    return StreamSummary(
        n=raw.n,
        missing=missing,
        empty=empty,
        unique=raw.unique,
        redundancy=raw.redundancy,
        normalised_redundancy={name: each.redundancy for name, each in redundancy.items()},
        # each missing or empty caption is a cluster of its own
        near_duplicate_redundancy=(
            1 - (clusters - missing - max(empty - 1, 0)) / raw.n if raw.n else None
        ),
        scored=sum(tally.counts["grounding"] for tally in tallies),
        means=means,
    )
