"""Stages with the recipe's defaults, for tests that set the rest."""

from dataclasses import MISSING, fields
from typing import Any, TypeVar

import pydantic

from builder.steps.stage import Stage

Kind = TypeVar("Kind", bound=Stage)


def by_default(stage: type[Kind], section: pydantic.BaseModel, **values: Any) -> Kind:
    """A stage with ``values`` and, for its other fields without a default, those of ``section``."""
    needed = [field.name for field in fields(stage) if field.default is MISSING]
    missing = {name: getattr(section, name) for name in needed if name not in values}
    return stage(**missing, **values)
