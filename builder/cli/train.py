"""Commands that train models: train segmenter, train generator, train retriever."""

from pathlib import Path
from typing import Any

import click

from builder.cli.common import describe, json_option, print_json, say


@click.group()
def train() -> None:
    """Train the segmenter, the generator or the retriever on real train tiles.

    A finished model is kept as long as its settings and tiles are the same. An interrupted
    training goes on from its last checkpoint and ends in the same weights.
    """


def _run(directory: Path, model: str, as_json: bool) -> None:
    from builder.pipeline import Project

    project = Project(directory)
    training = project.training(model)
    summary: dict[str, Any] = training.run(project.store)
    project.report(training.name, summary)
    if as_json:
        print_json(summary)
    else:
        say(describe(summary))


@train.command()
@json_option
@click.pass_obj
def segmenter(directory: Path, as_json: bool) -> None:
    """Train SegFormer on real train tiles and judge it on real test tiles.

    Writes models/segmenter: weights, record.json, loss.csv and test.json (macro F1, mean IoU,
    per class, confusion matrix; all pixels pooled).
    """
    _run(directory, "segmenter", as_json)


@train.command()
@json_option
@click.pass_obj
def generator(directory: Path, as_json: bool) -> None:
    """Train the layout-conditioned diffusion model on crops of real train tiles.

    Writes models/generator: EMA weights, record.json and loss.csv.
    """
    _run(directory, "generator", as_json)


@train.command()
@json_option
@click.pass_obj
def retriever(directory: Path, as_json: bool) -> None:
    """Train a compact CLIP on real train tiles and the captions of one stream.

    From scratch, with a tokenizer learnt from the same captions, or from the weights of a given
    CLIP; equal captions in a batch are no negatives of each other. Settings: [retriever] in the
    recipe (profile, stream, steps, batch, size, learning_rate, weights, chunk). Writes
    models/retriever: a folder that transformers loads.

    \b
    Example:
      aras train retriever
      aras bench retrieval release/0.1.0 --model models/retriever
    """
    from builder.errors import ArasError
    from builder.pipeline import Project

    recipe = Project(directory).recipe
    stream = recipe.retriever.stream
    if stream not in recipe.captions:
        known = ", ".join(recipe.captions) or "none"
        raise ArasError(
            f"retriever.stream = {stream!r}: no such caption stream; the recipe has {known}"
        )
    _run(directory, "retriever", as_json)
