"""What a release tells beyond its rows: settings, counts of every stage, the models' records."""

from collections import Counter
from typing import Any

from builder.captions.section import TemplateSection, ask_of
from builder.files import read_json
from builder.forecast import balance_plan
from builder.pipeline import Project
from builder.places import Place, published
from builder.stage import shards
from builder.stages import embed

TOLD = ("settings", "steps", "stopped", "best", "final_loss", "weights_sha256", "test", "libraries")
"""What a release tells of a model's record."""


def facts(project: Project) -> dict[str, Any]:
    """What the manifest keeps under ``facts``, beside the census and the sources of the rows.

    Nothing in it says where files or models lie. Raises ArasError for a model or a prompt that
    the recipe names and that is not there.
    """
    store = project.store
    counts: dict[str, Counter[str]] = {}
    for stage in store.stages():
        for shard in store.shards(stage):
            if footer := store.footer(stage, shard):
                counts.setdefault(stage, Counter()).update(footer.counts)
    plan = balance_plan(project)
    recipe = published(project.recipe, project.directory)
    del recipe["engine"]
    for stream, section in project.recipe.captions.items():
        if not isinstance(section, TemplateSection):
            ask, _ = ask_of(stream, section, project.directory)
            recipe["captions"][stream]["prompt"] = ask.prompt
    encoders = {}
    for key in ("clip", "tokenizer", "features"):
        if weights := project.encoder(key):
            encoders[key] = {"model": weights.name, "digest": weights.digest()}
    told = {
        "balance": plan.summary() if plan else None,
        "recipe": recipe,
        "counts": {stage: dict(found) for stage, found in counts.items() if found},
        "split": project.split().report(store) if shards(store, ("real",)) else None,
        "models": models(project),
        "encoders": encoders,
    }
    if project.recipe.bench.embeddings:
        told["embeddings"] = embed.facts(project.baseline)
    if project.is_imported:
        names = recipe["imports"]["sources"]
        told["import"] = {"sources": names, **project.imports().report(store)}
    return told


def models(project: Project) -> dict[str, Any]:
    """Name of each trained model → what a release tells of its record."""
    found = {}
    for path in sorted(project.models.glob("*/record.json")):
        record = read_json(path)
        told = {name: record[name] for name in TOLD if name in record}
        if place := told.get("settings", {}).get("autoencoder"):
            shown = Place.MODEL.shown(place, project.directory)
            told["settings"] = {**told["settings"], "autoencoder": shown}
        found[path.parent.name] = told
    return found
