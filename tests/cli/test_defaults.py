"""Flags whose default help shows before their library is loaded: it is the library's own."""

from typing import Any

import click
import pytest

from builder.cli import cli
from builder.experiments import augmentation, experiment
from builder.official.import_ import ImportSection
from builder.release.gaps import MIN_KM
from builder.retrieval import protocol

RUN = ImportSection.model_fields["run"].default
RETRIEVAL = protocol.Settings()


@pytest.mark.parametrize(
    ("command", "flag", "default"),
    [
        ("import", "run", RUN),
        ("bench retrieval", "min_km", MIN_KM),
        ("bench retrieval", "batch", RETRIEVAL.batch),
        ("bench retrieval", "seed", RETRIEVAL.seed),
        ("bench retrieval", "device", RETRIEVAL.device),
        ("bench embeddings", "device", RETRIEVAL.device),
        ("bench imbalance", "seeds", experiment.SEEDS),
        ("bench imbalance", "min_km", MIN_KM),
        ("bench augmentation", "seeds", experiment.SEEDS),
        ("bench augmentation", "ratio", augmentation.RATIO),
        ("bench augmentation", "balance", augmentation.EVEN),
    ],
)
def test_a_flag_has_the_default_of_the_setting_that_it_sets(
    command: str, flag: str, default: Any
) -> None:
    node: click.Command = cli
    for name in command.split():
        assert isinstance(node, click.Group)
        node = node.commands.get(name) or node.get_command(click.Context(node), name)
    [option] = [parameter for parameter in node.params if parameter.name == flag]
    assert option.default == default
