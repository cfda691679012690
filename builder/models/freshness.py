"""Whether a model is trained already, by settings, tiles and other models; read without torch."""

from dataclasses import asdict, fields
from pathlib import Path

from pydantic import JsonValue

from builder.core.fields import local_path
from builder.core.files import digest_of, sha256_file
from builder.core.store import Store
from builder.land.columns import STREAM_PREFIX
from builder.models import data, weights
from builder.models.record import Record
from builder.models.settings import (
    AutoencoderSettings,
    GeneratorSettings,
    ModelSettings,
    RetrieverSettings,
    SegmenterSettings,
)
from builder.steps.stage import shards

VERSIONS = {
    SegmenterSettings: ("segmenter", 1),
    AutoencoderSettings: ("autoencoder", 1),
    GeneratorSettings: ("generator", 2),
    RetrieverSettings: ("retriever", 2),
}
"""Settings → name of the model, and the version of its training: another version trains again."""

OF_FITTED = ("kind", "seed")
"""Settings that decide what textures and quilts are."""


def is_fresh(store: Store, folder: Path, settings: ModelSettings) -> bool:
    """Whether the model in ``folder`` was trained with these settings, tiles and models."""
    record = Record.read(folder)
    patience = getattr(settings, "patience", 0)
    steps = 0 if is_fitted(settings) else settings.steps
    return bool(record and record.is_done(training_key(store, folder, settings), steps, patience))


def is_fitted(settings: ModelSettings) -> bool:
    """Whether tiles are drawn by textures or quilts, which are fitted at once and not trained."""
    return isinstance(settings, GeneratorSettings) and settings.is_fitted


def training_key(store: Store, folder: Path, settings: ModelSettings) -> str:
    """Digest of all that decides the weights of the model in ``folder``.

    Raises no error where a model that it depends on is still to be trained: its training does.
    """
    what: dict[str, object] = identity(settings)
    content = ""
    if isinstance(settings, RetrieverSettings):
        what = {**retriever_identity(settings)}
        needs = ("id", "image", "split", STREAM_PREFIX + settings.stream)
        columns = {shard: store.find(shard, needs) for shard in shards(store, ("real",))}
        content = digest_of({s: [d for _, d in where.values()] for s, where in columns.items()})
    elif isinstance(settings, GeneratorSettings):
        what["models"] = _models(folder, settings)
    return key_of(*VERSIONS[type(settings)], what, content or data.digest(store, "train"))


def key_of(name: str, version: int, settings: dict[str, object], content: str) -> str:
    return digest_of({"model": name, "version": version, "settings": settings, "data": content})


def identity(settings: ModelSettings) -> dict[str, object]:
    """The settings that decide what is learnt, by name: all but `stage.setting` fields."""
    return {
        part.name: getattr(settings, part.name)
        for part in fields(settings)
        if part.metadata.get("identity", True)
        and (part.name in OF_FITTED or not is_fitted(settings))
    }


def retriever_identity(settings: RetrieverSettings) -> dict[str, JsonValue]:
    """Settings as a key or report holds them: given weights by name and content, not by path."""
    known = asdict(settings)
    if name := settings.weights:
        content = weights.identity_of(name)
        known["weights"] = {"name": weights.public_name(name), "content": content}
    return known


def needed_models(settings: GeneratorSettings) -> list[str]:
    """Other models that the training of a generator reads."""
    if is_fitted(settings):
        return []
    latent = settings.kind == "latent" and not settings.autoencoder
    return ["segmenter"] * settings.is_judged + ["autoencoder"] * latent


def autoencoder_source(folder: Path, settings: GeneratorSettings) -> str | Path:
    """Where the recipe's own autoencoder is: a folder beside the recipe, or a name on the Hub."""
    if not (name := settings.autoencoder):
        return name
    return local_path(name, folder.absolute().parents[1]) or name


def _models(folder: Path, settings: GeneratorSettings) -> dict[str, str | None]:
    """Name of each model that the training reads → digest; None for one still to be trained."""
    needs = {name: Record.read(folder.parent / name) for name in needed_models(settings)}
    models = {name: record.weights_sha256 if record else None for name, record in needs.items()}
    source = autoencoder_source(folder, settings)
    if isinstance(source, Path):
        files = sorted(source.rglob("*.safetensors"))
        models["own autoencoder"] = digest_of([sha256_file(path) for path in files])
    return models
