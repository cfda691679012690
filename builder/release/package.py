"""Package: shards of the store → Parquet files of a release, the only step that drops rows."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from builder import subsets
from builder.digest import combine
from builder.errors import ArasError
from builder.files import atomic, digest_of, read_json, sweep
from builder.pipeline import Project, balance_plan
from builder.progress import bar
from builder.release import embeddings, layout
from builder.release.card import write_cards
from builder.release.census import Census
from builder.release.read import real_rows
from builder.release.writer import SplitWriter, prefetch, with_digests
from builder.schema import (
    BLOB_DIGESTS,
    BLOBS,
    BY_NAME,
    COLUMN_NAMES,
    COLUMNS,
    KINDS,
    METADATA_NAMES,
    SCORE_PREFIX,
    SPLITS,
    STREAM_PREFIX,
    arrow_schema,
    names_of,
)
from builder.stage import Stage, shards
from builder.stages import embed
from builder.store import Store

VERSION = 2
GATHERED = {"captions": STREAM_PREFIX, "caption_scores": SCORE_PREFIX}
"""Published column → prefix of the stream columns that it is made of."""

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
        placed = manifest["facts"]["split"] is not None
        manifest["subsets"] = write_subsets(temporary, project) if placed else {}
        layout.write_manifest(temporary, manifest)
        write_cards(temporary)
    return _summary(target, made=True)


def streams(project: Project) -> tuple[str, ...]:
    return project.streams()


def imported(project: Project, kind: str) -> frozenset[str] | None:
    """Columns that the steps of an imported dataset make for a kind; None for made rows."""
    if not project.is_imported:
        return None
    stages = (step for step in project.steps() if isinstance(step, Stage) and kind in step.kinds)
    return frozenset(name for stage in stages for name in stage.adds)


def content_key(project: Project) -> str:
    """Digest of all that a release is made from: column digests and the recipe's own words."""
    store = project.store
    stored = {kind: _stored(streams(project), kind, imported(project, kind)) for kind in KINDS}
    names = [*stored["real"], *stored["synthetic"]]
    if project.embed():
        stored["real"] = [*stored["real"], "vectors"]
    found = {
        shard: [digest for _, digest in store.find(shard, stored[kind]).values()]
        for kind in KINDS
        for shard in shards(store, (kind,))
    }
    if not found:
        raise ArasError("there are no shards to package: run `aras build` first")
    told = project.recipe.model_dump(
        include={"dataset", "release", "captions", "subsets", "memorization"}, mode="json"
    )
    return digest_of([VERSION, names, found, told])


def _stored(names: Sequence[str], kind: str, imported: Collection[str] | None = None) -> list[str]:
    """Columns of the store that a release row of ``kind`` is made from; of imported rows those
    that their steps make."""
    made_elsewhere = {"kind", *GATHERED, *BLOB_DIGESTS}
    if imported is not None:
        plain = [name for name in COLUMN_NAMES if name in imported and name not in made_elsewhere]
        return [*plain, *(prefix + name for prefix in GATHERED.values() for name in names)]
    of_other = {"real": ("layouts", "generate", "memorize"), "synthetic": ("tiles",)}[kind]
    plain = [
        column.name
        for column in COLUMNS
        if column.name not in made_elsewhere and column.made_by not in (*of_other, "import")
    ]
    if kind == "synthetic":
        plain.remove("block")
    return [*plain, *(prefix + name for prefix in GATHERED.values() for name in names)]


def release_rows(
    store: Store, shard: str, names: Sequence[str], imported: Collection[str] | None = None
) -> pa.Table:
    """One shard as release rows, in the published columns and types, whatever their split."""
    kind = shard.split("-")[0]
    stored = _stored(names, kind, imported)
    table = store.read(shard, stored)
    columns: dict[str, Any] = {"kind": pa.array([KINDS.index(kind)] * table.num_rows, pa.int64())}
    for column, prefix in GATHERED.items():
        columns[column] = gather(table, prefix, names, BY_NAME[column].type)
    for name in COLUMN_NAMES:
        if name in stored:
            columns[name] = table.column(name)
        elif name not in columns:
            columns[name] = pa.nulls(table.num_rows, BY_NAME[name].type)
    rows = pa.table({name: columns[name] for name in COLUMN_NAMES})
    return rows.cast(arrow_schema(COLUMN_NAMES))


def gather(table: pa.Table, prefix: str, names: Sequence[str], kind: pa.ListType) -> pa.ListArray:
    """One struct column per stream → one list of structs per row, in the recipe's order."""
    n, width = table.num_rows, len(names)
    if not width:
        return pa.array([[]] * n, kind)
    cells = [table.column(prefix + name).combine_chunks() for name in names]
    by_row = np.arange(n * width).reshape(width, n).T.ravel()
    flat = pa.concat_arrays(cells).take(pa.array(by_row))
    given = {one.name: pc.struct_field(flat, one.name) for one in flat.type}
    given["stream"] = pa.array(list(names) * n, pa.string())
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
    census = Census()
    todo = [shard for kind in KINDS for shard in shards(store, (kind,))]
    brought = {kind: imported(project, kind) for kind in KINDS}

    def read(shard: str) -> tuple[str, pa.Table]:
        kind = shard.split("-")[0]
        return kind, with_digests(release_rows(store, shard, names, brought[kind]))

    def add(kind: str, rows: pa.Table) -> None:
        if project.recipe.memorization.drop_copies:
            rows, census.copies = without_copies(rows, census.copies)
        for split, table in by_split(rows):
            if split is not None:
                census.see(kind, split, table)
                writer(kind, split, COLUMN_NAMES).add(table)
                writer("metadata", split, METADATA_NAMES).add(table.drop_columns(list(BLOBS)))

    with bar("package", len(todo), "shards") as advance:
        for made in prefetch(map(read, todo)):
            add(*made)
            del made  # leaves nothing of the shard behind
            advance(1)
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
    return {name: configs[name] for name in layout.CONFIGS if name in configs}, census, content


def write_subsets(release: Path, project: Project) -> dict[str, Any]:
    """Files of ids under subsets/: the split itself and each subset smaller than it."""
    rows = real_rows(release)
    name = "blocks" if rows.blocks[0] else "official"
    whole = subsets.write(release / f"subsets/{name}.csv", rows.ids, rows.splits)
    told = {name: {**whole, "balance": "natural"}}
    for name, section in project.recipe.subsets.items():
        if section.rows < len(rows.ids):
            chosen = subsets.choose(rows, name, section.rows, section.balance)
            ids = [rows.ids[i] for i in chosen]
            path = release / f"subsets/{name}.csv"
            part = subsets.write(path, ids, rows.splits[chosen].tolist())
            told[name] = {**part, "balance": section.balance}
    return told


def augmented(configs: dict[str, Any]) -> dict[str, Any]:
    """Real and synthetic train rows beside real validation and test: the same files again."""
    out: dict[str, Any] = {}
    for kind in KINDS:
        for split, entry in configs.get(kind, {}).items():
            base = out.setdefault(split, {"rows": 0, "bytes": 0, "files": []})
            out[split] = {name: base[name] + entry[name] for name in base}
    return out


def without_copies(rows: pa.Table, dropped: int) -> tuple[pa.Table, int]:
    """Rows that are no copies of train tiles, and ``dropped`` plus how many were."""
    copies = pc.fill_null(rows.column("copy"), False)
    kept = rows.filter(pc.invert(copies)) if pc.any(copies).as_py() else rows
    return kept, dropped + rows.num_rows - kept.num_rows


def by_split(table: pa.Table) -> Iterator[tuple[str | None, pa.Table]]:
    """Rows of each split, and under None those that no split took."""
    ids = table.column("split").to_pylist()
    values = dict.fromkeys(ids)
    for value in values:
        part = table  # filtering copies pictures
        if len(values) > 1:
            part = table.filter(pa.array([one == value for one in ids]))
        yield None if value is None else SPLITS[value], part


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
    told = {
        "balance": plan.summary() if plan else None,
        "recipe": recipe,
        "counts": {stage: dict(found) for stage, found in counts.items() if found},
        "split": project.split().report(store) if has_places(store) else None,
        "models": models,
    }
    if project.recipe.bench.embeddings:
        told["embeddings"] = embed.facts(project.baseline)
        recipe["bench"]["embeddings"] = told["embeddings"]["model"]
    if project.is_imported:
        sources = recipe["imports"]["sources"]
        told["import"] = {"sources": sources, **project.imports().report(store)}
    return told


def has_places(store: Store) -> bool:
    """There are real rows, and all of them have a place on Earth."""
    seen = store.scan(shards(store, ("real",)), ("longitude",))
    nulls = [table.column("longitude").null_count for _, table in seen]
    return bool(nulls) and not any(nulls)
