"""Every column of a release: type, meaning, unit and the stage that makes it.

The card, the Croissant file, docs/columns.md, the stages and the checks all read this table.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from builder.land.classes import CLASSES
from builder.land.score_columns import released

KINDS = ("real", "synthetic")
SPLITS = ("train", "validation", "test")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PER_CLASS_COUNT = pa.struct([(name, pa.uint32()) for name in CLASSES])
PER_CLASS_PERCENT = pa.struct([(name, pa.uint8()) for name in CLASSES])
CAPTION = pa.struct(
    [
        ("text", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("prompt_sha256", pa.string()),
        ("seed", pa.string()),
        ("error", pa.string()),
    ]
)
"""What a caption stream says of a row; ``text`` is null where ``error`` is not."""

CAPTIONS = pa.list_(pa.struct([pa.field("stream", pa.string()), *CAPTION]))
STREAM_PREFIX = "caption_"
"""A caption stage adds a column, ``caption_<stream>``; `package` gathers them."""

CAPTION_SCORE, CAPTION_REPEAT, CLIP_SCORE = map(released, ("score", "repeat", "clip"))
"""What the stages score, repeat and clip add for a caption stream; null where it has no value."""

CAPTION_SCORES = pa.list_(
    pa.struct([pa.field("stream", pa.string()), *CAPTION_SCORE, *CAPTION_REPEAT, *CLIP_SCORE])
)
SCORE_PREFIX, REPEAT_PREFIX, CLIP_PREFIX = "score_", "repeat_", "clip_"

_BY_PREFIX = {
    STREAM_PREFIX: CAPTION,
    SCORE_PREFIX: CAPTION_SCORE,
    REPEAT_PREFIX: CAPTION_REPEAT,
    CLIP_PREFIX: CLIP_SCORE,
}


_PIECE = ("row", "column", "height", "width")
COPIED_FROM = pa.struct(
    [
        ("id", pa.string()),
        *((side, pa.int32()) for side in _PIECE),
        *((f"own_{side}", pa.int32()) for side in _PIECE),
        ("turn", pa.string()),
        ("scale", pa.float32()),
        ("share", pa.float32()),
    ]
)
"""The piece of a train tile that a synthetic tile copies, and where it lies in its own."""

BBOX = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])
"""Bounds in degrees; GeoParquet's covering of a geometry."""
INSTANT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A published column. ``labels`` makes it a ClassLabel; ``unit`` is empty for none.

    ``beside`` names the picture that the column stands for where pictures are left out. ``locates``
    marks a column that says where pictures lie, ``on_map`` one that says where and when a row is:
    both follow from other columns and from how rows are cut into files, so they are no part of the
    content.
    """

    name: str
    type: pa.DataType
    made_by: str
    meaning: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    beside: str = ""
    locates: bool = False
    on_map: bool = False

    @property
    def is_image(self) -> bool:
        return bool(self.type == IMAGE)


_T = "tiles"
_G = "generate"
_I = "import"

COLUMNS: tuple[Column, ...] = (
    Column(
        "id",
        pa.string(),
        "source",
        "Global name of the row: real/CELL_ROW_COLUMN, with the lower-left corner of a 1° cell and "
        "the patch counted from its upper left, or synthetic/RUN/NUMBER.",
    ),
    Column("kind", pa.int64(), "package", "Real or generated pixels.", labels=KINDS),
    Column(
        "split",
        pa.int64(),
        "split",
        "Spatial split of the tile; synthetic rows are train only.",
        labels=SPLITS,
    ),
    Column("image", IMAGE, "source", "True-colour tile, RGB PNG.", "8-bit"),
    Column(
        "mask",
        IMAGE,
        "source",
        "Land cover of the same pixels: palette PNG of class ids 0…6 in their colours (mode P); as "
        "an array it gives the ids.",
        "class id",
    ),
    Column(
        "image_sha256",
        pa.string(),
        "package",
        "sha256 of the encoded image, in hex; in config metadata only.",
        beside="image",
    ),
    Column(
        "mask_sha256",
        pa.string(),
        "package",
        "sha256 of the encoded mask, in hex; in config metadata only.",
        beside="mask",
    ),
    Column(
        "shard",
        pa.string(),
        "package",
        "File of this release that holds the row's pictures, by its path; in config metadata only. "
        "They lie in it plainly: a file or an HTTP range of `image_size` bytes from `image_offset` "
        "is the image, no Parquet reader needed.",
        locates=True,
    ),
    Column(
        "image_offset",
        pa.int64(),
        "package",
        "Where the encoded image begins in `shard`, counted from 0; in config metadata only.",
        "byte",
        locates=True,
    ),
    Column(
        "image_size",
        pa.int64(),
        "package",
        "Length of the encoded image; in config metadata only.",
        "byte",
        locates=True,
    ),
    Column(
        "mask_offset",
        pa.int64(),
        "package",
        "Where the encoded mask begins in `shard`, counted from 0; in config metadata only.",
        "byte",
        locates=True,
    ),
    Column(
        "mask_size",
        pa.int64(),
        "package",
        "Length of the encoded mask; in config metadata only.",
        "byte",
        locates=True,
    ),
    Column("pixels", PER_CLASS_COUNT, "source", "Exact count of mask pixels per class.", "pixel"),
    Column(
        "percent",
        PER_CLASS_PERCENT,
        "source",
        "Whole percentages by the largest-remainder rule; they sum to exactly 100.",
        "%",
    ),
    Column(
        "percent_published",
        PER_CLASS_PERCENT,
        _I,
        "The percentages that an imported row was published with, where they are not percent.",
        "%",
    ),
    Column(
        "dominant",
        pa.int64(),
        "source",
        "The class with the most pixels (the first on a tie).",
        labels=CLASSES,
    ),
    Column("crs", pa.string(), _T, "Coordinate reference system of a real tile."),
    Column(
        "transform",
        pa.list_(pa.float64()),
        _T,
        "Affine a, b, c, d, e, f of a real tile: x = a·col + b·row + c, y = d·col + e·row + f.",
        "CRS unit",
    ),
    Column("longitude", pa.float64(), _T, "Longitude of the tile's centre.", "degree"),
    Column("latitude", pa.float64(), _T, "Latitude of the tile's centre.", "degree"),
    Column(
        "geometry",
        pa.binary(),
        "package",
        "Footprint of the tile as WKB, longitude and latitude (OGC:CRS84): a polygon, or two parts "
        "across the antimeridian; null without a place. In config metadata only, which is "
        "GeoParquet 1.1.",
        "degree",
        on_map=True,
    ),
    Column(
        "bbox",
        BBOX,
        "package",
        "Bounds of geometry, by which readers skip rows; in config metadata only.",
        "degree",
        on_map=True,
    ),
    Column(
        "start_datetime",
        INSTANT,
        "package",
        "First second in which the pixels were taken, UTC, by source: of the year of a composite, "
        "or when the scene was sensed; null where source says no time. In config metadata only.",
        on_map=True,
    ),
    Column(
        "end_datetime",
        INSTANT,
        "package",
        "Last second in which they were taken, UTC; for a scene with a time of day the same "
        "instant. In config metadata only.",
        on_map=True,
    ),
    Column(
        "georeference",
        pa.string(),
        _I,
        "How the place of an imported real tile is known: derived (computed from its name).",
    ),
    Column("block", pa.string(), "split", "Earth-fixed block that the split assigned as a whole."),
    Column(
        "source",
        pa.string(),
        _T,
        "File that the pixels of a real tile were cut from, and when they were taken where its "
        "name does not say it.",
    ),
    Column(
        "saturated",
        pa.float32(),
        _T,
        "Share of samples above the fixed reflectance range, shown as 255.",
        "fraction",
    ),
    Column(
        "gen_model",
        pa.string(),
        _G,
        "Generator of a synthetic row: ours, or a diffusers pipeline with the commits it is at.",
    ),
    Column("gen_revision", pa.string(), _G, "Content digest of the generator's weights."),
    Column(
        "gen_seed",
        pa.string(),
        "layouts",
        "Seed of the row's noise, a whole number below 2^63; as text, because many readers hold "
        "numbers beside nulls as floats and lose digits beyond 2^53.",
    ),
    Column(
        "gen_layout",
        pa.string(),
        "layouts",
        "Id of the real train tile whose layout was used; null without a layout.",
    ),
    Column(
        "gen_transform",
        pa.string(),
        "layouts",
        "How that layout was changed: identity, or crop, recombine, flip-lr, rot90 … joined by +.",
    ),
    Column(
        "gen_mask",
        pa.string(),
        _G,
        "Where the mask of a synthetic row comes from: layout (it was drawn on it) or segmenter "
        "(what that sees in the tile).",
    ),
    Column("gen_config_sha256", pa.string(), _G, "Digest of the sampling settings."),
    Column(
        "mask_agreement",
        pa.float32(),
        "segment",
        "Share of pixels on which the segmenter agrees with the mask, or with the layout where the "
        "mask is its own; null without either.",
        "fraction",
    ),
    Column(
        "realism",
        pa.float32(),
        "realism",
        "How usual the tile's colour, spectrum and grain are: the share of held-out real tiles "
        "that are at least as unusual for their land cover. Half of real tiles are above 0.5; "
        "noise, blur and colour casts fall next to 0. Null with fewer than 20 train tiles.",
        "fraction",
    ),
    Column(
        "sharpness",
        pa.float32(),
        "quality",
        "Variance of the Laplacian of the luminance; low for blur and for flat land cover.",
        "level² (of 255)",
    ),
    Column(
        "contrast",
        pa.float32(),
        "quality",
        "Standard deviation of the luminance, over 255.",
        "fraction",
    ),
    Column(
        "colour_saturation",
        pa.float32(),
        "quality",
        "Mean HSV saturation of the pixels.",
        "fraction",
    ),
    Column(
        "cloudiness",
        pa.float32(),
        "quality",
        "Share of bright grey pixels (value ≥ 200 of 255, HSV saturation ≤ 0.15): clouds, and "
        "snow, salt or pale roofs.",
        "fraction",
    ),
    Column(
        "blankness",
        pa.float32(),
        "quality",
        "Share of 8×8 blocks in which no channel spans more than 3 levels: missing data, and "
        "calm water.",
        "fraction",
    ),
    Column(
        "flags",
        pa.list_(pa.string()),
        "package",
        "Measures beyond the recipe's [quality] thresholds; empty for none.",
    ),
    Column(
        "duplicate_cluster",
        pa.string(),
        "duplicates",
        "Rows of equal pixels share it: the first of their ids; null for a row that is alone.",
    ),
    Column(
        "near_duplicate_cluster",
        pa.string(),
        "duplicates",
        "Rows of nearly equal pictures (perceptual hash and thumbnail) share it, in chains; null "
        "for a row that is alone.",
    ),
    Column(
        "nearest_real_id",
        pa.string(),
        "memorize",
        "The real train tile that a synthetic tile, turned and flipped as fits best, is nearest to "
        "in the segmenter's features; where only its perceptual hash is near to one, that tile.",
    ),
    Column(
        "nearest_real_ratio",
        pa.float32(),
        "memorize",
        "Distance to the nearest train tile in features, the smallest over turns and flips, over "
        "the usual distance (the median of the same from real test tiles): far below 1 means a "
        "copy.",
    ),
    Column(
        "copy",
        pa.bool_(),
        "copies",
        "The generator copied a train tile, or a piece of one of at least about a quarter of the "
        "tile: beyond what the land cover explains, their detail agrees pixel by pixel.",
    ),
    Column(
        "copied_from",
        COPIED_FROM,
        "copies",
        "Of a copy: id of the train tile; row, column, height and width of the piece in it, in "
        "pixels from its upper left, and of the same piece in the own tile (own_row …); the turn "
        "and the scale that make the own of it; the share of the own tile that it covers. Null "
        "for a tile that copies nothing.",
        "pixel",
    ),
    Column(
        "captions",
        CAPTIONS,
        "caption",
        "One entry per caption stream: text, model, revision, digest of the prompt, seed, error.",
    ),
    Column(
        "caption_scores",
        CAPTION_SCORES,
        "score",
        "One entry per entry of captions, in the same order: how far its claims agree with the "
        "mask (grounding), what it leaves out, invents or reveals in numbers, which row's it "
        "nearly repeats, and with a CLIP the cosine to the image and whether it was cut.",
    ),
)

VECTORS = pa.list_(pa.struct([("stream", pa.string()), ("vector", pa.list_(pa.float32()))]))
"""Vectors of a row in the store: of its image, whose stream is null, and of its captions."""

EMBEDDING_COLUMNS: tuple[Column, ...] = (
    Column("id", pa.string(), "embed", "Id of a row, for its image, or row#stream for a caption."),
    Column("owner", pa.string(), "embed", "Id of the row whose caption it is; null for an image."),
    Column("stream", pa.string(), "embed", "Caption stream; null for an image."),
    Column(
        "vector",
        pa.list_(pa.float32()),
        "embed",
        "Unit vector; images and captions share one space, compared by their product.",
    ),
)
"""Columns of config embeddings."""

WORKING = {
    "layout": IMAGE,
    "vectors": VECTORS,
    "features": pa.list_(pa.float32()),
    "turned_features": pa.list_(pa.float32()),
    "turned_hashes": pa.list_(pa.uint64()),
    "suspected": pa.bool_(),
    "frame": pa.binary(),
    "patch_codes": pa.list_(pa.uint64()),
    "patch_places": pa.list_(pa.float32()),
    "patch_turns": pa.list_(pa.uint8()),
    "pixel_sha256": pa.string(),
    "statistics": pa.list_(pa.float32()),
    "deviations": pa.list_(pa.float32()),
    "discriminant_agreement": pa.float32(),
    "phash": pa.uint64(),
    "thumbnail": pa.binary(),
    "repeats_held_out": pa.bool_(),
    "image_vector": pa.list_(pa.float32()),
    "embedding": pa.list_(pa.float32()),
}
"""Columns of the store that are not published."""

CONTROLS = {
    "shuffled": "the text of another tile of the same stream",
    "wrong_class": "the text of a tile with another dominant class, the least alike of some",
    "digits_masked": "the text with every number as #",
    "classes_masked": "the text with every word that names land cover as land",
    "empty": "no words",
}
"""Control captions and what they are."""

CONTROL_COLUMNS: tuple[Column, ...] = (
    Column("id", pa.string(), "package", "Real test tile that the text is given to."),
    Column("stream", pa.string(), "package", "Caption stream that the text comes from."),
    Column(
        "control",
        pa.string(),
        "package",
        f"How it is made: {'; '.join(f'{name} ({what})' for name, what in CONTROLS.items())}.",
    ),
    Column("text", pa.string(), "package", "What to give the model in place of the caption."),
)
"""Columns of config controls."""

BY_NAME = {column.name: column for column in COLUMNS}
BLOBS = tuple(column.name for column in COLUMNS if column.is_image)
BLOB_DIGESTS = {column.name: column.beside for column in COLUMNS if column.beside}
"""Column of config metadata → the picture whose bytes it is the digest of."""

LOCATIONS = tuple(column.name for column in COLUMNS if column.locates)
"""Columns of config metadata that say where pictures lie."""
PLACE = ("crs", "transform", "longitude", "latitude", "source")
"""Columns that the place and the time of a row follow from."""
ALWAYS = (
    *("id", "kind", "split", "image", "mask", "pixels", "percent", "dominant", "block"),
    *PLACE,
)
"""Columns that every release has; a part of a release may lack others."""
GEO_COLUMNS = tuple(column.name for column in COLUMNS if column.on_map)
"""Columns of config metadata that follow from a row's place and source."""
DERIVED = LOCATIONS + GEO_COLUMNS
"""Columns of config metadata that follow from others, and so are no part of the content."""
LATER = frozenset(DERIVED)
"""Columns that older releases lack; they are read all the same."""

COLUMN_NAMES = tuple(
    column.name for column in COLUMNS if not column.beside and column.name not in DERIVED
)
"""Columns of the configs with pictures."""
METADATA_NAMES = tuple(column.name for column in COLUMNS if column.name not in BLOBS)
"""Columns of config metadata."""
OTHERS = {"controls": CONTROL_COLUMNS, "embeddings": EMBEDDING_COLUMNS}
"""Configs whose rows are not those of the release."""

_FIELDS = {column.name: column for columns in OTHERS.values() for column in columns} | BY_NAME


def columns_of(config: str) -> tuple[Column, ...]:
    """The columns of a config of a release, in its order."""
    names = METADATA_NAMES if config == "metadata" else COLUMN_NAMES
    return OTHERS.get(config) or tuple(BY_NAME[name] for name in names)


def names_of(config: str) -> tuple[str, ...]:
    """Names of the columns of a config of a release."""
    return tuple(column.name for column in columns_of(config))


def arrow_type(name: str) -> pa.DataType:
    """Arrow type of a column in the store and in releases."""
    if name in _FIELDS:
        return _FIELDS[name].type
    if name in WORKING:
        return WORKING[name]
    return next(kind for prefix, kind in _BY_PREFIX.items() if name.startswith(prefix))


def features(names: Sequence[str]) -> Any:
    """`datasets.Features` of the named columns, in that order."""
    import datasets

    def feature(column: Column) -> Any:
        if column.is_image:
            return datasets.Image()
        if column.labels:
            return datasets.ClassLabel(names=list(column.labels))
        read = datasets.Features.from_arrow_schema(pa.schema([("x", column.type)]))
        return read["x"]

    return datasets.Features({name: feature(_FIELDS[name]) for name in names})


def arrow_schema(names: Sequence[str]) -> pa.Schema:
    """Arrow schema of a release file, with the metadata that `datasets` reads features from."""
    return _arrow_schema(tuple(names))


@functools.cache  # asked for with every shard
def _arrow_schema(names: tuple[str, ...]) -> pa.Schema:
    info = {"info": {"features": _older_words(features(names).to_dict())}}
    return pa.schema(
        [pa.field(n, arrow_type(n)) for n in names], metadata={"huggingface": json.dumps(info)}
    )


def _older_words(feature: Any) -> Any:
    """A feature in the words that `datasets` below 4 reads too, which newer versions take alike:
    a list of records as a list of one, any other list as a Sequence."""
    if not isinstance(feature, dict):
        return feature
    if feature.get("_type") == "List":
        member = _older_words(feature["feature"])
        return [member] if "_type" not in member else {"feature": member, "_type": "Sequence"}
    return {key: _older_words(value) for key, value in feature.items()}
