"""What there is to fetch: the files of a Zenodo record, the WorldCover tiles of a bounding box."""

import math
import re
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import requests

from builder.core.errors import ArasError
from builder.core.files import parse_json
from builder.core.web import TIMEOUT, reason, retrying, secure, status_of, unreachable
from builder.fetch.download import Raster, Remote
from builder.land.grid import cell_name
from builder.official.names import OFFICIAL_MD5, OFFICIAL_RECORD

Box = tuple[float, float, float, float]

ZENODO = "https://zenodo.org"

MAPS = "https://esa-worldcover.s3.eu-central-1.amazonaws.com"
COMPOSITES = "https://esa-worldcover-s2.s3.eu-central-1.amazonaws.com"
VERSIONS = {2020: "v100", 2021: "v200"}
MAP_DEGREES, COMPOSITE_DEGREES = 3, 1

PRESETS: dict[str, Box] = {
    "turkiye": (25.668510437000105, 35.81543000000018, 44.83476000000008, 42.10757000000004),
}
"""Named bounding boxes (west, south, east, north in degrees); turkiye is that of ARAS400k."""


def cells(box: Sequence[float], step: int) -> list[tuple[int, int]]:
    """(latitude, longitude) of the lower-left corners of the ``step``-degree cells of a box.

    ``box`` is (west, south, east, north) in degrees. A cell counts when it shares some area
    with the box; touching is not enough. Row by row from the south-west. Raises ArasError for a
    box that is out of range, reversed or empty.
    """
    west, south, east, north = box
    shown = f"west {west:g}, south {south:g}, east {east:g}, north {north:g}"
    if not all(map(math.isfinite, box)):
        raise ArasError(f"the bounding box ({shown}) has a value that is not a number")
    if not (
        -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= 90 and -90 <= north <= 90
    ):
        raise ArasError(
            f"the bounding box ({shown}) leaves the Earth: longitudes are -180 to 180, "
            f"latitudes -90 to 90; the order is W S E N"
        )
    if west >= east or south >= north:
        raise ArasError(
            f"the bounding box ({shown}) is reversed or empty: the order is W S E N with W < E "
            f"and S < N; for an area across the 180° meridian run once per side"
        )
    rows = range(math.floor(south / step) * step, math.ceil(north), step)
    columns = range(math.floor(west / step) * step, math.ceil(east), step)
    return [(latitude, longitude) for latitude in rows for longitude in columns]


def worldcover(
    box: Sequence[float],
    *,
    year: int = 2021,
    maps: bool = True,
    composites: bool = True,
    base_url: str | None = None,
) -> list[Remote]:
    """The WorldCover maps and Sentinel-2 RGBNIR composites that a bounding box needs.

    Key layout of the two public buckets (region eu-central-1), and of a mirror at ``base_url``:
    ``v200/2021/map/ESA_WorldCover_10m_2021_v200_N36E027_Map.tif`` and
    ``rgbnir/2021/N36/ESA_WorldCover_10m_2021_v200_N36E028_S2RGBNIR.tif``; 2020 is v100. They
    land under ``maps/`` and ``composites/``. Cells of open sea have no file, so all are optional.
    """
    if year not in VERSIONS:
        raise ArasError(f"WorldCover {year} does not exist; expected 2020 or 2021")
    mirror = secure(base_url) if base_url else None
    stem = f"ESA_WorldCover_10m_{year}_{VERSIONS[year]}"
    remotes = []
    for latitude, longitude in cells(box, MAP_DEGREES) if maps else ():
        name = f"{stem}_{cell_name(latitude, longitude)}_Map.tif"
        url = f"{mirror or MAPS}/{VERSIONS[year]}/{year}/map/{name}"
        raster = Raster(_bounds(latitude, longitude, MAP_DEGREES), 1, "uint8")
        remotes.append(Remote(f"maps/{name}", url, raster=raster, optional=True))
    for latitude, longitude in cells(box, COMPOSITE_DEGREES) if composites else ():
        cell = cell_name(latitude, longitude)
        name = f"{stem}_{cell}_S2RGBNIR.tif"
        url = f"{mirror or COMPOSITES}/rgbnir/{year}/{cell[:3]}/{name}"
        raster = Raster(_bounds(latitude, longitude, COMPOSITE_DEGREES), 4, "uint16")
        remotes.append(Remote(f"composites/{name}", url, raster=raster, optional=True))
    return remotes


def _bounds(latitude: int, longitude: int, step: int) -> Box:
    return (longitude, latitude, longitude + step, latitude + step)


def official(
    session: requests.Session,
    record: str = OFFICIAL_RECORD,
    *,
    only: Sequence[str] = (),
    base_url: str = ZENODO,
    backoff: float = 0.5,
    on_retry: Callable[[BaseException, float], None] | None = None,
) -> list[Remote]:
    """The files of a Zenodo record (all, or those named in ``only``) with size and md5.

    ``record`` is a record number or a 10.5281/zenodo.N DOI. One request, to
    ``/api/records/N``; a concept's number is answered with its latest version. Raises ArasError
    for a record or name that does not exist, and when the record's md5 of an official ARAS400k
    file differs from the published file.
    """
    base = secure(base_url)
    match = re.fullmatch(r"(?:(?:https://doi\.org/)?10\.5281/zenodo\.)?(\d+)", record)
    if not match:
        raise ArasError(
            f"{record!r} is not a Zenodo record; expected its number, for example 18890661"
        )
    url = f"{base}/api/records/{match[1]}"
    body = _record(session, url, backoff, on_retry)
    number = str(body.get("id") or match[1])
    listed = {}
    for entry in body.get("files") or ():
        remote = _entry(entry, f"{base}/api/records/{number}/files", url)
        listed[remote.name] = remote
    if not listed:
        raise ArasError(f"record {number} at {base} has no public files")
    if number == OFFICIAL_RECORD:
        missing = [name for name in OFFICIAL_MD5 if name not in listed]
        if missing and not only:
            raise ArasError(
                f"record {number} at {base} lacks {', '.join(missing)}: name the files that you "
                f"want with --only, or fetch from {ZENODO}"
            )
        for name, md5 in OFFICIAL_MD5.items():
            if name in listed and listed[name].md5 != md5:
                raise ArasError(
                    f"{base} gives {name} of record {number} the md5 {listed[name].md5}, the "
                    f"published file has {md5}: this is not the official release"
                )
    unknown = [name for name in only if name not in listed]
    if unknown:
        raise ArasError(
            f"record {number} has no file {', '.join(unknown)}; it has {', '.join(sorted(listed))}"
        )
    return [listed[name] for name in dict.fromkeys(only)] if only else list(listed.values())


def _record(
    session: requests.Session,
    url: str,
    backoff: float,
    on_retry: Callable[[BaseException, float], None] | None,
) -> dict[str, Any]:
    def ask() -> requests.Response:
        answer = session.get(url, headers={"Accept": "application/json"}, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer

    try:
        answer = retrying(ask, base=backoff, on_retry=on_retry)
    except requests.RequestException as error:
        status = status_of(error)
        if status in (404, 410):
            raise ArasError(f"no record at {url}; check the number") from error
        if status is None:
            raise unreachable(url, error) from error
        raise ArasError(f"cannot read {url}: {reason(error)}; try again later") from error
    secure(answer.url)
    try:
        body = parse_json(answer.content)
    except ValueError as error:
        raise ArasError(
            f"{url} answers with something that is not a Zenodo record: check --base-url, and "
            f"that no login page or proxy answers in its place"
        ) from error
    if not isinstance(body, dict):
        raise ArasError(f"{url} answers with a JSON {type(body).__name__}, not a Zenodo record")
    return body


def _entry(entry: Any, folder: str, url: str) -> Remote:
    """One of a record's ``files``: key, size, checksum ("md5:…"); links are built, not followed."""
    try:
        name, size, checksum = entry["key"], int(entry["size"]), str(entry["checksum"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArasError(f"{url} lists a file without key, size and checksum: {entry!r}") from error
    if (
        not name
        or PurePosixPath(name).name != name
        or name.startswith(".")
        or "\\" in name
        or "\0" in name
    ):
        raise ArasError(
            f"{url} lists the file name {name!r}, which is refused; expected a plain name"
        )
    algorithm, _, digest = checksum.rpartition(":")
    if algorithm not in ("", "md5") or not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise ArasError(f"{url} gives {name} the checksum {checksum!r}; expected an md5")
    return Remote(name, f"{folder}/{urllib.parse.quote(name)}/content", size=size, md5=digest)
