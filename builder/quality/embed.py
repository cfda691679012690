"""Stages: vectors of tiles and captions by pretrained encoders, and by the benchmark's baseline."""

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from builder.core.errors import ArasError
from builder.core.fields import Model, Section
from builder.core.manifest import EmbeddingsRecord
from builder.core.store import Store
from builder.land.columns import SPLITS, STREAM_PREFIX, VECTORS
from builder.land.pictures import decode_png, image_bytes
from builder.models.weights import Weights, identity_of, public_name
from builder.steps.stage import Maker, Output, Stage, setting

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
            rows = table.select(["id", "split"]).to_pylist()
            texts = {name: table.column(STREAM_PREFIX + name).to_pylist() for name in self.streams}
            images = image_bytes(table.column("image"))
            vectors_of_rows: list[Any] = []
            with training.single_thread():
                for i, row in enumerate(rows):
                    if row["split"] is None or SPLITS[row["split"]] not in self.splits:
                        vectors_of_rows.append(None)
                        continue
                    captions = {name: (cells[i] or {}).get("text") for name, cells in texts.items()}
                    # One at a time: sums differ in the last bit between batch sizes.
                    vectors: list[Any] = [(None, dual.image(decode_png(images[i], row["id"])))]
                    vectors += [(name, dual.text(text)) for name, text in captions.items() if text]
                    vectors_of_rows.append([{"stream": name, "vector": v} for name, v in vectors])
            count = sum(len(cell or ()) for cell in vectors_of_rows)
            return Output(
                pa.table({"vectors": pa.array(vectors_of_rows, VECTORS)}), {"vectors": count}
            )

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
            vectors: list[Any] = []
            for start in range(0, len(names), self.batch):
                part = slice(start, start + self.batch)
                pictures = zip(data[part], names[part], strict=True)
                vectors += list(encode([decode_png(image, name) for image, name in pictures]))
            return Output(pa.table({self.adds[0]: pa.array(vectors, pa.list_(pa.float32()))}))

        return make


def record(model: str) -> EmbeddingsRecord:
    """What a release says about the model behind its vectors."""
    return EmbeddingsRecord(model=public_name(model), revision=identity_of(model))
