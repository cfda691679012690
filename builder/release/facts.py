"""What a release tells beyond its rows: settings, counts of every stage, the models' records."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from builder.core.fields import Place, published
from builder.core.files import read_json
from builder.core.manifest import read_manifest
from builder.official.import_release import ImportRelease
from builder.pipeline.project import Project, balance_plan
from builder.quality import embed
from builder.steps.stage import shards

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
    for stream in project.recipe.captions:
        recipe["captions"][stream] |= project.caption(stream).ask.published()
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


Source = dict[str, str]
"""name, license, notice, doi and url; empty texts where there is none."""

MAPS = {"2020": ("v100", "10.5281/zenodo.5571936"), "2021": ("v200", "10.5281/zenodo.7254221")}
"""Year of an ESA WorldCover map → version and DOI, as github.com/ESA-WorldCover cites them."""
COMPOSITES = "https://esa-worldcover.org/en/data-access"
OFFICIAL = {
    "name": "ARAS400k, by the authors of arXiv 2603.09625",
    "license": "CC-BY-4.0",
    "notice": "",
    "doi": "10.5281/zenodo.18890661",
    "url": "",
}


def sources(project: Project, extent: dict[str, Any] | None) -> list[Source]:
    """Where the rows come from: as the recipe says, or by how they were made.

    ``extent`` is the census's: the years of the composites stand in it. Rows of a release that
    was brought in have its sources, and the release itself.
    """
    if (told := project.recipe.release.sources) is not None:
        return [one.model_dump() for one in told]
    years = extent["years"] if extent else []
    if not project.is_imported:
        return worldcover(years)
    stage = project.imports()
    if not isinstance(stage, ImportRelease):
        return [OFFICIAL, *worldcover(years)]
    origin = read_manifest(stage.release)
    own = {
        "name": f"{origin['title']}, version {origin['version']}",
        "license": origin["license"],
        "notice": "",
        "doi": origin.get("doi") or "",
        "url": "",
    }
    return [own, *origin["facts"].get("sources", worldcover(years))]


def worldcover(years: Iterable[int]) -> list[Source]:
    """Maps and composites of ESA WorldCover of these years; of 2021 where none is known."""
    found = []
    for year in [str(one) for one in years] or ["2021"]:
        version, doi = MAPS.get(year, ("", ""))
        notice = f"ontains modified Copernicus Sentinel data ({year}) processed by"
        found += [
            {
                "name": f"ESA WorldCover project {year}, maps {version}".strip(),
                "license": "CC-BY-4.0",
                "notice": f"© ESA WorldCover project / C{notice} ESA WorldCover consortium",
                "doi": doi,
                "url": "" if doi else COMPOSITES,
            },
            {
                "name": f"ESA WorldCover Sentinel-2 RGBNIR composites {year}",
                "license": "CC-BY-4.0",
                "notice": f"C{notice} ESA WorldCover consortium",
                "doi": "",
                "url": COMPOSITES,
            },
        ]
    return found
