"""What a release tells beyond its rows: settings, counts of every stage, the models' records."""

from collections import Counter
from collections.abc import Iterable

from builder.core.fields import Place, published
from builder.core.files import read_json
from builder.core.manifest import (
    EncoderRecord,
    Extent,
    Facts,
    ImportReport,
    ModelRecord,
    Source,
    SplitReport,
    read_manifest,
)
from builder.official.import_release import ImportRelease
from builder.pipeline.project import Project, balance_plan
from builder.quality import embed
from builder.steps.stage import shards


def facts(project: Project) -> Facts:
    """What the manifest keeps under ``facts``, but for the census and the sources of the rows.

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
            encoders[key] = EncoderRecord(model=weights.name, digest=weights.digest())
    split = project.split().report(store) if shards(store, ("real",)) else None
    known = Facts(
        balance=plan.summary() if plan else None,
        recipe=recipe,
        counts={stage: dict(count) for stage, count in counts.items() if count},
        split=SplitReport.model_validate(split) if split else None,
        models=models(project),
        encoders=encoders,
    )
    if project.recipe.bench.embeddings:
        known = known.model_copy(update={"embeddings": embed.record(project.baseline)})
    if project.is_imported:
        report = {"sources": recipe["imports"]["sources"], **project.imports().report(store)}
        known = known.model_copy(update={"imported": ImportReport.model_validate(report)})
    return known


def models(project: Project) -> dict[str, ModelRecord]:
    """What a release tells of each trained model, by its name."""
    records = {}
    for path in sorted(project.models.glob("*/record.json")):
        record = read_json(path)
        values = {name: record[name] for name in ModelRecord.model_fields if name in record}
        if place := values.get("settings", {}).get("autoencoder"):
            shown = Place.MODEL.shown(place, project.directory)
            values["settings"] = {**values["settings"], "autoencoder": shown}
        records[path.parent.name] = ModelRecord.model_validate(values)
    return records


MAPS = {"2020": ("v100", "10.5281/zenodo.5571936"), "2021": ("v200", "10.5281/zenodo.7254221")}
"""Year of an ESA WorldCover map → version and DOI, as github.com/ESA-WorldCover cites them."""
COMPOSITES = "https://esa-worldcover.org/en/data-access"
OFFICIAL = Source(
    name="ARAS400k, by the authors of arXiv 2603.09625",
    license="CC-BY-4.0",
    notice="",
    doi="10.5281/zenodo.18890661",
    url="",
)


def sources(project: Project, extent: Extent | None) -> tuple[Source, ...]:
    """Where the rows come from: as the recipe says, or by how they were made.

    ``extent`` is that of the census, with the years of the composites. Rows of an imported release
    have its sources, and the release itself.
    """
    if (declared := project.recipe.release.sources) is not None:
        return tuple(Source(**source.model_dump()) for source in declared)
    years = extent.years if extent else ()
    if not project.is_imported:
        return worldcover(years)
    stage = project.imports()
    if not isinstance(stage, ImportRelease):
        return (OFFICIAL, *worldcover(years))
    origin = read_manifest(stage.release)
    own = Source(
        name=f"{origin.title}, version {origin.version}",
        license=origin.license,
        notice="",
        doi=origin.doi or "",
        url="",
    )
    has_sources = "sources" in origin.facts.model_fields_set  # an old release may not tell them
    return (own, *(origin.facts.sources if has_sources else worldcover(years)))


def worldcover(years: Iterable[int]) -> tuple[Source, ...]:
    """Maps and composites of ESA WorldCover of these years; of 2021 where none is known."""
    products: list[Source] = []
    for year in [str(year) for year in years] or ["2021"]:
        version, doi = MAPS.get(year, ("", ""))
        notice = f"ontains modified Copernicus Sentinel data ({year}) processed by"
        products += [
            Source(
                name=f"ESA WorldCover project {year}, maps {version}".strip(),
                license="CC-BY-4.0",
                notice=f"© ESA WorldCover project / C{notice} ESA WorldCover consortium",
                doi=doi,
                url="" if doi else COMPOSITES,
            ),
            Source(
                name=f"ESA WorldCover Sentinel-2 RGBNIR composites {year}",
                license="CC-BY-4.0",
                notice=f"C{notice} ESA WorldCover consortium",
                doi="",
                url=COMPOSITES,
            ),
        ]
    return tuple(products)
