from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from builder.captions import local_model as local
from tests.makers.tiny_models import tiny_model

HEAD = [7, 3, 9, 4, 8, 5, 6, 2, 11, 12]
PAD = 1


def padded(*rows: list[int]) -> dict[str, Tensor]:
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[PAD] * (width - len(tokens)) + tokens for tokens in rows]),
        "attention_mask": torch.tensor(
            [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in rows]
        ),
    }


def write(network: transformers.PreTrainedModel, batch: dict[str, Tensor]) -> list[list[int]]:
    """Twelve new tokens of each row."""
    width = batch["input_ids"].shape[1]
    out = network.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=-1)
    return out[:, width:].tolist()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> transformers.PreTrainedModel:
    folder: Path = tiny_model(tmp_path_factory.mktemp("llama"))
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        (([1, 2, 3, 4], [1, 2, 5]), 2),
        (([1, 2, 3, 4], [1, 2, 3]), 2),  # the shorter one keeps a token of its own
        (([1, 2, 3, 9], [4, 2, 3, 9]), 0),  # alike again after a difference is not shared
        (([1, 2, 3],), 0),  # alone
    ],
)
def test_shared_tokens_are_counted_from_where_the_rows_begin(rows: tuple, n: int) -> None:
    batch = padded(*rows)
    assert local.shared(batch["input_ids"], batch["attention_mask"]) == n


def test_shared_tokens_are_read_once_and_the_same_texts_are_written(
    llama: transformers.PreTrainedModel,
) -> None:
    batch = padded([*HEAD, 20, 21, 22], [*HEAD, 23], [*HEAD, 30, 31, 32, 33, 34])
    plain = write(llama, batch)
    read = []
    hook = llama.model.register_forward_pre_hook(
        lambda module, args, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    with torch.inference_mode():
        ready = local.read_once(llama, batch)
        assert write(llama, ready) == plain
    hook.remove()
    assert read[:2] == [len(HEAD), 3 * 5]  # then what is left of three rows, padded to the longest
    assert len({tuple(tokens) for tokens in plain}) == 3  # the comparison is of texts that differ


@pytest.mark.parametrize("rows", [([*HEAD, 20],), ([7, 20], [7, 21])], ids=["alone", "little"])
def test_a_batch_that_shares_little_stays_as_it_is(
    llama: transformers.PreTrainedModel, rows: tuple
) -> None:
    batch = padded(*rows)
    assert local.read_once(llama, batch) is batch


def test_a_model_that_sees_a_window_of_tokens_gets_the_whole_rows() -> None:
    config = transformers.MistralConfig(
        vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=8,
    )  # fmt: skip
    batch = padded([*HEAD, 20, 21], [*HEAD, 22])
    assert local.read_once(transformers.MistralForCausalLM(config), batch) is batch
