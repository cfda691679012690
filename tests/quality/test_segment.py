"""Agreement: the share of pixels on which the segmenter sees what the mask says."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.core.store import Store
from builder.land.pictures import decode_mask, decode_png
from builder.models import segmenter
from builder.pipeline.project import Project
from builder.quality.segment import Segment
from builder.steps.plan import plan, run
from builder.steps.stage import shards


def test_agreement_is_the_share_of_equal_pixels(project: Project) -> None:
    model = segmenter.load(project.models / "segmenter")
    checked = 0
    for shard in shards(project.store, ("real", "synthetic")):
        table = project.store.read(shard, ("id", "image", "mask", "mask_agreement"))
        for row in table.to_pylist()[:2]:
            image = decode_png(row["image"]["bytes"])
            mask = decode_mask(row["mask"]["bytes"], row["id"])
            seen = segmenter.look(model, image[None])[0][0]
            assert row["mask_agreement"] == pytest.approx(float(np.mean(seen == mask)))
            checked += 1
    assert checked >= 8


@pytest.mark.parametrize("batch", [1, 5])
def test_the_batch_size_changes_nothing(project: Project, tmp_path: Path, batch: int) -> None:
    for stage in ("tiles", "layouts", "generate"):
        shutil.copytree(project.store.root / stage, tmp_path / stage)
    stage = project.segment()
    summary = run(dataclasses.replace(stage, batch=batch), Store(tmp_path), Engine("serial"))
    known = run(stage, project.store, Engine("serial"))
    assert (known.shards_made, summary.digest) == (0, known.digest)


def test_without_a_segmenter_the_command_that_trains_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match="run `aras train segmenter` first"):
        plan(Segment(model=tmp_path / "none"), Store(tmp_path / "work"))
