"""The record of a finished training, record.json: the mark of a whole model, read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from builder.core.errors import ArasError
from builder.core.files import read_json, sha256_file, write_json

FILE = "record.json"


@dataclass(frozen=True)
class Record:
    """What a training was and came to; ``facts`` are those of this kind of model."""

    key: str = ""
    """Digest of all that decides the weights: settings, data and the models that were used."""
    weights: str = ""
    """File of the weights in the model's folder."""
    weights_sha256: str = ""
    steps: int = 0
    final_loss: float | None = None
    """Mean training loss of the last 20 steps."""
    stopped: str = ""
    """Why the training ended."""
    waited: int = 0
    """Evaluations since the best."""
    best: Mapping[str, float] | None = None
    """The evaluation that the weights come from, ``step`` and measures; None without any."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings it was trained with, as JSON holds them."""
        return self.facts.get("settings", {})  # type: ignore[no-any-return]

    def is_done(self, key: str, steps: int, patience: int) -> bool:
        """Whether this is the training of ``key`` and nothing of it is left: it ran all ``steps``,
        or its evaluations came to the end of ``patience`` too."""
        return self.key == key and (self.steps >= steps or 0 < patience <= self.waited)

    def as_json(self) -> dict[str, Any]:
        own = {part.name: getattr(self, part.name) for part in fields(self)}
        del own["facts"]
        return {**own, **self.facts}

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.as_json())

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record of the model in ``folder``; None when there is none.

        Raises ArasError for a record that cannot be read.
        """
        try:
            values = read_json(folder / FILE)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ArasError(
                f"{folder / FILE}: cannot be read ({error}); remove it to train again"
            ) from error
        names = {part.name for part in fields(cls)} - {"facts"}
        own = {name: value for name, value in values.items() if name in names}
        facts = {name: value for name, value in values.items() if name not in names}
        return cls(**own, facts=facts)


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
