"""Each GPU profile at full size, a training step and a drawing, without a GPU."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from builder.models import rehearsal, training
from builder.models.drawing import Sampling
from builder.models.rehearsal import META, OnDevice, Precision, on_meta
from builder.models.settings import AUTOENCODER, GENERATOR, RETRIEVER, SEGMENTER

CODER = AUTOENCODER["gpu"]


@pytest.mark.parametrize(
    ("settings", "millions", "read_back"),
    [
        pytest.param(dataclasses.replace(GENERATOR["gpu"], accumulate=2), 80, 0, id="generator"),
        pytest.param(dataclasses.replace(CODER, accumulate=2), 21, 0, id="autoencoder"),
        pytest.param(SEGMENTER["gpu"], 27, 0, id="segmenter"),
        # transformers looks once a step whether any text is padded.
        pytest.param(RETRIEVER["gpu"], 66, 1, id="retriever"),
    ],
)
def test_a_training_step_stays_on_the_device(settings, millions: int, read_back: int) -> None:
    step = rehearsal.training_step(settings, CODER)
    assert round(step.parameters / 1e6) == millions
    assert step.read_back == read_back
    # Weights, their gradients and two moments in float32; the generator has an average too.
    copies = 5 if settings == dataclasses.replace(GENERATOR["gpu"], accumulate=2) else 4
    assert step.state_bytes == pytest.approx(4 * copies * step.parameters, rel=0.01)
    assert step.activation_bytes > step.parameters


def test_parts_of_a_batch_cost_the_same_and_keep_less() -> None:
    small = dataclasses.replace(GENERATOR["gpu"], widths=(32, 64), layers=1, crop=64, batch=8)
    whole, parts = (
        rehearsal.training_step(dataclasses.replace(small, accumulate=n), CODER) for n in (1, 2)
    )
    assert parts.flops == whole.flops
    # Beside activations each part keeps a copy of the weights in bfloat16.
    assert 0.5 < parts.activation_bytes / whole.activation_bytes < 0.65
    again = dataclasses.replace(small, checkpointing=True)
    assert rehearsal.training_step(again, CODER).activation_bytes < 0.8 * whole.activation_bytes


def test_a_drawing_stays_on_the_device_and_guidance_doubles_the_network() -> None:
    """64 tiles of 256 pixels in 3 steps: the network 3 times at .0151 TFLOP a tile, and the
    decoder once at .156 (both are counted singly in test_autoencoder). What is read back, once a
    batch, is whether all values are numbers."""
    plain, guided = (
        rehearsal.drawing_batch(GENERATOR["gpu"], CODER, Sampling(steps=3, guidance=g), 64, 256)
        for g in (1.0, 2.0)
    )
    assert plain.read_back == guided.read_back == 1
    assert plain.flops / 64 == pytest.approx(3 * 0.0151e12 + 0.156e12, rel=0.01)
    assert guided.flops - plain.flops == pytest.approx(64 * 3 * 0.0151e12, rel=0.01)


def test_a_tensor_left_on_the_cpu_is_refused_and_a_value_read_back_is_counted() -> None:
    images = torch.zeros((1, 3, 8, 8), device=META)
    with OnDevice() as watch:
        with pytest.raises(RuntimeError, match=r"tensors of .*cpu.* meet"):
            nn.functional.conv2d(images, torch.zeros(4, 3, 3, 3))
        assert (images * torch.tensor(2.0)).is_meta  # a scalar may come from there
        assert torch.zeros(3).to(META).is_meta
        assert watch.read_back == 0
        float(images.sum())
        bool(images.any())
    assert watch.read_back == 2


def test_what_is_computed_in_bfloat16_is_what_autocast_computes_so() -> None:
    """On the CPU, which has autocast: the same types come out of each layer."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten()]
    layers += [nn.Linear(8 * 36, 4), nn.LayerNorm(4)]
    network, seen = nn.Sequential(*layers), []
    for layer in network:
        layer.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    images = torch.zeros(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        network(images)
    expected = [*seen]
    seen.clear()
    with Precision():
        network(images)
    assert seen[0] == expected[0] == torch.bfloat16
    assert seen[4] == expected[4] == torch.bfloat16
    # On a GPU norms are float32, as here; the CPU's autocast leaves them as they come.
    assert seen[1] == seen[5] == torch.float32


def test_the_device_and_precision_are_as_before_afterwards() -> None:
    before = training.device(), training.autocast
    with on_meta():
        assert training.device() == META
        value: Tensor = nn.Linear(2, 2, device=META)(torch.zeros(1, 2, device=META))
        assert value.is_meta
    assert (training.device(), training.autocast) == before
