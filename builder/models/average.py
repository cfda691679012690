"""The exponential moving average of a model's weights: what is judged and what is published."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

POWER = 0.75
"""How fast the decay rises: 1 − (1 + steps)^−power, up to the one that is asked for."""


class Average:
    """Moving average of ``model``'s weights, float32 beside them; early steps count less."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights: list[Tensor] = list(model.parameters())
        self._average = [one.detach().clone() for one in self._weights]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def step(self) -> None:
        """Take the weights of the step that was just made into the average."""
        decay = min(self._decay, 1 - (1 + self._steps) ** -POWER)
        self._steps += 1
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside, its own ones again outside."""
        own = [one.detach().clone() for one in self._weights]
        self.publish()
        try:
            yield
        finally:
            _copy(own, self._weights)

    def publish(self) -> None:
        """The averaged weights become the model's."""
        _copy(self._average, self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        _copy(state["average"], self._average)


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    torch._foreach_copy_(target, source)
