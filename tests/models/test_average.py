"""The moving average: the recurrence it promises, swapped in and out without a trace."""

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
        average.step()
        with average.applied():
            seen.append(model.weight.item())
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


def test_it_goes_on_from_its_state() -> None:
    model, other = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    first, second = Average(model, 0.9), Average(other, 0.9)
    walk(model, first, 5)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        model.weight.fill_(9.0)
        other.weight.fill_(9.0)
    first.step()
    second.step()
    first.publish()
    second.publish()
    assert torch.equal(model.weight, other.weight)
    assert 5 > model.weight.item() > 1


def test_the_own_weights_come_back_after_an_error() -> None:
    model = nn.Linear(2, 2)
    average = Average(model, 0.9)
    own = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)

    def judge() -> None:
        with average.applied():
            assert torch.equal(model.weight, own)
            raise KeyError

    with pytest.raises(KeyError):
        judge()
    assert torch.equal(model.weight, own + 1)
