"""When a picture was taken: from names of products, tags of files, metadata beside them.

A time is an instant or an interval, UTC, in whole seconds, written as ISO 8601: an instant, or
first and last second with a slash between them.
"""

import datetime
import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

UTC = datetime.timezone.utc
YEAR = re.compile(r"_10m_(?P<year>[0-9]{4})_")
"""The year in the name of a WorldCover product."""

_SENTINEL = re.compile(
    r"(?:(?<![A-Za-z0-9])S2[A-D]_.*?|(?<![A-Za-z0-9])T\d{2}[A-Z]{3}_)"
    r"(?<!\d)(?P<day>20\d{6})(?:T(?P<time>\d{6}))?(?!\d)"
)
"""The first date in the name of a Sentinel-2 product, of its bands or of a STAC item of it: when it
was sensed. A later one says when it was processed."""
_STATED = re.compile(r", (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?:/[0-9T:Z-]+)?)\Z")
"""The time that `stated` writes after a name which does not say it."""
_PART = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?:Z|\+00:?00)?)?\Z"
)
_TAGS = (
    "ACQUISITION_DATETIME",
    "ACQUISITIONDATETIME",
    "SENSING_TIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "PRODUCT_START_TIME",
    "start_datetime",
    "datetime",
)
"""Tags that say when a picture was taken, in order: ours, GDAL's, of Sentinel-2's metadata, of
STAC. TIFFTAG_DATETIME is none: it says when the file was written."""
_GRANULE_XML = re.compile(r"<SENSING_TIME[^>]{0,99}>\s*([0-9T:.Z-]{19,30})\s*<")
_ITEM_NAMES = ("item.json", "stac.json", "stac-item.json", "metadata.json")
LARGEST = 4 << 20
"""Bytes of a metadata file that is read."""


class Time(NamedTuple):
    """First and last second, UTC, both included; equal for an instant."""

    first: datetime.datetime
    last: datetime.datetime

    @property
    def is_year(self) -> bool:
        """Whether it is a whole year, as of a yearly composite."""
        return self == year(self.first.year)

    def __str__(self) -> str:
        first, last = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in self)
        return first if first == last else f"{first}/{last}"

    def words(self) -> str:
        """For people: a year, a day, an instant to the minute, or from one to the other."""
        if self.is_year:
            return str(self.first.year)
        if self.first == self.last:
            return f"{self.first:%Y-%m-%d %H:%M} UTC"
        days = dict.fromkeys(f"{at:%Y-%m-%d}" for at in self)
        return " to ".join(days)


def year(number: int) -> Time:
    """All of a year."""
    first = datetime.datetime(number, 1, 1, tzinfo=UTC)
    return Time(first, datetime.datetime(number, 12, 31, 23, 59, 59, tzinfo=UTC))


def parse(text: str) -> Time:
    """An instant, a day, or FIRST/LAST of them. Raises ValueError for any other text."""
    first, slash, last = text.strip().partition("/")
    begin = _parsed(first)
    time = Time(begin.first, _parsed(last).last) if slash else begin
    if time.first > time.last:
        raise ValueError(f"{text!r} ends before it begins")
    return time


def _parsed(text: str) -> Time:
    match = _PART.match(text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not a time; expected 2023-06-12, 2023-06-12T08:47:12Z or FIRST/LAST"
        )
    numbers = [int(number) for number in match.groups() if number is not None]
    at = datetime.datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type,misc]
    if match[4] is None:
        return Time(at, at + datetime.timedelta(days=1, seconds=-1))
    return Time(at, at)


@functools.lru_cache(maxsize=4096)
def of_source(source: str) -> Time | None:
    """The time of a row by its column ``source``; None where it says none."""
    if match := _STATED.search(source):
        return _or_none(match["time"])
    return of_name(source)


def of_name(name: str) -> Time | None:
    """The time in the name of a WorldCover or Sentinel-2 product; None in any other."""
    if match := YEAR.search(name):
        return year(int(match["year"])) if int(match["year"]) else None
    if match := _SENTINEL.search(name):
        day, time = match["day"], match["time"]
        text = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        if time:
            text += f"T{time[:2]}:{time[2:4]}:{time[4:]}Z"
        return _or_none(text)
    return None


def of_tags(tags: Mapping[str, str]) -> str:
    """The time that a file's tags say, as text; empty where they say none."""
    if tags.get("start_datetime") and tags.get("end_datetime"):
        time = _or_none(f"{tags['start_datetime']}/{tags['end_datetime']}")
        return str(time or "")
    times = (_or_none(tags[name]) for name in _TAGS if tags.get(name))
    return str(next((time for time in times if time), ""))


def of_files(files: Iterable[Path], name: str) -> tuple[str, Path | None]:
    """The time of a scene of ``files`` called ``name``, and the file beside them that says it.

    A time of day in the name counts first, then the metadata of Sentinel-2's own format or a STAC
    item beside the files, then a day in the name or in that of a folder.
    """
    path = next(iter(files))
    folders = [parent.name for parent in path.parents[:5]]
    named = [time for text in (name, path.name, *folders) if (time := of_name(text))]
    exact = next((time for time in named if time.first == time.last), None)
    if exact and of_name(name) == exact:
        return str(exact), None
    if (granule := _granule(path)) and (time := _in_granule(granule)):
        return str(time), granule
    for candidate in _items(path, name):
        if time := _in_item(candidate):
            return str(time), candidate
    best = exact or next(iter(named), None)
    return str(best or ""), None


def stated(name: str, time: str) -> str:
    """The column ``source``: the name of a file, and after it the time where the name says another
    or none."""
    own = of_source(name)
    return name if not time or (own is not None and str(own) == time) else f"{name}, {time}"


def _or_none(text: str) -> Time | None:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        return None


def _granule(path: Path) -> Path | None:
    """MTD_TL.xml of the granule whose IMG_DATA holds a band."""
    for parent in list(path.parents)[:3]:
        if (metadata := parent / "MTD_TL.xml").is_file():
            return metadata
    return None


def _in_granule(path: Path) -> Time | None:
    with path.open("rb") as file:  # searched, not parsed: its first kilobytes say it
        match = _GRANULE_XML.search(file.read(1 << 16).decode("utf-8", "replace"))
    return _or_none(match[1]) if match else None


def _items(path: Path, name: str) -> list[Path]:
    """Files beside a band that may be its STAC item."""
    names = (f"{name}.json", f"{path.stem}.json", f"{path.parent.name}.json", *_ITEM_NAMES)
    return [path.with_name(own) for own in dict.fromkeys(names) if path.with_name(own).is_file()]


def _in_item(path: Path) -> Time | None:
    """The time of a STAC item; None for any other file."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        item = json.loads(path.read_bytes())
        if item["type"] != "Feature" or "stac_version" not in item:
            return None
        values: Any = item["properties"]
        if values.get("datetime"):
            return _or_none(str(values["datetime"]))
        return _or_none(f"{values.get('start_datetime')}/{values.get('end_datetime')}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
