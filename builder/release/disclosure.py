"""What a release says of itself beside its files, for machines: where and when its tiles are, who
publishes it, what wrote and drew it, its biases and limits.

All of it is taken from the manifest; what the manifest does not know is left out.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from builder.core.fields import schema_org
from builder.core.manifest import Agent, Census, Manifest
from builder.core.progress import counted
from builder.land.classes import CLASSES

HUB = "https://huggingface.co"
"""Where a release lies unless it was published to another Hub."""
LEFT_OUT = {
    "failed": "that could not be read or judged",
    "set_aside": "set aside between the splits",
    "copies": "copies of train tiles",
    "repeats_held_out": "repeats of held-out tiles",
    "flagged": "beyond a quality threshold",
}
"""Reason of the funnel → in words."""
PATCHES = {
    "black": "black",
    "partly_black": "partly black",
    "no_map": "without a map",
    "nodata": "without data",
    "water": "mostly water",
}
"""What the cutting of tiles counts of those that it leaves out → in words."""


def coverage(manifest: Manifest) -> dict[str, Any]:
    """schema.org's spatialCoverage and temporalCoverage, and GeoCroissant's CRS, resolution, time
    step, sampling and spatial bias; empty where no tile has a place or time."""
    extent = manifest.facts.census.extent
    if extent is None:
        return {}
    west, south, east, north = extent.bounds
    terms: dict[str, Any] = {
        "spatialCoverage": {
            "@type": "sc:Place",
            "geo": {"@type": "sc:GeoShape", "box": f"{south} {west} {north} {east}"},
        }
    }
    if extent.interval:
        terms["temporalCoverage"] = "/".join(at[:10] for at in extent.interval)
    if extent.years and not extent.acquired:
        terms["geocr:temporalResolution"] = _quantity(1, "year")
    if len(extent.crs) == 1:
        (terms["geocr:coordinateReferenceSystem"],) = extent.crs
        if len(extent.pixel) == 1:
            unit = "degree" if extent.crs == ("EPSG:4326",) else "CRS unit"
            terms["geocr:spatialResolution"] = _quantity(extent.pixel[0], unit)
    terms["geocr:bandConfiguration"] = {
        "@type": "geocr:BandConfiguration",
        "geocr:totalBands": 3,
        "geocr:bandNameList": ["red", "green", "blue"],
    }
    if sampling := _sampling(manifest):
        terms["geocr:samplingStrategy"] = sampling
    tiles = sum(_of_kind(manifest.facts.census, "real").values())
    terms["geocr:spatialBias"] = (
        f"{counted(tiles, 'real tile')} from {counted(extent.cells, 'cell')} of 1°, "
        f"{place_name(extent.bounds)}; none from elsewhere."
    )
    return terms


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"@type": "sc:QuantitativeValue", "value": value, "unitText": unit}


def place_name(bounds: tuple[float, float, float, float]) -> str:
    """Bounds in words: 36.36° N to 36.57° N, 32.85° E to 33.11° E."""
    west, south, east, north = bounds

    def angle(value: float, names: str) -> str:
        return f"{abs(value):.4g}° {names[value < 0]}"

    latitudes = f"{angle(south, 'NS')} to {angle(north, 'NS')}"
    return f"{latitudes}, {angle(west, 'EW')} to {angle(east, 'EW')}"


def locations(manifest: Manifest) -> list[dict[str, Any]]:
    """Zenodo's ``locations``: the middle of the extent of the real tiles; empty without places."""
    extent = manifest.facts.census.extent
    if extent is None:
        return []
    west, south, east, north = extent.bounds
    known = extent.all_years
    years = f", {min(known)} to {max(known)}" if len(known) > 1 else ""
    years = f", {known[0]}" if len(known) == 1 else years
    return [
        {
            "lat": round((south + north) / 2, 4),
            "lon": round((west + east) / 2, 4),
            "place": place_name(extent.bounds),
            "description": f"Middle of the extent of the real tiles, in "
            f"{counted(extent.cells, 'cell')} of 1°{years}",
        }
    ]


def publisher(manifest: Manifest) -> list[dict[str, Any]]:
    """Who publishes: the organisation that owns the repo; where there is none, the authors."""
    if owner := manifest.repo.partition("/")[0]:
        url = f"{manifest.endpoint or HUB}/{owner}"
        return [{"@type": "sc:Organization", "name": owner, "url": url}]
    return [schema_org(author) for author in manifest.authors]


def provenance(manifest: Manifest) -> dict[str, Any]:
    """PROV: the data that it is derived from; and each stream of captions and the synthetic tiles
    as an activity, whose agents are the models with their revisions."""
    terms: dict[str, Any] = {}
    if sources := manifest.facts.sources:
        terms["prov:wasDerivedFrom"] = [
            {
                "@type": "prov:Entity",
                **({"@id": f"https://doi.org/{source.doi}"} if source.doi else {}),
                "prov:label": source.name,
                **({"sc:license": source.license} if source.license else {}),
                **({"sc:url": source.url} if source.url else {}),
            }
            for source in sources
        ]
    census = manifest.facts.census
    activities = [
        _activity(f"captions-{stream}", f"Writing the captions of stream {stream}", agents)
        for stream, agents in _by_stream(census).items()
    ]
    if drawn := _merged(census.generators.values()):
        activities.append(_activity("synthetic-tiles", "Drawing the synthetic tiles", drawn))
    if activities:
        terms["prov:wasGeneratedBy"] = activities
    return terms


def _activity(name: str, label: str, agents: tuple[Agent, ...]) -> dict[str, Any]:
    rows = sum(agent.n for agent in agents)
    return {
        "@type": "prov:Activity",
        "@id": f"activity/{_identifier(name)}",
        "prov:label": f"{label}: {counted(rows, 'row')}",
        "prov:wasAssociatedWith": [
            {
                "@type": "prov:SoftwareAgent",
                "@id": f"agent/{_identifier(str(agent))}",
                "prov:label": str(agent),
            }
            for agent in agents
        ],
    }


def _identifier(text: str) -> str:
    """Text as part of an @id, which holds no space."""
    return re.sub(r"[^\w.@/-]+", "-", text)


def _by_stream(census: Census) -> dict[str, tuple[Agent, ...]]:
    """Stream → its agents, over both kinds of rows; streams that name none are left out."""
    given: dict[str, list[tuple[Agent, ...]]] = {}
    for part, summary in census.streams.items():
        given.setdefault(part.partition("/")[2], []).append(summary.agents)
    merged = {stream: _merged(groups) for stream, groups in given.items()}
    return {stream: agents for stream, agents in merged.items() if agents}


def _merged(groups: Iterable[tuple[Agent, ...]]) -> tuple[Agent, ...]:
    rows: Counter[tuple[str, str | None]] = Counter()
    for agent in (agent for group in groups for agent in group):
        rows[agent.model, agent.revision] += agent.n
    return tuple(Agent(model=a, revision=b, n=n) for (a, b), n in rows.most_common())


def responsible_ai(manifest: Manifest) -> dict[str, Any]:
    """Croissant's RAI properties that the facts answer; the others are left out."""
    census, facts = manifest.facts.census, manifest.facts
    real = sum(_of_kind(census, "real").values())
    synthetic = sum(_of_kind(census, "synthetic").values())
    streams = _by_stream(census)
    terms: dict[str, Any] = {}
    if collection := _collection(manifest, real, synthetic):
        terms["rai:dataCollection"] = collection
    if facts.sources:
        terms["rai:dataCollectionType"] = "Secondary Data analysis"
    if census.extent and census.extent.interval:
        terms["rai:dataCollectionTimeFrame"] = [at[:10] for at in census.extent.interval]
    if handling := _handling(manifest):
        terms["rai:dataPreprocessingProtocol"] = handling
    names = list(dict.fromkeys(part.partition("/")[2] for part in census.streams))
    if names:
        terms["rai:annotationsPerItem"] = f"1 mask and {counted(len(names), 'caption')}"
        by = [
            f"{name} by {', '.join(map(str, streams[name])) if name in streams else 'unknown'}"
            for name in names
        ]
        terms["rai:dataAnnotationProtocol"] = (
            f"Masks: {_masks(manifest)}. Captions by stream: {'; '.join(by)}."
        )
    if tools := list(dict.fromkeys(str(agent) for agents in streams.values() for agent in agents)):
        terms["rai:machineAnnotationTools"] = tools
    if biases := _biases(census):
        terms["rai:dataBiases"] = biases
    if limits := _limits(manifest, synthetic):
        terms["rai:dataLimitations"] = limits
    if census.rows:
        terms["rai:hasSyntheticData"] = synthetic > 0
    return terms


def _of_kind(census: Census, kind: str) -> dict[str, int]:
    """Split → rows of a kind."""
    return {
        part.partition("/")[2]: n
        for part, n in census.rows.items()
        if part.partition("/")[0] == kind
    }


def _collection(manifest: Manifest, real: int, synthetic: int) -> str:
    facts, lines = manifest.facts, []
    if part := manifest.selection:
        lines.append(
            f"{part.rows:,} of {counted(part.of_rows, 'row')} of {part.name} {part.version}."
        )
    sources = "; ".join(source.name for source in facts.sources)
    if real:
        origin = f" Third-party data: {sources}." if sources else " No third-party data."
        lines.append(f"{counted(real, 'real tile')}.{origin}")
    patches = facts.counts.get("tiles", {})
    if real and "candidates" in patches and facts.imported is None and not manifest.selection:
        others = [f"{patches[name]:,} {word}" for name, word in PATCHES.items() if patches[name]]
        lines.append(
            f"{patches['kept']:,} of {counted(patches['candidates'], 'patch', 'patches')} of the "
            f"grid were kept{'; left out: ' if others else ''}{', '.join(others)}."
        )
    if facts.imported and real and not manifest.selection:
        account = facts.imported.account
        lines.append(
            f"Imported: {counted(account.rows_out, 'row')} of {account.rows_in:,}, "
            f"{counted(account.rejects, 'reject')}."
        )
    if synthetic:
        by = ", ".join(map(str, _merged(facts.census.generators.values()))) or "an unnamed model"
        lines.append(
            f"{counted(synthetic, 'synthetic tile')}, in "
            f"{', '.join(_of_kind(facts.census, 'synthetic'))} only, drawn by {by}: no satellite "
            "saw them (column kind is synthetic)."
        )
    return " ".join(lines)


def _masks(manifest: Manifest) -> str:
    if manifest.facts.imported is not None:
        return "as imported"
    remap = manifest.facts.setting("tiles", "remap") or {}
    return f"{len(remap)} codes of the land-cover map, as {len(CLASSES)} classes"


def _handling(manifest: Manifest) -> str:
    """How samples became pixels, and which rows were left out."""
    facts, lines = manifest.facts, []
    low, high = facts.setting("tiles", "reflectance") or (None, None)
    if facts.imported is None and low is not None and "tiles" in facts.counts:
        lines.append(f"Reflectances {low} to {high} became 0 to 255, the same for every tile.")
    left_out = {} if manifest.selection else facts.census.left_out  # counts of the whole
    for kind, reasons in left_out.items():
        if any(reasons.values()):
            why = [f"{n:,} {LEFT_OUT.get(name, name)}" for name, n in reasons.items() if n]
            lines.append(f"Left out of the {kind} tiles: {', '.join(why)}.")
    return " ".join(lines)


def _sampling(manifest: Manifest) -> str:
    """How tiles came into splits, where the recipe decides it."""
    facts = manifest.facts
    block, buffer = facts.setting("split", "block"), facts.setting("split", "buffer_km")
    if "tiles" not in facts.counts or facts.imported is not None or block is None:
        return ""
    size = facts.setting("tiles", "size")
    return (
        f"Every patch of {size}×{size} pixels of a regular grid that has a map and data; "
        f"Earth-fixed blocks of {block}° go whole to one split, and tiles nearer than {buffer} km "
        "to a split that they must not see are set aside."
    )


def _biases(census: Census) -> str:
    """The largest and the smallest class of each kind, by their pixels."""
    lines = []
    for kind in ("real", "synthetic"):
        pixels: Counter[str] = Counter()
        for part, counts in census.pixels.items():
            if part.startswith(f"{kind}/"):
                pixels.update(counts)
        if total := pixels.total():
            (most, many), *_, (least, few) = pixels.most_common()
            lines.append(
                f"Pixels of the {kind} tiles: {100 * many / total:.1f} % {most}, "
                f"{100 * few / total:.2f} % {least}."
            )
    return " ".join(lines)


def _limits(manifest: Manifest, synthetic: int) -> str:
    census, lines = manifest.facts.census, []
    agreement = census.mask_agreement.get("synthetic/train")
    if synthetic and agreement is not None:
        lines.append(
            f"A segmenter agrees with the masks of synthetic tiles on {100 * agreement:.1f} % of "
            "pixels."
        )
    failed = {
        part: sum(census.rows[name] for name in census.rows if name.split("/")[0] == kind)
        - summary.n
        for part, summary in census.streams.items()
        for kind in [part.partition("/")[0]]
    }
    if missing := {part: n for part, n in failed.items() if n > 0}:
        rows = ", ".join(f"{part} {n:,}" for part, n in missing.items())
        lines.append(f"Rows without a caption that could be written: {rows}.")
    grounding = {
        part: summary.means["grounding"]
        for part, summary in census.streams.items()
        if summary.means.get("grounding") is not None
    }
    if grounding:
        low = min(grounding, key=lambda part: grounding[part] or 0.0)
        lines.append(
            "The claims of captions agree least with the masks in "
            f"{low}: grounding {grounding[low]:.2f} of 1."
        )
    near = census.near_duplicates
    if near.rows:
        lines.append(
            f"{counted(near.rows, 'row')} in {counted(near.clusters, 'cluster')} of nearly equal "
            "images."
        )
    unplaced = manifest.facts.split.without_place if manifest.facts.split else 0
    if unplaced:
        lines.append(f"{counted(unplaced, 'real tile')} without a known place.")
    return " ".join(lines)
