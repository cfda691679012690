"""Where files and models of a recipe lie on this machine, and how a release names them instead."""

import enum
from pathlib import Path
from typing import Any

import pydantic


class Place(enum.Enum):
    """Mark of a recipe's field whose text may tell where something lies: put it in `Annotated`.

    ``FILE``: always a path or pattern. ``MODEL``: a path, or ORG/NAME on the Hub.
    """

    FILE = "file"
    MODEL = "model"

    def shown(self, text: str, directory: Path) -> str:
        """``text`` without the folders; the name of a model on the Hub as it is."""
        if not text:
            return text
        path = (directory / text).absolute() if self is Place.FILE else local_path(text, directory)
        if path is None:
            return text
        name = path.name if path.name not in ("", "..") else path.resolve().name
        return name if self is Place.FILE else name.removesuffix(".gguf")


def local_path(model: str, directory: Path) -> Path | None:
    """The absolute path of a local model; None for the name of one on the Hub."""
    path = (directory / Path(model).expanduser()).absolute()
    is_path = model.startswith((".", "/", "~")) or model.endswith(".gguf") or path.exists()
    return path if is_path else None


def published(section: pydantic.BaseModel, directory: Path) -> dict[str, Any]:
    """A section of the recipe as JSON values, every marked field reduced to a name.

    Relative paths are those of ``directory``. A path in a field without a mark stays as it is;
    `aras check` refuses a release that tells an absolute one.
    """
    told = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        mark = next((one for one in field.metadata if isinstance(one, Place)), None)
        if name in told:
            told[name] = _published(getattr(section, name), told[name], mark, directory)
    return told


def _published(value: Any, told: Any, mark: Place | None, directory: Path) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return published(value, directory)
    if isinstance(value, dict):
        pairs = zip(value.values(), told.items(), strict=True)
        return {key: _published(one, shown, mark, directory) for one, (key, shown) in pairs}
    if isinstance(value, (list, tuple)):
        pairs = zip(value, told, strict=True)
        return [_published(one, shown, mark, directory) for one, shown in pairs]
    return mark.shown(value, directory) if mark and isinstance(value, str) else told
