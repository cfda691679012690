"""What a benchmark's result holds, with its one reader and its one writer.

All figures are per cent unless their field says otherwise. A part that a model or a release does
not allow is not in the file.
"""

import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import pydantic
from pydantic import ConfigDict, Field

from builder import __version__
from builder.core import budgets
from builder.core.errors import ArasError
from builder.core.files import no_such_file, read_json, write_json
from builder.core.manifest import Record

FORMAT = 1
KIND = "retrieval"

MTEB = "mteb"
"""Source of a result whose figures mteb computed."""

WAYS = ("t2i", "i2t")
"""Text→image and image→text."""

Span = list[float]
"""The 95 % interval, [low, high]."""

T = TypeVar("T")
P = TypeVar("P", bound="Part")


class Part(Record):
    """A part of a result; fields whose JSON key is not a Python name are set by their own name."""

    model_config = ConfigDict(populate_by_name=True)

    def plus(self: P, **fields: Any) -> P:
        """The same with more fields. Raises TypeError for an unknown field."""
        if unknown := fields.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return self.model_copy(update=fields)


class Directions(Part, Generic[T]):
    """The same of both directions."""

    t2i: T
    i2t: T


class Intervals(Directions[dict[str, Span]]):
    """Intervals of the six recalls and of their mean."""

    mR: Span


class Tail(Part):
    """Macro recall over the rarest dominant classes; no figures where there are none."""

    classes: tuple[str, ...]
    t2i: dict[str, float] | None = None
    i2t: dict[str, float] | None = None


class ClassRecalls(Part):
    """Class → number of queries and recalls, of tiles that it dominates and where it is present."""

    dominant: dict[str, dict[str, int | float]]
    present: dict[str, dict[str, int | float]]


class Classes(Part):
    """Strict recalls by class of the tile."""

    tail: Tail
    t2i: ClassRecalls
    i2t: ClassRecalls


class Scores(Part):
    """Figures of a protocol: "R@1", "R@5", "R@10" and "MedR" (a rank) of each direction."""

    captions: int | None = None
    """Number of distinct captions, where equal captions are merged."""
    chance_overlap: float | None = None
    """Mean overlap of two random compositions, 0…1."""
    t2i: dict[str, float]
    i2t: dict[str, float]
    mR: float
    """Mean of the six recalls."""
    optimistic: "Scores | None" = None
    """The same with ties won, where ties matter; ``pessimistic`` with ties lost."""
    pessimistic: "Scores | None" = None
    intervals: Intervals | None = None
    chance: "Scores | None" = None
    """What a random order of the same gallery earns, exactly; earlier results lack it."""
    average_precision: Directions[float] | None = Field(
        default=None, validation_alias="mAP@R", serialization_alias="mAP@R"
    )
    ndcg: Directions[float] | None = Field(
        default=None, validation_alias="nDCG@10", serialization_alias="nDCG@10"
    )
    graded: Directions[float] | None = Field(
        default=None, validation_alias="nDCG@10 of grades", serialization_alias="nDCG@10 of grades"
    )
    """The same with whole grades 0 … 100, as harnesses with graded relevance compute it."""
    gallery: Directions[dict[str, dict[str, float]]] | None = None
    """Recalls by size of a gallery drawn from the gallery."""
    ceiling: dict[str, float] | None = None
    """Highest t2i recalls that repeated captions allow, and the share of them that is reached."""
    of_ceiling: dict[str, float] | None = None
    classes: Classes | None = None
    change_of_mR: float | None = None
    """mR minus that of protocol S, in percentage points."""


class Clusters(Part):
    """What intervals draw: images or spatial blocks, and their number."""

    unit: str
    number: int


class Power(Part):
    """Smallest difference between two models that a comparison can detect, in points."""

    queries: int
    discordance: float
    detectable_points: float
    statement: str


PROTOCOLS = {"S": "S", "D": "D", "D~": "D_near", "C": "C", "L": "L"}
"""Protocol → field of `Evaluation`."""


class Control(Part):
    """Strict figures of a control's texts beside those of the own captions of the same images."""

    images: int
    own: Scores
    scores: Scores
    change_of_mR: float
    interval: Span | None = None
    """Of the change, as between two models on the same queries; ``p`` too."""
    p: float | None = None


class Evaluation(Part):
    """Figures of a caption stream, or of all together, under each protocol."""

    texts_sha256: str = ""
    """Digest of the captions and their ids."""
    images_without_caption: int = 0
    images: int
    texts: int
    dimension: int
    clusters: Clusters
    list_queries: Directions[int]
    """Queries that mAP@R, nDCG@10 and protocol C are computed from."""
    seed: int
    resamples: int
    S: Scores
    D: Scores | None = None
    D_near: Scores | None = Field(default=None, validation_alias="D~", serialization_alias="D~")
    C: Scores | None = None
    power: Power
    L: Scores | None = None
    controls: dict[str, Control] | None = None
    """Control captions in place of the own ones, where they were asked for."""

    @property
    def protocols(self) -> dict[str, Scores]:
        """Scores by the name of their protocol, of those that there are."""
        scores = {name: getattr(self, field) for name, field in PROTOCOLS.items()}
        return {name: value for name, value in scores.items() if value is not None}


class RuleCount(Part):
    """Rows that a check is about, and what happens to them: refuse, leave-out or keep."""

    rows: int
    rule: str


class Checks(Part):
    """Rows of the split that are synthetic, and rows near train tiles."""

    min_km: float
    distance_checked: bool
    synthetic: RuleCount
    near: RuleCount


class ReleaseFacts(Part):
    """The rows that a result is about."""

    name: str | None
    version: str | None
    content_sha256: str | None
    split: str
    rows: int
    ids_sha256: str
    checks: Checks


class VectorFile(Part):
    """A file of vectors: its name beside the result, and its digest."""

    file: str
    sha256: str


class ModelFacts(Part):
    """The model. Which fields there are depends on where it comes from."""

    name: str
    spec: str
    proxy: str | None
    """Stream whose captions replace the images."""
    architecture: str | None = None
    max_tokens: int | None = None
    image_size: int | None = None
    source: str = ""
    role: str = ""
    """Of a bundled baseline: ``oracle`` or ``baseline``."""
    files: tuple[VectorFile, ...] | None = None
    model: str | None = None
    sha256: str | None = None
    revision: str | None = None
    terms_at_most: int | None = None
    vectors: dict[str, VectorFile] | None = None
    """``images`` and ``texts``: files of the vectors that gave the figures."""

    @property
    def is_unchecked(self) -> bool:
        """Whether others computed the figures, and no vectors allow to score them again."""
        return self.source == MTEB and self.vectors is None


class Entry(Part):
    """What a result says of itself on a leaderboard; empty where nobody said it."""

    name: str
    author: str = ""
    link: str = ""
    """Where the model, a paper or code is."""
    training: str = ""
    """zero-shot, or what the model was trained or fine-tuned on."""
    date: str = ""
    """Day (UTC) of the run, YYYY-MM-DD."""


class Result(Part):
    """Figures of a model on a release, with what it takes to repeat them."""

    kind: str
    format: int
    model: ModelFacts
    entry: Entry | None = None
    """Not in results of earlier versions."""
    release: ReleaseFacts
    settings: dict[str, int | str]
    libraries: dict[str, str]
    notes: tuple[str, ...] = ()
    streams: dict[str, Evaluation]
    ranks_sha256: str | None = None

    @property
    def name(self) -> str:
        """What tables call the model."""
        return self.entry.name if self.entry else self.model.name

    def write(self, path: Path) -> None:
        write_json(path, self.as_json())


class Difference(Part):
    """Ours − theirs in percentage points; interval and p-value, and that after Holm, are None
    where there are too few clusters for them."""

    difference: float
    interval: Span | None
    p: float | None
    p_holm: float | None


class Comparison(Part):
    """Two models on the same queries: by stream, the differences of the six recalls and mR."""

    kind: str
    ours: str
    theirs: str
    release: ReleaseFacts
    resamples: int = 0
    """Of earlier versions, as ``seed``: nothing is drawn any more."""
    seed: int = 0
    clusters: dict[str, Clusters] = Field(default_factory=dict)
    """By stream: what was compared."""
    streams: dict[str, dict[str, Difference]]
    not_compared: tuple[str, ...]


def read(path: Path) -> Result:
    """A result of `aras bench retrieval`. Raises ArasError when the file is none."""
    try:
        values = read_json(path, budgets.JSON_BYTES)
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except (ValueError, OSError) as error:
        raise ArasError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise ArasError(f"{path}: not a result of `aras bench retrieval`")
    if values.get("format") != FORMAT:
        raise ArasError(f"{path}: format {values.get('format')}; this version reads {FORMAT}")
    try:
        return Result.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = " ".join(map(str, first["loc"]))
        raise ArasError(f"{path}: {place}: {first['msg']}") from error


def libraries() -> dict[str, str]:
    """Versions of everything that figures could depend on."""
    names = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pillow")
    versions = {"aras": __version__, "python": platform.python_version()}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):  # aras[make] need not be installed
            versions[name] = version(name)
    return versions
