"""Review by people: a stratified sample of captions or masks, and what readers' marks say."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pydantic

from builder.core.errors import ArasError
from builder.core.escape import markdown
from builder.core.fields import Positive
from builder.core.files import parse_json, write_csv, write_json
from builder.core.manifest import ReviewedStream, ReviewFigures
from builder.core.seeds import seed as seed_of
from builder.explore.agreement import Kappa, Proportion, area_under_curve, kappa, proportion
from builder.explore.details import row_digest
from builder.land.classes import CLASSES
from builder.parts.opened import OpenRelease, Request

MASK = ""
"""In place of a stream: the mark is of the mask."""
MARKS = ("right", "wrong", "unsure")
MOST_BYTES = 64 << 20
"""Bytes of a reader's file."""


class Mark(pydantic.BaseModel):
    """A reader's judgement of a caption, or of a mask where ``stream`` is empty."""

    model_config = pydantic.ConfigDict(frozen=True)

    id: str
    stream: str
    digest: str
    mark: Literal["right", "wrong", "unsure"]
    at: str = ""


class ReviewFile(pydantic.BaseModel):
    """What the page saves for a reader."""

    model_config = pydantic.ConfigDict(frozen=True)

    kind: Literal["aras-review"]
    format: Literal[1]
    name: str = ""
    version: str = ""
    content_sha256: str
    reader: str = pydantic.Field(min_length=1)
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Item:
    """A caption or mask that can be judged: its stratum, digest and what our scores say of it."""

    id: str
    stream: str
    dominant: str
    digest: str
    grounding: float | None
    contradictions: int


def read_files(paths: Sequence[Path]) -> list[ReviewFile]:
    """Files of readers. Raises ArasError naming the file and what is wrong, and for a reader who
    has two."""
    files = []
    for path in paths:
        try:
            data = path.read_bytes()
            files.append(ReviewFile.model_validate(parse_json(data, MOST_BYTES)))
        except OSError as error:
            raise ArasError(f"{path}: cannot be read ({error.strerror})") from error
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ArasError(
                f"{path}: not a file of marks that aras explore saves ({place}: {first['msg']})"
            ) from error
        except ValueError as error:
            raise ArasError(f"{path}: not JSON ({error})") from error
    for name, n in Counter(file.reader for file in files).items():
        if n > 1:
            raise ArasError(f"reader {name!r} has {n} files; give the newest of each reader")
    return files


def items_of(release: OpenRelease) -> dict[tuple[str, str], Item]:
    """(id, stream) → every caption with a text, and every mask, of a release."""
    held = release.columns().names
    columns = ("id", "dominant", "captions", "caption_scores", "image_sha256", "mask_sha256")
    names = [name for name in columns if name in held]
    items: dict[tuple[str, str], Item] = {}
    for table in release.light(release.choose(Request()), names):
        for row in table.to_pylist():
            row_id, dominant = row["id"], CLASSES[row["dominant"]]
            pictures = row.get("image_sha256") or "", row.get("mask_sha256") or ""
            digest = row_digest(row_id, "", "", *pictures)
            items[row_id, MASK] = Item(row_id, MASK, dominant, digest, None, 0)
            scores = row.get("caption_scores") or []
            for k, caption in enumerate(row.get("captions") or ()):
                if not caption["text"]:
                    continue
                own = scores[k] if k < len(scores) and scores[k] else {}
                stream, text = caption["stream"], caption["text"]
                items[row_id, stream] = Item(
                    row_id,
                    stream,
                    dominant,
                    row_digest(row_id, stream, text, *pictures),
                    own.get("grounding"),
                    len(own.get("contradictions") or ()),
                )
    return items


@dataclass(frozen=True)
class Review:
    """What marks of several readers say of a release.

    ``of_class`` and ``of_stream`` hold precisions by (stream, class) and by stream; ``weighted`` a
    stream's precision with its classes weighted as in the release, as a stratified sample needs.
    ``kappas`` is by pair of readers. ``verdicts`` is by item: how many readers marked it how.
    """

    readers: dict[str, int]
    stale: int
    unknown: int
    of_class: dict[tuple[str, str], Proportion]
    of_stream: dict[str, Proportion]
    weighted: dict[str, float | None]
    kappas: dict[tuple[str, str], Kappa]
    grounding: dict[str, "Agreement"]
    verdicts: dict[tuple[str, str], Counter[str]] = field(repr=False)

    def lines(self) -> list[str]:
        read = ", ".join(f"{name} {n:,}" for name, n in self.readers.items())
        lines = [f"review: {sum(self.readers.values()):,} marks: {read}"]
        if self.stale:
            lines.append(f"  {self.stale:,} marks are of another text or picture; left out")
        if self.unknown:
            lines.append(f"  {self.unknown:,} marks are of rows that the release lacks; left out")
        for stream, precision in self.of_stream.items():
            weighted = self.weighted[stream]
            more = (
                "" if weighted is None else f"; classes weighted as in the release {weighted:.3f}"
            )
            lines.append(f"  {_shown(stream):<14} right {precision}{more}")
            lines += [
                f"    {name:<12} {own}" for (of, name), own in self.of_class.items() if of == stream
            ]
        lines += [f"  {a} and {b}: {value}" for (a, b), value in self.kappas.items()]
        lines += [f"  grounding, {_shown(s)}: {value}" for s, value in self.grounding.items()]
        return lines

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "review",
            "readers": self.readers,
            "stale": self.stale,
            "unknown": self.unknown,
            "streams": {
                _shown(stream): {
                    **precision.as_json(),
                    "weighted": self.weighted[stream],
                    "classes": {
                        name: own.as_json()
                        for (of, name), own in self.of_class.items()
                        if of == stream
                    },
                }
                for stream, precision in self.of_stream.items()
            },
            "kappa": [
                {"readers": list(pair), **value.as_json()} for pair, value in self.kappas.items()
            ],
            "grounding": {_shown(s): value.as_json() for s, value in self.grounding.items()},
        }

    def figures(self) -> ReviewFigures:
        """As the manifest holds it, for card and report."""
        known = [value.value for value in self.kappas.values() if value.value is not None]
        return ReviewFigures(
            readers=len(self.readers),
            kappa=(round(min(known), 4), round(max(known), 4)) if known else (),
            streams={
                _shown(stream): ReviewedStream(
                    right=precision.right,
                    decided=precision.n,
                    unsure=precision.unsure,
                    precision=_rounded(precision.value),
                    interval=None
                    if precision.low is None or precision.high is None
                    else (round(precision.low, 4), round(precision.high, 4)),
                    weighted=_rounded(self.weighted[stream]),
                )
                for stream, precision in self.of_stream.items()
            },
        )

    def card_line(self) -> str:
        """A line of Markdown for the release's card."""
        parts = [
            f"{markdown(_shown(stream))} {precision}"
            for stream, precision in self.of_stream.items()
        ]
        known = [value.value for value in self.kappas.values() if value.value is not None]
        agree = f"; Cohen's κ of readers {min(known):.2f} to {max(known):.2f}" if known else ""
        n = len(self.readers)
        who = f"{n} reader{'' if n == 1 else 's'}"
        return f"- Reviewed by {who}: right are {'; '.join(parts)}{agree}."


@dataclass(frozen=True)
class Agreement:
    """How our scores of captions agree with people, on captions that are right or wrong to them.

    ``auc``: how often a right caption has the higher grounding of a right and a wrong one (ties
    count half). ``kappa``: of people with the verdict "no claim is contradicted".
    """

    right: int
    wrong: int
    auc: float | None
    kappa: Kappa

    def __str__(self) -> str:
        auc = "none of either kind" if self.auc is None else f"AUC {self.auc:.3f}"
        return f"{auc} ({self.right:,} right, {self.wrong:,} wrong); no contradiction: {self.kappa}"

    def as_json(self) -> dict[str, Any]:
        return {
            "right": self.right,
            "wrong": self.wrong,
            "auc": self.auc,
            "contradictions": self.kappa.as_json(),
        }


def read_review(release: OpenRelease, files: Sequence[ReviewFile]) -> Review:
    """Count the marks of readers. A mark counts while what it is about is unchanged.

    Precision is right / (right + wrong) over items; several readers of an item decide it by
    majority, and one without a majority is unsure.
    """
    items = items_of(release)
    by_reader: dict[str, dict[tuple[str, str], str]] = {}
    stale = unknown = 0
    for file in files:
        own = by_reader.setdefault(file.reader, {})
        for mark in file.marks:
            item = items.get((mark.id, mark.stream))
            if item is None:
                unknown += 1
            elif item.digest != mark.digest:
                stale += 1
            else:
                own[mark.id, mark.stream] = mark.mark
    verdicts: dict[tuple[str, str], Counter[str]] = {}
    for own in by_reader.values():
        for key, mark_ in own.items():
            verdicts.setdefault(key, Counter())[mark_] += 1
    of_class: dict[tuple[str, str], Counter[str]] = {}
    of_stream: dict[str, Counter[str]] = {}
    for key, marks in verdicts.items():
        item, verdict = items[key], majority(marks)
        of_class.setdefault((item.stream, item.dominant), Counter())[verdict] += 1
        of_stream.setdefault(item.stream, Counter())[verdict] += 1
    order = sorted(of_class, key=lambda key: (key[0], CLASSES.index(key[1])))
    classes = {key: _precision(of_class[key]) for key in order}
    sizes = Counter((item.stream, item.dominant) for item in items.values())
    return Review(
        readers={name: len(own) for name, own in by_reader.items()},
        stale=stale,
        unknown=unknown,
        of_class=classes,
        of_stream={stream: _precision(of_stream[stream]) for stream in sorted(of_stream)},
        weighted={stream: _weighted(stream, classes, sizes) for stream in of_stream},
        kappas={
            (a, b): kappa(
                [
                    (by_reader[a][key], by_reader[b][key])
                    for key in by_reader[a]
                    if key in by_reader[b]
                ]
            )
            for a, b in combinations(by_reader, 2)
        },
        grounding=_agreements(items, verdicts),
        verdicts=verdicts,
    )


def majority(marks: Mapping[str, int]) -> str:
    """What most of an item's readers say who are sure; unsure where that is a tie."""
    right, wrong = marks.get("right", 0), marks.get("wrong", 0)
    return "right" if right > wrong else "wrong" if wrong > right else "unsure"


def _precision(marks: Mapping[str, int]) -> Proportion:
    right, wrong = marks.get("right", 0), marks.get("wrong", 0)
    return proportion(right, right + wrong, unsure=marks.get("unsure", 0))


def _weighted(
    stream: str, classes: Mapping[tuple[str, str], Proportion], sizes: Counter[tuple[str, str]]
) -> float | None:
    own = {key: p.value for key, p in classes.items() if key[0] == stream and p.value is not None}
    total = sum(sizes[key] for key in own)
    return sum(sizes[key] * value for key, value in own.items()) / total if total else None


def _agreements(
    items: Mapping[tuple[str, str], Item], verdicts: Mapping[tuple[str, str], Counter[str]]
) -> dict[str, Agreement]:
    by_stream: dict[str, list[tuple[Item, str]]] = {}
    for key, marks in verdicts.items():
        item, verdict = items[key], majority(marks)
        if item.grounding is not None and verdict != "unsure":
            by_stream.setdefault(item.stream, []).append((item, verdict))
    agreements = {}
    for stream in sorted(by_stream):
        right = [item.grounding or 0.0 for item, verdict in by_stream[stream] if verdict == "right"]
        wrong = [item.grounding or 0.0 for item, verdict in by_stream[stream] if verdict == "wrong"]
        pairs = [("wrong" if item.contradictions else "right", v) for item, v in by_stream[stream]]
        auc = area_under_curve(right, wrong)
        agreements[stream] = Agreement(len(right), len(wrong), auc, kappa(pairs))
    return agreements


def write_column(path: Path, review: Review) -> None:
    """Write the marks as a CSV that can be joined to captions by id and stream."""
    rows: list[Iterable[object]] = [("id", "stream", "review", *MARKS)]
    for (row_id, stream), marks in sorted(review.verdicts.items()):
        rows.append((row_id, _shown(stream), majority(marks), *(marks[name] for name in MARKS)))
    write_csv(path, [tuple(row) for row in rows])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _shown(stream: str) -> str:
    return stream or "mask"


@dataclass(frozen=True)
class Sample:
    """Items to be reviewed, in an order without strata, and the release that they are of."""

    name: str
    version: str
    content_sha256: str
    seed: int
    per: int
    strata: int
    items: tuple[Item, ...]

    def as_json(self) -> dict[str, Any]:
        """What the page's review opens."""
        items = [{"id": i.id, "stream": i.stream, "digest": i.digest} for i in self.items]
        return {"kind": "aras-review-sample", "format": 1, **vars(self), "items": items}

    def write(self, path: Path) -> None:
        write_json(path, self.as_json(), indent=1)


def draw(release: OpenRelease, per: Positive, seed: int, streams: Sequence[str]) -> Sample:
    """A sample of ``per`` items of each stream and dominant class, in an order without strata.

    An item is drawn by the hash of the seed and what it is, so that a larger sample holds a
    smaller. ``streams`` empty: all, and masks. Raises ArasError for an unknown stream.
    """
    strata: dict[tuple[str, str], list[tuple[int, Item]]] = {}
    for item in items_of(release).values():
        if not streams or _shown(item.stream) in streams:
            order = seed_of(seed, "review", item.id, item.stream)
            strata.setdefault((item.stream, item.dominant), []).append((order, item))
    if unknown := set(streams) - {_shown(stream) for stream, _ in strata}:
        known = sorted({_shown(item.stream) for item in items_of(release).values()})
        raise ArasError(f"--stream {min(unknown)}: the release has {', '.join(known)}")
    chosen = [pair for own in strata.values() for pair in sorted(own, key=lambda p: p[0])[:per]]
    chosen.sort(key=lambda pair: seed_of(seed, "order", pair[1].id, pair[1].stream))
    manifest = release.manifest
    return Sample(
        manifest.name,
        manifest.version,
        manifest.content_sha256,
        seed,
        per,
        len(strata),
        tuple(item for _, item in chosen),
    )
