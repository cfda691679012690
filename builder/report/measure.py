"""The figures of a report, measured on a release and, for features, on the store behind it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from builder.core.errors import ArasError
from builder.core.manifest import (
    Clusters,
    EncoderRecord,
    Limit,
    Record,
    ReviewFigures,
    TileComparison,
    read_manifest,
)
from builder.core.store import Store
from builder.land.columns import KINDS
from builder.models.encoders import INCEPTION_DIGEST
from builder.release.rows import metadata, opened
from builder.release.verdict import verdict
from builder.report import images as image_figures
from builder.report.copies import CopyFigures, copy_figures
from builder.report.distances import Distances, distances, features_of, has_column
from builder.report.images import Distribution, Images, ShownTile
from builder.report.streams import WORST, Stream, StreamFigures, figures, streams_of


class Space(Record):
    """A space of features, and what a Fréchet distance in it is called; ``model`` and ``digest``
    where the features are those of a pretrained encoder."""

    name: str
    distance: str
    model: str = ""
    digest: str = ""


class SpaceDistances(Distances, Space):
    """The distances in one space. (Python puts the fields of the last base first.)"""


class ShownCaption(Record):
    stream: str
    id: str
    discrimination: float
    grounding: float | None
    text: str | None


class Examples(Record):
    captions: dict[str, list[ShownCaption]]
    """At the lowest and the highest end of discrimination."""
    images: dict[str, dict[str, list[ShownTile]]]
    """By measure and end."""
    near_duplicates: list[list[str]]
    """Pairs of ids."""

    @property
    def ids(self) -> list[str]:
        """Ids of all tiles that are shown."""
        ids = {caption.id for captions in self.captions.values() for caption in captions}
        ids |= {t.id for by_end in self.images.values() for tiles in by_end.values() for t in tiles}
        return sorted(ids | {id_ for pair in self.near_duplicates for id_ in pair})


class ShownMeasure(Record):
    """A line of the verdict's comparison of synthetic with real tiles, in words."""

    name: str
    value: str
    usual: str
    finding: str = ""


class Report(Record):
    """All that a report holds; counts of rows are those of the manifest's census."""

    kind: str
    name: str
    title: str
    version: str
    rows: dict[str, int]
    pixels: dict[str, dict[str, int]]
    left_out: dict[str, dict[str, int]]
    flags: dict[str, dict[str, int]]
    duplicates: dict[str, Clusters]
    streams: dict[str, StreamFigures]
    leakage_features: str | None
    """Space of the features that structural leakage of images is measured in."""
    images: dict[str, Distribution]
    distances: list[SpaceDistances]
    examples: Examples
    copies: CopyFigures = CopyFigures()
    """Synthetic tiles that copy a train tile."""
    review: ReviewFigures | None = None
    """What people say of captions and masks, where the release holds a review."""
    verdict: tuple[str, ...] = ()
    """The headline of the verdict on the release, its findings, and what could not be judged."""
    compared: str = ""
    """Which tiles ``measures`` compare."""
    measures: tuple[ShownMeasure, ...] = ()
    comparison: TileComparison | None = None
    """The same as numbers."""
    limits: tuple[Limit, ...] = ()


def measure(release: Path, store: Store | None) -> Report:
    """Every figure of the report.

    ``store`` is where features of the images are; without it the distances between real and
    synthetic images, and the image's side of structural leakage, are missing. Raises ArasError
    when ``release`` is not a release, or when the store is of other rows.
    """
    manifest = read_manifest(release)
    streams, images = gather(release)
    census = manifest.facts.census
    by_column = spaces(store, manifest.facts.encoders)
    features = None
    if store is not None and by_column:
        # An encoder of its own is fairer: the segmenter learned the very masks.
        column = next(reversed(by_column))
        ids = {id_ for stream in streams.values() for id_ in stream.sample().ids}
        features = features_of(store, ids, column)
    judged = verdict(manifest)
    return Report(
        kind="report",
        verdict=(judged.headline, *map(str, judged.findings), *judged.unjudged_lines),
        compared=judged.compared,
        measures=tuple(ShownMeasure(**asdict(line)) for line in judged.measures),
        comparison=manifest.facts.comparison,
        limits=manifest.facts.limits,
        name=manifest.name,
        title=manifest.title,
        version=manifest.version,
        rows=census.rows,
        pixels=census.pixels,
        left_out=census.left_out,
        review=manifest.facts.review,
        flags=census.flags,
        duplicates={
            "duplicates": census.duplicates,
            "near_duplicates": census.near_duplicates,
        },
        streams={name: figures(stream, features) for name, stream in streams.items()},
        leakage_features=None if features is None else list(by_column.values())[-1].name,
        images=image_figures.distributions(images),
        distances=[
            SpaceDistances(**{**space.as_json(), **distances(store, column).as_json()})
            for column, space in by_column.items()
            if store
        ],
        copies=copy_figures(release, store),
        examples=Examples(
            captions=examples(streams),
            images=image_figures.ends(images),
            near_duplicates=image_figures.repeated(images),
        ),
    )


def spaces(store: Store | None, encoders: Mapping[str, EncoderRecord]) -> dict[str, Space]:
    """Working column of features → its space.

    Only in the features of the standard Inception network, known by its digest, is a Fréchet
    distance FID.
    """
    by_column: dict[str, Space] = {}
    if store is not None and has_column(store, "features"):
        by_column["features"] = Space(name="segmenter's encoder", distance="Fréchet distance")
    if store is not None and "features" in encoders and has_column(store, "embedding"):
        encoder = encoders["features"]
        distance = "FID" if encoder.digest == INCEPTION_DIGEST else "Fréchet distance"
        by_column["embedding"] = Space(name=encoder.model, distance=distance, **encoder.as_json())
    return by_column


def gather(release: Path) -> tuple[dict[str, Stream], Images]:
    """What the report says of every caption by stream, and of every row's image."""
    streams: dict[str, Stream] = {}
    images = Images()
    columns = ("id", "kind", "dominant", "pixels", "captions", "caption_scores")
    for split, table in metadata(
        release, (*columns, *image_figures.MEASURES, "near_duplicate_cluster")
    ):
        images.add(split, table)
        for name, captions in streams_of(table, str(release)):
            streams.setdefault(name, Stream()).add(captions)
    return streams, images


def examples(streams: Mapping[str, Stream]) -> dict[str, list[ShownCaption]]:
    """Captions with the lowest and the highest discrimination, each stream in its turn."""
    by_end: dict[str, list[ShownCaption]] = {}
    for end in ("lowest", "highest"):
        turns: list[tuple[int, ShownCaption]] = []
        for name, stream in streams.items():
            shown = stream.lowest if end == "lowest" else stream.highest
            for turn, (value, row, grounding, text) in enumerate(shown):
                caption = ShownCaption(
                    stream=name, id=row, discrimination=value, grounding=grounding, text=text
                )
                turns.append((turn, caption))
        turns.sort(key=lambda item: item[0])  # streams keep their order
        by_end[end] = [caption for _, caption in turns[:WORST]]
    return by_end


def images_of(
    release: Path, ids: Sequence[str], also: Collection[str] = ()
) -> dict[str, tuple[bytes, bytes]]:
    """(image, mask) PNG bytes of some rows, reading one row group at a time; those of ``also``
    where the release holds them. Raises ArasError where it lacks one of ``ids``."""
    asked, pictures = {*ids, *also}, {}
    for config in KINDS:
        for part in read_manifest(release).configs.get(config, {}).values():
            for name in part.files:
                with opened(release / name) as file:
                    for group in range(file.num_row_groups):
                        names = file.read_row_group(group, ["id"]).column("id").to_pylist()
                        if not asked & set(names):
                            continue
                        rows = file.read_row_group(group, ["id", "image", "mask"]).to_pylist()
                        for row in rows:
                            if row["id"] in asked:
                                pictures[row["id"]] = (row["image"]["bytes"], row["mask"]["bytes"])
    if missing := set(ids) - pictures.keys():
        raise ArasError(f"{release}: has no pictures of {', '.join(sorted(missing))}")
    return pictures
