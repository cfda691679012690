"""Backend ``transformers``: a model on this machine. `local_model` loads and asks it."""

from pathlib import Path
from typing import Literal

from builder.captions.ask import Ask, Dtype, ModelSection, ask_of, weights_of
from builder.captions.base import Attention, Backend, BackendSpec, Running
from builder.core.errors import ArasError
from builder.core.fields import Positive
from builder.models.weights import Weights


class TransformersSection(ModelSection):
    backend: Literal["transformers"] = "transformers"
    batch: Positive = Running.batch
    dtype: Dtype = Ask.dtype
    attention: Attention = Running.attention


def configure(place: str, section: TransformersSection, directory: Path) -> tuple[Ask, Running]:
    """See `BackendSpec`. Raises ArasError as `ask_of` does, for a revision of a local model, and
    for a GGUF model that is to see images."""
    path = Weights.of_recipe(place, section.model, section.revision, directory).path
    model = path.name.removesuffix(".gguf") if path else section.model
    ask = ask_of(place, section, directory, model=model, dtype=section.dtype)
    if path and path.suffix == ".gguf" and "image" in section.sees:
        raise ArasError(f"{place} sees: a GGUF model ({section.model}) cannot see images")
    return ask, Running(path=path, batch=section.batch, attention=section.attention)


def _open(ask: Ask, running: Running) -> Backend:
    from builder.captions.local_model import Local

    return Local(ask, running)


SPEC = BackendSpec(
    section=TransformersSection,
    configure=configure,
    open=_open,
    pin=lambda ask, running: weights_of(ask, running).digest(),
    gpus=1,
)
