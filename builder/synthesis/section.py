"""The recipe's [generator]: how many rows are drawn, on which layouts, by which model."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator

from builder.core.errors import ArasError
from builder.core.fields import Count, Name, Positive, Rate, Section
from builder.models.settings import (
    GENERATOR,
    Drawing,
    GeneratorSettings,
    PipelineSection,
    Profile,
    overrides,
    own,
)
from builder.synthesis.target import Target
from builder.synthesis.transforms import MOST_REPEATS

OF_DDPM = ("prediction", "min_snr")
"""Keys that are about one objective alone."""

Balance = TypeVar("Balance", str, str | dict[str, float])


def known_target(value: Balance) -> Balance:
    """The value of a key ``balance``. Raises ValueError for an unknown target."""
    try:
        Target.parse(value)
    except ArasError as error:
        raise ValueError(str(error)) from error
    return value


@overrides(
    GeneratorSettings,
    "profile kind condition autoencoder rows run mask balance max_repeats variants nearest "
    "steps batch crop learning_rate widths layers ema layout_dropout objective "
    "prediction min_snr precision evaluate_every evaluation_tiles evaluation_steps watch patience "
    "accumulate checkpointing channels_last compile fused guidance sampler sampling_steps "
    "sampling_batch pipeline",
)
class GeneratorSection(Section):
    profile: Profile = "cpu"
    rows: Count = 24
    run: Name = "a"
    mask: Literal["layout", "segmenter"] = "layout"
    balance: str | dict[str, float] = "natural"
    max_repeats: Positive = 8
    variants: Annotated[int, Field(ge=0, le=32)] = 0
    nearest: bool = False
    guidance: Rate = Drawing.guidance
    sampler: Literal["ddim", "dpm-solver"] | None = None
    sampling_steps: Positive | None = None
    sampling_batch: Positive | None = None
    pipeline: PipelineSection | None = None

    @property
    def target(self) -> Target:
        return Target.parse(self.balance)

    @property
    def training(self) -> GeneratorSettings:
        """The profile with the section's own values in place."""
        return own(GENERATOR[self.profile], self)

    def refuse_other_objective(self) -> None:
        """Raises ValueError for a key that is set and belongs to another objective."""
        own, default = self.training, GENERATOR[self.profile]
        odd = [key for key in OF_DDPM if getattr(own, key) != getattr(default, key)]
        if own.objective != "ddpm" and odd:
            raise ValueError(
                f'generator.{odd[0]} belongs to objective = "ddpm", and this one is '
                f'"{own.objective}": leave it out, or set objective = "ddpm"'
            )

    @field_validator("balance")
    @classmethod
    def _target(cls, value: str | dict[str, float]) -> str | dict[str, float]:
        return known_target(value)

    @field_validator("max_repeats")
    @classmethod
    def _repeats(cls, value: int) -> int:
        if value > MOST_REPEATS:
            raise ValueError(
                f"at most {MOST_REPEATS}, because a layout has so many turns and flips to tell "
                "repeats apart; set variants for more layouts"
            )
        return value
