"""The recipe's [generator.pipeline]: any diffusers pipeline in the place of our generator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError
from builder.models.weights import Weights, absent


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
class Sources:
    """The models that a pipeline is put together from."""

    model: Weights
    controlnet: Weights | None = None


def ask_for(section: Any, directory: Path, cache: Path) -> tuple[PipelineAsk, Sources]:
    """What [generator.pipeline] asks for, and where its models lie; paths start at ``directory``.

    ``cache`` remembers digests. Raises ArasError for a folder that is not there and for the
    revision of a local model.
    """

    def weights(key: str, revision: str) -> Weights:
        place = "[generator.pipeline]"
        model = Weights.of_recipe(place, getattr(section, key), revision, directory, cache)
        if model.path and not model.path.is_dir():
            raise ArasError(f"{place} {key}: {absent(model.path)}")
        return model

    model = weights("model", section.revision)
    controlnet = weights("controlnet", section.controlnet_revision) if section.controlnet else None
    return PipelineAsk(
        model=model.name,
        revision=section.revision,
        controlnet=controlnet.name if controlnet else "",
        controlnet_revision=section.controlnet_revision,
        prompt=section.prompt,
        negative=section.negative,
        steps=section.steps,
        guidance=section.guidance,
        control=section.control,
        size=section.size or 0,
        dtype=section.dtype,
    ), Sources(model, controlnet)
