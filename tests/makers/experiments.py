"""Both experiments with tiny models, on a release of `bench_release`."""

from functools import partial
from pathlib import Path

from builder.experiments import augmentation, imbalance
from builder.experiments.experiment import Experiment
from builder.models.settings import RetrieverSettings, SegmenterSettings
from tests.makers.bench_release import SIZE

TINY_SEGMENTER = SegmenterSettings(steps=4, batch=4, crop=SIZE, widths=(8, 8, 16, 16), decoder=8)
TINY_RETRIEVER = RetrieverSettings(
    stream="numbers",
    steps=4,
    batch=8,
    size=16,
    patch=8,
    width=32,
    layers=1,
    text_layers=1,
    projection=8,
    tokens=24,
    vocabulary=320,
)


def experiment_on(
    name: str,
    release: Path,
    out: Path,
    settings: RetrieverSettings | SegmenterSettings | None = None,
    zero_shot: str = "",
) -> Experiment:
    """Two seeds of every arm at half a synthetic row per real one."""
    if name == "augmentation":
        bench = partial(augmentation.Bench, release, out, settings or TINY_SEGMENTER, ratio=0.5)
    else:
        material = partial(imbalance.release_material, release, "numbers")
        bench = partial(imbalance.Bench, material, settings or TINY_RETRIEVER, (0.5,), zero_shot)
    return Experiment(bench, out, seeds=2)
