"""The folder of a trained generator: written whole, read with every part checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ArasError
from builder.files import read_json, remove, sha256_file
from builder.landcover import CLASSES
from builder.models import speed, training
from builder.models.codec import Codec, LatentCodec, PixelCodec, load_autoencoder
from builder.models.drawing import Generator
from builder.models.history import History

if TYPE_CHECKING:
    from builder.models.unet import LayoutUNet

NAME = "generator"
WEIGHTS = "diffusion_pytorch_model.safetensors"
AUTOENCODER = "vae"
"""Part of the folder: the autoencoder of a latent generator, as diffusers' pipelines name it."""


def save(folder: Path, model: "LayoutUNet", codec: Codec, history: History) -> None:
    """Write the model and its autoencoder; pictures of evaluations of an earlier training go."""
    remove(folder / "record.json")
    known = {training.sample_name(int(one["step"])) for one in history.evaluations}
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
) -> Generator:
    """The trained generator of layouts of ``classes``, in the precision it was trained in.

    ``compiled`` and ``channels_last`` are for speed; see `speed.speed_up`. Raises ArasError when
    it is missing, damaged, of another architecture or of other classes.
    """
    training.verify_weights(folder, WEIGHTS, NAME)
    found = training.require(folder, NAME)
    if found["classes"] != list(classes):
        raise ArasError(
            f"{folder}: was trained for classes {found['classes']}, not {list(classes)}; run "
            "`aras train generator` again"
        )
    codec: Codec = PixelCodec()
    if found["settings"]["kind"] == "latent":
        codec = LatentCodec(load_autoencoder(folder / AUTOENCODER), found["settings"]["precision"])
        if autoencoder_digest(folder, codec) != found["autoencoder_sha256"]:
            raise ArasError(
                f"{folder / AUTOENCODER}: not the autoencoder that record.json tells of; remove "
                f"{folder} and run `aras train generator` again"
            )
    unet = _network(folder).to(training.device()).eval()
    speed.speed_up((unet, *codec.networks), compiled, channels_last, graphs=True)
    told = found["settings"]
    return Generator(unet, codec, told["layout_dropout"], told["precision"])


def autoencoder_digest(folder: Path, codec: Codec) -> str | None:
    """sha256 of the weights of the autoencoder in the folder; None where there is none."""
    latent = isinstance(codec, LatentCodec)
    return sha256_file(folder / AUTOENCODER / WEIGHTS) if latent else None


def _network(folder: Path) -> "LayoutUNet":
    from builder.models.unet import LayoutUNet

    told = read_json(folder / "config.json").get("_class_name")
    if told != LayoutUNet.__name__:
        raise ArasError(
            f"{folder}: holds a {told}, and {LayoutUNet.__name__} is wanted; remove it and run "
            "`aras train generator` again"
        )
    try:
        made: tuple[LayoutUNet, dict[str, list[object]]]
        made = LayoutUNet.from_pretrained(folder, output_loading_info=True)
        odd = [str(one) for names in made[1].values() for one in names]
    except ValueError as error:  # a tensor of another shape
        odd = [str(error).split(". ")[0]]
    if odd:
        raise ArasError(
            f"{folder}: the weights are of another architecture than config.json tells (first: "
            f"{odd[0]}); remove it and run `aras train generator` again"
        )
    return made[0]
