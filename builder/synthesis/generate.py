"""Stage: synthetic tiles, drawn by a generator on their layouts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError
from builder.core.files import digest_of
from builder.core.store import Store
from builder.land.classes import count_pixels
from builder.land.pictures import (
    COMPOSITION,
    composition_columns,
    decode_mask,
    encode_png,
    image_bytes,
    image_column,
)
from builder.models.record import require
from builder.models.settings import GeneratorSettings, PipelineSection, Sources, read_settings
from builder.models.step import Training
from builder.steps.stage import Maker, Output, Stage, Unit, each, setting

FITTED = {
    "texture": "aras texture, random phases",
    "quilt": "aras quilt, patches of train tiles",
}
"""Kind of a generator without a network → value of ``gen_model``."""

Draw = Callable[[npt.NDArray[np.uint8], Sequence[int]], npt.NDArray[np.uint8]]
"""Layouts (n, H, W) and n seeds → tiles (n, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Generate(Stage):
    """Draw one tile per row of `Layouts`. A row's noise depends on its own seed alone.

    With ``mask`` = layout the layout is published as the mask; otherwise `Segment` makes the mask.
    With ``size`` tiles of that side are drawn for `RowsWithoutLayout`.
    A generator that was not trained as ``training`` says, where given, is refused.
    ``pipeline`` is a diffusers pipeline that draws in the place of our generator.
    """

    mask: str
    sampler: str
    sampling_steps: int
    guidance: float
    size: int
    batch: int = setting()
    compile: bool | str = setting()
    channels_last: bool = setting()
    model: Path = setting()
    training: Training | None = setting(None)
    pipeline: PipelineSection | None = None
    sources: Sources | None = setting(None)

    kinds = ("synthetic",)
    gpus = 1

    @property
    def needs(self) -> tuple[str, ...]:
        return ("id", "gen_seed") if self.size else ("id", "layout", "gen_seed")

    @property
    def adds(self) -> tuple[str, ...]:
        labels = ("mask", *COMPOSITION, "gen_mask") if self.mask == "layout" else ()
        return ("image", *labels, "gen_model", "gen_revision", "gen_config_sha256")

    def config(self) -> dict[str, object]:
        settings = super().config()
        if self.pipeline is None:
            del settings["pipeline"]
        else:
            del settings["sampler"], settings["sampling_steps"], settings["guidance"]
            settings["pipeline"] = self.pipeline.identity()
        return settings

    def models(self) -> dict[str, str]:
        if self.pipeline is not None:
            return {"generator": self._weights.digest}
        if self.training is not None:
            self.training.refuse_other()
        return {"generator": require(self.model, "generator").weights_sha256}

    def units(self, store: Store) -> list[Unit]:
        if self.training is not None and self.pipeline is None:
            self.training.refuse_other_tiles(store)
        return super().units(store)

    @cached_property
    def _weights(self) -> Any:
        from builder.models import pipelines

        assert self.sources is not None
        return pipelines.find(self.sources)

    def _ours(self) -> tuple[Draw, dict[str, str]]:
        """Our generator, and the columns that record it."""
        from builder.models import generator as model

        ours = model.load(self.model, compiled=self.compile, channels_last=self.channels_last)
        record = require(self.model, "generator")
        settings = read_settings(GeneratorSettings, record.settings)
        how = model.Sampling(self.sampler, self.sampling_steps, self.guidance)
        return lambda layouts, seeds: model.sample(ours, layouts, seeds, how), {
            "gen_model": FITTED.get(
                settings.kind, f"aras {settings.kind} UNet2DModel, {list(settings.widths)}"
            ),
            "gen_revision": record.weights_sha256,
            "gen_config_sha256": digest_of(asdict(how)),
        }

    def _pipeline(self) -> tuple[Draw, dict[str, str]]:
        """The diffusers pipeline, and the columns that record it."""
        from builder.models import pipelines

        assert self.pipeline is not None
        artist = pipelines.load(self.pipeline, self._weights)
        if artist.layout is None and self.mask == "layout":
            raise ArasError(
                f"{artist.name} takes no layout, so tiles would not show what their masks say: "
                'set mask = "segmenter" in [generator], or name a controlnet'
            )
        return lambda layouts, seeds: artist.sample(layouts, seeds, self.batch), {
            "gen_model": f"{artist.name} {self._weights.named}",
            "gen_revision": self._weights.digest,
            "gen_config_sha256": digest_of(self.pipeline.identity()),
        }

    def _layouts(
        self, table: pa.Table, ids: list[str]
    ) -> tuple[list[npt.NDArray[np.uint8]], dict[int, str]]:
        """Layouts, an empty one in the place of one that cannot be decoded, and why it cannot."""
        if self.size:
            return [np.zeros((self.size, self.size), dtype=np.uint8)] * len(ids), {}
        data = image_bytes(table.column("layout"))
        decoded, failed = each(ids, lambda i, name: decode_mask(data[i], name))
        shapes = [mask.shape for mask in decoded.values()] or [(1, 1)]
        if len(set(shapes)) > 1:
            raise ArasError(f"layouts of several sizes among {ids[0]} … {ids[-1]}")
        empty = np.zeros(shapes[0], dtype=np.uint8)
        return [decoded.get(i, empty) for i in range(len(ids))], failed

    def open(self, store: Store, survey: Any) -> Maker:
        draw, facts = self._ours() if self.pipeline is None else self._pipeline()

        def make(table: pa.Table) -> Output:
            ids = table.column("id").to_pylist()
            seeds = [int(text) for text in table.column("gen_seed").to_pylist()]
            layouts, failed = self._layouts(table, ids)
            whole = [i for i in range(len(ids)) if i not in failed]
            images: list[bytes] = [b""] * len(ids)
            for start in range(0, len(whole), self.batch):
                part = whole[start : start + self.batch]
                tiles = draw(np.stack([layouts[i] for i in part]), [seeds[i] for i in part])
                for i, tile in zip(part, tiles, strict=True):
                    images[i] = encode_png(tile)
            names = [row_id.split("/")[-1] + ".png" for row_id in ids]
            columns: dict[str, pa.Array] = {
                "image": image_column(images, names),
                **{name: pa.array([value] * len(ids)) for name, value in facts.items()},
            }
            if self.mask == "layout":
                columns["mask"] = table.column("layout")
                columns["gen_mask"] = pa.array(["layout"] * len(ids))
                counts = np.stack([count_pixels(mask) for mask in layouts])
                columns.update(composition_columns(counts))
            return Output(pa.table({name: columns[name] for name in self.adds}), failed=failed)

        return make
