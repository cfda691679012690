"""What a release is built from, collected once from a project."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from builder.captions.stage import Caption
from builder.core.fields import published
from builder.core.store import Store
from builder.models.weights import Weights
from builder.official.import_ import Import
from builder.official.import_release import ImportRelease
from builder.pipeline.recipe import Recipe
from builder.synthesis.layouts import Layouts
from builder.tiles.split import Split


@dataclass(frozen=True)
class Inputs:
    """A recipe, and what follows from it for a release; `Project.inputs` makes it."""

    directory: Path
    """The dataset's; not part of a release."""
    recipe: Recipe
    store: Store
    columns: Mapping[str, frozenset[str]]
    """Kind of row → columns of the store that the recipe's stages make of it."""
    streams: tuple[str, ...]
    """Caption streams: imported streams first, then the recipe's own."""
    captions: Mapping[str, Caption]
    """Stream of the recipe → its stage."""
    split: Split
    imports: Import | ImportRelease | None
    """The stage that brought the rows in; None for rows cut from maps."""
    layouts: Layouts | None
    """The stage that chose the layouts of synthetic rows; None for rows drawn without."""
    models: Path
    """Folder of the models that were trained here, each with its record."""
    encoders: Mapping[str, Weights]
    """Key of [scores] → the pretrained model that it names."""
    baseline: str
    """The model whose vectors the release holds, a folder or a name on the Hub; empty for none."""
    lexicon: Path | None
    """The file that lies over the built-in lexicon."""

    @property
    def releases(self) -> Path:
        return self.directory / "release"

    @property
    def target(self) -> Path:
        """The directory of the release to make."""
        return self.releases / self.recipe.dataset.version

    @cached_property
    def published(self) -> dict[str, dict[str, JsonValue]]:
        """The recipe as a release publishes it: paths reduced to names."""
        sections = published(self.recipe, self.directory)
        return cast(dict[str, dict[str, JsonValue]], sections)
