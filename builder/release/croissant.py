"""croissant.json: the release as MLCommons Croissant 1.1 describes data sets, from the schema."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from builder.core.escape import latex
from builder.core.fields import bibtex, schema_org
from builder.core.manifest import ListedFile, Manifest, SplitFiles
from builder.land.columns import BY_NAME, INSTANT, SPLITS, Column, columns_of
from builder.release.disclosure import HUB, coverage, provenance, publisher, responsible_ai

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
RAI = "http://mlcommons.org/croissant/RAI/1.0"
GEO = "http://mlcommons.org/croissant/geo/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "geocr": "http://mlcommons.org/croissant/geo/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "arrayShape": "cr:arrayShape",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
PARQUET = "application/x-parquet"
TYPES = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.uint8(): "cr:UInt8",
    pa.uint32(): "cr:UInt32",
    pa.uint64(): "cr:UInt64",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.float32(): "cr:Float32",
    pa.float64(): "cr:Float64",
    pa.binary(): "sc:Text",
    INSTANT: "sc:DateTime",
}
"""Arrow's types → Croissant's, which has no type for bytes: mlcroissant gives text as bytes."""
ABOUT = {
    "real": "Real tiles.",
    "synthetic": "Generated tiles, in train only.",
    "augmented": "Real and synthetic train tiles, real validation and test tiles.",
    "metadata": "All rows of both kinds, without the pictures.",
    "embeddings": "Vectors of a baseline, of images and captions of real tiles.",
    "controls": "Control captions of real test tiles.",
}
KEYS = {"controls": ("id", "stream", "control")}
"""Config → columns that together name a row, where id alone does not."""


def croissant(
    manifest: Manifest, shards: Sequence[ListedFile], held: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The JSON-LD of a release whose data files are ``shards``; ``held`` are columns by config.

    Paths are relative: the file describes the directory that it lies in. No record set refers to
    another, because mlcroissant reads records file by file only where nothing is to be joined.
    """
    where, ai = coverage(manifest), responsible_ai(manifest)
    labelled = [column for column in BY_NAME.values() if column.labels and column.name != "split"]
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [CONFORMS_TO, *([RAI] if ai else []), *([GEO] if where else [])],
        "name": manifest.name,
        "description": _description(manifest),
        "alternateName": manifest.title,
        "version": manifest.version,
        "datePublished": manifest.date,
        "license": f"https://spdx.org/licenses/{manifest.license}.html",
        "inLanguage": "en",
        "isLiveDataset": False,
        "creator": [schema_org(author) for author in manifest.authors],
        "publisher": publisher(manifest),
        "keywords": keywords(manifest),
        "citeAs": cite(manifest),
        **where,
        **ai,
        **provenance(manifest),
    }
    if address := hub_address(manifest):
        document["url"] = address
    if manifest.doi:
        document["identifier"] = f"https://doi.org/{manifest.doi}"
        document.setdefault("url", document["identifier"])
    if manifest.concept_doi:
        document["isVersionOf"] = f"https://doi.org/{manifest.concept_doi}"
    document["distribution"] = [
        *(_file_set(config, splits) for config, splits in manifest.configs.items()),
        *(_file_object(shard) for shard in shards),
    ]
    document["recordSet"] = [
        _splits(),
        *(_labels(column) for column in labelled),
        *(_record_set(config, splits, held[config]) for config, splits in manifest.configs.items()),
    ]
    return document


def keywords(manifest: Manifest) -> list[str]:
    sensor = ["Sentinel-2"] if shows_sentinel(manifest) else []
    synthetic = ["synthetic data"] if holds_synthetic(manifest) else []
    captions = ["image captioning"] if manifest.facts.census.streams else []
    return ["remote sensing", "land cover", *sensor, *captions, *synthetic]


def _description(manifest: Manifest) -> str:
    text = str(manifest.facts.setting("release", "description") or manifest.title)
    if manifest.part is None:
        return text
    kind, twin = manifest.part.kind, manifest.part.twin_doi
    other = "synthetic" if kind == "real" else "real"
    return f"{text}\nHere are the {kind} tiles; the {other} tiles are https://doi.org/{twin}."


def hub_address(manifest: Manifest) -> str | None:
    """Where a Hub holds what the manifest lists: nowhere for a part of a release."""
    return None if manifest.part else release_address(manifest)


def release_address(manifest: Manifest) -> str | None:
    """Where a Hub holds the release, or the release that ``manifest`` lists a part of."""
    repo = manifest.repo
    return f"{manifest.endpoint or HUB}/datasets/{repo}" if repo else None


def holds_synthetic(manifest: Manifest) -> bool:
    """Whether any row is synthetic."""
    return "synthetic" in manifest.configs


def shows_worldcover(manifest: Manifest) -> bool:
    """Whether the tiles show ESA WorldCover's products, and so Sentinel-2's pictures."""
    return any("WorldCover" in source.name for source in manifest.facts.sources)


def shows_sentinel(manifest: Manifest) -> bool:
    """Whether the tiles show Sentinel-2's pictures: its scenes, or WorldCover's composites."""
    scenes = any("Sentinel-2" in source.name for source in manifest.facts.sources)
    return scenes or shows_worldcover(manifest)


def cite(manifest: Manifest) -> str:
    """BibTeX, as Croissant asks and the card shows; what LaTeX would interpret is escaped."""
    values = {
        "title": latex(manifest.title),
        "author": bibtex(manifest.authors),
        "year": manifest.date[:4],
        "version": manifest.version,
        "doi": manifest.doi,
        "url": hub_address(manifest),
    }
    lines = [f"  {key} = {{{value}}}," for key, value in values.items() if value]
    return "\n".join([f"@misc{{{manifest.name},", *lines, "}"])


def _file_object(shard: ListedFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.path,
        "name": shard.path,
        "contentUrl": shard.path,
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": shard.sha256,
        "md5": shard.md5,
    }


def _file_set(config: str, splits: Mapping[str, SplitFiles]) -> dict[str, Any]:
    """All files of a config by name: no pattern, so that other names can be put in their place."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{config}-files",
        "name": f"{config}-files",
        "description": f"The Parquet files of config {config}.",
        "encodingFormat": PARQUET,
        "includes": [name for part in splits.values() for name in part.files],
    }


def _splits() -> dict[str, Any]:
    """The names of the splits, as Croissant's own kind of record."""
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Names of the splits.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [_plain("splits/name", "sc:Text")],
        "data": [{"splits/name": name} for name in SPLITS],
    }


def _labels(column: Column) -> dict[str, Any]:
    """The classes that a column's numbers mean."""
    place = f"{column.name}-classes"
    return {
        "@type": "cr:RecordSet",
        "@id": place,
        "name": place,
        "description": f"Numbers in column {column.name} and what they mean.",
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{place}/id"},
        "field": [_plain(f"{place}/id", "sc:Integer"), _plain(f"{place}/name", "sc:Text")],
        "data": [{f"{place}/id": i, f"{place}/name": name} for i, name in enumerate(column.labels)],
    }


def _plain(place: str, kind: str) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": place, "name": place.split("/")[-1], "dataType": kind}


def _record_set(
    config: str, splits: Mapping[str, SplitFiles], held: Sequence[str]
) -> dict[str, Any]:
    rows = ", ".join(f"{split} {part.rows:,}" for split, part in splits.items())
    fields = [
        _split(config) if column.name == "split" else _field(config, column)
        for column in columns_of(config)
        if column.name in held
    ]
    key = [{"@id": f"{config}/{name}"} for name in KEYS.get(config, ("id",))]
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"{ABOUT[config]} Rows: {rows}.",
        "key": key if len(key) > 1 else key[0],
        "field": fields,
    }


def _split(config: str) -> dict[str, Any]:
    """The split's name, read off the file's: readers who ask for a split open no other."""
    return {
        **_plain(f"{config}/split", "sc:Text"),
        "description": BY_NAME["split"].meaning,
        "source": {
            "fileSet": {"@id": f"{config}-files"},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": rf"({'|'.join(SPLITS)})-.+\.parquet$"},
        },
    }


def _field(config: str, column: Column) -> dict[str, Any]:
    meaning = column.meaning + (f" Unit: {column.unit}." if column.unit else "")
    if column.labels:
        meaning += f" Numbers as in record set {column.name}-classes."
    place = f"{config}/{column.name}"
    known = {"@type": "cr:Field", "@id": place, "name": column.name, "description": meaning}
    source = {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": column.name}}
    return {**known, **_typed(place, column.type, source, image=column.is_image)}


def _typed(place: str, kind: pa.DataType, source: dict[str, Any], *, image: bool) -> dict[str, Any]:
    """Data type and source of a field of an Arrow type, with fields below it for a struct."""
    if image:
        return {
            "dataType": "sc:ImageObject",
            "source": {**source, "transform": {"jsonPath": "bytes"}},
        }
    if pa.types.is_struct(kind):
        return {"subField": [_below(place, child, source) for child in kind]}
    if pa.types.is_list(kind):
        below = _typed(place, kind.value_type, source, image=False)
        return {**below, "isArray": True, "arrayShape": "-1"}
    return {"dataType": TYPES[kind], "source": source}


def _below(place: str, child: pa.Field, source: dict[str, Any]) -> dict[str, Any]:
    """One member of a struct, by its quoted name: class names hold hyphens."""
    inside = {**source, "transform": {"jsonPath": f"'{child.name}'"}}
    here = f"{place}/{child.name}"
    known = {"@type": "cr:Field", "@id": here, "name": child.name}
    return {**known, **_typed(here, child.type, inside, image=False)}
