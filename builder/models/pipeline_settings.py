"""The recipe's [generator.pipeline]: any diffusers pipeline in the place of our generator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError


@dataclass(frozen=True)
class PipelineAsk:
    """All that decides what a pipeline draws; the fields enter the stage's key.

    ``model`` and ``controlnet`` are ORG/NAME on the Hub or names of local folders; ``prompt`` and
    ``negative`` are Jinja over `builder.land.prompts`' percentages, composition and layout.
    ``size`` is the side in pixels that is drawn and then shrunk to the tile's, 0 for the tile's.
    """

    model: str
    revision: str = ""
    controlnet: str = ""
    controlnet_revision: str = ""
    prompt: str = ""
    negative: str = ""
    steps: int = 25
    guidance: float = 7.5
    control: float = 1.0
    size: int = 0
    dtype: str = "auto"


@dataclass(frozen=True)
class Places:
    """Where the models lie: None for those of the Hub's cache; where digests are remembered."""

    model: Path | None = None
    controlnet: Path | None = None
    cache: Path | None = None


def ask_for(section: Any, directory: Path) -> tuple[PipelineAsk, Places]:
    """What [generator.pipeline] asks for; paths are relative to ``directory``.

    Raises ArasError for a folder that is not there and for the revision of a local one.
    """
    model = _local(section.model, section.revision, directory, "model")
    controlnet = None
    if section.controlnet:
        controlnet = _local(
            section.controlnet, section.controlnet_revision, directory, "controlnet"
        )
    return PipelineAsk(
        model=model.name if model else section.model,
        revision=section.revision,
        controlnet=controlnet.name if controlnet else section.controlnet,
        controlnet_revision=section.controlnet_revision,
        prompt=section.prompt,
        negative=section.negative,
        steps=section.steps,
        guidance=section.guidance,
        control=section.control,
        size=section.size or 0,
        dtype=section.dtype,
    ), Places(model, controlnet)


def _local(name: str, revision: str, directory: Path, key: str) -> Path | None:
    """The folder of a local model; None for the name of one on the Hub."""
    path = (directory / Path(name).expanduser()).absolute()
    if not path.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ArasError(f"[generator.pipeline] {key}: there is no folder {path}")
        return None
    if revision:
        raise ArasError(
            f"[generator.pipeline] {key}: {name} is a local folder, known by its content; a "
            "revision belongs to a model of the Hub (ORG/NAME)"
        )
    return path
