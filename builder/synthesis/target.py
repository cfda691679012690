"""The target of a balance plan: the class shares that the synthetic rows must have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.land.classes import CLASSES

FORMS = (
    "'natural', 'uniform', 'tempered:0.5' (an exponent from 0, uniform, to 1, natural) or shares "
    "such as 'Shrub=0.05,Water=0.05', where classes left out share the rest as they do naturally"
)

ROUNDING = 0.005
"""Shares written with few digits (0.1429 seven times) are scaled to sum to 1."""


@dataclass(frozen=True)
class Target:
    """Class shares to aim at, relative to the natural shares of the layouts.

    ``kind`` is natural, tempered (share ∝ natural share ** exponent; classes that do not occur
    stay at 0), uniform (1/7 each) or shares (``named``, the rest in natural proportion).
    ``str(target)`` is a text that ``parse`` reads back.
    """

    kind: str = "natural"
    exponent: float = 1.0
    named: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, value: object) -> "Target":
        """Read a recipe's value: a text, ``{"tempered": 0.5}`` or ``{class: share, …}``.

        Shares are fractions of 1. Raises ArasError that quotes the value and lists the forms.
        """
        if isinstance(value, Target):
            return value
        if isinstance(value, Mapping):
            if set(value) == {"tempered"}:
                return cls._tempered(value["tempered"], value)
            return cls._shares(value)
        text = value.strip() if isinstance(value, str) else ""
        if text in ("natural", "uniform"):
            return cls(text)
        if text.startswith("tempered:"):
            return cls._tempered(text.removeprefix("tempered:"), value)
        if "=" in text:
            pairs = (part.partition("=") for part in text.split(","))
            return cls._shares({name.strip(): share.strip() for name, _, share in pairs})
        raise ArasError(f"balance target {value!r} is unknown; expected {FORMS}")

    @classmethod
    def _tempered(cls, exponent: object, value: object) -> "Target":
        number = _number(exponent)
        if not 0 <= number <= 1:
            raise ArasError(f"balance target {value!r}: the exponent must be between 0 and 1")
        return cls("tempered", number)

    @classmethod
    def _shares(cls, value: Mapping[object, object]) -> "Target":
        named: list[tuple[str, float]] = []
        for name, share in value.items():
            if name not in CLASSES:
                raise ArasError(
                    f"balance target names {name!r}; expected a class: {', '.join(CLASSES)}"
                )
            number = _number(share)
            if not 0 <= number <= 1:
                raise ArasError(
                    f"balance target gives {name} = {share!r}; expected a fraction of 1 "
                    "(5 % is 0.05)"
                )
            named.append((str(name), number))
        total = sum(share for _, share in named)
        every = len(named) == len(CLASSES)
        if not named or total > 1 + ROUNDING or (every and total < 1 - ROUNDING):
            raise ArasError(
                f"balance target {_written(named)!r}: the shares sum to {total:g}, and "
                f"{'must sum to 1' if every else 'must sum to 1 at most'}"
            )
        return cls("shares", named=tuple(sorted(named, key=lambda item: CLASSES.index(item[0]))))

    def shares(self, natural: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The target, (7,) float64 summing to 1, given the layouts' mean composition (7,).

        Raises ArasError when unnamed classes must share the rest but do not occur.
        """
        if self.kind == "uniform":
            return np.full(len(CLASSES), 1 / len(CLASSES))
        if self.kind == "tempered":
            raised = np.where(natural > 0, np.maximum(natural, 1e-300) ** self.exponent, 0.0)
            return np.asarray(raised / raised.sum(), dtype=np.float64)
        if self.kind == "natural":
            return natural.copy()
        given = np.zeros(len(CLASSES))
        for name, share in self.named:
            given[CLASSES.index(name)] = share
        rest = 1 - given.sum()
        if rest < 1e-9 or len(self.named) == len(CLASSES):
            return np.asarray(given / given.sum(), dtype=np.float64)
        free = natural.copy()
        free[[CLASSES.index(name) for name, _ in self.named]] = 0
        if not free.sum() > 0:
            raise ArasError(
                f"balance target {self} leaves {rest:.3g} to classes that no layout has: name "
                "shares that sum to 1"
            )
        return np.asarray(given + rest * free / free.sum(), dtype=np.float64)

    def __str__(self) -> str:
        if self.kind == "tempered":
            return f"tempered:{self.exponent!r}"
        if self.kind == "shares":
            return _written(self.named)
        return self.kind


def _written(named: Sequence[tuple[str, float]]) -> str:
    return ",".join(f"{name}={share!r}" for name, share in named)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
