"""The generator: a diffusion model conditioned on the land-cover layout."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from builder.core.errors import ArasError
from builder.core.files import read_json, remove, sha256_file
from builder.core.manifest import Yardsticks
from builder.core.seeds import generator, seed
from builder.core.store import Store
from builder.land.classes import CLASSES
from builder.models import autoencoder, data, drawing, quilt, segmenter, texture, training
from builder.models.checkpoint import Average, History
from builder.models.codec import Codec, LatentCodec, PixelCodec, Standard, load_autoencoder
from builder.models.drawing import Drawer, Generator, Sampling, sample
from builder.models.freshness import autoencoder_source, is_fresh, training_key
from builder.models.objective import Batch, Objective
from builder.models.processes import LEVELS, Ddpm, Edm, Flow, Process
from builder.models.quilt import Quilt
from builder.models.record import FILE, Record, Trained, require, verify
from builder.models.sets import FrechetEstimate, frechet_estimate, groups_of
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

NOISE = 40.0
"""σ of EDM, in deviations of the tiles, at which nothing of a tile is left."""

Pixels = npt.NDArray[np.uint8]
Crops = tuple[Pixels, Pixels, npt.NDArray[Any], npt.NDArray[Any], Pixels | None]
"""Images, masks, noise levels, which layouts are dropped, and the textures of the masks."""

FITTED: dict[str, ModuleType] = {"texture": texture, "quilt": quilt}
"""Kind → module of what draws without a network: its ``fit`` and ``WEIGHTS``."""

Judging = Callable[[int], dict[str, float]] | None
"""Measures after so many steps; see `training.fit`."""


def build(
    settings: GeneratorSettings, codec: Codec, classes: Sequence[str] = CLASSES
) -> "LayoutUNet":
    """The network of these settings for what ``codec`` makes of tiles, weights from the seed."""
    from builder.models.unet import LayoutUNet

    torch.manual_seed(seed(settings.seed, NAME, "initial weights"))
    predicts = {"velocity": "v_prediction", "noise": "epsilon"}[settings.prediction]
    ddpm = settings.objective == "ddpm"
    standard = codec.standard if isinstance(codec, PixelCodec) else None
    network: LayoutUNet = LayoutUNet(
        channels=codec.channels,
        widths=settings.widths,
        layers=settings.layers,
        cell=codec.cell,
        classes=tuple(classes) if settings.condition == "layout" else (),
        prediction_type=predicts if ddpm else settings.objective,
        means=standard.means if standard else (),
        deviations=standard.deviations if standard else (),
    )
    return network


def process_of(unet: "LayoutUNet", gamma: float = 0.0) -> Process:
    """How ``unet`` was taught to take noise away; ``gamma`` is that of `processes.min_snr`."""
    config = unet.config
    if config.prediction_type == "flow":
        return Flow()
    if config.prediction_type == "edm":
        return Edm(NOISE)
    return Ddpm(config.prediction_type, gamma, clip=config.cell == 1)


def train(store: Store, folder: Path, settings: GeneratorSettings) -> Trained:
    """Train on crops of real train tiles unless the model is there already; returns its record.

    The saved weights are the exponential moving average at the end, or at an earlier evaluation on
    validation tiles that is better by more than chance. Needs the segmenter beside ``folder`` where
    the Fréchet distance is watched.
    """
    team = Team.join()
    fresh = not team.agree(is_fresh(store, folder, settings))
    compared = fresh or require(folder, NAME).yardsticks is None
    if not fresh and not (settings.has_yardsticks and team.agree(compared)):
        return Trained(require(folder, NAME), fresh=False)
    if not settings.is_fitted:
        training.refuse_slow(NAME, settings.precision, settings.compile)
    with team.leader_first():
        tiles = data.load(store, "train")
    key = training_key(store, folder, settings)
    if fresh and settings.is_fitted and team.leads:
        fit_pieces(folder, key, tiles, settings)
    elif fresh and not settings.is_fitted:
        judge = functools.partial(_judge, store=store, folder=folder, settings=settings, team=team)
        train_tiles(folder, key, tiles, settings, judge_of=judge, team=team)
    if team.leads and settings.has_yardsticks:
        sticks = {"yardsticks": _compare(store, folder, tiles, settings)}
        require(folder, NAME).model_copy(update=sticks).write(folder)
    team.wait()
    return Trained(require(folder, NAME), fresh)


def _compare(
    store: Store, folder: Path, tiles: data.Tiles, settings: GeneratorSettings
) -> Yardsticks:
    """The trained generator beside textures and quilts of the same train tiles."""
    images, masks = _validation_crops(store, settings)
    seeds = [seed(settings.seed, NAME, "yardsticks", i) for i in range(len(masks))]
    how = Sampling(steps=settings.evaluation_steps)
    judge = segmenter.load(folder.parent / segmenter.NAME)
    real = segmenter.look(judge, images)[1]

    def distance(drawer: Drawer) -> FrechetEstimate:
        size = settings.batch
        parts = [
            sample(drawer, masks[i : i + size], seeds[i : i + size], how)
            for i in range(0, len(masks), size)
        ]
        features = segmenter.look(judge, np.concatenate(parts))[1]
        return frechet_estimate(real, features, groups_of(len(masks)))

    ours, textures, quilts = (
        distance(drawer)
        for drawer in (
            load(folder),
            texture.fit(tiles, settings.seed),
            quilt.fit(tiles, settings.seed),
        )
    )
    return Yardsticks(
        crops=len(masks),
        generator=round(ours.value, 4),
        generator_error=round(ours.error, 4),
        texture=round(textures.value, 4),
        texture_error=round(textures.error, 4),
        quilt=round(quilts.value, 4),
    )


def _validation_crops(
    store: Store, settings: GeneratorSettings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The crops of validation tiles, and their masks, on which a generator is judged."""
    rng = generator(settings.seed, NAME, "validation")
    return data.load(store, "validation").crops(rng, settings.evaluation_tiles, settings.crop)


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
    codec = _codec(folder, settings, tiles, classes)
    model = build(settings, codec, classes).to(training.device())
    if settings.crop % model.multiple:
        raise ArasError(
            f"[generator] crop = {settings.crop} must be a multiple of {model.multiple}"
        )
    process = process_of(model, settings.min_snr)
    textures = None
    if settings.starts_from_textures:
        textures = texture.fit(tiles, settings.seed, len(classes))
    objective = Objective(codec.encode, process, settings.precision, len(model.config.classes))
    average = Average(model, settings.ema)
    smooth: Any = average.module
    with team.leader_first():
        judged = Generator(
            smooth, codec, process, settings.layout_dropout, settings.precision, textures
        )
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

    with data.ahead(functools.partial(_crops, settings, tiles, textures)) as crops_at:

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
        if textures is not None:
            textures.save(folder)
        about = Record(
            settings=as_json(settings),
            data=tiles.digest,
            classes=tuple(classes),
            autoencoder_sha256=autoencoder_digest(folder, codec),
            textures_sha256=textures_digest(folder) if textures else None,
            processes=team.world,
        )
        training.finish(job, WEIGHTS, history, about)
    team.wait()
    return require(folder, NAME)


def _codec(
    folder: Path, settings: GeneratorSettings, tiles: data.Tiles, classes: Sequence[str]
) -> Codec:
    if settings.kind == "pixel":
        if settings.objective == "ddpm":  # as it always was
            return PixelCodec()
        groups = len(classes) if settings.condition == "layout" else 1
        rng = generator(settings.seed, NAME, "pixels")
        some = rng.permutation(len(tiles))[: texture.SCANNED]
        return PixelCodec(Standard.of((np.asarray(tiles.pixels[i]) for i in some), groups))
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
    images, masks = _validation_crops(store, settings)
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


def _crops(
    settings: GeneratorSettings, tiles: data.Tiles, textures: Textures | None, step: int
) -> Crops:
    """What a step draws on the CPU: it depends on the seed and the step alone."""
    rng = generator(settings.seed, NAME, step)
    images, masks = tiles.crops(rng, settings.batch, settings.crop)
    times = rng.integers(0, LEVELS, settings.batch)
    dropped = rng.random(settings.batch) < settings.layout_dropout
    if textures is None:
        return images, masks, times, dropped, None
    seeds = [int(number) for number in rng.integers(2**62, size=settings.batch)]
    return images, masks, times, dropped, textures.draw(masks, seeds)


def _batch(
    settings: GeneratorSettings, crops_at: Callable[[int], Crops], codec: Codec, step: int
) -> Batch:
    """The crops of a step with their textures, or with noise, which is drawn where it is used."""
    images, masks, times, dropped, start = crops_at(step)
    device = training.device()
    source = torch.Generator(device).manual_seed(seed(settings.seed, NAME, "noise", step))
    side = settings.crop // codec.cell
    shape = (settings.batch, codec.channels, side, side)
    noise = torch.randn(shape, generator=source, device=device)
    return Batch(
        images,
        masks,
        noise if start is None else codec.encode(start, masks),
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
    settings = read_settings(GeneratorSettings, record.settings)
    if settings.is_fitted:
        return Textures.read(folder) if settings.kind == "texture" else Quilt.read(folder)
    training.refuse_slow(NAME, settings.precision, compiled)
    unet = _network(folder).to(training.device()).eval()
    standard = Standard(unet.config.means, unet.config.deviations) if unet.config.means else None
    codec: Codec = PixelCodec(standard)
    if settings.kind == "latent":
        codec = LatentCodec(load_autoencoder(folder / AUTOENCODER), settings.precision)
        if autoencoder_digest(folder, codec) != record.autoencoder_sha256:
            raise ArasError(
                f"{folder / AUTOENCODER}: not the autoencoder that record.json describes; remove "
                f"{folder} and run `aras train generator` again"
            )
    textures = None
    if record.textures_sha256:
        if textures_digest(folder) != record.textures_sha256:
            raise ArasError(
                f"{folder / texture.WEIGHTS}: not the textures that record.json describes; remove "
                f"{folder} and run `aras train generator` again"
            )
        textures = Textures.read(folder)
    drawing.speed_up((unet, *codec.networks), compiled, channels_last, graphs=True)
    drop, precision = settings.layout_dropout, settings.precision
    return Generator(unet, codec, process_of(unet), drop, precision, textures)


def autoencoder_digest(folder: Path, codec: Codec) -> str | None:
    """sha256 of the weights of the autoencoder in the folder; None where there is none."""
    latent = isinstance(codec, LatentCodec)
    return sha256_file(folder / AUTOENCODER / WEIGHTS) if latent else None


def textures_digest(folder: Path) -> str | None:
    """sha256 of the textures in the folder; None where there are none."""
    path = folder / texture.WEIGHTS
    return sha256_file(path) if path.exists() else None


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
