"""Stage: synthetic tiles drawn from the generator on their layouts."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from builder.errors import ArasError
from builder.files import digest_of
from builder.landcover import count_pixels
from builder.pictures import (
    COMPOSITION,
    composition_columns,
    decode_mask,
    encode_png,
    image_bytes,
    image_column,
)
from builder.stage import Made, Maker, Stage, setting
from builder.store import Store


@dataclass(frozen=True)
class Generate(Stage):
    """Draw one tile per row of `Layouts`. A row's noise depends on its own seed alone.

    With ``mask`` = layout the layout is published as the mask; otherwise `Segment` makes it.
    """

    mask: str = "layout"
    sampler: str = "dpm-solver"
    sampling_steps: int = 15
    batch: int = setting(16)
    model: Path = setting(Path())

    kinds = ("synthetic",)
    needs = ("id", "layout", "gen_seed")
    gpus = 1

    @property
    def adds(self) -> tuple[str, ...]:
        made = ("mask", *COMPOSITION) if self.mask == "layout" else ()
        return ("image", *made, "gen_model", "gen_revision", "gen_config_sha256")

    def models(self) -> dict[str, str]:
        from builder.models import training

        return {"generator": training.require(self.model, "generator")["weights_sha256"]}

    def open(self, store: Store, survey: Any) -> Maker:
        from builder.models import generator as model
        from builder.models import training

        unet = model.load(self.model)
        found = training.require(self.model, "generator")
        how = model.Sampling(self.sampler, self.sampling_steps)
        facts = {
            "gen_model": f"aras UNet2DModel, {found['settings']['widths']}",
            "gen_revision": found["weights_sha256"],
            "gen_config_sha256": digest_of(asdict(how)),
        }

        def make(table: pa.Table) -> Made:
            ids, seeds = table.column("id").to_pylist(), table.column("gen_seed").to_pylist()
            masks = image_bytes(table.column("layout"))
            layouts = [
                decode_mask(data, f"layout of {one}") for data, one in zip(masks, ids, strict=True)
            ]
            if len({mask.shape for mask in layouts}) > 1:
                raise ArasError(f"layouts of several sizes among {ids[0]} … {ids[-1]}")
            spans = [slice(i, i + self.batch) for i in range(0, len(ids), self.batch)]
            drawn = [model.sample(unet, np.stack(layouts[s]), seeds[s], how) for s in spans]
            names = [one.split("/")[-1] + ".png" for one in ids]
            columns: dict[str, Any] = {
                "image": image_column([encode_png(one) for part in drawn for one in part], names),
                "mask": table.column("layout"),
                **composition_columns(np.stack([count_pixels(mask) for mask in layouts])),
                **{name: pa.array([value] * len(ids)) for name, value in facts.items()},
            }
            return Made(pa.table({name: columns[name] for name in self.adds}))

        return make
