"""The moving average: the recurrence it promises, and checkpoints written before it was torch's."""

import pytest
import torch
from torch import nn

from builder.models.checkpoint import Average


def walk(model: nn.Linear, average: Average, steps: int) -> list[float]:
    """Set the only weight to 1, 2, 3 … and take each into the average."""
    seen = []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update_parameters(model)
        seen.append(average.module.weight.item())
        assert model.weight.item() == step
    return seen


def test_it_follows_its_recurrence_with_a_warm_up() -> None:
    model = nn.Linear(1, 1, bias=False)
    seen = walk(model, Average(model, 0.6), 12)
    expected, value = [], 0.0
    for step in range(12):
        decay = min(0.6, 1 - (1 + step) ** -0.75)
        value = decay * value + (1 - decay) * (step + 1)
        expected.append(value)
    assert seen == pytest.approx(expected, rel=1e-5)
    assert expected[0] == 1  # nothing of the first, random weights stays


@pytest.mark.parametrize("earlier", [False, True], ids=["state", "earlier state"])
def test_it_goes_on_from_its_state(earlier: bool) -> None:
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    first, second = Average(model, 0.9), Average(other, 0.9)
    for _ in range(5):
        with torch.no_grad():
            model.weight.add_(1.0)
        first.update_parameters(model)
    state = first.state_dict()
    if earlier:  # a list of weights in the order of the model's own
        state = {"steps": 5, "average": [weight.clone() for weight in first.module.parameters()]}
    second.load_state_dict(state)
    other.load_state_dict(model.state_dict())
    for average, network in ((first, model), (second, other)):
        with torch.no_grad():
            network.weight.fill_(9.0)
        average.update_parameters(network)
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.module.weight, model.weight)
