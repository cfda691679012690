"""A training that was interrupted ends in the weights of one that was not."""

import dataclasses
import functools
import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builder.core.errors import ArasError, WorkFailed
from builder.core.files import sha256_file
from builder.core.seeds import seed
from builder.models import training
from builder.models.checkpoint import Average, History
from builder.models.freshness import key_of
from builder.models.record import Record, require, verify
from builder.models.training import Job, fit
from tests.makers.toy import BELL, ROOT, environment, listening

STEPS = 12


Trained = tuple[dict[str, Tensor], History]


def train(
    folder: Path,
    key: str = "k",
    at: Callable[[int], None] = lambda step: None,
    curve: Sequence[float] | None = None,
    **job: Any,
) -> Trained:
    """A small regression, with dropout: (published weights, history). ``at(step)`` may interrupt.

    With ``curve`` its values are what the evaluations after 2, 4, 6 … steps find.
    """
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def loss_at(step: int, part: int) -> Tensor:
        at(step)
        torch.manual_seed(seed("batch", step))
        data = torch.randn(16, 5)
        parts = data.chunk(job.get("accumulate", 1))
        loss: Tensor = nn.functional.mse_loss(model(parts[part])[:, 0], parts[part].sum(1))
        return loss

    def judge(step: int) -> dict[str, float]:
        assert curve
        return {"loss": curve[step // 2 - 1]}

    details = Job(
        folder, key, **{"steps": STEPS, "learning_rate": 0.1, "checkpoint_every": 3, **job}
    )
    if curve:
        details = dataclasses.replace(details, evaluate_every=2)
    average = Average(model, 0.9)
    history = fit(details, model, loss_at, average=average, judge=judge if curve else None)
    return model.state_dict(), history


def same(first: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], two[name]) for name in first | two)


class Interrupted(Exception):
    pass


def interrupt(step: int, when: int) -> None:
    if step == when:
        raise Interrupted


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("straight"))


def test_training_learns(straight: Trained) -> None:
    losses = straight[1].losses
    assert len(losses) == STEPS
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("when", [0, 1, 3, 7, 11])
def test_interrupted_at_any_step_and_resumed_it_ends_in_the_same_weights(
    tmp_path: Path, straight: Trained, when: int
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, at=functools.partial(interrupt, when=when))
    steps: list[int] = []
    weights, history = train(tmp_path, at=steps.append)
    assert same(weights, straight[0])
    assert history == straight[1]
    assert steps[0] == when // 3 * 3  # from the last checkpoint, not from the start


CURVE = [5.0, 3.0, 4.0, 2.0, 3.0, 3.5]
KILLED = f"""
import sys, threading
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.models.test_training import train
folder = Path(sys.argv[1])
def hang(step):
    if step == 8:
        (folder / {BELL!r}).open("w").write("here\\n")
        threading.Event().wait(120)
train(folder, at=hang, curve={CURVE})
"""


def test_killed_and_resumed_it_ends_in_the_same_weights(tmp_path: Path, straight: Trained) -> None:
    with listening(tmp_path) as bell:
        process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], env=environment())
        try:
            bell.wait()
        finally:
            process.kill()
            process.wait()
    (tmp_path / f".checkpoint.pt.{_host()}.{process.pid}.0.tmp").write_bytes(b"torn")
    steps: list[int] = []
    weights, history = train(tmp_path, at=steps.append, curve=CURVE)
    assert steps[0] == 8  # an evaluation leaves a checkpoint
    whole = train(tmp_path / "whole", curve=CURVE)
    assert same(weights, whole[0])
    assert history == whole[1]
    (tmp_path / "whole" / "checkpoint.pt").unlink()
    (tmp_path / "whole").rmdir()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def _host() -> str:
    return os.uname().nodename.split(".")[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path,
    straight: Trained,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    real = nn.functional.mse_loss
    calls: list[int] = []

    def spoiled(*arguments: Tensor) -> Tensor:
        calls.append(1)
        return real(*arguments) * (value if len(calls) == 8 else 1)

    monkeypatch.setattr(nn.functional, "mse_loss", spoiled)
    message = (
        rf"the loss is {value} at step 7; the last good checkpoint, after step 6, is kept: "
        rf"{tmp_path}/checkpoint\.pt\. .*lower learning_rate in the recipe and run the command"
    )
    with pytest.raises(WorkFailed, match=message):
        train(tmp_path)
    monkeypatch.undo()
    steps: list[int] = []
    assert same(train(tmp_path, at=steps.append)[0], straight[0])
    assert steps[0] == 6


def test_a_training_of_other_settings_starts_from_the_start(
    tmp_path: Path, straight: Trained
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, key="other", at=functools.partial(interrupt, when=7))
    steps: list[int] = []
    weights, history = train(tmp_path, at=steps.append)
    assert steps == list(range(STEPS))
    assert same(weights, straight[0])
    assert history == straight[1]


def test_a_checkpoint_of_other_settings_is_kept_told_of_and_gone_on_from(
    tmp_path: Path, straight: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, at=functools.partial(interrupt, when=7))
    assert capsys.readouterr().err == ""
    with pytest.raises(Interrupted):
        train(tmp_path, key="other", at=functools.partial(interrupt, when=10))
    notice = capsys.readouterr().err
    assert f"(after step 6); it is kept as {tmp_path}/checkpoint-k.pt" in notice
    steps: list[int] = []
    assert same(train(tmp_path, at=steps.append)[0], straight[0])
    assert steps == list(range(6, STEPS))
    assert (
        f"(after step 9); it is kept as {tmp_path}/checkpoint-other.pt" in capsys.readouterr().err
    )


def test_more_patience_goes_on_where_less_has_ended(tmp_path: Path) -> None:
    """The finished model keeps its checkpoint, and ends as one that had the patience at once."""
    curve = [2.0, 3.0, 3.0, 1.0, 2.0, 2.0]
    whole = train(tmp_path / "whole", curve=curve, patience=3)
    _, history = train(tmp_path, curve=curve, patience=2)
    assert len(history.losses) == 6
    (tmp_path / "w").write_bytes(b"weights")
    record = training.finish(Job(tmp_path, "k", STEPS, 0.1, patience=2), "w", history, Record())
    done = {p: record.is_done("k", STEPS, p) for p in (0, 1, 2, 3)}
    assert done == {0: False, 1: True, 2: True, 3: False}
    steps: list[int] = []
    weights, longer = train(tmp_path, at=steps.append, curve=curve, patience=3)
    assert steps[0] == 6
    assert longer == whole[1]
    assert same(weights, whole[0])
    record = training.finish(Job(tmp_path, "k", STEPS, 0.1, patience=3), "w", longer, Record())
    assert all(record.is_done("k", STEPS, p) for p in (0, 9))  # all its steps are made
    assert not record.is_done("other", STEPS, 3)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    tmp_path: Path, straight: Trained
) -> None:
    """The loss is finite still; the next one would not be."""
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()

    def loss_at(step: int, part: int) -> Tensor:
        return (model.weight * 0).sqrt().sum() + 1  # sqrt has no finite slope at 0

    with pytest.raises(WorkFailed, match=r"norm is nan at step 0; there is no checkpoint yet"):
        fit(Job(tmp_path, "k", 5, 0.1), model, loss_at)
    assert torch.equal(model.weight, before)


def test_the_published_weights_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    """The best one is after 8 steps, so it equals the average of a training of that many, but
    for the schedule, which is that of 12: the training is cut there by its patience."""
    weights, history = train(tmp_path / "a", curve=CURVE)
    assert history.best == {"step": 8, "loss": 2.0}
    assert len(history.losses) == STEPS
    falling = [5.0, 4.0, 3.0, 2.0, 9.0, 9.0]
    cut, shorter = train(tmp_path / "b", curve=falling, patience=1)
    assert len(shorter.losses) == 10
    assert same(weights, cut)
    other, _ = train(tmp_path / "c", curve=[1.0, *CURVE[1:]])
    assert not same(weights, other)


def test_a_plateau_ends_the_training_and_the_record_says_so(tmp_path: Path) -> None:
    _, history = train(tmp_path, curve=[3.0, 2.0, 2.0, 2.5, 2.1, 1.0], patience=3)
    assert [int(evaluation["step"]) for evaluation in history.evaluations] == [2, 4, 6, 8, 10]
    (tmp_path / "w").write_bytes(b"weights")
    job = Job(tmp_path, "k", STEPS, 0.1, patience=3)
    record = training.finish(job, "w", history, Record())
    assert record.stopped == "no better loss in 3 evaluations after step 4"
    assert record.best == {"step": 4, "loss": 2.0}
    assert record.steps == 10


def test_a_training_that_was_stopped_by_its_plateau_stays_stopped(tmp_path: Path) -> None:
    curve = [1.0, 2.0, 2.0, 0.5, 0.5, 0.5]
    weights, history = train(tmp_path, curve=curve, patience=2)
    steps: list[int] = []
    again = train(tmp_path, at=steps.append, curve=curve, patience=2)
    assert steps == []
    assert same(weights, again[0])
    assert history == again[1]


def test_evaluations_that_are_no_numbers_are_never_the_best(tmp_path: Path) -> None:
    curve = [float("nan"), 4.0, float("nan"), 5.0, 5.0, 5.0]
    _, history = train(tmp_path, curve=curve, patience=3)
    assert history.best == {"step": 4, "loss": 4.0}
    assert len(history.evaluations) == 5


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_in_parts_trains_as_the_whole_one_does(tmp_path: Path, accumulate: int) -> None:
    """Up to rounding, where nothing is drawn inside the model."""
    torch.manual_seed(3)
    start = nn.Linear(5, 1).state_dict()
    results = []
    for parts in (1, accumulate):
        model = nn.Linear(5, 1)
        model.load_state_dict(start)

        def loss_at(step: int, part: int, model: nn.Module = model, of: int = parts) -> Tensor:
            torch.manual_seed(step)
            data = torch.randn(8, 5).chunk(of)[part]
            return nn.functional.mse_loss(model(data)[:, 0], data.sum(1))

        job = Job(tmp_path / f"{parts}", "k", 20, 0.1, accumulate=parts)
        results.append((fit(job, model, loss_at).losses, model.weight.detach()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def test_out_of_memory_says_which_settings_to_lower(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)

    def loss_at(step: int, part: int) -> Tensor:
        return model(torch.empty(1 << 60, 1)).sum()  # more than any machine has

    message = r"train: out of memory \(.*allocate.*\); lower batch or crop"
    with pytest.raises(WorkFailed, match=message):
        fit(Job(tmp_path, "k", 1, 0.1), model, loss_at, lower="lower batch or crop")


def test_other_runtime_errors_are_told_as_they_are(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(Job(tmp_path, "k", 1, 0.1), model, lambda step, part: model(torch.ones(1, 2)).sum())


def test_a_damaged_checkpoint_is_a_clear_error_and_never_used(tmp_path: Path) -> None:
    """Truncated, not a checkpoint at all, or with any bit flipped: it says what to do."""
    with pytest.raises(Interrupted):
        train(tmp_path, at=functools.partial(interrupt, when=7))
    path = tmp_path / "checkpoint.pt"
    body = path.read_bytes()
    rng = random.Random(0)
    damaged = [b"", b"rubbish", body[: len(body) // 2], body[:-1], b"\x80\x04}." + body[4:]]
    for place in rng.sample(range(len(body)), 60):
        flipped = bytearray(body)
        flipped[place] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    for damage in damaged:
        path.write_bytes(damage)
        with pytest.raises(ArasError, match=r"checkpoint\.pt: .*remove it to train from the start"):
            train(tmp_path)
        assert path.read_bytes() == damage
    path.unlink()
    train(tmp_path)


def test_the_record_is_the_mark_of_a_whole_model(tmp_path: Path) -> None:
    assert Record.read(tmp_path) is None
    with pytest.raises(ArasError, match="no trained segmenter yet: run `aras train segmenter`"):
        require(tmp_path, "segmenter")
    (tmp_path / "w").write_bytes(b"weights")
    (tmp_path / "checkpoint.pt").write_bytes(b"state")
    job = Job(tmp_path, "k", 3, 0.1)
    record = training.finish(job, "w", History([3.0, 2.0, 1.0]), Record(settings={"batch": 8}))
    assert Record.read(tmp_path) == record == require(tmp_path, "segmenter")
    assert (record.steps, record.final_loss, record.best) == (3, 2.0, None)
    assert record.stopped == "all 3 steps are made"
    assert record.weights_sha256 == sha256_file(tmp_path / "w")
    assert (tmp_path / "loss.csv").read_text().splitlines() == [
        "step,loss",
        "0,3.000000",
        "1,2.000000",
        "2,1.000000",
    ]
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_are_not_those_of_the_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    training.finish(Job(tmp_path, "k", 1, 0.1), "w", History([1.0]), Record())
    verify(tmp_path, "w", "segmenter")
    message = r"w: not the weights that record\.json.*run `aras train segmenter` again"
    (tmp_path / "w").write_bytes(b"weightz")
    with pytest.raises(ArasError, match=message):
        verify(tmp_path, "w", "segmenter")
    (tmp_path / "w").unlink()
    with pytest.raises(ArasError, match=message):
        verify(tmp_path, "w", "segmenter")


def test_a_record_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"key": ')
    with pytest.raises(ArasError, match=r"record\.json: cannot be read .*; remove it"):
        Record.read(tmp_path)


def test_the_key_depends_on_settings_and_data_and_nothing_else() -> None:
    base = key_of("m", 1, {"a": 1, "b": 2}, "data")
    assert key_of("m", 1, {"b": 2, "a": 1}, "data") == base
    others = [
        key_of("n", 1, {"a": 1, "b": 2}, "data"),
        key_of("m", 2, {"a": 1, "b": 2}, "data"),
        key_of("m", 1, {"a": 1, "b": 3}, "data"),
        key_of("m", 1, {"a": 1, "b": 2}, "other"),
    ]
    assert len({base, *others}) == 5


def test_one_thread_inside_as_many_as_before_outside() -> None:
    before = torch.get_num_threads()

    @training.single_thread()
    def work() -> None:
        assert torch.get_num_threads() == 1
        raise Interrupted

    with pytest.raises(Interrupted):
        work()
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="about CPUs")
def test_torchs_own_compiler_is_refused_on_a_cpu_and_a_named_backend_is_not() -> None:
    with pytest.raises(ArasError, match=r"\[generator\] compile = true: .*set compile = false"):
        training.refuse_slow("generator", "auto", compiled=True)
    training.refuse_slow("generator", "auto", compiled="inductor")
    training.refuse_slow("generator", "float32", compiled=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about CPUs")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limit is one of x86")
def test_bf16_is_refused_on_a_cpu_that_is_slow_at_it() -> None:
    """As on a CPU without AMX or AVX512-BF16, whose instructions torch is told not to use."""
    code = "from builder.models import training; training.refuse_slow('generator', 'bf16', False)"
    slow = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ended = subprocess.run([sys.executable, "-c", code], env=slow, capture_output=True, text=True)
    assert ended.returncode
    assert re.search(r'precision = "bf16": this CPU takes \d+ times as long', ended.stderr)
