"""What the training of a generator depends on, and its profiles."""

from dataclasses import dataclass

from builder.steps.stage import setting


@dataclass(frozen=True)
class Settings:
    """What a training depends on; `PROFILES` are two sets of them.

    Fields declared by `setting` change speed, memory and rounding only, and a training that was
    interrupted goes on when they change; so does it with another ``patience``, which decides only
    when a training ends. ``compile`` is true, or the name of a backend of torch.compile.
    """

    kind: str = "pixel"
    condition: str = "layout"
    steps: int = 250
    batch: int = 16
    crop: int = 64
    learning_rate: float = 1e-3
    widths: tuple[int, ...] = (16, 32, 64, 64)
    layers: int = 1
    layout_dropout: float = 0.1
    prediction: str = "velocity"
    min_snr: float = 5.0
    ema: float = 0.98
    precision: str = "auto"
    autoencoder: str = ""
    evaluate_every: int = 50
    evaluation_tiles: int = 16
    evaluation_steps: int = 10
    watch: str = "frechet"
    patience: int = setting(5)
    seed: int = 0
    accumulate: int = setting(1)
    checkpointing: bool = setting(False)
    channels_last: bool = setting(False)
    compile: bool | str = setting(False)
    fused: bool = setting(False)


PROFILES = {
    "cpu": Settings(),
    "gpu": Settings(
        kind="latent",
        steps=200_000,
        batch=64,
        crop=256,
        learning_rate=1e-4,
        widths=(128, 256, 384, 512),
        layers=2,
        ema=0.9999,
        evaluate_every=5_000,
        evaluation_tiles=512,
        evaluation_steps=25,
        patience=8,
        channels_last=True,
        compile=True,
        fused=True,
    ),
}


@dataclass(frozen=True)
class Drawing:
    """How a profile draws where the recipe does not say: solver steps, tiles at once, and rows
    per shard."""

    steps: int
    batch: int
    shard_rows: int


DRAWING = {
    "cpu": Drawing(steps=15, batch=8, shard_rows=8),
    "gpu": Drawing(steps=25, batch=64, shard_rows=256),
}
