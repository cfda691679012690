"""Captions of any file: its text columns, their captions row by row or image by image.

Files are opened by `builder.land.table_files`; here their rows become captions. A cell may hold a
caption, a list of them in any notation, or captions by stream; missing values of pandas, R,
spreadsheets and JSON are missing.
"""

import ast
import functools
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builder.core.errors import ArasError
from builder.land.answers import clean
from builder.land.classes import CLASSES
from builder.land.error_texts import no_caption
from builder.land.table_files import Placed, Refuse, Row, open_table

OFFICIAL_STREAMS = (
    "hybrid_gemma3-4b",
    "hybrid_qwen3-vl-8b",
    "text_qwen3-4b",
    "vision_gemma3-4b",
    "vision_qwen3-vl-8b",
)
"""Caption columns of the published captions.csv."""

_FIRST_NAMES = ("caption", "captions")
_TEXT_NAMES = ("sentences", "sentence", "text", "raw", "description", "descriptions")
_ID_NAMES = ("image_id", "filename", "file_name", "image", "img_id", "__key__", "id")
"""Where the tile of a caption is named; ``id`` comes last, for it may number the captions."""
_SCORES = "caption_scores"
"""The column beside ``captions`` in a release: scores, no texts."""
_TEXT_KEYS = ("text", "raw", "caption", "sentence")
"""Where an object in a list of captions holds its text."""
_MISSING = frozenset(
    ("", "na", "n/a", "nan", "<na>", "none", "null", "nil", "nat", "-", "--", "—", "–", "?")
) | {f"#{error}" for error in ("n/a", "name?", "value!", "ref!", "div/0!", "null!", "num!")}
"""Texts that stand for no caption, in lower case: of pandas, R, spreadsheets, JSON and people."""
_SAMPLE = 50
"""Values of a column by which it is judged."""


@dataclass(frozen=True)
class Columns:
    """What a file holds: its text columns, and where ids, compositions and sources are."""

    texts: tuple[str, ...]
    id: str | None
    composition: tuple[str, ...]  # the seven class columns, or a struct column, or none
    source: str | None

    @property
    def all(self) -> list[str]:
        return [*self.texts, *self.composition, *(c for c in (self.id, self.source) if c)]


def find_columns(path: Path, values: Mapping[str, Sequence[Any]], text: Sequence[str]) -> Columns:
    """The columns to read: ``text`` if given, else those that hold captions by name and content.

    ``values`` are some values of each column, missing ones left out.
    """
    names = list(values)
    for wanted in text:
        if wanted not in names:
            raise ArasError(f"{path}: no column {wanted!r}; its columns are {', '.join(names)}")
    structs = [
        n for n in ("pixels", "percent") if any(isinstance(v, dict) for v in values.get(n, ()))
    ]
    unknown = [name for name in ("pixels", "percent") if name in values and not values[name]]
    texts = tuple(text) or _text_columns(path, values)
    return Columns(
        texts=texts,
        id=next((name for name in _ID_NAMES if name in names and name not in texts), None),
        composition=_class_columns(path, names) or (*structs, *unknown)[:1],
        source=next((name for name in ("kind", "split") if name in names), None),
    )


def columns_of_interest(types: Mapping[str, Any], text: Sequence[str]) -> list[str]:
    """Columns by their Arrow types that may be texts, ids, compositions or sources, and no
    pictures; those of ``text`` in any case."""
    import pyarrow as pa

    def of_interest(name: str, kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return "bytes" not in {kind.field(i).name for i in range(kind.num_fields)}
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return name in {*text, *_FIRST_NAMES, *_TEXT_NAMES, *OFFICIAL_STREAMS}
        return not name.startswith(_SCORES)

    names = [name for name, kind in types.items() if of_interest(name, kind)]
    return [*dict.fromkeys([*names, *(name for name in text if name in types)])]


def _text_columns(path: Path, values: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The official streams, else ``caption``, else columns of sentences named after captions, else
    a usual name, else the only column of sentences; never a column of numbers."""
    if official := tuple(name for name in OFFICIAL_STREAMS if name in values):
        return official
    words = {name: _wordiness(some) for name, some in values.items()}
    for name in _FIRST_NAMES:
        if name in values and (words[name] > 0 or not values[name]):
            return (name,)
    prefixed = [n for n in values if n.startswith("caption_") and n != _SCORES]
    if any(words[name] >= 0.5 for name in prefixed):
        return tuple(name for name in prefixed if words[name] >= 0.5 or not values[name])
    for name in _TEXT_NAMES:
        if name in values and (words[name] > 0 or not values[name]):
            return (name,)
    sentences = [name for name in values if words[name] >= 0.5]
    if len(sentences) == 1:
        return tuple(sentences)
    what = f"{' and '.join(sentences)} all hold sentences" if sentences else "none holds captions"
    raise ArasError(
        f"{path}: of the columns {', '.join(values)} {what}; name the caption column with --text"
    )


def _wordiness(values: Iterable[Any]) -> float:
    """Share of a column's texts with two words or more; a little above 0 for single words, and 0
    where no text has a letter."""
    texts = [text for value in values for text in _flat(value) if text]
    if not texts:
        return 0.0
    letter = re.compile(r"[^\W\d_]")
    sentences = sum(sum(bool(letter.search(w)) for w in text.split()) >= 2 for text in texts)
    letters = any(letter.search(text) for text in texts)
    return max(sentences / len(texts), 0.01 if letters else 0.0)


def _flat(value: Any) -> list[str]:
    try:
        return [text for texts in _cell("", value, "").values() for text in texts if text]
    except ArasError:  # said with its place when it is read
        return [str(value)] if isinstance(value, str | bytes | list) else []


def _class_columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the seven classes, whatever their case and hyphens; none where one is at most
    by chance named like a class. Raises ArasError for some without the others, and for two alike.
    """
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(fold(name), []).append(name)
    columns = {label: spellings[fold(label)] for label in CLASSES if fold(label) in spellings}
    if len(columns) < 2:
        return ()
    if missing := [label for label in CLASSES if label not in columns]:
        there = ", ".join(name for some in columns.values() for name in some)
        raise ArasError(
            f"{path}: has class columns {there}, but not {', '.join(missing)}; give all seven "
            "or none"
        )
    for name, some in columns.items():
        if len(some) > 1 and name not in some:
            raise ArasError(f"{path}: columns {' and '.join(some)} both mean {name}; rename one")
    return tuple(name if name in some else some[0] for name, some in columns.items())


@functools.lru_cache(maxsize=1024)
def fold(name: str) -> str:
    """``Built-up``, ``built_up`` and ``BUILT UP`` as the same."""
    return name.casefold().translate({ord(sign): None for sign in "-_ "})


_SYNTHETIC = {"synthetic", "synth", "1"}


@dataclass
class Batch:
    """Captions ``first``, ``first + 1``, … (from 0): texts by stream (None where there is none, ""
    where a list holds an empty one), (n, 7) shares with NaN where there is no composition, and
    whether each is of a synthetic tile (None: not said)."""

    first: int
    ids: list[str | None]
    texts: dict[str, list[str | None]]
    shares: npt.NDArray[np.float64] | None
    synthetic: list[bool | None]


@dataclass
class Reader:
    """A caption file. All that is counted is known once the rows have been read: ``scale``
    ("percent", "fractions" or "pixels"), ``failed`` captions that are error texts, what was ``cut``
    by stream and kind, ``padded`` places by stream where another stream has more captions,
    ``images`` and how many captions each has (``per_image``), three ``examples``."""

    path: Path
    text: Sequence[str] = ()
    scale: str | None = None
    failed: int = 0
    cut: Counter[tuple[str, str]] = field(default_factory=Counter)
    padded: Counter[str] = field(default_factory=Counter)
    repeated_headers: int = 0
    streams: list[str] = field(default_factory=list)
    columns: Columns | None = None
    notes: list[str] = field(default_factory=list)
    per_image: Counter[str | int] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Batch]:
        """Batches of the captions of up to ``size`` rows; an ArasError names the row and column
        that is wrong."""
        self.failed = self.repeated_headers = 0
        for counted in (self.cut, self.padded, self.per_image):
            counted.clear()
        table = open_table(self.path)
        known = bool(table.column_types)
        if known:
            table = open_table(self.path, columns_of_interest(table.column_types, self.text))
        rows, seen = table.rows, dict[str, list[Any]]()
        if known and self.columns is None:
            some = list(itertools.islice(rows, size))
            self._find(some, seen)
            table = open_table(self.path, self.columns.all if self.columns else None)
            rows = table.rows
        elif known and self.columns:
            rows = open_table(self.path, self.columns.all).rows
        number = count = 0
        while chunk := list(itertools.islice(rows, size)):
            if not known:
                self._find(chunk, seen)
            batch = self._batch(count, number, chunk)
            yield batch
            number, count = number + len(chunk), count + len(batch.ids)
        self.repeated_headers, self.notes = table.repeated_headers, table.notes
        if not number:
            raise ArasError(f"{self.path}: holds no rows; expected one caption per row")

    def _find(self, chunk: list[Placed], seen: dict[str, list[Any]]) -> None:
        """Find the columns among the keys of a whole batch, for lines of JSON need not agree.

        ``seen`` is every key so far, with some of its values. Raises ArasError for a key of a
        later batch that changes which columns there are.
        """
        new: dict[str, str] = {}
        for place, row in chunk:
            for key, value in row.items():
                is_new = key not in seen
                some = seen.setdefault(key, [])
                if len(some) < _SAMPLE and not _is_missing(value):
                    is_new |= not some
                    some.append(value)
                if is_new:
                    new[key] = place
        if self.columns is not None and not new:
            return
        columns = find_columns(self.path, seen, self.text)
        if self.columns is not None and set(columns.all) - set(self.columns.all):
            key = next(name for name in new if name in {*columns.all} - {*self.columns.all})
            raise ArasError(
                f"{self.path}: {new[key]} has {key!r}, which no earlier batch has; "
                "give it in the first row too, null where it is unknown, or leave it out"
            )
        self.columns = self.columns or columns

    def _batch(self, first: int, row_number: int, chunk: list[Placed]) -> Batch:
        columns = self.columns
        assert columns is not None
        ids: list[str | None] = []
        synthetic: list[bool | None] = []
        shares: list[list[float]] = []
        texts: dict[str, list[str | None]] = {name: [] for name in self.streams}
        for i, (place, row) in enumerate(chunk):
            cells: dict[str, list[str | None]] = {}
            for column in columns.texts:
                where = f"{self.path}: {place}, column {column}"
                cells |= _cell(column, row.get(column), where)
            height = max((len(cell) for cell in cells.values()), default=1)
            for stream in (name for name in cells if name not in texts):
                texts[stream] = [None] * len(ids)
            for stream, done in texts.items():
                cell = cells.get(stream, [None])
                done += [self._caption(stream, text) for text in cell]
                done += [None] * (height - len(cell))
                self.padded[stream] += height - len(cell)
            name = _id(columns.id, row)
            self.per_image[row_number + i if name is None else name] += sum(
                map(len, cells.values())
            )
            ids += [name] * height
            synthetic += [_synthetic(columns.source, row)] * height
            if columns.composition:
                shares += [self._shares(place, row)] * height
        self.streams = list(texts)
        return Batch(
            first, ids, texts, np.array(shares) if columns.composition else None, synthetic
        )

    def _caption(self, stream: str, text: str | None) -> str | None:
        if not text:
            return text
        cleaned = clean(text)
        self.cut.update((stream, what) for what in cleaned.cut)
        if cleaned.unclear or no_caption(cleaned.text):
            self.failed += 1
            return None
        if len(self.examples) < 3 and cleaned.text not in self.examples:
            self.examples.append(cleaned.text)
        return cleaned.text

    def _shares(self, place: str, row: Row) -> list[float]:
        columns = self.columns
        assert columns is not None
        names: tuple[str, ...] = columns.composition
        if len(names) == 1:
            struct = row.get(names[0])
            folded = {fold(k): v for k, v in struct.items()} if isinstance(struct, dict) else {}
            row = {name: folded.get(fold(name)) for name in CLASSES}
            names = CLASSES
        raw = [row.get(name) for name in names]
        blank = [value is None or value == "" or value != value for value in raw]
        if all(blank):
            return [math.nan] * len(CLASSES)
        where = f"{self.path}: {place}"
        if any(blank):
            empty = [name for name, is_blank in zip(names, blank, strict=True) if is_blank]
            raise ArasError(
                f"{where}: no value for {', '.join(empty)}; fill all seven class columns, or none"
            )
        values = [
            _number(value, f"{where}, column {n}") for n, value in zip(names, raw, strict=True)
        ]
        total = sum(values)
        if columns.composition == ("pixels",) and total > 0:
            self.scale = "pixels"
            return [value / total for value in values]
        if self.scale is None:
            self.scale = "fractions" if abs(total - 1) <= 0.02 else "percent"
        unit = 100.0 if self.scale == "percent" else 1.0
        if abs(total - unit) > 0.02 * unit or min(values) < 0:
            raise ArasError(
                f"{where}: the class columns sum to {total:g}, not {unit:g} ({self.scale} of the "
                "tile); correct the row, or leave all seven blank where they are unknown"
            )
        return [value / unit for value in values]


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def _decoded(value: Any, where: str) -> Any:
    """``value``, as text where it is bytes."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ArasError(f"{where}: is binary and not UTF-8 ({error})") from error


def _cell(column: str, value: Any, where: str) -> dict[str, list[str | None]]:
    """The captions of a cell by stream: of one caption, a list of them, or captions by stream."""
    value = _decoded(value, where)
    if _is_missing(value) or value == {}:
        return {column: [None]}
    if isinstance(value, str):
        texts = _listed(value, where)
        texts = [value] if texts is None else texts or [None]
        return {column: [_text(text, where) for text in texts]}
    if isinstance(value, dict):
        return _cell(column, _text_in(value, where), where)
    if not isinstance(value, list | tuple):
        raise ArasError(f"{where}: {value!r} is not a text; name the caption column with --text")
    if value and all(isinstance(item, dict) and item.get("stream") for item in value):
        return {item["stream"]: [_text(_text_in(item, where), where)] for item in value}
    value = [None if v == {} else v for v in value]
    members = [_text_in(v, where) if isinstance(v, dict) else v for v in value]
    texts = [_text(member, where) for member in members]
    return {column: texts or [None]}


def _text_in(value: Row, where: str) -> Any:
    key = next((name for name in _TEXT_KEYS if name in value), None)
    if key is None:
        raise ArasError(
            f"{where}: holds {', '.join(value)}, expected one of {', '.join(_TEXT_KEYS)}"
        )
    return value[key]


def _text(value: Any, where: str) -> str | None:
    value = _decoded(value, where)
    if isinstance(value, str) and not value.strip():
        return ""
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise ArasError(f"{where}: {value!r} is not a text; name the caption column with --text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ArasError(
                f"{where}: character {error.start + 1} is half of a surrogate pair; write the text "
                "as valid Unicode"
            ) from error
    return value.replace("\0", " ")  # as in a CSV file


_QUOTED = r"""[urbURB]{0,2}(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LITERAL = re.compile(rf"({_QUOTED})|None|nan|NaN|NA|null", re.DOTALL)
_ARRAY = re.compile(
    r"\A\s*(?:np\.|numpy\.)?array\((.*?)(?:,\s*dtype=[^()\[\]]*)?\)\s*\Z", re.DOTALL
)
_LIST = re.compile(r"\A\s*(?:c(?=\()|list(?=\())?\s*[\[({](.*)[\])}]\s*\Z", re.DOTALL)
_OPENED = re.compile(r"\A\s*(?:(?:np\.|numpy\.)?array\()?\[\s*['\"]")
_GAP = re.compile(r"[ \t\r\n,]*")
_FIRST = re.compile(r"\s*(?:[urbURB]{0,2}['\"]|(?:None|nan|NaN|NA|null)\b|\Z)")
"""The beginning of a list of texts: a quote, a missing value or its end."""


def _listed(text: str, where: str) -> list[Any] | None:
    """The texts of a list that was written as text, by JSON, Python, numpy or R; None where
    ``text`` is none. Raises ArasError for a list that was cut when it was written."""
    array = _ARRAY.match(text)
    outer = _LIST.match(array[1] if array else text)
    if not outer and _OPENED.match(text) and "]" not in text:
        raise ArasError(f"{where}: a list that begins and does not end; write it in full")
    if not outer or not _FIRST.match(outer[1]):
        return None
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return value if isinstance(value, list) else None
    texts: list[Any] = []
    inside, at = outer[1], 0
    while (at := _GAP.match(inside, at).end()) < len(inside):  # type: ignore[union-attr]
        if inside.startswith("...", at):
            raise ArasError(
                f"{where}: holds a list that was shortened to “...” when it was written; write all "
                "of its captions"
            )
        literal = _LITERAL.match(inside, at)
        if not literal:
            return None
        try:
            texts.append(ast.literal_eval(literal[1]) if literal[1] else None)
        except (ValueError, SyntaxError):
            return None
        at = literal.end()
    return texts


def _id(column: str | None, row: Row) -> str | None:
    value = row.get(column) if column else None
    return None if value is None else str(value)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ArasError(f"{where}: {value!r} is not a number")
    return number


def _synthetic(column: str | None, row: Row) -> bool | None:
    value = row.get(column) if column else None
    return None if value is None else str(value).lower() in _SYNTHETIC


@dataclass(frozen=True)
class ImageCaptions:
    """The captions of an image in a row, as they are written, and what else the row says of it.

    ``columns`` are its captions by column or stream: None where one is missing, "" where a list
    holds an empty one. ``problem`` says why they cannot be read.
    """

    number: int
    place: str
    id: str | None
    split: str | None
    columns: dict[str, list[str | None]]
    picture: bytes | None = None
    problem: str = ""

    @property
    def image(self) -> str:
        """Its image: the id, or a name of its own where the row names none."""
        return self.id or f"row {self.number}"

    @property
    def texts(self) -> list[str]:
        """Every caption, blank ones left out."""
        every = (text for texts in self.columns.values() for text in texts)
        return [text.strip() for text in every if text and text.strip()]


@dataclass
class ImageReader:
    """Any file as images with captions, row by row; an image may have several rows, or none.

    Nothing is cut from a caption. ``columns`` and ``notes`` (what had to be guessed) are known once
    rows have been read. ``pictures``: whether those in the file are read too.
    """

    path: Path
    text: Sequence[str] = ()
    pictures: bool = True
    columns: Columns | None = None
    notes: list[str] = field(default_factory=list)

    def rows(self, refuse: Refuse | None = None) -> Iterator[ImageCaptions]:
        """Its rows; with ``refuse``, which takes lines that cannot be read, a cell that cannot be
        read is a row's ``problem``. Raises ArasError as `find_columns`, and without ``refuse`` for
        any such line or cell."""
        table = open_table(self.path)
        if table.column_types and not self.pictures:
            wanted = columns_of_interest(table.column_types, self.text)
            table = open_table(self.path, [*wanted, "split"])
        elif refuse:
            table = open_table(self.path, None, refuse)
        first = list(itertools.islice(table.rows, 1000))
        if not first:
            raise ArasError(f"{self.path}: holds no rows; expected one caption per row")
        values: dict[str, list[Any]] = {}
        for _, row in first:
            for name, value in row.items():
                some = values.setdefault(name, [])
                if len(some) < _SAMPLE and not _is_missing(value):
                    some.append(value)
        pictures = [name for name, some in values.items() if some and _picture(some[0]) is not None]
        light = {name: some for name, some in values.items() if name not in pictures}
        columns = self.columns = find_columns(self.path, light, self.text)
        for number, (place, row) in enumerate(itertools.chain(first, table.rows)):
            texts: dict[str, list[str | None]] = {}
            problem = ""
            try:
                for column in columns.texts:
                    where = f"{self.path}: {place}, column {column}"
                    for stream, some in _cell(column, row.get(column), where).items():
                        texts[stream] = [*texts.get(stream, ()), *some]
            except ArasError as error:
                if refuse is None:
                    raise
                problem = str(error).removeprefix(f"{self.path}: {place}, ")
            split = row.get("split")
            data = _picture(row[pictures[0]]) if pictures and row.get(pictures[0]) else None
            yield ImageCaptions(
                number=number,
                place=place,
                id=_id(columns.id, row),
                split=None if split is None else str(split),
                columns=texts,
                picture=data,
                problem=problem,
            )
        self.notes = table.notes


def _picture(value: Any) -> bytes | None:
    """The bytes of a picture, as `datasets` stores it."""
    data = value.get("bytes") if isinstance(value, dict) else None
    return data if isinstance(data, bytes) else None
