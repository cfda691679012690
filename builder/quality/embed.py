"""Stages: vectors of tiles and captions by pretrained encoders, and by the benchmark's baseline."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from builder.core.errors import ArasError
from builder.core.fields import Model, Section
from builder.core.manifest import EmbeddingsRecord
from builder.core.store import Store
from builder.land.columns import SPLITS, STREAM_PREFIX, VECTORS
from builder.land.pictures import decode_png, image_bytes
from builder.models.weights import Weights, identity_of, public_name
from builder.steps.stage import Maker, Output, Stage, each, setting

COLUMNS = {"clip": "image_vector", "features": "embedding"}
"""What the vectors are for → the working column that holds them."""


class BenchSection(Section):
    embeddings: Model = ""
    splits: list[Literal["train", "validation", "test"]] = Field(default=["validation", "test"])


@dataclass(frozen=True, kw_only=True)
class Embed(Stage):
    """``vectors``: of the image (stream null) and of each caption, of unit length; null for
    rows of other ``splits``. ``model`` is a folder or a name on the Hub.
    """

    streams: tuple[str, ...] = ()
    splits: tuple[str, ...]
    model: str = setting("")

    kinds = ("real",)
    gpus = 1
    adds = ("vectors",)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "image", "split", *(STREAM_PREFIX + name for name in self.streams))

    def models(self) -> dict[str, str]:
        if not (identity := identity_of(self.model)):
            raise ArasError(
                f"[bench] embeddings = {self.model!r}: neither its content nor its commit is known"
            )
        return {"retriever": identity}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import clip, training

        dual = clip.pretrained(self.model)
        dual.model.to(training.device()).eval()

        def make(table: pa.Table) -> Output:
            ids = table.column("id").to_pylist()
            splits = table.column("split").to_pylist()
            texts = {name: table.column(STREAM_PREFIX + name).to_pylist() for name in self.streams}
            images = image_bytes(table.column("image"))

            def encode(i: int, name: str) -> list[dict[str, Any]] | None:
                split = splits[i]
                if split is None or SPLITS[split] not in self.splits:
                    return None
                captions = {name: (cells[i] or {}).get("text") for name, cells in texts.items()}
                # One at a time: sums differ in the last bit between batch sizes.
                vectors: list[Any] = [(None, dual.image(decode_png(images[i], name)))]
                vectors += [(stream, dual.text(text)) for stream, text in captions.items() if text]
                return [{"stream": stream, "vector": finite(v)} for stream, v in vectors]

            with training.single_thread():
                vectors, failed = each(ids, encode)
            rows = [vectors.get(i) for i in range(len(ids))]
            count = sum(len(cell or ()) for cell in rows)
            column = pa.array(rows, VECTORS)
            return Output(pa.table({"vectors": column}), {"vectors": count}, failed=failed)

        return make


@dataclass(frozen=True)
class Encode(Stage):
    """``image_vector``: a CLIP's vectors, of length 1; ``embedding``: the features of any model."""

    role: str
    weights: Weights = setting()
    batch: int = setting()

    needs = ("id", "image")
    gpus = 1

    @property
    def name(self) -> str:
        return f"encode-{self.role}"

    @property
    def adds(self) -> tuple[str, ...]:
        return (COLUMNS[self.role],)

    def models(self) -> dict[str, str]:
        return {self.role: self.weights.digest()}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import encoders

        if self.role == "clip":
            encode = encoders.steady_clip(self.weights).images
        else:
            encode = encoders.vision(self.weights)

        def make(table: pa.Table) -> Output:
            names = table.column("id").to_pylist()
            data = image_bytes(table.column("image"))
            encoded: dict[int, Any] = {}
            failed: dict[int, str] = {}
            for start in range(0, len(names), self.batch):
                part = range(start, min(start + self.batch, len(names)))
                pictures, lost = each(names, lambda i, name: decode_png(data[i], name), part)
                failed |= lost
                if pictures:
                    encoded |= zip(pictures, encode(list(pictures.values())), strict=True)
            vectors, lost = each(names, lambda i, _: finite(encoded[i]), encoded)
            failed |= lost
            rows = [vectors.get(i) for i in range(len(names))]
            column = pa.array(rows, pa.list_(pa.float32()))
            return Output(pa.table({self.adds[0]: column}), failed=failed)

        return make


def finite(vector: Any) -> Any:
    """The vector. Raises ArasError for one that holds a value that is not a finite number."""
    if not np.isfinite(vector).all():
        raise ArasError("the model's vector holds values that are not finite numbers")
    return vector


def record(model: str) -> EmbeddingsRecord:
    """What a release says about the model behind its vectors."""
    return EmbeddingsRecord(model=public_name(model), revision=identity_of(model))
