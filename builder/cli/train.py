"""Commands that train models: segmenter, autoencoder, generator, retriever."""

from pathlib import Path

import click

from builder.cli.common import json_option, print_json, say_report


@click.group()
def train() -> None:
    """Train the segmenter, autoencoder, generator or retriever on real train tiles.

    A finished model is kept as long as its settings and tiles are the same. You can stop a
    training at any time: run it again to continue; it ends in the same weights.

    \b
    Examples:
      aras train segmenter
      aras train generator
    """


def _run(directory: Path, model: str, as_json: bool) -> None:
    from builder.models import team
    from builder.pipeline.project import Project

    project = Project(directory)
    training = project.training(model)
    summary = training.run(project.store)
    if team.rank():  # of processes launched together the first reports
        return
    project.report(training.name, summary)
    if as_json:
        print_json(summary.as_json())
    else:
        say_report(summary)


@train.command()
@json_option
@click.pass_obj
def segmenter(directory: Path, as_json: bool) -> None:
    """Train SegFormer on real train tiles and judge it on real test tiles.

    Writes models/segmenter: weights, record.json, loss.csv and test.json (macro F1, mean IoU,
    per class, confusion matrix; all pixels pooled).

    \b
    Examples:
      aras train segmenter
    """
    _run(directory, "segmenter", as_json)


@train.command()
@json_option
@click.pass_obj
def autoencoder(directory: Path, as_json: bool) -> None:
    """Train the autoencoder of a latent generator on crops of real train tiles.

    Needed where [generator] has kind = "latent" and names no autoencoder of its own. Settings:
    [autoencoder]. Writes models/autoencoder: a folder that diffusers loads as AutoencoderKL,
    record.json and the curves. Several processes train it together as they do the generator.

    \b
    Example:
      aras train autoencoder
    """
    _run(directory, "autoencoder", as_json)


@train.command()
@json_option
@click.pass_obj
def generator(directory: Path, as_json: bool) -> None:
    """Train the diffusion model on crops of real train tiles.

    Judged every evaluate_every steps by loss and Fréchet distance (in the segmenter's features)
    on validation tiles; it ends after `patience` evaluations without improvement, and the best
    model is kept. Writes models/generator: EMA weights, record.json, loss.csv, evaluations.csv,
    curves.png and a grid of samples per evaluation.

    On several GPUs accelerate starts it, one process for each; without GPUs the same command
    shares the work among processes of the CPU.

    \b
    Examples:
      aras train generator
      accelerate launch --multi_gpu --num_processes 4 -m builder -C DIR train generator
    """
    _run(directory, "generator", as_json)


@train.command()
@json_option
@click.pass_obj
def retriever(directory: Path, as_json: bool) -> None:
    """Train a compact CLIP on real train tiles and the captions of one stream.

    From scratch, with a tokenizer learnt from the same captions, or from the weights of a given
    CLIP; equal captions in a batch are not negatives of each other. Settings: [retriever] in the
    recipe (profile, stream, steps, batch, size, learning_rate, weights, chunk). Writes
    models/retriever: a folder that transformers loads. Several processes take equal parts of each
    batch and see the vectors of all; chunk is for one process alone.

    \b
    Examples:
      aras train retriever
      accelerate launch --multi_gpu --num_processes 4 -m builder -C DIR train retriever
      aras bench retrieval release/0.1.0 --model models/retriever
    """
    _run(directory, "retriever", as_json)
