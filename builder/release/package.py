"""Package: shards of the store → Parquet files of a release, the only step that drops rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder.digest import combine
from builder.errors import ArasError
from builder.files import atomic, digest_of, read_json, sweep
from builder.models.pipeline_settings import ask_for
from builder.pipeline import Project, balance_plan
from builder.progress import bar
from builder.release import controls, embeddings, layout, named_splits
from builder.release.card import write_cards
from builder.release.census import Census
from builder.release.funnel import Funnel
from builder.release.writer import SplitWriter, prefetch, with_digests
from builder.schema import (
    BLOBS,
    BY_NAME,
    CLIP_PREFIX,
    COLUMN_NAMES,
    COLUMNS,
    KINDS,
    METADATA_NAMES,
    REPEAT_PREFIX,
    SCORE_PREFIX,
    SPLITS,
    STREAM_PREFIX,
    arrow_schema,
    names_of,
)
from builder.stage import Stage, shards
from builder.stages import embed
from builder.store import Store

VERSION = 4
GATHERED = {
    "captions": (STREAM_PREFIX,),
    "caption_scores": (SCORE_PREFIX, REPEAT_PREFIX, CLIP_PREFIX),
}
"""Published column → prefixes of the stream columns that it is made of."""
REPEATS = "repeats_held_out"
"""Working column that decides what is left out."""
LEAVING_OUT = ("memorization", "quality", "duplicates")
"""Sections of the recipe that do."""

TOLD = ("settings", "steps", "stopped", "best", "final_loss", "weights_sha256", "test", "libraries")
"""What a release tells of a model's record."""


def package(project: Project) -> dict[str, Any]:
    """Write release/<version>; returns the summary.

    A release that is there with the same content is left alone. Raises ArasError when it holds
    another content, or when there is nothing to package; then nothing is written.
    """
    recipe = project.recipe
    target = project.releases / recipe.dataset.version
    key = content_key(project)
    if target.exists():
        return _existing(target, key)
    sweep(project.releases)
    told = facts(project)
    with atomic(target) as temporary:
        temporary.mkdir()
        configs, census, content = write_data(project, temporary)
        manifest: dict[str, Any] = {
            "format": 1,
            **recipe.dataset.model_dump(exclude={"seed"}),
            "key": key,
            "content_sha256": content,
            "configs": configs,
            "files": [],
            "facts": {**told, "census": census.as_dict()},
        }
        layout.write_manifest(temporary, manifest)
        manifest["subsets"] = named_splits.write_subsets(temporary, project)
        layout.write_manifest(temporary, manifest)
        write_cards(temporary)
    return _summary(target, made=True)


def streams(project: Project) -> tuple[str, ...]:
    return project.streams()


def content_key(project: Project) -> str:
    """Digest of all that a release is made from: column digests and the recipe's own words."""
    store = project.store
    stored = {kind: stored_columns(project, kind) for kind in KINDS}
    names = [*stored["real"], *stored["synthetic"]]
    if project.embed():
        stored["real"] = [*stored["real"], "vectors"]
    found = {
        shard: [digest for _, digest in store.find(shard, [*stored[kind], REPEATS]).values()]
        for kind in KINDS
        for shard in shards(store, (kind,))
    }
    if not found:
        raise ArasError("there are no shards to package: run `aras build` first")
    told = project.recipe.model_dump(
        include={"dataset", "release", "captions", "subsets", "controls", *LEAVING_OUT},
        mode="json",
    )
    return digest_of([VERSION, names, found, told, named_splits.inputs(project)])


def stored_columns(project: Project, kind: str) -> list[str]:
    """Columns of the store that a release row of ``kind`` is made from; of imported rows those
    that their steps make."""
    if project.is_imported:
        stages = (one for one in project.steps() if isinstance(one, Stage) and kind in one.kinds)
        made = {name for stage in stages for name in stage.adds}
    else:
        other = {"real": ("layouts", "generate", "memorize"), "synthetic": ("tiles",)}[kind]
        elsewhere = (*other, "import", "package")
        made = {column.name for column in COLUMNS if column.made_by not in elsewhere}
        made -= {*GATHERED, *(("block",) if kind == "synthetic" else ())}
        made |= {STREAM_PREFIX + stream for stream in streams(project)}
        made |= {name for stage in project.scores() for name in stage.adds}
    prefixes = [prefix for some in GATHERED.values() for prefix in some]
    told = [prefix + stream for prefix in prefixes for stream in streams(project)]
    return [name for name in (*COLUMN_NAMES, *told) if name in made]


def release_rows(
    store: Store, shard: str, stored: Sequence[str], streams: Sequence[str]
) -> pa.Table:
    """One shard as release rows, in the published columns and types, whatever their split."""
    table = store.read(shard, stored)
    kind = KINDS.index(shard.split("-")[0])
    columns: dict[str, Any] = {"kind": pa.array([kind] * table.num_rows, pa.int64())}
    for column, prefixes in GATHERED.items():
        columns[column] = gather(table, prefixes, streams, BY_NAME[column].type)
    for name in COLUMN_NAMES:
        if name in stored:
            columns[name] = table.column(name)
        elif name not in columns:
            columns[name] = pa.nulls(table.num_rows, BY_NAME[name].type)
    rows = pa.table({name: columns[name] for name in COLUMN_NAMES})
    return rows.cast(arrow_schema(COLUMN_NAMES))


def gather(
    table: pa.Table, prefixes: Sequence[str], names: Sequence[str], kind: pa.ListType
) -> pa.ListArray:
    """The struct columns of each stream → one list of structs per row, in the recipe's order.

    Members that no column of the ``prefixes`` has are null.
    """
    n, width = table.num_rows, len(names)
    if not width:
        return pa.array([[]] * n, kind)
    by_row = pa.array(np.arange(n * width).reshape(width, n).T.ravel())
    given = {"stream": pa.array(list(names) * n, pa.string())}
    for prefix in prefixes:
        if prefix + names[0] in table.column_names:
            cells = [table.column(prefix + name).combine_chunks() for name in names]
            flat = pa.concat_arrays(cells).take(by_row)
            given |= {one.name: pc.struct_field(flat, one.name) for one in flat.type}
    element = kind.value_type
    fields = [
        given[one.name].cast(one.type) if one.name in given else pa.nulls(n * width, one.type)
        for one in element
    ]
    structs = pa.StructArray.from_arrays(fields, fields=list(element))
    ends = np.arange(0, n * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(ends, structs, kind)


def write_data(project: Project, folder: Path) -> tuple[dict[str, Any], Census, str]:
    """Write all Parquet files; returns (configs, census, content digest).

    Memory is bounded by one shard and one row group per split.
    """
    writers: dict[tuple[str, str], SplitWriter] = {}

    def writer(config: str, split: str, columns: Sequence[str]) -> SplitWriter:
        if (config, split) not in writers:
            schema = arrow_schema(columns)
            writers[config, split] = SplitWriter(folder / config, split, schema, limit)
        return writers[config, split]

    store, names = project.store, streams(project)
    limit = project.recipe.release.shard_megabytes * 1e6
    census, funnel = Census(), Funnel(project.recipe)
    control = controls.Controls(project.recipe.controls.rows, project.recipe.dataset.seed)
    todo = [shard for kind in KINDS for shard in shards(store, (kind,))]
    stored = {kind: stored_columns(project, kind) for kind in KINDS}

    def read(shard: str) -> tuple[str, pa.Table, pa.ChunkedArray]:
        kind = shard.split("-")[0]
        rows = with_digests(release_rows(store, shard, stored[kind], names))
        return kind, rows, store.read(shard, [REPEATS]).column(REPEATS)

    def add(kind: str, rows: pa.Table, repeats: pa.ChunkedArray) -> None:
        for split, table in by_split(funnel.keep(kind, rows, repeats)):
            census.see(kind, split, table)
            control.see(kind, split, table)
            writer(kind, split, COLUMN_NAMES).add(table)
            writer("metadata", split, METADATA_NAMES).add(table.drop_columns(list(BLOBS)))

    with bar("package", len(todo), "shards") as advance:
        for made in prefetch(map(read, todo)):
            add(*made)
            del made  # leaves nothing of the shard behind
            advance(1)
    if (table := control.table()) is not None:
        writer(controls.CONFIG, controls.SPLIT, names_of(controls.CONFIG)).add(table)
    for shard in shards(store, ("real",)) if project.embed() else ():
        for split, part in embeddings.parts(store.read(shard, ("id", "split", "vectors"))):
            writer(embeddings.CONFIG, split, names_of(embeddings.CONFIG)).add(part)
    configs: dict[str, Any] = {}
    for (config, split), one in sorted(
        writers.items(), key=lambda item: (item[0][0], SPLITS.index(item[0][1]))
    ):
        files = [path.relative_to(folder).as_posix() for path in one.close()]
        size = sum((folder / name).stat().st_size for name in files)
        told = {"rows": one.rows, "bytes": size, "files": files}
        configs.setdefault(config, {})[split] = told | {"content_sha256": one.content.hexdigest()}
    configs["augmented"] = augmented(configs)
    content = combine({f"{c}/{s}": w.content.hexdigest() for (c, s), w in writers.items()})
    census.left_out, census.flags = funnel.left_out, funnel.flags
    return {name: configs[name] for name in layout.CONFIGS if name in configs}, census, content


def augmented(configs: dict[str, Any]) -> dict[str, Any]:
    """Real and synthetic train rows beside real validation and test: the same files again."""
    out: dict[str, Any] = {}
    for kind in KINDS:
        for split, entry in configs.get(kind, {}).items():
            base = out.setdefault(split, {"rows": 0, "bytes": 0, "files": []})
            out[split] = {name: base[name] + entry[name] for name in base}
    return out


def by_split(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows of each split. Every row has one."""
    ids = table.column("split").to_pylist()
    values = dict.fromkeys(ids)
    for value in values:
        part = table  # filtering copies pictures
        if len(values) > 1:
            part = table.filter(pa.array([one == value for one in ids]))
        yield SPLITS[value], part


def _existing(target: Path, key: str) -> dict[str, Any]:
    manifest = layout.read_manifest(target)
    if manifest.get("key") != key:
        raise ArasError(
            f"{target} already holds release {manifest['version']} with other content, and stays "
            "as it is; raise version in [dataset] for a new release, or move that directory away"
        )
    return _summary(target, made=False)


def _summary(target: Path, *, made: bool) -> dict[str, Any]:
    manifest = layout.read_manifest(target)
    return {
        "kind": "release",
        "stage": "package",
        "made": made,
        "release": str(target),
        "rows": {
            config: {split: entry["rows"] for split, entry in splits.items()}
            for config, splits in manifest["configs"].items()
        },
        "bytes": sum(one["bytes"] for one in manifest["files"]),
        "files": len(manifest["files"]),
        "content_sha256": manifest["content_sha256"],
    }


def facts(project: Project) -> dict[str, Any]:
    """What the card tells beyond the rows: settings, counts of every stage, the models' records."""
    store = project.store
    counts: dict[str, Counter[str]] = {}
    for stage in store.stages():
        for shard in store.shards(stage):
            if footer := store.footer(stage, shard):
                counts.setdefault(stage, Counter()).update(footer.counts)
    models = {}
    for folder in sorted(project.models.glob("*/record.json")):
        told = read_json(folder)
        models[folder.parent.name] = {name: told[name] for name in TOLD if name in told}
    plan = balance_plan(project)
    recipe = project.recipe.model_dump(exclude={"engine"}, mode="json")
    recipe["imports"]["sources"] = [Path(one).name for one in project.recipe.imports.sources]
    encoders = {}
    for key in ("clip", "tokenizer", "features"):
        if weights := project.encoder(key):
            encoders[key] = {"model": weights.name, "digest": weights.digest()}
            recipe["scores"][key] = weights.name  # where it lies is nobody's business
    if section := project.recipe.generator.pipeline:
        ask, _ = ask_for(section, project.directory)
        recipe["generator"]["pipeline"] |= {"model": ask.model, "controlnet": ask.controlnet}
    told = {
        "balance": plan.summary() if plan else None,
        "recipe": recipe,
        "counts": {stage: dict(found) for stage, found in counts.items() if found},
        "split": project.split().report(store) if shards(store, ("real",)) else None,
        "models": models,
        "encoders": encoders,
    }
    if project.recipe.bench.embeddings:
        told["embeddings"] = embed.facts(project.baseline)
        recipe["bench"]["embeddings"] = told["embeddings"]["model"]
    if project.is_imported:
        sources = recipe["imports"]["sources"]
        told["import"] = {"sources": sources, **project.imports().report(store)}
    return told
