"""Stage: vectors of real tiles and their captions by the benchmark's baseline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from builder.errors import ArasError
from builder.pictures import decode_png, image_bytes
from builder.schema import SPLITS, STREAM_PREFIX, VECTORS
from builder.stage import Made, Maker, Stage, setting
from builder.store import Store


@dataclass(frozen=True)
class Embed(Stage):
    """``vectors``: one of the image (stream null) and one of each caption, unit length; null for
    rows of other ``splits``. ``model`` is a folder or a name on the Hub.
    """

    streams: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    model: str = setting("")

    kinds = ("real",)
    gpus = 1
    adds = ("vectors",)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "image", "split", *(STREAM_PREFIX + name for name in self.streams))

    def models(self) -> dict[str, str]:
        from builder.models import clip

        if not (found := clip.identity(self.model)):
            raise ArasError(f"[bench] embeddings = {self.model!r}: its content cannot be told")
        return {"retriever": found}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import clip, training

        dual = clip.pretrained(self.model)
        dual.model.to(training.device()).eval()

        def make(table: pa.Table) -> Made:
            rows = table.select(["id", "split"]).to_pylist()
            texts = {name: table.column(STREAM_PREFIX + name).to_pylist() for name in self.streams}
            images = image_bytes(table.column("image"))
            found: list[Any] = []
            with training.single_thread():
                for i, row in enumerate(rows):
                    if row["split"] is None or SPLITS[row["split"]] not in self.splits:
                        found.append(None)
                        continue
                    told = {name: (cells[i] or {}).get("text") for name, cells in texts.items()}
                    # One at a time: sums differ in the last bit between batch sizes.
                    vectors: list[Any] = [(None, dual.image(decode_png(images[i], row["id"])))]
                    vectors += [(name, dual.text(text)) for name, text in told.items() if text]
                    found.append([{"stream": name, "vector": v} for name, v in vectors])
            made = sum(len(one or ()) for one in found)
            return Made(pa.table({"vectors": pa.array(found, VECTORS)}), {"vectors": made})

        return make


def facts(model: str) -> dict[str, Any]:
    """What a release tells of the model behind its vectors."""
    from builder.models import clip

    name = Path(model).name if Path(model).is_dir() else model
    return {"model": name, "revision": clip.identity(model)}
