"""A training that was interrupted ends in the weights of one that was not."""

import functools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from builder.errors import ArasError, WorkFailed
from builder.files import sha256_file
from builder.models import training
from builder.models.training import Job, fit
from builder.seeds import seed
from tests.makers.toy import BELL, ROOT, environment, listening

STEPS = 12


class Average:
    """A moving average of the weights: state beside the model, as an EMA has it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.value = torch.zeros(5)

    def step(self) -> None:
        self.value = 0.9 * self.value + 0.1 * next(self.model.parameters()).detach().ravel()[:5]

    def state_dict(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.value = state["value"]


def train(
    folder: Path, key: str = "k", at: Callable[[int], None] = lambda step: None, rate: float = 0.1
) -> tuple[dict[str, Tensor], Tensor, list[float]]:
    """A small regression, with dropout: (weights, average, losses). ``at(step)`` may interrupt."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    average = Average(model)

    def loss_at(step: int) -> Tensor:
        at(step)
        torch.manual_seed(seed("batch", step))
        data = torch.randn(16, 5)
        loss: Tensor = nn.functional.mse_loss(model(data)[:, 0], data.sum(1))
        return loss

    job = Job(folder, key, STEPS, rate, checkpoint_every=3)
    losses = fit(job, model, loss_at, after_step=average.step, extra=average)
    return model.state_dict(), average.value, losses


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one | two)


class Interrupted(Exception):
    pass


def interrupt(step: int, when: int) -> None:
    if step == when:
        raise Interrupted


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Tensor, list]:
    return train(tmp_path_factory.mktemp("straight"))


def test_training_learns(straight: tuple[dict[str, Tensor], Tensor, list[float]]) -> None:
    losses = straight[2]
    assert len(losses) == STEPS
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("when", [0, 1, 3, 7, 11])
def test_interrupted_at_any_step_and_resumed_it_ends_in_the_same_weights(
    tmp_path: Path, straight: tuple[dict[str, Tensor], Tensor, list[float]], when: int
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, at=functools.partial(interrupt, when=when))
    steps: list[int] = []
    weights, average, losses = train(tmp_path, at=steps.append)
    assert same(weights, straight[0])
    assert torch.equal(average, straight[1])
    assert losses == straight[2]
    assert steps[0] == when // 3 * 3  # from the last checkpoint, not from the start


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
train(folder, at=hang)
"""


def test_killed_and_resumed_it_ends_in_the_same_weights(
    tmp_path: Path, straight: tuple[dict[str, Tensor], Tensor, list[float]]
) -> None:
    with listening(tmp_path) as bell:
        process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], env=environment())
        try:
            bell.wait()
        finally:
            process.kill()
            process.wait()
    (tmp_path / f".checkpoint.pt.{_host()}.{process.pid}.0.tmp").write_bytes(b"torn")
    steps: list[int] = []
    weights, average, losses = train(tmp_path, at=steps.append)
    assert steps[0] == 6
    assert same(weights, straight[0])
    assert torch.equal(average, straight[1])
    assert losses == straight[2]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def _host() -> str:
    return os.uname().nodename.split(".")[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path,
    straight: tuple[dict[str, Tensor], Tensor, list[float]],
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    real = nn.functional.mse_loss
    calls: list[int] = []

    def spoiled(*arguments: Tensor) -> Tensor:
        calls.append(1)
        return real(*arguments) * (value if len(calls) == 8 else 1)

    monkeypatch.setattr(nn.functional, "mse_loss", spoiled)
    message = rf"the loss is {value} at step 7; .*checkpoint .*kept: lower learning_rate"
    with pytest.raises(WorkFailed, match=message):
        train(tmp_path)
    monkeypatch.undo()
    steps: list[int] = []
    assert same(train(tmp_path, at=steps.append)[0], straight[0])
    assert steps[0] == 6


def test_a_training_of_other_settings_starts_from_the_start(
    tmp_path: Path, straight: tuple[dict[str, Tensor], Tensor, list[float]]
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, key="other", at=functools.partial(interrupt, when=7))
    steps: list[int] = []
    weights, _, losses = train(tmp_path, at=steps.append)
    assert steps == list(range(STEPS))
    assert same(weights, straight[0])
    assert losses == straight[2]


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
    for one in damaged:
        path.write_bytes(one)
        with pytest.raises(ArasError, match=r"checkpoint\.pt: .*remove it to train from the start"):
            train(tmp_path)
        assert path.read_bytes() == one
    path.unlink()
    train(tmp_path)


def test_the_record_is_the_mark_of_a_whole_model(tmp_path: Path) -> None:
    assert training.record(tmp_path) is None
    with pytest.raises(ArasError, match="no trained segmenter yet: run `aras train segmenter`"):
        training.require(tmp_path, "segmenter")
    (tmp_path / "w").write_bytes(b"weights")
    (tmp_path / "checkpoint.pt").write_bytes(b"state")
    job = Job(tmp_path, "k", 3, 0.1)
    told = training.finish(job, "w", [3.0, 2.0, 1.0], {"settings": {"batch": 8}})
    assert training.record(tmp_path) == told == training.require(tmp_path, "segmenter")
    assert (told["steps"], told["final_loss"]) == (3, 2.0)
    assert told["weights_sha256"] == sha256_file(tmp_path / "w")
    assert (tmp_path / "loss.csv").read_text().splitlines() == [
        "step,loss",
        "0,3.000000",
        "1,2.000000",
        "2,1.000000",
    ]
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_are_not_those_of_the_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    training.finish(Job(tmp_path, "k", 1, 0.1), "w", [1.0], {})
    training.verify_weights(tmp_path, "w", "segmenter")
    message = r"w: not the weights that record\.json.*run `aras train segmenter` again"
    (tmp_path / "w").write_bytes(b"weightz")
    with pytest.raises(ArasError, match=message):
        training.verify_weights(tmp_path, "w", "segmenter")
    (tmp_path / "w").unlink()
    with pytest.raises(ArasError, match=message):
        training.verify_weights(tmp_path, "w", "segmenter")


def test_a_record_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"key": ')
    with pytest.raises(ArasError, match=r"record\.json: cannot be read .*; remove it"):
        training.record(tmp_path)


def test_the_key_depends_on_settings_and_data_and_nothing_else() -> None:
    base = training.key_of("m", 1, {"a": 1, "b": 2}, "data")
    assert training.key_of("m", 1, {"b": 2, "a": 1}, "data") == base
    others = [
        training.key_of("n", 1, {"a": 1, "b": 2}, "data"),
        training.key_of("m", 2, {"a": 1, "b": 2}, "data"),
        training.key_of("m", 1, {"a": 1, "b": 3}, "data"),
        training.key_of("m", 1, {"a": 1, "b": 2}, "other"),
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
