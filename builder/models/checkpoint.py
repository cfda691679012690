"""Checkpoints: the state of a training in one file that is whole or refused."""

import hashlib
import io
import os
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
    state = _read(path, device)
    return state if state is not None and state["key"] == key else None


def claim(path: Path, key: str) -> str | None:
    """Give ``path`` to the training of ``key``. Another one's checkpoint is kept under a name of
    its own, from where its own `claim` brings it back; returns a line that says so.

    Raises ArasError when it is damaged.
    """
    found, told = _read(path, torch.device("cpu")), None
    if found is not None and found["key"] != key:
        aside = _aside(path, found["key"])
        os.replace(path, aside)
        told = (
            f"this does not go on from a checkpoint of other settings or data, after step "
            f"{len(found['history']['losses'])}; it is kept as {aside}. Under its settings that "
            "training goes on; remove the file if you do not want it"
        )
    if _aside(path, key).exists() and not path.exists():
        os.replace(_aside(path, key), path)
    return told


def _aside(path: Path, key: str) -> Path:
    return path.with_stem(f"{path.stem}-{key[:12]}")


def _read(path: Path, device: torch.device) -> dict[str, Any] | None:
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    digest, body = data[:32], data[32:]
    if digest != _sha256(body):
        raise ArasError(f"{path}: is damaged; remove it to train from the start")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state


def _sha256(body: Any) -> bytes:
    return hashlib.sha256(body).digest()
