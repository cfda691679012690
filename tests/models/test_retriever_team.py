"""Two processes train one retriever as one process does."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from builder.core.errors import ArasError
from builder.models import clip, retriever
from builder.models.retriever import Pairs
from builder.models.team import ALONE, Team
from tests.makers.launched_retriever import SETTINGS, trained
from tests.makers.toy import environment


def test_two_processes_learn_what_one_does(tmp_path):
    """Each encodes half of every batch and sees the vectors of both: the gradients are the same."""
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    command = [*launcher, "-m", "tests.makers.launched_retriever", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone = trained(tmp_path / "one", ALONE)
    np.testing.assert_allclose(np.load(tmp_path / "two/losses.npy"), alone, rtol=1e-4)
    both, single = (load_file(tmp_path / name / "weights.safetensors") for name in ("two", "one"))
    first = clip.start(SETTINGS, [f"scene {i % 9}" for i in range(20)]).model.state_dict()
    assert any(not torch.allclose(first[name], single[name]) for name in single)
    for name, weight in both.items():
        torch.testing.assert_close(weight, single[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("change", [{"batch": 7}, {"chunk": 4}])
def test_a_batch_that_a_team_cannot_share_is_refused(tmp_path, change):
    settings = replace(SETTINGS, **change)
    pairs = Pairs(["a", "b"], np.zeros((2, 16, 16, 3), np.uint8), ["one", "two"])
    dual = clip.start(settings, pairs.texts)
    with pytest.raises(ArasError, match="a multiple of 2, and chunk = 0"):
        retriever.train_pairs(tmp_path, "key", pairs, settings, dual, team=Team(0, 2))


def test_processes_launched_together_do_not_wait_for_the_lock_of_the_first():
    """The first process waits for the others to join it, so with a lock all would wait for ever."""
    assert retriever.SHARED
