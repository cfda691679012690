"""The training loop: seeded by step, resumable to the step, stopped at the first bad loss."""

import contextlib
import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from builder.errors import ArasError, WorkFailed
from builder.files import atomic, digest_of, read_json, sha256_file, sweep, write_json
from builder.progress import bar

WARMUP = 0.05
"""Share of the steps in which the learning rate rises; it falls by a cosine after that."""


@dataclass(frozen=True)
class Job:
    """Where a model goes, what it is made from (``key``) and for how many steps."""

    folder: Path
    key: str
    steps: int
    learning_rate: float
    checkpoint_every: int = 100

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One CPU thread, so that sums come out the same in every engine; parallelism is theirs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def record(folder: Path) -> dict[str, Any] | None:
    """The training record of a finished model; None when there is none."""
    try:
        found: dict[str, Any] = read_json(folder / "record.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ArasError(
            f"{folder / 'record.json'}: cannot be read ({error}); remove it to train again"
        ) from error
    return found


def key_of(name: str, version: int, settings: Mapping[str, Any], data: str) -> str:
    return digest_of({"model": name, "version": version, "settings": settings, "data": data})


def require(folder: Path, what: str) -> dict[str, Any]:
    """The record of a model that must be there. Raises ArasError with the command that makes it."""
    found = record(folder)
    if found is None:
        raise ArasError(f"there is no trained {what} yet: run `aras train {what}` first")
    return found


def verify_weights(folder: Path, weights: str, what: str) -> None:
    """Raises ArasError when the weights are not those that the record tells of."""
    found = require(folder, what)
    path = folder / weights
    if not path.exists() or sha256_file(path) != found["weights_sha256"]:
        raise ArasError(
            f"{path}: not the weights that record.json beside it describes; remove {folder} and "
            f"run `aras train {what}` again"
        )


def fit(
    job: Job,
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    *,
    after_step: Callable[[], None] | None = None,
    extra: Any = None,
    label: str = "train",
) -> list[float]:
    """Train ``model`` in place; returns the loss of every step.

    ``loss_at(step)`` must depend on nothing but the weights and the step, so that a training
    that was interrupted and resumed ends in the same weights. ``extra`` is anything with
    state_dict/load_state_dict that belongs to the state (an EMA). Raises WorkFailed at a loss
    that is not finite; the last checkpoint stays.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.learning_rate, weight_decay=0.01)
    losses: list[float] = []
    sweep(job.folder)
    if job.checkpoint.exists():
        losses = _resume(job, model, optimizer, extra)
    model.train()
    with bar(label, job.steps, "steps") as advance:
        advance(len(losses))
        for step in range(len(losses), job.steps):
            for group in optimizer.param_groups:
                group["lr"] = job.learning_rate * _schedule(step, job.steps)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_at(step)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise WorkFailed(
                    f"{label}: the loss is {value} at step {step}; the last checkpoint is kept: "
                    "lower learning_rate in the recipe and run the same command again"
                )
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if after_step:
                after_step()
            losses.append(value)
            advance(1, f"loss {value:.4f}")
            if (step + 1) % job.checkpoint_every == 0 and step + 1 < job.steps:
                _save_checkpoint(job, model, optimizer, extra, losses)
    return losses


def finish(job: Job, weights: str, losses: list[float], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write loss.csv and record.json, the mark of a whole model, and drop the checkpoint."""
    with atomic(job.folder / "loss.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "loss"])
        writer.writerows((i, f"{loss:.6f}") for i, loss in enumerate(losses))
    told = {
        "key": job.key,
        "weights": weights,
        "weights_sha256": sha256_file(job.folder / weights),
        "steps": len(losses),
        "final_loss": sum(losses[-20:]) / max(1, len(losses[-20:])),
        "libraries": {"torch": torch.__version__},
        **facts,
    }
    write_json(job.folder / "record.json", told)
    job.checkpoint.unlink(missing_ok=True)
    return told


def _schedule(step: int, steps: int) -> float:
    warm = max(1, int(steps * WARMUP))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _save_checkpoint(
    job: Job, model: nn.Module, optimizer: Any, extra: Any, losses: list[float]
) -> None:
    state = {
        "key": job.key,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "extra": extra.state_dict() if extra is not None else None,
    }
    body = io.BytesIO()
    torch.save(state, body)
    with atomic(job.checkpoint) as temporary, temporary.open("wb") as file:
        file.write(_sha256(body.getbuffer()))
        file.write(body.getbuffer())


def _sha256(body: Any) -> bytes:
    """What a checkpoint begins with, so that no damaged one is ever used."""
    return hashlib.sha256(body).digest()


def _resume(job: Job, model: nn.Module, optimizer: Any, extra: Any) -> list[float]:
    """Load the checkpoint if it belongs to this job; returns no losses for another job's one.

    Raises ArasError when it is damaged.
    """
    data = memoryview(job.checkpoint.read_bytes())
    digest, body = data[:32], data[32:]
    if digest != _sha256(body):
        raise ArasError(f"{job.checkpoint}: is damaged; remove it to train from the start")
    state = torch.load(io.BytesIO(body), map_location=device(), weights_only=True)
    if state["key"] != job.key:
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if extra is not None:
        extra.load_state_dict(state["extra"])
    return list(state["losses"])
