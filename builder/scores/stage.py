"""Stage: how grounded a caption stream is in the tiles' land cover, and what it reveals."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from builder.core.fields import File, Model, Positive, Section
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.land.columns import CAPTION_SCORE, CLIP_PREFIX, CLIP_SCORE, SCORE_PREFIX, STREAM_PREFIX
from builder.land.pictures import decode_mask, image_bytes, per_class
from builder.models.neighbours import matrix
from builder.models.weights import Weights
from builder.quality.embed import COLUMNS
from builder.steps.stage import Maker, Output, Scan, Stage, each, setting

if TYPE_CHECKING:
    from builder.scores.references import Cells, Reference


class ScoresSection(Section):
    """What captions and images are scored with: models are ORG/NAME on the Hub or a path, the
    lexicon is a path; empty for none, and for the built-in lexicon."""

    lexicon: File = ""
    clip: Model = ""
    clip_revision: str = ""
    tokenizer: Model = ""
    tokenizer_revision: str = ""
    features: Annotated[Model, Field(min_length=1)] = "segmenter"
    features_revision: str = ""
    batch: Positive = 32


@dataclass(frozen=True)
class Score(Stage):
    """One struct of scores per caption; null values where there is no caption to score, and where
    there is no composition or mask that a value needs.

    Discrimination ranks a tile among tiles of this dataset of its own kind, which a survey draws:
    real among real, synthetic among synthetic.

    ``lexicon`` is laid over the built-in lexicon; its content, not its path, is in the key.
    """

    stream: str = "full"
    lexicon: Path | None = setting(None)

    light = True

    @property
    def name(self) -> str:
        return f"score-{self.stream}"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "mask", "pixels", f"{STREAM_PREFIX}{self.stream}")

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{SCORE_PREFIX}{self.stream}",)

    @property
    def surveys(self) -> tuple[str, ...]:
        return ("id", "mask", "pixels")

    def models(self) -> dict[str, str]:
        from builder.scores import lexicon

        return {"lexicon": lexicon.load(self.lexicon).sha256}

    def survey(self, scan: Scan) -> "dict[str, Reference]":
        """Kind → reference tiles of that kind, where there are enough."""
        return reference_tiles(scan)

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.scores import lexicon
        from builder.scores.caption_scores import score_captions

        words = lexicon.load(self.lexicon)
        released = pa.schema(list(CAPTION_SCORE))
        references: dict[str, Reference] = survey or {}

        def make(table: pa.Table) -> Output:
            names = table.column("id").to_pylist()
            reference = references.get(names[0].partition("/")[0]) if names else None
            texts = [caption["text"] for caption in table.column(self.needs[-1]).to_pylist()]
            shares = _shares(table.column("pixels"))
            held = image_bytes(table.column("mask"))
            known, failed = each(
                names, lambda i, name: decode_mask(held[i], name) if held[i] else None
            )
            masks = [known.get(i) for i in range(len(names))]
            scores = score_captions(
                texts, shares, masks, lexicon=words, reference=reference, scores=released
            )
            column = scores.to_struct_array().combine_chunks()
            return Output(pa.table({self.adds[0]: column}), failed=failed)

        return make


def reference_tiles(scan: Scan) -> "dict[str, Reference]":
    """Reference tiles of each kind, ``real`` and ``synthetic``, with `FEWEST` compositions or more,
    drawn from all surveyed shards: compositions decide which, and only their masks are decoded."""
    from builder.scores.references import FEWEST, coarse, representatives

    names: dict[str, list[str]] = defaultdict(list)
    shares: dict[str, list[npt.NDArray[np.float64]]] = defaultdict(list)
    for shard, table in scan(("id", "pixels")):
        kind = shard.partition("-")[0]
        names[kind] += table.column("id").to_pylist()
        shares[kind].append(_shares(table.column("pixels")))
    chosen: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    for kind, ids in names.items():
        every = np.concatenate(shares[kind])
        known = np.flatnonzero(~np.isnan(every).any(axis=1))
        drawn = representatives([ids[i] for i in known], every[known])
        chosen[kind] = {ids[known[i]]: every[known[i]] for i in drawn}
    layouts = {}
    for shard, table in scan(("id", "mask")):
        asked = chosen[shard.partition("-")[0]]
        ids, held = table.column("id").to_pylist(), image_bytes(table.column("mask"))

        def cells(i: int, name: str, held: list[bytes] = held) -> "Cells":
            return coarse(decode_mask(held[i], name))

        rows = [i for i, name in enumerate(ids) if name in asked and held[i]]
        known_cells, _ = each(ids, cells, rows)
        layouts.update({ids[i]: layout for i, layout in known_cells.items()})
    return {
        kind: _reference(kind, tiles, layouts)
        for kind, tiles in chosen.items()
        if len(tiles) >= FEWEST
    }


def _reference(
    kind: str, tiles: dict[str, npt.NDArray[np.float64]], layouts: "dict[str, Cells]"
) -> "Reference":
    """The tiles with a layout, or all without layouts where few have one."""
    from builder.scores.references import FEWEST, Reference

    whole = [name for name in tiles if name in layouts]
    names = whole if len(whole) >= FEWEST else list(tiles)
    return Reference(
        f"{len(names)} {kind} tiles of the dataset",
        np.array([tiles[name] for name in names]),
        np.stack([layouts[name] for name in names]) if names is whole else None,
    )


def _shares(pixels: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """(n, 7) shares; NaN where there are no pixel counts."""
    known = pixels.is_valid().to_numpy()
    counts = np.full((len(pixels), len(CLASSES)), np.nan)
    counts[known] = per_class(pixels.filter(pa.array(known)))
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, np.nan))


WEIGHT = 2.5
"""CLIPScore is this times the cosine, and 0 below 0 (Hessel et al. 2021)."""


@dataclass(frozen=True)
class ClipScore(Stage):
    """``clip_cosine`` and ``clip_score`` of image and caption; ``clip_tokens`` of the whole caption
    by ``tokenizer`` (the model's own where None) and whether they are more than fit.

    Without ``model`` the tokens are counted alone. Blind to composition: see docs.
    """

    stream: str
    model: Weights | None = setting()
    tokenizer: Weights | None = setting()
    batch: int = setting()

    @property
    def gpus(self) -> float:
        return 1 if self.model else 0

    @property
    def name(self) -> str:
        return f"clip-{self.stream}"

    @property
    def needs(self) -> tuple[str, ...]:
        image = (COLUMNS["clip"],) if self.model else ()
        return ("id", *image, f"{STREAM_PREFIX}{self.stream}")

    @property
    def adds(self) -> tuple[str, ...]:
        return (f"{CLIP_PREFIX}{self.stream}",)

    def models(self) -> dict[str, str]:
        weights = {"clip": self.model, "tokenizer": self.tokenizer}
        return {name: model.digest() for name, model in weights.items() if model}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import encoders

        clip = encoders.steady_clip(self.model) if self.model else None
        words = self.tokenizer or self.model
        assert words is not None  # the pipeline builds this stage for either
        count, room = encoders.tokenizer(words)
        room = clip.room if clip else room

        def make(table: pa.Table) -> Output:
            texts = [caption["text"] for caption in table.column(self.needs[-1]).to_pylist()]
            there = np.array([text is not None for text in texts], dtype=bool)
            cosine = np.full(len(texts), np.nan)
            if clip is not None and there.any():
                known = [text for text in texts if text is not None]
                parts = [known[i : i + self.batch] for i in range(0, len(known), self.batch)]
                vectors = np.concatenate([clip.texts(part) for part in parts])
                images = matrix(table.column(COLUMNS["clip"]))[there]
                cosine[there] = (images * vectors).sum(axis=1, dtype=np.float64)
            tokens = [None if text is None else count(text) for text in texts]
            cut = [None if n is None else n > room for n in tokens]
            values = {
                "clip_cosine": pa.array(cosine, from_pandas=True),  # NaN is missing
                "clip_score": pa.array(WEIGHT * np.maximum(cosine, 0), from_pandas=True),
                "clip_tokens": pa.array(tokens, pa.int32()),
                "clip_truncated": pa.array(cut, pa.bool_()),
            }
            column = pa.StructArray.from_arrays(
                [values[field.name].cast(field.type) for field in CLIP_SCORE],
                fields=list(CLIP_SCORE),
            )
            return Output(pa.table({self.adds[0]: column}), {"truncated": sum(map(bool, cut))})

        return make
