"""How networks are computed: their memory format, and torch.compile."""

from collections.abc import Iterable

import torch
from torch import nn

from builder.models import training


def speed_up(
    networks: Iterable[nn.Module],
    compiled: bool | str,
    channels_last: bool,
    *,
    graphs: bool = False,
) -> None:
    """Change how ``networks`` are computed, in place; their weights keep names and values.

    ``compiled`` is true for torch.compile's own backend, or the name of another. ``graphs`` is for
    networks that are called at few sizes, without gradients: on a GPU the own backend then records
    CUDA graphs, one per size.
    """
    for one in networks:
        if channels_last:
            one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            backend = "inductor" if compiled is True else str(compiled)
            recorded = graphs and compiled is True and training.device().type == "cuda"
            one.compile(
                backend=backend,
                mode="reduce-overhead" if recorded else None,
                dynamic=False if graphs else None,
            )
