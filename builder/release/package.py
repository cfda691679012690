"""Package: shards of the store → Parquet files of a release, the only step that drops rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from builder.core.errors import ArasError
from builder.core.files import atomic, digest_of, sweep
from builder.core.manifest import (
    FORMAT,
    Census,
    Configs,
    Manifest,
    read_manifest,
    write_manifest,
)
from builder.core.progress import bar
from builder.land.columns import KINDS
from builder.pipeline.inputs import Inputs
from builder.pipeline.preview import StepPreview
from builder.quality.limits import limits
from builder.release import named_splits
from builder.release.benchmark import write_benchmark
from builder.release.card import write_cards
from builder.release.census import RowCounter
from builder.release.changes import parse_version
from builder.release.comparing import TileSample, working_columns
from builder.release.configs import CONTROL_SPLIT, Controls, embedding_rows
from builder.release.facts import facts, sources
from builder.release.funnel import Funnel
from builder.release.rows import by_split, release_rows, stored_columns
from builder.release.stac import write_items
from builder.release.writer import DataWriter, prefetch, with_digests
from builder.scores import lexicon as lexicons
from builder.steps.stage import shards

VERSION = 7
REPEATS = "repeats_held_out"
"""Working column that decides what is left out."""
_WORKING = ("vectors", "embedding", "image_vector")
"""Working columns without which a row could not be in every config, or be measured."""
RELEASE_SECTIONS = ("dataset", "release", "captions", "subsets", "controls")
"""Sections of the recipe that a release depends on beside its rows."""
LEAVING_OUT = ("memorization", "quality", "duplicates")
"""Sections that decide what is left out of it."""


@dataclass(frozen=True)
class Packaged:
    """A release on disk: rows by config and split, bytes and number of its listed files.

    ``is_new`` is false where it existed already with this content. ``asks`` is the least version
    that the changes since the release before ask for, where the version is a smaller step than
    that, else None.
    """

    is_new: bool
    release: Path
    rows: dict[str, dict[str, int]]
    bytes: int
    files: int
    content_sha256: str
    asks: str | None
    seconds: float = 0.0
    violations: tuple[str, ...] | None = None
    """None before the release is checked."""

    def lines(self) -> list[str]:
        what = "written" if self.is_new else "already exists with this content"
        lines = [f"package: {self.release} {what} ({self.bytes / 1e6:.1f} MB)"]
        for config, splits in self.rows.items():
            rows = ", ".join(f"{split} {n:,}" for split, n in splits.items())
            lines.append(f"  {config:<10} {rows}")
        return lines

    def as_json(self) -> dict[str, Any]:
        values = asdict(self) | {"release": str(self.release), "seconds": round(self.seconds, 2)}
        if self.violations is None:
            del values["violations"]
        return {"kind": "release", "stage": "package", "made": values.pop("is_new"), **values}


def package(inputs: Inputs) -> Packaged:
    """Write release/<version>.

    A release that exists with the same content is not changed. Raises ArasError when it holds
    other content, or when there is nothing to package; then nothing is written.
    """
    recipe = inputs.recipe
    target = inputs.target
    key = content_key(inputs)
    if target.exists():
        return _existing(target, key)
    sweep(inputs.releases)
    known = facts(inputs)  # first: a model that is missing costs no packaging
    with atomic(target) as temporary:
        temporary.mkdir()
        configs, census, content, measured = write_data(inputs, temporary)
        origin = sources(inputs, census.extent)
        manifest = Manifest(
            format=FORMAT,
            **recipe.dataset.model_dump(exclude={"seed"}),
            key=key,
            content_sha256=content,
            configs=configs,
            files=(),
            facts=known.model_copy(update={"census": census, "sources": origin, **measured}),
        )
        write_manifest(temporary, manifest)  # named splits are read from the release itself
        write_items(temporary, manifest)
        write_benchmark(temporary, manifest)
        subsets = named_splits.write_subsets(temporary, inputs)
        write_manifest(temporary, manifest.model_copy(update={"subsets": subsets}))
        write_cards(temporary)
    return _packaged(target, is_new=True)


def content_key(inputs: Inputs) -> str:
    """Digest of all that a release is built from: column digests and the recipe's own words."""
    store = inputs.store
    stored = {kind: stored_columns(inputs, kind) for kind in KINDS}
    names = [*stored["real"], *stored["synthetic"]]
    if inputs.baseline:
        stored["real"] = [*stored["real"], "vectors"]
    digests = {
        shard: [
            digest
            for _, digest in store.find(
                shard, [*stored[kind], REPEATS, *working_columns(store, shard)]
            ).values()
        ]
        for kind in KINDS
        for shard in shards(store, (kind,))
    }
    if not digests:
        raise ArasError("no shards to package: run `aras build` first")
    failed = sorted(row for shard in digests for row in failed_rows(inputs, shard))
    sections: list[object] = [inputs.published[name] for name in (*RELEASE_SECTIONS, *LEAVING_OUT)]
    if inputs.lexicon and inputs.recipe.controls.rows:
        sections.append(lexicons.load(inputs.lexicon).sha256)
    known = [VERSION, names, digests, sections, named_splits.ingredients(inputs)]
    return digest_of([*known, failed] if failed else known)


def failed_rows(inputs: Inputs, shard: str) -> dict[str, str]:
    """Rows of a shard that a stage failed on, on whose columns the release depends: id → why."""
    kind = shard.split("-")[0]
    return inputs.store.failed(shard, [*stored_columns(inputs, kind), REPEATS, *_WORKING])


def write_data(inputs: Inputs, folder: Path) -> tuple[Configs, Census, str, dict[str, Any]]:
    """Write all Parquet files; returns (configs, census, content digest, measured facts).

    Memory is bounded by one shard and one row group per split.
    """
    store, names = inputs.store, inputs.streams
    data = DataWriter(folder, inputs.recipe.release.shard_megabytes * 1e6)
    quality, columns = inputs.recipe.quality, inputs.columns["synthetic"]
    counter, funnel = RowCounter(), Funnel(inputs.recipe, limits(store, quality, columns))
    sample = TileSample()
    controls = Controls(inputs.recipe.controls.rows, inputs.recipe.dataset.seed, inputs.lexicon)
    todo = [shard for kind in KINDS for shard in shards(store, (kind,))]
    stored = {kind: stored_columns(inputs, kind) for kind in KINDS}

    def read(shard: str) -> tuple[str, pa.Table, pa.Table, dict[str, str]]:
        kind, failed = shard.split("-")[0], failed_rows(inputs, shard)
        rows = release_rows(store, shard, stored[kind], names, failed)
        working = store.read(shard, ["id", REPEATS, *working_columns(store, shard)])
        return kind, rows, working, failed

    def add(kind: str, rows: pa.Table, working: pa.Table, failed: Mapping[str, str]) -> None:
        kept = with_digests(funnel.keep(kind, rows, working.column(REPEATS), failed))
        sample.see(kind, kept, working)
        for split, table in by_split(kept):
            counter.see(kind, split, table)
            controls.see(kind, split, table)
            data.add(kind, split, table)

    with bar("package", len(todo), "shards") as advance:
        for read_ahead in prefetch(map(read, todo)):
            add(*read_ahead)
            del read_ahead  # frees its memory before the next is read
            advance(1)
    if (table := controls.table()) is not None:
        data.add("controls", CONTROL_SPLIT, table)
    for shard in shards(store, ("real",)) if inputs.baseline else ():
        vectors, failed = store.read(shard, ("id", "split", "vectors")), failed_rows(inputs, shard)
        if failed:
            ids = vectors.column("id").to_pylist()
            vectors = vectors.filter(pa.array([row not in failed for row in ids]))
        for split, part in embedding_rows(vectors):
            data.add("embeddings", split, part)
    configs, content = data.close()
    census = counter.census(funnel.left_out, funnel.flags)
    measured = {"limits": tuple(funnel.limits), "comparison": sample.compared(*funnel.copies)}
    known = {name: value for name, value in measured.items() if value}
    return configs, census, content, known


def _existing(target: Path, key: str) -> Packaged:
    try:
        manifest = read_manifest(target)
    except ArasError as error:
        raise ArasError(
            f"{target}: already exists and is not a complete release ({error}); not changed. Move "
            "it away, or raise version in [dataset]"
        ) from error
    if manifest.key != key:
        raise ArasError(
            f"{target}: release {manifest.version} already exists with other content, or from an "
            "earlier aras; not changed. Raise version in [dataset] for a new release, or move that "
            "directory away"
        )
    return _packaged(target, is_new=False)


def _packaged(target: Path, *, is_new: bool) -> Packaged:
    manifest = read_manifest(target)
    version = manifest.version
    asks = (manifest.history[0].asks if manifest.history else None) or version
    return Packaged(
        is_new=is_new,
        release=target,
        rows={
            config: {split: part.rows for split, part in splits.items()}
            for config, splits in manifest.configs.items()
        },
        bytes=sum(file.bytes for file in manifest.files),
        files=len(manifest.files),
        content_sha256=manifest.content_sha256,
        asks=asks if parse_version(asks) > parse_version(version) else None,
    )


def refuse_early(inputs: Inputs, steps: Sequence[StepPreview]) -> None:
    """Raise ArasError, before anything is made, where the version exists and ``steps`` would give
    it other content. Shards that are missing alone are made again as they were."""
    changed = [step.stage for step in steps if step.changed]
    if changed and inputs.target.exists():
        raise ArasError(
            f"{inputs.target.relative_to(inputs.directory)}: exists already, and what was changed "
            f"since ({', '.join(changed)}) gives it other content; nothing was made. Raise version "
            "in [dataset] for a new release, or move that directory away"
        )


def preview_package(inputs: Inputs, steps: Sequence[StepPreview]) -> StepPreview:
    """What `aras package` would do after ``steps``."""
    if waits := [step.stage for step in steps if not step.is_done and not step.waits_for]:
        return StepPreview("package", tuple(waits))
    target = inputs.target
    name = target.relative_to(inputs.directory)
    try:
        key = content_key(inputs)
        if not target.exists():
            todo = f"{name} is to be written"
        elif read_manifest(target).key == key:
            todo = f"nothing: {name} has this content"
        else:
            todo = f"{name} exists with other content; not changed: raise version in [dataset]"
    except ArasError as error:
        todo = f"cannot be planned yet: {error}"
    return StepPreview("package", todo=todo)
