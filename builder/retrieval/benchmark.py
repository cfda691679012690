"""A model answers the captions of a release: embed, rank, write; and two models compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import issparse

from builder.core.errors import ArasError
from builder.core.files import atomic, sha256_file
from builder.core.seeds import SEED
from builder.models import encoders, weights
from builder.retrieval import baselines, controls, intervals, metrics, protocol, vectors
from builder.retrieval.baselines import Question, VectorFacts, Vectors
from builder.retrieval.gallery import Gallery, Texts
from builder.retrieval.protocol import Settings
from builder.retrieval.ranks import PARTS, Array, Pair, Positives, Ranks, rank
from builder.retrieval.result import (
    FORMAT,
    KIND,
    WAYS,
    Comparison,
    Evaluation,
    ModelFacts,
    Result,
    libraries,
    read,
)
from builder.scores.leakage import without_digits

ROWS = 4096
"""Vectors of a row group where they are written to Parquet."""


@dataclass(frozen=True)
class Model:
    """What answers the queries.

    ``spec``: a name in `baselines.BASELINES`, embeddings (the release's own), files (with
    ``images`` and ``texts``), package:function, a transformers CLIP or SigLIP by folder or name,
    or OpenCLIP weights by `weights.ALIASES` or as openclip:FILE. ``proxy`` is the stream whose
    captions replace the images, for baselines that search those.
    """

    spec: str
    proxy: str | None = None
    images: Path | None = None
    texts: Path | None = None

    @property
    def baseline(self) -> baselines.Baseline | None:
        return baselines.find(self.spec)

    @property
    def is_proxy(self) -> bool:
        return self.baseline is not None and self.baseline.proxy

    @property
    def label(self) -> str:
        if self.spec == "files" and self.images:
            return f"files {self.images.resolve().parent.name}/{self.images.name}"
        if self.spec.startswith(weights.OPENCLIP):
            return Path(self.spec).name
        kind, colon, name = self.spec.rpartition(":")
        name = Path(name).resolve().name if Path(name).is_dir() else name
        shown = f"{kind}{colon}{name}"
        return f"{shown} on {self.proxy}" if self.is_proxy else shown


@dataclass(frozen=True)
class Run:
    """A result, its strict ranks by stream, and the vectors that gave it."""

    result: Result
    ranks: dict[str, Array]
    images: Array
    texts: Array
    image_ids: list[str]
    asked: Texts


def run(
    rows: Gallery,
    model: Model,
    only: Sequence[str] = (),
    settings: Settings | None = None,
    advance: Callable[[float], None] = lambda n: None,
    with_controls: bool = False,
) -> Run:
    """Embed, rank and describe each stream (those named in ``only``), and all streams together.

    Figures are those of `protocol.evaluate`; where captions hold numbers and the model reads
    text, L has the strict figures with numbers removed from the captions, and the change. With
    ``with_controls`` the release's control captions are scored beside the own ones.
    Raises ArasError for a stream that the release lacks and for a model that cannot be loaded.
    """
    settings = settings or Settings()
    if model.is_proxy and (model.proxy is None or model.proxy not in rows.streams):
        raise ArasError(
            f"--model {model.spec} searches the captions of another stream: name it with --proxy "
            f"({', '.join(rows.streams)})"
        )
    proxy = model.proxy if model.is_proxy else None
    names = [name for name in only or rows.streams if name != proxy]
    asked = rows.texts(names)
    if not names or not asked.texts:
        raise ArasError(f"{rows.release}: no captions to ask with; name other streams")
    plain = [without_digits(text) for text in asked.texts]
    changed = np.array([a != b for a, b in zip(plain, asked.texts, strict=True)])
    extra = [plain[i] for i in np.flatnonzero(changed)]
    wrong = controls.load(rows, asked) if with_controls else []
    first = len(asked.texts) + len(extra)
    extra += [text for control in wrong for text in control.texts]
    answer = vectors_of(rows, model, asked, extra, settings, advance)
    images, both = answer.images, answer.texts
    texts = both[: len(asked.texts)]
    # Where the text without numbers lies among all vectors: behind the texts asked, or its own.
    plain_at = np.arange(len(asked.texts))
    reads = both.shape[0] > len(asked.texts)
    if reads:
        plain_at[changed] = len(asked.texts) + np.arange(changed.sum())
    elif wrong:
        raise ArasError(
            f"--controls: {model.label} reads no text, its vectors are of known captions alone; "
            "name a model that reads"
        )
    controlled = controls.figures(wrong, asked, images, both, first, settings.device, rows.blocks)

    streams: dict[str, Evaluation] = {}
    ranks: dict[str, Array] = {}
    for name, mine in protocol.members(asked, protocol.with_all(rows, names, proxy)):
        evaluation, pair, keep = protocol.figures(rows, images, texts, asked, mine, settings)
        owner = protocol.owner_of(asked, mine, keep)
        if reads and changed[mine].any():
            shown, positives = protocol.some_rows(images, keep), Positives.owned(owner)
            scores = metrics.summary(*rank(shown, both[plain_at[mine]], positives, settings.device))
            change = scores.mR - evaluation.S.mR
            evaluation = evaluation.plus(L=scores.plus(change_of_mR=change))
        if name in controlled:
            evaluation = evaluation.plus(controls=controlled[name])
        streams[name] = evaluation
        for way, of_way in zip(WAYS, pair, strict=True):
            for part, values in of_way.parts.items():
                ranks[f"{name}/{way}/{part}"] = values.astype(np.int32)
        ranks[f"{name}/owner"] = owner.astype(np.int32)
        if rows.blocks is not None:
            ranks[f"{name}/block"] = np.array([rows.blocks[i] for i in keep])
    if not streams:
        raise ArasError(f"{rows.release}: streams {', '.join(names)} hold no captions")
    result = Result(
        kind=KIND,
        format=FORMAT,
        model=ModelFacts(name=model.label, spec=model.spec, proxy=model.proxy, **answer.facts),
        release=rows.facts,
        settings={key: value for key, value in asdict(settings).items() if key != "cache"},
        libraries=libraries(),
        notes=tuple(answer.notes),
        streams=streams,
    )
    return Run(result, ranks, images, texts, rows.ids, asked)


def vectors_of(
    rows: Gallery,
    model: Model,
    asked: Texts,
    extra: Sequence[str],
    settings: Settings,
    advance: Callable[[float], None],
) -> Vectors:
    """The model's vectors of the rows and of the captions, and of ``extra`` where it reads text."""
    queries = [*asked.texts, *extra]
    if baseline := model.baseline:
        captions = rows.streams[str(model.proxy)] if baseline.proxy else ()
        documents = [text or "" for text in captions]
        missing = sum(text is None for text in captions)
        name = model.spec.partition(":")[2]
        answer = baseline.answer(Question(rows, asked, queries, documents, name, settings))
        facts: VectorFacts = {"source": "bundled", "role": baseline.role, **answer.facts}
        notes = [f"{missing} images have no {model.proxy} caption"] if missing else []
        return Vectors(answer.images, answer.texts, facts, [*notes, *answer.notes])
    if model.spec == "files":
        if model.images is None or model.texts is None:
            raise ArasError("--model files needs --images FILE and --texts FILE")
        return vectors.from_files(model.images, model.texts, rows, asked)
    if model.spec == "embeddings":
        return vectors.from_release(rows, asked)
    named = weights.is_openclip(model.spec)
    if ":" in model.spec and not named and not Path(model.spec).exists():
        encoder = vectors.function_model(model.spec)
    else:
        encoder = encoders.transformers_model(model.spec, settings.device)
    return vectors.encode(encoder, rows, queries, settings.cache, settings.batch, advance)


def write(run: Run, path: Path, folder: Path | None = None) -> Result:
    """Write the result, its ranks beside it and, into ``folder``, the vectors as two Parquet files.

    Returns the result as written, with the digests of those files.
    """
    result = run.result
    if folder is not None:
        files = {}
        owners = [run.image_ids[row] for row in run.asked.owner]
        for what, names, rows in (
            ("images", {"id": run.image_ids}, run.images),
            ("texts", {"id": run.asked.ids, "owner": owners}, run.texts),
        ):
            with atomic(folder / f"{what}.parquet") as temporary:
                _write_vectors(temporary, names, rows)
            files[what] = vectors.vector_file(folder / f"{what}.parquet")
        result = result.plus(model=result.model.plus(vectors=files))
    ranks = ranks_path(path)
    with atomic(ranks) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **run.ranks)  # type: ignore[arg-type]
    result = result.plus(ranks_sha256=sha256_file(ranks))
    result.write(path)
    return result


def ranks_path(path: Path) -> Path:
    """The file of ranks beside a result."""
    return path.with_name(f"{path.stem}.ranks.npz")


def _write_vectors(path: Path, names: Mapping[str, Sequence[str]], rows: Array) -> None:
    """Parquet of the named texts of each row and its vector (float32), some rows at a time."""
    texts = [(name, pa.string()) for name in names]
    schema = pa.schema([*texts, ("vector", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows.shape[0], ROWS):
            part: Any = rows[start : start + ROWS]
            dense = np.ascontiguousarray(part.toarray() if issparse(part) else part, np.float32)
            ends = np.arange(0, dense.size + 1, dense.shape[1], dtype=np.int32)
            columns = {
                **{name: pa.array(ids[start : start + ROWS]) for name, ids in names.items()},
                "vector": pa.ListArray.from_arrays(ends, dense.ravel()),
            }
            writer.write_table(pa.table(columns, schema=schema))


def compare(ours: Path, theirs: Path) -> Comparison:
    """Differences ours − theirs by stream as in `intervals.compare`, from two result files.

    ``not_compared`` names streams that only either has, or with other captions. Raises
    ArasError unless both answered the same queries: release content, rows and captions.
    """
    a, b = read(ours), read(theirs)
    for key in ("content_sha256", "split", "ids_sha256"):
        mine, other = getattr(a.release, key), getattr(b.release, key)
        if mine != other:
            raise ArasError(
                f"{ours} and {theirs} answered other queries: {key} is {mine} and {other}; run "
                "both on the same release and split"
            )
    shared = [name for name in a.streams if name in b.streams]
    same = [n for n in shared if a.streams[n].texts_sha256 == b.streams[n].texts_sha256]
    if not same:
        raise ArasError(f"{ours} and {theirs} have no caption stream in common")
    parts = [_ranks(path, result) for path, result in ((ours, a), (theirs, b))]
    differences = {}
    for name in same:
        mine, other = (_pair(part, name) for part in parts)
        blocks = parts[0].get(f"{name}/block")
        differences[name] = intervals.compare(mine, other, parts[0][f"{name}/owner"], blocks)
    return Comparison(
        kind="comparison",
        ours=a.name,
        theirs=b.name,
        release=a.release,
        resamples=0,
        seed=SEED,
        clusters={name: a.streams[name].clusters for name in same},
        streams=differences,
        not_compared=tuple(n for n in {**a.streams, **b.streams} if n not in differences),
    )


def _ranks(path: Path, result: Result) -> dict[str, Array]:
    beside = ranks_path(path)
    if not beside.exists() or sha256_file(beside) != result.ranks_sha256:
        raise ArasError(
            f"{beside}: missing, or not the ranks that {path} was written with; run "
            "`aras bench retrieval` again"
        )
    with np.load(beside, allow_pickle=False) as archive:
        return dict(archive)


def _pair(ranks: dict[str, Array], name: str) -> Pair:
    def of_way(way: str) -> Ranks:
        parts = {part: ranks.get(f"{name}/{way}/{part}") for part in (*PARTS, "tied")}
        return Ranks(**{part: v.astype(np.int64) for part, v in parts.items() if v is not None})

    return of_way("t2i"), of_way("i2t")
