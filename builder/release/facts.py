"""What the manifest records beside the rows: settings, counts of every stage, trained models."""

import glob
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from builder.core.errors import ArasError
from builder.core.fields import Place
from builder.core.manifest import EncoderRecord, Extent, Facts, ModelRecord, Source, read_manifest
from builder.land.legends import PUBLIC_MAPS, WORLDCOVER_LEGEND
from builder.land.times import YEAR
from builder.models.record import Record
from builder.official.import_release import ImportRelease
from builder.pipeline.inputs import Inputs
from builder.quality import embed
from builder.steps.stage import shards
from builder.synthesis.layouts import balance_plan

Table = dict[str, JsonValue]
"""A table of the recipe."""


def facts(inputs: Inputs) -> Facts:
    """What the manifest keeps under ``facts``, but for the census and the sources of the rows.

    It contains no local path. Raises ArasError for a model or a prompt that the recipe names and
    that is missing.
    """
    store = inputs.store
    counts: dict[str, Counter[str]] = {}
    for stage in store.stages():
        for shard in store.shards(stage):
            if footer := store.footer(stage, shard):
                counts.setdefault(stage, Counter()).update(footer.counts)
    plan = balance_plan(inputs.layouts, store) if inputs.layouts else None
    recipe = {name: section for name, section in inputs.published.items() if name != "engine"}
    recipe["captions"] = {
        stream: {**cast(Table, section), **inputs.captions[stream].ask.published()}
        for stream, section in recipe["captions"].items()
    }
    encoders = {
        key: EncoderRecord(model=weights.name, digest=weights.digest())
        for key, weights in inputs.encoders.items()
    }
    known = Facts(
        balance=plan.summary() if plan else None,
        recipe=recipe,
        counts={stage: dict(count) for stage, count in counts.items() if count},
        split=inputs.split.figures(store) if shards(store, ("real",)) else None,
        models=models(inputs),
        encoders=encoders,
    )
    if inputs.baseline:
        known = known.model_copy(update={"embeddings": embed.record(inputs.baseline)})
    if inputs.imports:
        named = {"sources": tuple(cast(list[str], recipe["imports"]["sources"]))}
        report = inputs.imports.report(store).model_copy(update=named)
        known = known.model_copy(update={"imported": report})
    return known


def models(inputs: Inputs) -> dict[str, ModelRecord]:
    """The record of each trained model, by its name."""
    records = {}
    for folder in sorted(inputs.models.glob("*")):
        if (record := Record.read(folder)) is None:
            continue
        kept = record.as_json()
        values = {name: kept[name] for name in ModelRecord.model_fields if name in kept}
        if place := values.get("settings", {}).get("autoencoder"):
            shown = Place.MODEL.shown(place, inputs.directory)
            values["settings"] = {**values["settings"], "autoencoder": shown}
        records[folder.name] = ModelRecord.model_validate(values)
    return records


MAPS = {"2020": ("v100", "10.5281/zenodo.5571936"), "2021": ("v200", "10.5281/zenodo.7254221")}
"""Year of an ESA WorldCover map → version and DOI, as github.com/ESA-WorldCover cites them."""
COMPOSITES = "https://esa-worldcover.org/en/data-access"
DATASPACE = "https://dataspace.copernicus.eu"
OFFICIAL = Source(
    name="ARAS400k, by the authors of arXiv 2603.09625",
    license="CC-BY-4.0",
    notice="",
    doi="10.5281/zenodo.18890661",
    url="",
)


def sources(inputs: Inputs, extent: Extent | None) -> tuple[Source, ...]:
    """Where the rows come from: as the recipe says, or from how they were generated.

    ``extent`` is that of the census, with the years of the composites. Rows of an imported release
    have its sources, and the release itself.
    """
    if (declared := inputs.recipe.release.sources) is not None:
        return tuple(Source(**source.model_dump()) for source in declared)
    years = extent.years if extent else ()
    if not (stage := inputs.imports):
        legend = inputs.recipe.tiles.legend_name
        of_maps = map_years(inputs) or years
        maps = worldcover(of_maps)[::2] if legend == WORLDCOVER_LEGEND else (_map(legend),)
        pictures = worldcover(years)[1::2] if years or extent is None else ()
        scenes = extent is not None and (extent.acquired or not years)
        products = [*maps, *pictures, *((sentinel(extent),) if scenes and extent else ())]
        return tuple(sorted(products, key=lambda source: _year_in(source.name)))
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
    has_sources = "sources" in origin.facts.model_fields_set  # old releases have none
    return (own, *(origin.facts.sources if has_sources else worldcover(years)))


def sentinel(extent: Extent) -> Source:
    """Sentinel-2 scenes, of which tiles show what is no composite of WorldCover; with the years of
    their sensing where they are known, as the notice of Copernicus wants them."""
    first, last = (at[:4] for at in extent.acquired) if extent.acquired else ("", "")
    years = f" {first}" if first == last else f" {first}-{last}"
    return Source(
        name="Copernicus Sentinel-2 Level-2A",
        notice=f"Contains modified Copernicus Sentinel data{years.rstrip()}",
        url=DATASPACE,
    )


def map_years(inputs: Inputs) -> tuple[int, ...]:
    """Years in the names of the recipe's maps that are on this machine, WorldCover's."""
    tiles = inputs.recipe.tiles
    patterns = [str(inputs.directory / pattern) for pattern in tiles.maps]
    names = [
        Path(file).name for pattern in patterns for file in glob.iglob(pattern, recursive=True)
    ]
    return tuple(sorted({int(match["year"]) for name in names if (match := YEAR.search(name))}))


def _year_in(name: str) -> str:
    """The year of a product of WorldCover, by which maps and composites of it stand together."""
    match = re.search(r"\b20\d\d\b", name)
    return match[0] if match else "9"


def _map(legend: str) -> Source:
    """The map that the masks are cut from, by its legend.

    Raises ArasError for a legend of the recipe's own (""): whose map it is is not known.
    """
    if not legend:
        raise ArasError(
            "[tiles] gives its maps a legend of its own, so their source is not known; name it and "
            "that of the composites: [[release.sources]] with name, license, notice, url"
        )
    public = PUBLIC_MAPS[legend]
    values = {"license": public.license, "notice": public.attribution, "url": public.source}
    return Source(name=public.title, **values)


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
