"""The training loop: seeded by step, resumable to the step, judged, ended when it should."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from builder.core.errors import ArasError, WorkFailed
from builder.core.files import sha256_file, sweep
from builder.core.progress import bar, say
from builder.models import checkpoint
from builder.models.checkpoint import Average, History
from builder.models.record import Record
from builder.models.team import ALONE, Team

WARMUP = 0.05
"""Share of the steps in which the learning rate rises; it falls by a cosine after that."""


BF16_SLOWDOWN = 3.0
"""How much longer bf16 may take than float32 on a CPU before it is refused."""


@dataclass(frozen=True)
class Job:
    """Where a model goes, what it is trained on (``key``) and how it is trained.

    ``key`` holds all that decides the weights and which of them are the best, ``steps`` included,
    as the learning rate depends on them; not ``patience``, which decides only when it ends.
    Each step's batch is computed in ``accumulate`` parts, which changes memory and rounding
    only. Every ``evaluate_every`` steps (0: never) and after the last the model is judged by the
    measure ``watch``; ``patience`` evaluations without a better end it (0: they never do).
    """

    folder: Path
    key: str
    steps: int
    learning_rate: float
    checkpoint_every: int = 100
    accumulate: int = 1
    fused: bool = False
    evaluate_every: int = 0
    watch: str = "loss"
    patience: int = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def is_due(self, done: int) -> bool:
        """Whether the model is judged after ``done`` steps."""
        return bool(self.evaluate_every) and (done % self.evaluate_every == 0 or done == self.steps)


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


def autocast(precision: str = "auto") -> torch.autocast:
    """bfloat16 where it is sound, inside: ``auto`` on a GPU that has it; or float32, bf16."""
    where = device().type
    auto = where == "cuda" and torch.cuda.is_bf16_supported()
    on = auto if precision == "auto" else precision == "bf16"
    return torch.autocast(where, torch.bfloat16, enabled=on)


def refuse_slow(section: str, precision: str, compiled: bool | str) -> None:
    """Raises ArasError for what does not come to an end on a CPU: ``compiled`` by torch's own
    backend, and bf16 where the CPU is slow at it."""
    if device().type != "cpu":
        return
    if compiled is True:
        raise ArasError(
            f"[{section}] compile = true: on a CPU torch compiles a network for minutes and may "
            "not end; set compile = false, which changes rounding only"
        )
    if precision == "bf16" and (times := slower_in_bf16()) > BF16_SLOWDOWN:
        raise ArasError(
            f'[{section}] precision = "bf16": this CPU takes {times:.0f} times as long for a '
            'convolution in bf16 as in float32; set precision = "auto"'
        )


@functools.cache
def slower_in_bf16() -> float:
    """CPU time of a convolution in bfloat16 over that in float32, the least of three each."""

    def least(dtype: torch.dtype) -> float:
        layer = nn.Conv2d(32, 32, 3, padding=1, dtype=dtype)
        images = torch.ones(2, 32, 32, 32, dtype=dtype)
        times = []
        for _ in range(4):
            before = time.process_time()
            layer(images)
            times.append(time.process_time() - before)
        return min(times[1:])

    with torch.inference_mode(), single_thread():
        return least(torch.bfloat16) / max(least(torch.float32), 1e-6)


@contextlib.contextmanager
def enough_memory(label: str, lower: str) -> Iterator[None]:
    """Turn running out of memory into an error that says which settings to ``lower``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).split("\n")[0]
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "allocate memory" not in text:  # the CPU's allocator has no own error
            raise
        raise WorkFailed(f"{label}: out of memory ({text}); {lower}") from error


def fit(
    job: Job,
    model: nn.Module,
    loss_at: Callable[[int, int], Tensor],
    *,
    average: Average | None = None,
    judge: Callable[[int], dict[str, float]] | None = None,
    team: Team = ALONE,
    label: str = "train",
    lower: str = "lower batch in the recipe",
) -> History:
    """Train ``model`` in place; it ends with the weights to publish: the best that were
    judged, where they are better than the last by more than chance (`History.chosen`), else the
    average, else the last. Returns what it saw on its way.

    ``loss_at(step, part)`` is the loss of one of ``job.accumulate`` × ``team.world`` equal parts
    of the step's batch. It and ``judge`` (measures after so many steps, of the average's module
    where there is an average) must depend on nothing but weights and step: a training that was
    interrupted and resumed then ends in the same weights. Raises WorkFailed at a loss or gradient
    that is not finite, before it reaches the weights, and when memory runs out; the last
    checkpoint stays.
    """
    bare = team.bare(model)
    published = average.module if average else bare
    optimizer = optimizer_of(job, bare)
    history = History(watch=job.watch)
    parts: dict[str, Any] = {"model": bare, "optimizer": optimizer, "history": history}
    if average:
        parts["average"] = average
    with team.leader_first():
        if team.leads:
            sweep(job.folder)
            if other := checkpoint.claim(job.checkpoint, job.key):
                say(f"{label}: {other}")
        best = _resume(job, parts)
    begun = len(history.losses)
    if begun and begun < job.steps and team.leads:
        say(f"{label}: resumed at step {begun:,} of {job.steps:,}")
    with bar(label, job.steps, "steps", begun) as advance, enough_memory(label, lower):
        model.train()
        while len(history.losses) < job.steps and not history.stalled(job.patience):
            step = len(history.losses)
            for group in optimizer.param_groups:
                group["lr"] = job.learning_rate * _schedule(step, job.steps)
            total = gradients(job, model, optimizer, loss_at, team, step)
            clipped = nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            value, norm = team.mean(total), float(clipped)  # all that a step reads back
            if not math.isfinite(value + norm):
                raise WorkFailed(f"{label}: {_bad(job, step, value, norm)}")
            optimizer.step()
            if average:
                average.update_parameters(bare)
            history.losses.append(value)
            advance(1, f"loss {value:.4f}")
            done = step + 1
            judged = judge is not None and job.is_due(done)
            if judge is not None and judged:
                history.evaluations.append({"step": done, **team.agree(judge(done))})
                if history.best is history.evaluations[-1]:
                    best = _copy(published)
                model.train()
            if team.leads and done < job.steps and (judged or done % job.checkpoint_every == 0):
                states = {name: part.state_dict() for name, part in parts.items()}
                checkpoint.save(job.checkpoint, {"key": job.key, "best": best, **states})
    if best is not None and history.chosen is history.best:
        bare.load_state_dict(best)
    elif average:
        bare.load_state_dict(average.module.state_dict())
    return history


def optimizer_of(job: Job, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, fused where the job asks for it."""
    fused = True if job.fused and device().type != "meta" else None
    weights = model.parameters()
    return torch.optim.AdamW(weights, lr=job.learning_rate, weight_decay=0.01, fused=fused)


def finish(job: Job, weights: str, history: History, about: Record) -> Record:
    """Write the curves and the record, the mark of a whole model, and drop the checkpoint, unless
    more ``patience`` could go on from it. ``about`` is what this kind of model adds."""
    history.write(job.folder)
    losses = history.losses
    outcome = {
        "key": job.key,
        "weights": weights,
        "weights_sha256": sha256_file(job.folder / weights),
        "steps": len(losses),
        "last_loss": losses[-1] if losses else None,
        "final_loss": sum(losses[-20:]) / max(1, len(losses[-20:])),
        "stopped": _reason(job, history),
        "waited": history.waited,
        "best": history.chosen,
        "libraries": {"torch": torch.__version__},
    }
    record = about.model_copy(update=outcome)
    record.write(job.folder)
    if len(losses) >= job.steps:
        job.checkpoint.unlink(missing_ok=True)
    return record


def sample_name(step: int) -> str:
    """File name of the grid of samples drawn after ``step`` steps."""
    return f"step-{step:07d}.png"


def _reason(job: Job, history: History) -> str:
    if history.stalled(job.patience):
        since = int(history.best["step"]) if history.best else 0
        return f"no better {job.watch} in {job.patience} evaluations after step {since}"
    return f"all {job.steps} steps are made"


def gradients(
    job: Job,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_at: Callable[[int, int], Tensor],
    team: Team,
    step: int,
) -> Tensor:
    """Gradients of the step's whole batch; returns the mean loss of this process's part, ()."""
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device())
    for i in range(job.accumulate):
        last = i + 1 == job.accumulate
        with contextlib.nullcontext() if last else team.quiet(model):
            loss = loss_at(step, team.rank * job.accumulate + i) / job.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _bad(job: Job, step: int, value: float, norm: float) -> str:
    kept = "there is no checkpoint yet"
    if (state := checkpoint.load(job.checkpoint, job.key, torch.device("cpu"))) is not None:
        good = len(state["history"]["losses"])
        kept = f"the last good checkpoint, after step {good}, is kept: {job.checkpoint}"
    what = f"the loss is {value}" if not math.isfinite(value) else f"the gradient's norm is {norm}"
    return (
        f"{what} at step {step}; {kept}. The same settings fail at the same step: lower "
        "learning_rate in the recipe and run the command again, which starts from step 0"
    )


def _resume(job: Job, parts: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Load the checkpoint where it belongs to this job; returns its best weights."""
    state = checkpoint.load(job.checkpoint, job.key, device())
    if state is None:
        return None
    for name, part in parts.items():
        part.load_state_dict(state[name])
    best: dict[str, Tensor] | None = state["best"]
    return best


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _schedule(step: int, steps: int) -> float:
    warm = max(1, int(steps * WARMUP))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
