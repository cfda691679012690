"""Checkpoints: the state of a training in one file that is whole or refused."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from builder.errors import ArasError
from builder.files import atomic


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, which names its ``key``, atomically and behind its own sha256."""
    body = io.BytesIO()
    torch.save(state, body)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(_sha256(body.getbuffer()))
        file.write(body.getbuffer())


def load(path: Path, key: str, device: torch.device) -> dict[str, Any] | None:
    """The state under ``path``; None when there is none or it belongs to another ``key``.

    Raises ArasError when it is damaged: no byte of it is used then.
    """
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    digest, body = data[:32], data[32:]
    if digest != _sha256(body):
        raise ArasError(f"{path}: is damaged; remove it to train from the start")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state if state["key"] == key else None


def _sha256(body: Any) -> bytes:
    return hashlib.sha256(body).digest()
