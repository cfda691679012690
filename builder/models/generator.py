"""The generator: a diffusion model conditioned on the land-cover layout, after DDPM (Ho 2020)."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from builder.core.errors import ArasError
from builder.core.files import read_json, remove, sha256_file
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.models import autoencoder, data, drawing, quilt, segmenter, texture, training
from builder.models.checkpoint import Average, History
from builder.models.codec import Codec, LatentCodec, PixelCodec, load_autoencoder
from builder.models.drawing import Drawer, Generator, Sampling, sample
from builder.models.freshness import autoencoder_source, is_fresh, training_key
from builder.models.objective import LEVELS, Batch, Objective
from builder.models.quilt import Quilt
from builder.models.record import FILE, Record, Trained, require, verify
from builder.models.settings import GeneratorSettings, as_json, read_settings
from builder.models.team import ALONE, Team
from builder.models.texture import Textures

if TYPE_CHECKING:
    from builder.models.unet import LayoutUNet

__all__ = [
    "NAME",
    "SHARED",
    "WEIGHTS",
    "Generator",
    "Sampling",
    "build",
    "load",
    "sample",
    "train",
    "train_tiles",
]

NAME = "generator"
WEIGHTS = "diffusion_pytorch_model.safetensors"
AUTOENCODER = "vae"
"""Part of the folder: the autoencoder of a latent generator, as diffusers' pipelines name it."""

SHARED = True
"""Processes that are launched together train a generator together."""
LOWER = (
    "set checkpointing = true or a higher accumulate in [generator], and the training goes on, or "
    "lower batch or crop, and it starts from step 0"
)

Crops = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[Any], npt.NDArray[Any]]
"""Images, masks, noise levels and which layouts are dropped."""

FITTED: dict[str, Any] = {"texture": texture, "quilt": quilt}
"""Kind → module of what draws without a network: its ``fit`` and ``WEIGHTS``."""

Judging = Callable[[int], dict[str, float]] | None
"""Measures after so many steps; see `training.fit`."""


def build(
    settings: GeneratorSettings, codec: Codec, classes: Sequence[str] = CLASSES
) -> "LayoutUNet":
    """The network of these settings for what ``codec`` makes of tiles, weights from the seed."""
    from builder.models.unet import LayoutUNet

    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    network: LayoutUNet = LayoutUNet(
        channels=codec.channels,
        widths=settings.widths,
        layers=settings.layers,
        cell=codec.cell,
        classes=tuple(classes) if settings.condition == "layout" else (),
        prediction_type={"velocity": "v_prediction", "noise": "epsilon"}[settings.prediction],
    )
    return network


def train(store: Store, folder: Path, settings: GeneratorSettings) -> Trained:
    """Train on crops of real train tiles unless the model is there already; returns its record.

    The saved weights are the exponential moving average at the best evaluation on validation
    tiles. Needs the segmenter beside ``folder`` where the Fréchet distance is watched.
    """
    team = Team.join()
    if team.agree(is_fresh(store, folder, settings)):
        return Trained(require(folder, NAME), fresh=False)
    key = training_key(store, folder, settings)
    with team.leader_first():
        tiles = data.load(store, "train")
    if settings.is_fitted:
        if team.leads:
            fit_pieces(folder, key, tiles, settings)
        team.wait()
        return Trained(require(folder, NAME), fresh=True)
    judge_of = functools.partial(_judge, store=store, folder=folder, settings=settings, team=team)
    record = train_tiles(folder, key, tiles, settings, judge_of=judge_of, team=team)
    return Trained(record, fresh=True)


def fit_pieces(folder: Path, key: str, tiles: data.Tiles, settings: GeneratorSettings) -> Record:
    """Fit textures or a quilt to ``tiles``, in the place of a training; returns the record."""
    remove(folder / FILE)
    module = FITTED[settings.kind]
    fitted = module.fit(tiles, settings.seed)
    fitted.save(folder)
    record = Record(
        key=key,
        weights=module.WEIGHTS,
        weights_sha256=sha256_file(folder / module.WEIGHTS),
        stopped=f"fitted to {fitted.parts}",
        settings=as_json(settings),
        data=tiles.digest,
        classes=CLASSES,
    )
    record.write(folder)
    return record


def train_tiles(
    folder: Path,
    key: str,
    tiles: data.Tiles,
    settings: GeneratorSettings,
    classes: Sequence[str] = CLASSES,
    *,
    judge_of: Callable[[Generator, Objective], Judging] = lambda model, objective: None,
    team: Team = ALONE,
) -> Record:
    """Train on crops of ``tiles``, whose masks hold ids of ``classes``; returns the record.

    Without a judge the last weights are saved.
    """
    parts = team.world * settings.accumulate
    if settings.batch % parts:
        raise ArasError(
            f"[generator] batch = {settings.batch} must be a multiple of {parts}: {team.world} "
            f"processes take {settings.accumulate} parts each"
        )
    codec = _codec(folder, settings)
    model = build(settings, codec, classes).to(training.device())
    if settings.crop % model.multiple:
        raise ArasError(
            f"[generator] crop = {settings.crop} must be a multiple of {model.multiple}"
        )
    objective = Objective(
        codec.encode,
        model.config.prediction_type,
        settings.min_snr,
        settings.precision,
        len(model.config.classes),
    )
    average = Average(model, settings.ema)
    smooth: Any = average.module
    with team.leader_first():
        judged = Generator(smooth, codec, settings.layout_dropout, settings.precision)
        judge = judge_of(judged, objective)
    networks = (model, smooth, *codec.networks)
    drawing.speed_up(networks, settings.compile, settings.channels_last)
    if settings.checkpointing:
        model.enable_gradient_checkpointing()
    shared = team.share(model)
    job = training.Job(
        folder,
        key,
        settings.steps,
        settings.learning_rate,
        accumulate=settings.accumulate,
        fused=settings.fused,
        evaluate_every=settings.evaluate_every,
        watch=settings.watch,
        patience=settings.patience,
    )

    with data.ahead(functools.partial(_crops, settings, tiles)) as crops_at:

        @functools.lru_cache(maxsize=1)
        def batch_at(step: int) -> Batch:
            return _batch(settings, crops_at, codec, step)

        def loss_at(step: int, part: int) -> Tensor:
            return objective(shared, batch_at(step).part(part, parts))

        history = training.fit(
            job,
            shared,
            loss_at,
            average=average,
            judge=judge,
            team=team,
            label=f"train {NAME}",
            lower=LOWER,
        )
    if team.leads:
        for network in networks:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        save(folder, model, codec, history)
        about = Record(
            settings=as_json(settings),
            data=tiles.digest,
            classes=tuple(classes),
            autoencoder_sha256=autoencoder_digest(folder, codec),
            processes=team.world,
        )
        training.finish(job, WEIGHTS, history, about)
    team.wait()
    return require(folder, NAME)


def _codec(folder: Path, settings: GeneratorSettings) -> Codec:
    if settings.kind == "pixel":
        return PixelCodec()
    if settings.autoencoder:
        own = load_autoencoder(autoencoder_source(folder, settings))
        return LatentCodec(own, settings.precision)
    return LatentCodec(autoencoder.load(folder.parent / autoencoder.NAME), settings.precision)


def _judge(
    model: Generator,
    objective: Objective,
    *,
    store: Store,
    folder: Path,
    settings: GeneratorSettings,
    team: Team,
) -> Judging:
    """What judges the model on validation tiles; None where nothing does."""
    from builder.models.judging import Judge

    if not settings.evaluate_every:
        return None
    held_out = data.load(store, "validation")
    rng = generator(settings.seed, NAME, "validation")
    images, masks = held_out.crops(rng, settings.evaluation_tiles, settings.crop)
    drawn = settings.watch == "frechet"
    return Judge(
        generator=model,
        objective=objective,
        images=images,
        masks=masks,
        how=Sampling(steps=settings.evaluation_steps),
        batch=settings.batch,
        seed=settings.seed,
        folder=folder,
        segmenter=segmenter.load(folder.parent / segmenter.NAME) if drawn else None,
        team=team,
    )


def _crops(settings: GeneratorSettings, tiles: data.Tiles, step: int) -> Crops:
    """What a step draws on the CPU: it depends on the seed and the step alone."""
    rng = generator(settings.seed, NAME, step)
    images, masks = tiles.crops(rng, settings.batch, settings.crop)
    times = rng.integers(0, LEVELS, settings.batch)
    return images, masks, times, rng.random(settings.batch) < settings.layout_dropout


def _batch(
    settings: GeneratorSettings, crops_at: Callable[[int], Crops], codec: Codec, step: int
) -> Batch:
    """The crops of a step with their noise, which is drawn where it is used."""
    images, masks, times, dropped = crops_at(step)
    device = training.device()
    source = torch.Generator(device).manual_seed(seed(settings.seed, NAME, "noise", step))
    side = settings.crop // codec.cell
    shape = (settings.batch, codec.channels, side, side)
    return Batch(
        images,
        masks,
        torch.randn(shape, generator=source, device=device),
        torch.from_numpy(times).to(device),
        torch.from_numpy(dropped).to(device),
    )


def save(folder: Path, model: "LayoutUNet", codec: Codec, history: History) -> None:
    """Write the model and its autoencoder; pictures of evaluations of an earlier training go."""
    remove(folder / FILE)
    known = {training.sample_name(int(evaluation["step"])) for evaluation in history.evaluations}
    for path in (folder / "samples").glob("*.png"):
        if path.name not in known:
            remove(path)
    model.save_pretrained(folder)
    remove(folder / AUTOENCODER)
    if isinstance(codec, LatentCodec):
        codec.autoencoder.save_pretrained(folder / AUTOENCODER)


def load(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    *,
    compiled: bool | str = False,
    channels_last: bool = False,
) -> Drawer:
    """The trained generator of layouts of ``classes``, in the precision it was trained in.

    ``compiled`` and ``channels_last`` are for speed; see `drawing.speed_up`. Raises ArasError when
    it is missing, damaged, of another architecture or of other classes.
    """
    record = verify(folder, require(folder, NAME).weights or WEIGHTS, NAME)
    if record.classes != tuple(classes):
        raise ArasError(
            f"{folder}: was trained for classes {list(record.classes)}, not {list(classes)}; "
            "run `aras train generator` again"
        )
    codec: Codec = PixelCodec()
    settings = read_settings(GeneratorSettings, record.settings)
    if settings.is_fitted:
        return Textures.read(folder) if settings.kind == "texture" else Quilt.read(folder)
    if settings.kind == "latent":
        codec = LatentCodec(load_autoencoder(folder / AUTOENCODER), settings.precision)
        if autoencoder_digest(folder, codec) != record.autoencoder_sha256:
            raise ArasError(
                f"{folder / AUTOENCODER}: not the autoencoder that record.json describes; remove "
                f"{folder} and run `aras train generator` again"
            )
    unet = _network(folder).to(training.device()).eval()
    drawing.speed_up((unet, *codec.networks), compiled, channels_last, graphs=True)
    return Generator(unet, codec, settings.layout_dropout, settings.precision)


def autoencoder_digest(folder: Path, codec: Codec) -> str | None:
    """sha256 of the weights of the autoencoder in the folder; None where there is none."""
    latent = isinstance(codec, LatentCodec)
    return sha256_file(folder / AUTOENCODER / WEIGHTS) if latent else None


def _network(folder: Path) -> "LayoutUNet":
    from builder.models.unet import LayoutUNet

    kind = read_json(folder / "config.json").get("_class_name")
    if kind != LayoutUNet.__name__:
        raise ArasError(
            f"{folder}: holds a {kind}, expected a {LayoutUNet.__name__}; remove it and run "
            "`aras train generator` again"
        )
    try:
        loaded: tuple[LayoutUNet, dict[str, list[object]]]
        loaded = LayoutUNet.from_pretrained(folder, output_loading_info=True)
        odd = [str(name) for names in loaded[1].values() for name in names]
    except ValueError as error:  # a tensor of another shape
        odd = [str(error).split(". ")[0]]
    if odd:
        raise ArasError(
            f"{folder}: the weights do not fit the architecture in config.json (first: "
            f"{odd[0]}); remove it and run `aras train generator` again"
        )
    return loaded[0]
