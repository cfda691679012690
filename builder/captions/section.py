"""The caption backends, and the recipe's [captions.NAME], composed of their sections."""

import functools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from builder.captions import local, openai, template
from builder.captions.base import BackendSpec
from builder.core.fields import Section

BACKENDS: dict[str, BackendSpec] = {
    "template": template.SPEC,
    "transformers": local.SPEC,
    "openai": openai.SPEC,
}
"""Name in the recipe → backend. A new backend is a file with its ``SPEC``, and a line here."""


def backend_of(given: Any) -> str:
    """The backend that a section is for: as it says, or transformers for a preset."""
    if isinstance(given, dict):
        return str(given.get("backend", "transformers" if "preset" in given else "template"))
    return str(given.backend)


def union_of(backends: Mapping[str, BackendSpec]) -> Any:
    """The type of a table ``[captions.NAME]``: the section of the backend that it names."""
    tagged = (Annotated[spec.section, Tag(name)] for name, spec in backends.items())
    return Annotated[
        functools.reduce(operator.or_, tagged),
        Discriminator(
            backend_of,
            custom_error_type="unknown_backend",
            custom_error_message=f"known backends are {', '.join(backends)}",
        ),
    ]


if TYPE_CHECKING:
    CaptionSection = Section
else:
    CaptionSection = union_of(BACKENDS)


def hint(backend: str, key: str) -> str | None:
    """What to say of a key that another backend has and ``backend`` has not; or None."""
    others = [
        f'backend = "{name}"'
        for name, spec in BACKENDS.items()
        if name != backend and key in spec.section.model_fields
    ]
    return f"it goes with {' or '.join(others)}" if others else None
