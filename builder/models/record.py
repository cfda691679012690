"""The record of a finished training, record.json: the mark of a whole model, read without torch."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from typing_extensions import Self

from builder.core import manifest
from builder.core.errors import ArasError
from builder.core.files import read_json, sha256_file, write_json
from builder.core.manifest import SegmentationScores, Yardsticks

FILE = "record.json"


class Record(manifest.Record):
    """What a training was and came to; from ``settings`` on, each kind of model has its own."""

    key: str = ""
    """Digest of all that decides the weights: settings, data and the models that were used."""
    weights: str = ""
    """File of the weights in the model's folder."""
    weights_sha256: str = ""
    steps: int = 0
    last_loss: float | None = None
    """Training loss of the last step; None in records of an earlier version."""
    final_loss: float | None = None
    """Mean training loss of the last 20 steps."""
    stopped: str = ""
    """Why the training ended."""
    waited: int = 0
    """Evaluations since the best."""
    best: dict[str, int | float] | None = None
    """The evaluation that the weights come from, ``step`` and measures; None without any."""
    libraries: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    settings: dict[str, JsonValue] = {}  # noqa: RUF012 - pydantic copies it
    """The settings it was trained with, of whatever version; see `settings.read_settings`."""
    data: str = ""
    """Digest of the tiles."""
    test: SegmentationScores | None = None
    """A segmenter's."""
    reconstruction_error: float | None = None
    """An autoencoder's mean absolute error in levels of 0…255."""
    scaling_factor: float | None = None
    """What an autoencoder's latents are multiplied by."""
    classes: tuple[str, ...] = ()
    """Of the layouts that a generator draws on."""
    autoencoder_sha256: str | None = None
    """Digest of a latent generator's autoencoder; None for one of pixels."""
    textures_sha256: str | None = None
    """Digest of the textures that a generator begins with; None for one that begins with noise."""
    yardsticks: Yardsticks | None = None
    """A generator beside textures and quilts; None where no segmenter judged it."""
    pairs: int | None = None
    """Tiles with a caption that a retriever was trained on."""
    processes: int | None = None
    """Processes that trained it together."""

    def is_done(self, key: str, steps: int, patience: int) -> bool:
        """Whether this is the training of ``key`` and nothing of it is left: it ran all ``steps``,
        or its evaluations came to the end of ``patience`` too."""
        return self.key == key and (self.steps >= steps or 0 < patience <= self.waited)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.as_json())

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record of the model in ``folder``; None when there is none.

        Raises ArasError for a record that cannot be read.
        """
        try:
            return cls.model_validate(read_json(folder / FILE))
        except FileNotFoundError:
            return None
        except ValueError as error:  # pydantic's too
            what = str(error).split("\n")[0]
            raise ArasError(
                f"{folder / FILE}: cannot be read ({what}); remove it to train again"
            ) from error


@dataclass(frozen=True)
class Trained:
    """What a trainer returns; ``fresh`` where this run trained, and did not find it done."""

    record: Record
    fresh: bool


def require(folder: Path, model: str) -> Record:
    """The record of a trained ``model``. Raises ArasError with the command that trains it."""
    record = Record.read(folder)
    if record is None:
        raise ArasError(f"there is no trained {model} yet: run `aras train {model}` first")
    return record


def verify(folder: Path, weights: str, model: str) -> Record:
    """The record of a trained ``model``, whose ``weights`` are those of the record.

    Raises ArasError where they are not.
    """
    record = require(folder, model)
    path = folder / weights
    if not path.exists() or sha256_file(path) != record.weights_sha256:
        raise ArasError(
            f"{path}: not the weights that {FILE} beside it describes; remove {folder} and "
            f"run `aras train {model}` again"
        )
    return record
