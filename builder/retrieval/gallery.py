"""The rows of a release that a retrieval benchmark asks about, and the refusal of unfair rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.core.manifest import read_manifest
from builder.land.columns import KINDS
from builder.land.pictures import Pixels, decode_png, image_bytes, per_class
from builder.release.configs import CAPTION_ID
from builder.release.gaps import MIN_KM, gaps
from builder.release.rows import metadata, opened
from builder.retrieval.ranks import Floats, Ints
from builder.retrieval.result import Checks, ReleaseFacts, RuleCount

COLUMNS = ("id", "kind", "pixels", "longitude", "latitude", "transform", "block", "captions",
           "caption_scores")  # fmt: skip
RULES = ("refuse", "leave-out", "keep")


@dataclass(frozen=True)
class Texts:
    """Captions to search by: ids (row id # stream), texts and the gallery row of each, (M,)."""

    ids: list[str]
    texts: list[str]
    owner: Ints


@dataclass(frozen=True)
class Gallery:
    """N rows of a split: ids, pixels (N, 7), blocks (None where unknown), captions by stream."""

    release: Path
    facts: ReleaseFacts
    split: str
    ids: list[str]
    pixels: npt.NDArray[np.int64] | None
    """None where no composition is known."""
    blocks: list[str] | None
    streams: Mapping[str, Sequence[str | None]]
    near: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    """By stream: name of the cluster of captions that nearly repeat each other; None for none."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shares(self) -> Floats:
        """(N, 7) class fractions. Raises ArasError where they are not known."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(N, 7) pixels by class. Raises ArasError where they are not known."""
        if self.pixels is None:
            raise ArasError(f"{self.release}: says nothing of the composition of its images")
        return self.pixels

    def near_of(self, asked: Texts, mine: Ints) -> list[str] | None:
        """Cluster of each text ``mine``, its own id where it is alone; None where all are."""
        clusters, alone = [], True
        for i in mine:
            name = asked.ids[i].rsplit("#", 1)[1]
            cluster = self.near[name][asked.owner[i]] if name in self.near else None
            alone &= cluster is None
            clusters.append(asked.ids[i] if cluster is None else CAPTION_ID.format(cluster, name))
        return None if alone else clusters

    def distractors(self, keep: Ints) -> Ints:
        """Images that lie in the way of those that captions ask for, ``keep``: none of a release,
        where an image without a caption is left out."""
        return np.zeros(0, dtype=np.int64)

    @property
    def pictures_key(self) -> list[Any]:
        """What the pictures depend on."""
        return [self.facts.content_sha256, self.split, self.facts.ids_sha256]

    def pictures(self, batch: int) -> Iterator[tuple[Ints, list[Pixels]]]:
        """Batches of positions and pictures (h, w, 3). Raises ArasError as `pictures`."""
        for where, data in pictures(self.release, self.ids, self.split, batch):
            yield where, [decode_png(png, self.ids[i]) for png, i in zip(data, where, strict=True)]

    def texts(self, streams: Sequence[str]) -> Texts:
        """The captions of ``streams`` row by row; rows whose caption failed have none.

        Raises ArasError for a stream that the release does not have.
        """
        for name in streams:
            if name not in self.streams:
                known = ", ".join(self.streams) or "none"
                raise ArasError(f"{self.release}: no caption stream {name!r}; it has {known}")
        ids, texts, owner = [], [], []
        for row, id_ in enumerate(self.ids):
            for name in streams:
                if (text := self.streams[name][row]) is not None:
                    ids.append(CAPTION_ID.format(id_, name))
                    texts.append(text)
                    owner.append(row)
        return Texts(ids, texts, np.array(owner, dtype=np.int64))

    def take(self, rows: Ints) -> "Gallery":
        """Some of the rows, in the order given."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows],
            pixels=None if self.pixels is None else self.pixels[rows],
            blocks=None if self.blocks is None else [self.blocks[i] for i in rows],
            streams={name: [texts[i] for i in rows] for name, texts in self.streams.items()},
            near={name: [clusters[i] for i in rows] for name, clusters in self.near.items()},
        )


def load(
    release: Path,
    split: str = "test",
    *,
    min_km: float = MIN_KM,
    near: str = "refuse",
    synthetic: str = "refuse",
) -> Gallery:
    """The rows of ``split``; ``facts`` says what was checked, left out or kept.

    ``near`` and ``synthetic`` say what happens to rows whose edges are nearer than ``min_km`` to
    a real train tile and to generated rows: refuse (ArasError with the count and an example),
    leave-out or keep. Raises ArasError for a split that the release lacks and for a split without
    rows to ask about.
    """
    manifest = read_manifest(release)
    tables = [table for name, table in metadata(release, COLUMNS) if name == split]
    if not tables or not sum(table.num_rows for table in tables):
        splits = ", ".join(manifest.configs["metadata"])
        raise ArasError(f"{release}: no rows in split {split!r}; its splits are {splits}")
    table = pa.concat_tables(tables)
    ids = table.column("id").to_pylist()
    if len(set(ids)) < len(ids):
        repeated = next(row for row in ids if ids.count(row) > 1)
        raise ArasError(f"{release}: {split} holds id {repeated} twice; package again")
    is_synthetic = table.column("kind").to_numpy() == KINDS.index("synthetic")
    gap = gaps(release, table, split, min_km)
    keep = np.ones(len(ids), dtype=bool)
    counts: dict[str, RuleCount] = {}
    close = np.zeros(len(ids), dtype=bool) if gap is None else gap < min_km
    for option, rule, bad, what in (
        ("synthetic", synthetic, is_synthetic, "are synthetic"),
        ("near", near, close, f"lie nearer than {min_km:g} km to a train tile"),
    ):
        if rule not in RULES:
            raise ArasError(f"{option} is {rule!r}; expected one of {', '.join(RULES)}")
        counts[option] = RuleCount(rows=int(bad.sum()), rule=rule)
        if bad.any() and rule == "refuse":
            raise ArasError(
                f"{release}: {bad.sum():,} of {len(ids):,} rows of split {split} {what}, for "
                f"example {ids[int(np.argmax(bad))]}; figures on them do not show how a model does "
                f"on unseen places. --{option} leave-out leaves them out, --{option} keep scores "
                "them too"
            )
        if rule == "leave-out":
            keep &= ~bad
    rows = np.flatnonzero(keep)
    if len(rows) < 2:
        raise ArasError(
            f"{release}: split {split} has {len(rows)} rows left; at least 2 are needed"
        )
    blocks = table.column("block").to_pylist()
    facts = ReleaseFacts(
        name=manifest.name,
        version=manifest.version,
        content_sha256=manifest.content_sha256,
        split=split,
        rows=len(rows),
        ids_sha256=digest_of([ids[i] for i in rows]),
        checks=Checks(min_km=min_km, distance_checked=gap is not None, **counts),
    )
    whole = Gallery(
        release,
        facts,
        split,
        ids,
        per_class(table.column("pixels")),
        None if any(blocks[i] is None for i in rows) else blocks,
        captions_by_stream(table.column("captions")),
        near_by_stream(table.column("caption_scores")),
    )
    return whole.take(rows)


def captions_by_stream(column: pa.ChunkedArray) -> dict[str, list[str | None]]:
    """The ``captions`` column as one list of texts a stream, None where a caption is missing."""
    rows = column.to_pylist()
    streams: dict[str, list[str | None]] = {}
    for i, captions in enumerate(rows):
        for caption in captions or ():
            texts = streams.setdefault(caption["stream"], [None] * len(rows))
            text = caption["text"]
            texts[i] = text if text is not None and text.strip() else None
    return streams


def near_by_stream(column: pa.ChunkedArray) -> dict[str, list[str | None]]:
    """Cluster of each caption in ``caption_scores``, by stream; only streams that have clusters."""
    lists = column.combine_chunks()
    row, flat = pc.list_parent_indices(lists).to_pylist(), lists.flatten()
    names, clusters = (flat.field(n).to_pylist() for n in ("stream", "near_duplicate_cluster"))
    streams: dict[str, list[str | None]] = {}
    for i, name, cluster in zip(row, names, clusters, strict=True):
        if cluster is not None:
            streams.setdefault(name, [None] * len(lists))[i] = cluster
    return streams


def pictures(
    release: Path, ids: Sequence[str], split: str, batch: int = 64, column: str = "image"
) -> Iterator[tuple[Ints, list[bytes]]]:
    """Batches of (positions in ``ids``, PNG bytes of ``column``: image or mask), in file order.

    Raises ArasError for a missing or damaged file and for ids whose pictures the release does not
    hold.
    """
    position = {id_: i for i, id_ in enumerate(ids)}
    manifest = read_manifest(release)
    count = 0
    for kind in KINDS:
        for name in manifest.split_files(kind, split):
            with opened(release / name) as file:
                for part in file.iter_batches(batch, columns=["id", column]):
                    names = part["id"].to_pylist()
                    asked = [i for i, id_ in enumerate(names) if id_ in position]
                    if not asked:
                        continue
                    rows = pa.Table.from_batches([part]).take(asked)
                    where = np.array([position[names[i]] for i in asked])
                    count += len(where)
                    yield where, image_bytes(rows.column(column))
    if count != len(position):
        raise ArasError(
            f"{release}: holds {count:,} pictures of the {len(position):,} rows of split {split}; "
            f"`aras check {release}` names what is missing"
        )
